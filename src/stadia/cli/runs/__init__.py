"""Commands that read finished runs and their findings."""
