"""The command line: a file for each command, heavy imports inside functions."""
