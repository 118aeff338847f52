"""Seed, capture and restore the global random generators of torch, NumPy and Python."""

import contextlib
import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from stadia.core.seeds import derive_seed


def seed_generators(seed: int, *names: object) -> None:
    """Seed the global generators of torch, NumPy and Python, each with its own stream derived from seed and names."""
    torch.manual_seed(derive_seed(seed, *names, "torch"))
    np.random.seed(derive_seed(seed, *names, "numpy") % 2**32)  # noqa: NPY002 - what other libraries draw from
    random.seed(derive_seed(seed, *names, "python"))


def capture_generators() -> dict[str, Tensor]:
    """Return the states of the global generators of torch, NumPy and Python as tensors (N,) of fixed sizes, by name."""
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
