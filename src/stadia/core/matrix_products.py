"""Choose the library by which torch multiplies matrices on a CPU (docs/results/speed.md)."""

from functools import cache

ROUNDING = 1e-5
"""A matrix product is exact if its relative error is below this. float32 has some 3e-7, rounding to bfloat16 2e-3."""

_SHAPES = ((1, 512, 64), (33, 512, 96), (128, 384, 128))  # rows, inputs and outputs of the tested products


@cache
def choose_matrix_products() -> bool:
    """Let torch multiply matrices by oneDNN on an AMD processor without a GPU; return whether it does so now.

    MKL, torch's default, has half the speed there. If oneDNN rounds to bfloat16, MKL stays.
    """
    import torch

    if not _is_amd() or torch.cuda.is_available() or _read_precision() != "highest":
        return False
    torch.set_float32_matmul_precision("medium")
    is_exact = find_product_error() < ROUNDING
    if not is_exact:
        torch.set_float32_matmul_precision("highest")
    return is_exact


def find_product_error() -> float:
    """Return the largest relative error of some float32 matrix products compared with float64 (Frobenius norms)."""
    import torch

    generator = torch.Generator().manual_seed(0)
    errors = list[float]()
    for rows, inputs, outputs in _SHAPES:
        x = torch.randn(rows, inputs, generator=generator, device="cpu", dtype=torch.float32)
        weight = torch.randn(outputs, inputs, generator=generator, device="cpu", dtype=torch.float32)
        exact = x.double() @ weight.double().T
        with torch.autocast("cpu", enabled=False):
            linear = torch.nn.functional.linear(x, weight)
            products = linear, torch.mm(x, weight.T), torch.bmm(x[None], weight.T[None])[0]
        errors += [float((product - exact).norm() / exact.norm()) for product in products]
    return max(errors)


def _is_amd() -> bool:
    import torch

    find = getattr(torch.cpu, "get_capabilities", None)
    return find is not None and str(find().get("cpu_name", "")).startswith("AMD")


def _read_precision() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the user set it for one library only
        return "set by the user"
