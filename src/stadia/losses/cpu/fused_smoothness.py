"""Edge-aware smoothness as a single CPU operation; equal to `smoothness.edge_aware_smoothness`.

With mean slope S and mean m of inverse depth d, the loss is S / m, and its slope (dS/dd - S / (m P)) / m for P pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from stadia.losses.cpu.row_bands import Floats, row_kernel, row_sum, run_in_bands


def fused_edge_aware_smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Return `edge_aware_smoothness` of inverse depth (B, 1, H, W) and image (B, 3, H, W), a scalar.

    Only inverse depth gets a gradient. There are no second derivatives.
    """
    apply: Any = _Smoothness.apply  # untyped in torch
    smoothness: Tensor = apply(inverse_depth, image)
    return smoothness


class _Smoothness(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inverse_depth: Tensor, image: Tensor) -> Tensor:
        depth, colors = inverse_depth.detach()[:, 0].contiguous(), image.detach().contiguous()
        batch, height, width = depth.shape
        column = np.arange(4, dtype=depth.numpy().dtype)
        edges = depth.new_empty(batch, 2, height, width)
        run_in_bands(edge_rows, height, (colors.numpy(), edges.numpy()), (column,))
        flat = edges.exp_()
        slopes, sums = torch.empty_like(depth), torch.empty(batch, height, 3, dtype=torch.float64)
        counts = batch * height * (width - 1), batch * (height - 1) * width
        shares = np.array([0.0, *(1 / max(count, 1) for count in counts), 1.0], column.dtype)
        run_in_bands(slope_rows, height, (depth.numpy(), flat.numpy(), slopes.numpy(), sums.numpy()), (shares,))
        along_x, along_y, total = sums.sum(1).unbind(-1)
        slope, mean = along_x / counts[0] + along_y / counts[1], total / (height * width)
        ctx.save_for_backward(slopes)
        ctx.factors = 1 / mean, slope / (mean * total)
        return (slope / mean).sum().to(depth.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        factor, offset = ((each * grad).to(slopes.dtype)[:, None, None] for each in ctx.factors)
        return (slopes * factor).sub_(offset)[:, None], None


@row_kernel
def edge_rows(
    first: int,
    last: int,
    image: Floats,  # (3, H, W)
    edges: Floats,  # out (2, H, W)
    column: Floats,
) -> None:
    """Write minus the mean absolute color step to the next column and row; minus infinity beyond the last."""
    _, height, width = image.shape
    for y in range(first, last):
        here, below = image[:, y], image[:, min(y + 1, height - 1)]
        for x in range(width - 1):
            step = (
                abs(here[0, x + 1] - here[0, x]) + abs(here[1, x + 1] - here[1, x]) + abs(here[2, x + 1] - here[2, x])
            )
            edges[0, y, x] = -step / column[3]
        edges[0, y, width - 1] = -np.inf
        for x in range(width):
            step = abs(below[0, x] - here[0, x]) + abs(below[1, x] - here[1, x]) + abs(below[2, x] - here[2, x])
            edges[1, y, x] = -step / column[3]
        if y == height - 1:
            edges[1, y] = -np.inf


@row_kernel
def slope_rows(
    first: int,
    last: int,
    depth: Floats,  # (H, W)
    flat: Floats,  # (2, H, W) weights of the steps to the next column and row, 0 beyond the last
    slopes: Floats,  # out (H, W)
    sums: NDArray[np.float64],  # out (H, 3) weighted steps along x and y, and values of the row
    shares: Floats,  # 0, the share of a step along x and y in the mean, 1
) -> None:
    """Sum the weighted absolute steps of a map, and write the slopes of their mean."""
    height, width = depth.shape
    zero, one = shares[0], shares[3]
    for y in range(first, last):
        d, out = depth[y], slopes[y]
        above, below = depth[max(y - 1, 0)], depth[min(y + 1, height - 1)]
        flat_x, flat_y, flat_above = flat[0, y], flat[1, y], flat[1, max(y - 1, 0)]
        for x in range(width):
            sign = _sign(d[x] - below[x], zero, one) * flat_y[x] + _sign(d[x] - above[x], zero, one) * flat_above[x]
            out[x] = shares[2] * sign
        for x in range(width - 1):
            out[x] -= shares[1] * flat_x[x] * _sign(d[x + 1] - d[x], zero, one)
        for x in range(1, width):
            out[x] += shares[1] * flat_x[x - 1] * _sign(d[x] - d[x - 1], zero, one)
        _sum_steps(d, below, flat_x, flat_y, sums[y])


@row_kernel
def _sign(value: float, zero: float, one: float) -> float:
    return one if value > zero else (-one if value < zero else zero)


@row_sum
def _sum_steps(d: Floats, below: Floats, flat_x: Floats, flat_y: Floats, sums: NDArray[np.float64]) -> None:
    along_x, along_y, total = 0.0, 0.0, 0.0
    for x in range(d.size - 1):
        along_x += np.float64(abs(d[x + 1] - d[x]) * flat_x[x])
    for x in range(d.size):
        along_y += np.float64(abs(below[x] - d[x]) * flat_y[x])
        total += np.float64(d[x])
    sums[0], sums[1], sums[2] = along_x, along_y, total
