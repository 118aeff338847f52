"""Choose the library that multiplies torch's matrices on a CPU (docs/results/speed.md)."""

from functools import cache

ROUNDING = 1e-5
"""A matrix product is exact if its relative error is below this. float32 has some 3e-7, rounding to bfloat16 2e-3."""


@cache
def choose_matrix_products() -> bool:
    """Let torch multiply matrices by oneDNN on an AMD processor without a GPU; return whether it does so now.

    MKL, torch's default, has half the speed there. If oneDNN rounds to bfloat16, or the user has chosen a precision,
    nothing changes.
    """
    import torch

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
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 384, generator=generator, device="cpu", dtype=torch.float32)
    weight = torch.randn(128, 384, generator=generator, device="cpu", dtype=torch.float32)
    exact = x.double() @ weight.double().T
    with torch.autocast("cpu", enabled=False):
        product = torch.nn.functional.linear(x, weight)
    return float((product - exact).norm() / exact.norm())
