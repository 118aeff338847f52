"""Hostile inputs against the real command line: see `harness.py` for what a case must survive."""
