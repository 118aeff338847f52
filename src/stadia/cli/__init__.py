"""The command line: a file for each group of commands; slow imports are inside the functions."""
