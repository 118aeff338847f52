"""Commands that train many runs: `ablate` and `sweep`."""
