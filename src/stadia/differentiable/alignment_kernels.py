"""Compiled loops of direct image alignment. They take C-contiguous float32 images and process one row at a time."""

import math
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

Scalar = Any
"""A float32 scalar. A Python number would make numba compute in float64."""

row_kernel = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath={"contract", "arcp", "nsz", "reassoc"})

UNKNOWNS, CHANNELS = 8, 6
"""Number of unknowns (a twist, gain and offset), and of channels in a buffered row.

The channels are u, v, nearness divided by inverse depth, the gray value, and its slopes along x and y.
"""


@row_kernel
def warp_gray_row(
    y: int,
    source: Floats,  # (Hs, Ws, 3): gray, its slopes along x and y
    inverse_depth: Floats,  # (H, W), 0 = none
    transform: Floats,  # (3, 4): [at infinity | epipole], see view_synthesis.infinity_and_epipole
    near: Scalar,
    channels: int,
    buffer: Floats,  # output (CHANNELS, W)
    seen: Floats,  # output (W,), 1 or 0
) -> None:
    """Project the target's pixels of row `y` into the source image, and sample the source there.

    With `channels` = 1, only the gray value is sampled, without its slopes. The comments give the arrays' shapes.
    """
    height, width = source.shape[0], source.shape[1]
    zero, one, half = np.float32(0), np.float32(1), np.float32(0.5)
    right, bottom, line = np.float32(width - 1), np.float32(height - 1), np.float32(y)
    m = transform
    for x in range(inverse_depth.shape[1]):
        inverse, at = inverse_depth[y, x], np.float32(x)
        q0 = m[0, 0] * at + m[0, 1] * line + m[0, 2] + m[0, 3] * inverse
        q1 = m[1, 0] * at + m[1, 1] * line + m[1, 2] + m[1, 3] * inverse
        q2 = m[2, 0] * at + m[2, 1] * line + m[2, 2] + m[2, 3] * inverse
        in_front = q2 > near
        scale = one / q2 if in_front else one
        u, v = q0 * scale, q1 * scale
        inside = u >= -half and u <= right + half and v >= -half and v <= bottom + half
        if not (in_front and inside and inverse > zero):
            seen[x] = zero
            buffer[0, x], buffer[1, x], buffer[2, x] = zero, zero, zero
            buffer[3, x], buffer[4, x], buffer[5, x] = zero, zero, zero
            continue
        seen[x] = one
        buffer[0, x], buffer[1, x], buffer[2, x] = u, v, inverse * scale
        u, v = min(max(u, zero), right), min(max(v, zero), bottom)
        x0, y0 = int(u), int(v)
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        fx, fy = u - np.float32(x0), v - np.float32(y0)
        for c in range(channels):
            upper = source[y0, x0, c] + fx * (source[y0, x1, c] - source[y0, x0, c])
            lower = source[y1, x0, c] + fx * (source[y1, x1, c] - source[y1, x0, c])
            buffer[3 + c, x] = upper + fy * (lower - upper)


@row_kernel
def warp_residuals(
    source: Floats,
    target: Floats,  # (H, W) gray
    inverse_depth: Floats,
    transform: Floats,
    gain: Scalar,
    offset: Scalar,
    near: Scalar,
    residual: Floats,  # output (H, W), 0 where not seen
    seen: Floats,  # output (H, W)
) -> None:
    """Compute the residual (H, W): the warped source minus the target (H, W), changed by gain and offset.

    The residual is 0 at pixels that the source does not show.
    """
    height, width = target.shape
    buffer = np.empty((CHANNELS, width), np.float32)
    for y in range(height):
        warp_gray_row(y, source, inverse_depth, transform, near, 1, buffer, seen[y])
        for x in range(width):
            residual[y, x] = (buffer[3, x] - gain * target[y, x] - offset) * seen[y, x]


@row_kernel
def find_variance(residual: Floats, seen: Floats, freedom: float, least: float, rounds: int) -> float:
    """Return the squared scale of the Student t distribution that fits the residuals (H, W) (Kerl et al., eq. 15)."""
    count, squared = 0.0, 0.0
    for y in range(residual.shape[0]):
        row_count, row_squared = np.float32(0), np.float32(0)
        for x in range(residual.shape[1]):
            row_count += seen[y, x]
            row_squared += residual[y, x] * residual[y, x]
        count += float(row_count)
        squared += float(row_squared)
    count = max(count, 1.0)
    variance = squared / count
    for _ in range(rounds):
        inverse, freedom_, more = np.float32(1 / max(variance, least)), np.float32(freedom), np.float32(freedom + 1)
        weighted = 0.0
        for y in range(residual.shape[0]):
            row = np.float32(0)
            for x in range(residual.shape[1]):
                square = residual[y, x] * residual[y, x]
                row += square * more / (freedom_ + square * inverse)
            weighted += float(row)
        variance = weighted / count
    return variance


@row_kernel
def add_normal_equations(
    source: Floats,
    target: Floats,
    inverse_depth: Floats,
    transform: Floats,
    lens: Floats,  # (2, 3) of the source's inverse K, then its fx, skew and fy: (3, 3)
    gain: Scalar,
    near: Scalar,
    residual: Floats,
    inverse_variance: Scalar,  # inverse variance of the residuals, over the degrees of freedom
    curvature: NDArray[np.float64],  # output (8, 8), 0 before
    downhill: NDArray[np.float64],  # output (8,)
) -> None:
    """Add the image's weighted sums to the normal equations of the 8 unknowns.

    curvature: (8, 8), increased by the products of the slopes with each other.
    downhill: (8,), increased by the products of the slopes with the residual.
    """
    height, width = target.shape
    buffer, seen = np.empty((CHANNELS, width), np.float32), np.empty(width, np.float32)
    slope, weighted = np.empty((UNKNOWNS, width), np.float32), np.empty((UNKNOWNS, width), np.float32)
    one = np.float32(1)
    for y in range(height):
        warp_gray_row(y, source, inverse_depth, transform, near, 3, buffer, seen)
        for x in range(width):
            u, v, inverse_z = buffer[0, x], buffer[1, x], buffer[2, x]
            ray_x = lens[0, 0] * u + lens[0, 1] * v + lens[0, 2]
            ray_y = lens[1, 1] * v + lens[1, 2]
            along_x = buffer[4, x] * lens[2, 0]
            along_y = buffer[4, x] * lens[2, 1] + buffer[5, x] * lens[2, 2]
            outwards = along_x * ray_x + along_y * ray_y
            slope[0, x] = along_x * inverse_z
            slope[1, x] = along_y * inverse_z
            slope[2, x] = -outwards * inverse_z
            slope[3, x] = -along_y - outwards * ray_y
            slope[4, x] = along_x + outwards * ray_x
            slope[5, x] = along_y * ray_x - along_x * ray_y
            slope[6, x] = -gain * target[y, x]
            slope[7, x] = -one
        for x in range(width):
            weight = seen[x] / (one + residual[y, x] * residual[y, x] * inverse_variance)
            for a in range(UNKNOWNS):
                weighted[a, x] = slope[a, x] * weight
        for a in range(UNKNOWNS):
            total = np.float32(0)
            for x in range(width):
                total += weighted[a, x] * residual[y, x]
            downhill[a] -= total
            for b in range(a, UNKNOWNS):
                total = np.float32(0)
                for x in range(width):
                    total += weighted[a, x] * slope[b, x]
                curvature[a, b] += total
    for a in range(UNKNOWNS):
        for b in range(a):
            curvature[a, b] = curvature[b, a]


@row_kernel
def compare_costs(
    before: Floats, seen_before: Floats, after: Floats, seen_after: Floats, inverse_variance: Scalar
) -> tuple[float, float]:
    """Return the negative log-likelihoods of two states, summed over the pixels (H, W) that both states see."""
    one, most = np.float32(1), np.float32(1e4)
    first, second = 0.0, 0.0
    width = before.shape[1]
    for y in range(before.shape[0]):
        for start in range(0, width, 8):
            one_product, other_product = one, one
            for x in range(start, min(start + 8, width)):
                both = seen_before[y, x] * seen_after[y, x] * inverse_variance
                one_product *= min(one + before[y, x] * before[y, x] * both, most)
                other_product *= min(one + after[y, x] * after[y, x] * both, most)
            first += math.log(one_product)
            second += math.log(other_product)
    return first, second
