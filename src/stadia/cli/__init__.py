"""Reads argv: one file a command, everything heavy imported inside its function."""
