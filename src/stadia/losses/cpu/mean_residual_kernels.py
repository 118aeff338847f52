"""Compiled loop of the mean residual and its gradient in one pass: what is compared stays in the processor's cache.

The gradient of a mean is the same at each pixel, so that it can be computed before the backward pass begins, which
multiplies it by one number. Each band compares a row more on each side, which its gradient needs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stadia.losses.cpu.reprojection_backward_kernels import backward_source, make_scratch
from stadia.losses.cpu.reprojection_kernels import minimum_row, residual_row, window, write_slopes
from stadia.losses.cpu.row_bands import Floats, Indices, row_kernel
from stadia.losses.cpu.warp_kernels import warp_row


@row_kernel
def mean_residual_rows(
    first: int,
    last: int,
    sources: Floats,  # (N, Hs, Ws, 3)
    inverse_depth: Floats,  # (H, W), 0 = none
    transform: Floats,  # (N, 3, 4)
    target: Floats,  # (3, H, W)
    target_mean: Floats,  # (3, H, W) over 3x3 windows
    target_variance: Floats,  # (3, H, W)
    identity_winner: Indices,  # (H, W) N + index of the best unwarped source
    identity_residual: Floats,  # (N, H, W)
    residual: Floats,  # out (H, W)
    winner: Indices,  # out (H, W)
    nearest: Indices,  # out (H, W)
    unmasked: Floats,  # out (H, W)
    grad_inverse_depth: Floats,  # out (H, W) of the sum of the residual
    grad_transform: NDArray[np.float64],  # out (H, N, 3, 4): what each row adds
    weights: Floats,
    column: Floats,
    near: float,
    auto_mask: bool,
) -> None:
    """Warp as `warp_rows`, compare as `compare_rows`, and compute the gradient as `backward_rows`.

    Three rows of views, winners and slopes are kept, row y in place y % 3.
    """
    height, width = inverse_depth.shape
    count = len(sources)
    views, seen = np.empty((count, 3, 3, width), sources.dtype), np.empty((count, 3, width), np.bool_)
    sums, pixels = np.empty((3, width + 2), sources.dtype), np.empty((2, width), sources.dtype)
    residuals, slopes_of = np.empty((count, width), sources.dtype), np.empty((count, 9, width), sources.dtype)
    winners, slopes, ones = np.empty((3, width), np.int8), np.empty((9, 3, width), sources.dtype), np.empty_like(sums)
    others, other_names = np.empty((2, width), sources.dtype), np.empty(width, np.int8)
    scratch, gathered = make_scratch(width, column), np.empty((9, width), sources.dtype)
    ones[:] = column[1]
    warped, done = max(first - 2, 0), first
    for y in range(max(first - 1, 0), min(last + 1, height)):
        while warped < min(y + 2, height):
            to = warped % 3
            warp_row(warped, to, sources, inverse_depth[warped], transform, pixels, views, seen, column, near)
            warped += 1
        above, here, below = window(y, height)
        rows = above % 3, here % 3, below % 3
        for n in range(count):
            residual_row(
                y, n, views[n], rows, target, target_mean, target_variance, None,
                weights, column, sums, residuals[n], slopes_of[n],
            )  # fmt: skip
        own, at = identity_winner[y], here % 3
        if first <= y < last:
            out = residual[y], winners[at], nearest[y], unmasked[y]
            minimum_row(y, residuals, seen, at, identity_residual, own, auto_mask, *out)
            winner[y] = winners[at]
        else:
            other = others[0], winners[at], other_names, others[1]
            minimum_row(y, residuals, seen, at, identity_residual, own, auto_mask, *other)
        write_slopes(at, winners[at], slopes_of, slopes, column)
        while done < last and (done < y or y == height - 1):
            grad_inverse_depth[done], grad_transform[done] = column[0], 0.0
            around = max(done - 1, 0) % 3, done % 3, min(done + 1, height - 1) % 3
            for n in range(count):
                backward_source(
                    done, height, n, around, ones, winners, slopes, views[n], target, sources[n], inverse_depth[done],
                    transform[n], weights, column, near, scratch, gathered, grad_inverse_depth[done],
                    grad_transform[done, n],
                )  # fmt: skip
            done += 1
