"""One seed, many independent streams: each is named, so that adding one does not reshuffle the others."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on the seed and the names alone (not on the platform or PYTHONHASHSEED)."""
    text = "/".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """A NumPy generator for the stream of this name."""
    return np.random.default_rng(derive(seed, *names))
