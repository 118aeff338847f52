"""Compiled loops that sample the sources where the target's pixels project: `geometry.warp.synthesize_views`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stadia.losses.cpu.row_bands import Floats, Indices, row_kernel


@row_kernel
def clamped(value: float, low: float, high: float) -> float:
    """Clamp a value, NaN included, so that it is a valid index."""
    if not value > low:
        return low
    return high if value > high else value


@row_kernel
def warp_rows(
    first: int,
    last: int,
    sources: Floats,  # (N, Hs, Ws, 3)
    inverse_depth: Floats,  # (H, W), 0 = none
    transform: Floats,  # (N, 3, 4): [at infinity | epipole], see geometry.warp
    views: Floats,  # out (N, 3, H, W)
    seen: NDArray[np.bool_],  # out (N, H, W)
    column: Floats,
    near: float,
) -> None:
    """Sample every source at the projections of the target's pixels."""
    pixels = np.empty((2, inverse_depth.shape[1]), views.dtype)
    for y in range(first, last):
        warp_row(y, y, sources, inverse_depth[y], transform, pixels, views, seen, column, near)


@row_kernel
def warp_row(
    y: int,
    to: int,
    sources: Floats,  # (N, Hs, Ws, 3)
    inverse_depth: Floats,  # (W)
    transform: Floats,  # (N, 3, 4)
    pixels: Floats,  # scratch (2, W)
    views: Floats,  # out (N, 3, R, W): row `to`
    seen: NDArray[np.bool_],  # out (N, R, W): row `to`
    column: Floats,
    near: float,
) -> None:
    """Sample every source at the projections of row y of the target."""
    count, source_height, source_width, _ = sources.shape
    one = column[1]
    step, last_x, last_y = np.uint64(1), np.uint64(source_width - 1), np.uint64(source_height - 1)  # never negative
    us, vs = pixels[0], pixels[1]
    for n in range(count):
        _project_row(y, inverse_depth, transform[n], source_height, source_width, us, vs, seen[n, to], column, near)
        for x in range(us.size):
            u, v = us[x], vs[x]
            x0, y0 = np.uint64(u), np.uint64(v)
            x1, y1 = min(x0 + step, last_x), min(y0 + step, last_y)
            fx, fy = u - column[x0], v - column[y0]
            for c in range(3):
                upper = (one - fx) * sources[n, y0, x0, c] + fx * sources[n, y0, x1, c]
                lower = (one - fx) * sources[n, y1, x0, c] + fx * sources[n, y1, x1, c]
                views[n, c, to, x] = (one - fy) * upper + fy * lower


@row_kernel
def warp_nearest_rows(
    first: int,
    last: int,
    sources: Floats,  # (N, Hs, Ws, 3)
    inverse_depth: Floats,  # (H, W), 0 = none
    transform: Floats,  # (N, 3, 4)
    nearest: Indices,  # (H, W)
    selected: Floats,  # out (3, H, W)
    column: Floats,
    near: float,
) -> None:
    """Write the view that `nearest` names at each pixel, 0 at -1."""
    count, width = len(sources), inverse_depth.shape[1]
    views, seen = np.empty((count, 3, 1, width), sources.dtype), np.empty((count, 1, width), np.bool_)
    pixels = np.empty((2, width), sources.dtype)
    for y in range(first, last):
        warp_row(y, 0, sources, inverse_depth[y], transform, pixels, views, seen, column, near)
        for c in range(3):
            selected[c, y] = column[0]
            for n in range(count):
                copy_where(nearest[y], np.int8(n), views[n, c, 0], selected[c, y])


@row_kernel
def _project_row(
    y: int,
    inverse_depth: Floats,  # (W), 0 = none
    m: Floats,  # (3, 4)
    source_height: int,
    source_width: int,
    us: Floats,  # out (W), clamped to the source
    vs: Floats,  # out (W)
    seen: NDArray[np.bool_],  # out (W)
    column: Floats,
    near: float,
) -> None:
    """Project a row of pixels. A loop of its own, without sampling, runs on several pixels at once."""
    zero, one = column[0], column[1]
    half = one / column[2]
    right, bottom = column[source_width - 1], column[source_height - 1]
    for x in range(inverse_depth.size):
        known = inverse_depth[x] > near
        inverse = inverse_depth[x] if known else zero
        q0 = m[0, 0] * column[x] + m[0, 1] * column[y] + m[0, 2] + m[0, 3] * inverse
        q1 = m[1, 0] * column[x] + m[1, 1] * column[y] + m[1, 2] + m[1, 3] * inverse
        q2 = m[2, 0] * column[x] + m[2, 1] * column[y] + m[2, 2] + m[2, 3] * inverse
        before = q2 > near
        scale = one / q2 if before else one
        u, v = q0 * scale, q1 * scale
        seen[x] = known & before & (u >= -half) & (u <= right + half) & (v >= -half) & (v <= bottom + half)
        us[x], vs[x] = clamped(u, zero, right), clamped(v, zero, bottom)


@row_kernel
def copy_where(names: Indices, name: np.int8, values: Floats, out: Floats) -> None:
    """Copy the values (W) of the pixels with a name."""
    for x in range(out.size):
        if names[x] == name:
            out[x] = values[x]
