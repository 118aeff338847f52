"""Derive independent random streams from one seed by name."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends only on a seed and on names, and not on platform or PYTHONHASHSEED.

    seed: the seed of a training.
    names: names of the random stream, such as its purpose and a number.
    """
    # Names of files may have surrogates.
    text = "/".join([str(int(seed)), *map(str, names)]).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def make_generator(seed: int, *names: object) -> np.random.Generator:
    """Return a NumPy generator for the random stream with these names.

    seed: the seed of a training.
    names: names of the random stream; streams with different names are independent.
    """
    return np.random.default_rng(derive_seed(seed, *names))
