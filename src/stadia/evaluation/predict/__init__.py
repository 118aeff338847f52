"""Run a network over frames."""
