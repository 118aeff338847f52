"""Find and name known failures: in the data (preflight), in losses (loss_checks), while training (monitors)."""
