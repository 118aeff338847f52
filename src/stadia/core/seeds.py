"""Derive independent random streams from one seed by name."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on the seed and the names alone (not on the platform or PYTHONHASHSEED)."""
    text = "/".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def make_generator(seed: int, *names: object) -> np.random.Generator:
    """Return a NumPy generator for the stream of this name."""
    return np.random.default_rng(derive_seed(seed, *names))
