"""Metres for any network: parse `--scale-from`, measure the scale, and keep a receipt."""
