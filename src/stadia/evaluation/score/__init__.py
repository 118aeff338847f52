"""Score predictions from disk."""
