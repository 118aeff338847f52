"""Metres for any network: parse what `--scale-from` names, measure it, and the receipt of the scale."""
