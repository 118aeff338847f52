"""Parse the command line. Heavy imports are inside the functions."""
