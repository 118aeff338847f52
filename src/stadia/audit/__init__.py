"""Audit a dataset: judge each of its scenes or recordings, and find the faults that many of them share."""
