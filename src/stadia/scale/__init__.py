"""Metres for any network: parse the sources of `--scale-from`, measure the scale, and record how it was measured."""
