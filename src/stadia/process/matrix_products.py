"""Compute matrix products of float32 by the faster of torch's two libraries, where both are exact."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn import functional

ROUNDING = 1e-5
"""Largest relative error of an exact product: float32 has some 3e-7 over 512 terms, and rounding to bfloat16 2e-3."""

_SHAPES = ((1, 512, 64), (33, 512, 96), (128, 384, 128))
"""Rows, inputs and outputs of the products that are tried."""


@cache
def choose_matrix_products() -> bool:
    """Let torch compute products by oneDNN on an AMD processor without a GPU; return whether it does now.

    torch's other library, MKL, reaches half of the speed of oneDNN there, and its own choice is MKL for float32. The
    one public switch to oneDNN is `torch.set_float32_matmul_precision("medium")`, which also allows products that
    round to bfloat16. oneDNN has none of these for processors without matrix units (AMX), as those of AMD are. So
    products are compared with float64 first, and the switch is taken back unless they are exact.

    A precision that the user set stays. Speed: docs/results/training-speed.md.
    """
    if not _is_amd() or torch.cuda.is_available() or _read_precision() != "highest":
        return False
    is_exact = False
    torch.set_float32_matmul_precision("medium")
    try:
        is_exact = find_product_error() < ROUNDING
    finally:
        if not is_exact:
            torch.set_float32_matmul_precision("highest")
    return is_exact


def find_product_error() -> float:
    """Return the largest relative error of some products (Frobenius norms), compared with float64."""
    generator, errors = torch.Generator().manual_seed(0), list[float]()
    of_cpu: dict[str, Any] = {"generator": generator, "device": "cpu", "dtype": torch.float32}
    for rows, inputs, outputs in _SHAPES:
        x, weight = torch.randn(rows, inputs, **of_cpu), torch.randn(outputs, inputs, **of_cpu)
        exact = x.double() @ weight.double().T
        with torch.autocast("cpu", enabled=False):
            products = functional.linear(x, weight), torch.mm(x, weight.T), torch.bmm(x[None], weight.T[None])[0]
        errors += [float((product - exact).norm() / exact.norm()) for product in products]
    return max(errors)


def _is_amd() -> bool:
    """Return whether torch names an AMD processor; a torch without `get_capabilities` names none."""
    find = getattr(torch.cpu, "get_capabilities", None)
    return find is not None and str(find().get("cpu_name", "")).startswith("AMD")


def _read_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the user set it for one library alone
        return "set by the user"
