"""Set the state of torch in this process: its random generators, and the library that multiplies matrices."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor

from stadia.core.seeds import derive_seed

ROUNDING = 1e-5
"""A matrix product is exact if its relative error is below this. float32 has some 3e-7, rounding to bfloat16 2e-3."""


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


@cache
def choose_matrix_products() -> bool:
    """Let torch multiply matrices by oneDNN on an AMD processor without a GPU; return whether it does so now.

    MKL, torch's default, has half the speed there. If oneDNN rounds to bfloat16, or the user has chosen a precision,
    nothing changes.
    """
    find = getattr(torch.cpu, "get_capabilities", dict[str, str])
    if torch.cuda.is_available() or not str(find().get("cpu_name", "")).startswith("AMD"):
        return False
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return False
    except RuntimeError:  # the user set it for one library only
        return False
    torch.set_float32_matmul_precision("medium")
    is_exact = find_product_error() < ROUNDING
    if not is_exact:
        torch.set_float32_matmul_precision("highest")
    return is_exact


def find_product_error() -> float:
    """Return the relative error of a float32 matrix product compared with float64 (Frobenius norms)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 384, generator=generator, device="cpu", dtype=torch.float32)
    weight = torch.randn(128, 384, generator=generator, device="cpu", dtype=torch.float32)
    exact = x.double() @ weight.double().T
    with torch.autocast("cpu", enabled=False):
        product = torch.nn.functional.linear(x, weight)
    return float((product - exact).norm() / exact.norm())
