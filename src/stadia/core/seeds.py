"""Derive independent random streams from one seed by name; seed, capture and restore the global generators."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


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


def seed_generators(seed: int, *names: object) -> None:
    """Seed the global generators of torch, NumPy and Python, each with its own stream derived from seed and names."""
    import torch

    torch.manual_seed(derive_seed(seed, *names, "torch"))
    np.random.seed(derive_seed(seed, *names, "numpy") % 2**32)  # noqa: NPY002 - what other libraries draw from
    random.seed(derive_seed(seed, *names, "python"))


def capture_generators() -> dict[str, Tensor]:
    """Return the states of the global generators of torch, NumPy and Python as tensors (N,) of fixed sizes, by name."""
    import torch

    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, internal, next_gauss = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.append(keys, [position, has_gauss]).astype(np.int64)),
        "numpy_gauss": torch.tensor(gauss, dtype=torch.float64),
        "python": torch.tensor([version, *internal], dtype=torch.int64),
        "python_gauss": torch.tensor(float("nan") if next_gauss is None else next_gauss, dtype=torch.float64),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: Mapping[str, Tensor]) -> None:
    """Restore the states, (N,) each, that `capture_generators` returned."""
    import torch

    torch.set_rng_state(states["torch"].cpu().clone())  # torch reads a view from its storage's start
    *keys, position, has_gauss = states["numpy"].tolist()
    gauss = states["numpy_gauss"].item()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, *internal = states["python"].tolist()
    gauss = states["python_gauss"].item()
    random.setstate((version, tuple(internal), None if np.isnan(gauss) else gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu().clone())


@contextlib.contextmanager
def preserve_generators() -> Iterator[None]:
    """Restore the global generators of torch, NumPy and Python when the `with` block ends."""
    states = capture_generators()
    try:
        yield
    finally:
        restore_generators(states)
