"""Makes tests/networks/dpt_files.py importable."""
