"""Compiled loops of the backward pass of the fused comparison; the forward pass is in `reprojection_kernels`."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from stadia.core.numba_jit import compile_loops
from stadia.losses.row_bands import Floats, Indices, row_kernel
from stadia.losses.warp_kernels import clamped

row_sum = partial(compile_loops, fastmath={"contract", "reassoc", "nsz"})
"""Sums of a row in any order, so that they run on several pixels at once."""


@row_kernel
def backward_rows(
    first: int,
    last: int,
    grad: Floats,  # (H, W) of the residual
    winner: Indices,  # (H, W)
    slopes: Floats,  # (9, H, W), with brightness (12, H, W)
    target: Floats,  # (3, H, W)
    # The views (N, 3, H, W), the target as bright as each, and where it is changed (N, H, W); None without brightness.
    views: Floats | None,
    brightened: Floats | None,
    changed: NDArray[np.bool_] | None,
    sources: Floats,  # (N, Hs, Ws, 3)
    inverse_depth: Floats,  # (H, W)
    transform: Floats,  # (N, 3, 4)
    grad_inverse_depth: Floats,  # out (H, W)
    grad_transform: NDArray[np.float64],  # out (H, N, 3, 4): what each row adds
    grad_brightness: NDArray[np.float64] | None,  # out (H, N, 2)
    weights: Floats,
    column: Floats,
    near: float,
) -> None:
    """Propagate the residual's gradient to inverse depth, transform and brightness, in windows that a source won.

    The views are sampled again, together with their slopes.
    """
    count, width = len(sources), inverse_depth.shape[1]
    zero, difference_share = column[0], (column[1] - weights[0]) / column[3]
    factors, gathered = np.empty((3, width), sources.dtype), np.empty((slopes.shape[0], width), sources.dtype)
    sums, active, projected = np.empty(width + 2, sources.dtype), np.empty_like(factors[0]), np.empty_like(factors)
    # Where there is no gradient, these keep finite numbers of other pixels, which it multiplies.
    sampled = np.zeros((9, width), sources.dtype)
    grad_view, grad_u, grad_v = np.empty_like(active), np.empty_like(active), np.empty_like(active)
    for y in range(first, last):
        grad_inverse_depth[y], grad_transform[y] = zero, 0.0
        if grad_brightness is not None:
            grad_brightness[y] = 0.0
        for n in range(count):
            if not _winning_factors(y, n, grad, winner, column, factors):
                continue
            _gather_windows(y, slopes, factors, sums, gathered)
            _project_row(y, sources.shape[1], sources.shape[2], inverse_depth[y], transform[n], column, near, projected)
            _find_active(factors, sums, active)
            compared = target
            if brightened is not None:
                compared = brightened[n]
            _sample_slopes(sources[n], projected, active, column, sampled)
            grad_u[:], grad_v[:] = zero, zero
            for c in range(3):
                _backward_comparison(
                    sampled[c],
                    compared[c, y],
                    gathered[3 * c],
                    gathered[3 * c + 1],
                    gathered[3 * c + 2],
                    factors[1],
                    difference_share,
                    column,
                    grad_view,
                )
                _add_products(grad_view, sampled[3 + c], sampled[6 + c], grad_u, grad_v)
            height_s, width_s = sources.shape[1], sources.shape[2]
            out, out_transform = grad_inverse_depth[y], grad_transform[y, n]
            _backward_projection(
                y,
                height_s,
                width_s,
                grad_u,
                grad_v,
                projected,
                inverse_depth[y],
                transform[n],
                column,
                near,
                out,
                out_transform,
            )
            if grad_brightness is not None and changed is not None and views is not None:
                view, changed_row, out_brightness = views[n], changed[n, y], grad_brightness[y, n]
                _backward_brightness(
                    y, n, grad, winner, view, compared, target, changed_row, gathered, weights, column, out_brightness
                )


@row_kernel
def _winning_factors(y: int, n: int, grad: Floats, winner: Indices, column: Floats, factors: Floats) -> bool:
    """Weight the windows centered in rows y - 1, y, y + 1, if source n won: out (3, W). False if it never won.

    A window at the border is reflected, so it counts the second row (and column) twice.
    """
    height = len(grad)
    won = False
    for i in range(3):
        row = y - 1 + i
        if row < 0 or row >= height:
            factors[i] = column[0]
            continue
        twice = (row == 0 and y == 1) or (row == height - 1 and y == height - 2)
        weight = column[2] if twice else column[1]
        _scale_where(winner[row], np.int8(n), weight, grad[row], column[0], factors[i])
        won |= _has_name(winner[row], np.int8(n))
    return won


@row_kernel
def _scale_where(names: Indices, name: np.int8, factor: float, values: Floats, zero: float, out: Floats) -> None:
    """Write factor * values (W) where a pixel has a name, elsewhere 0."""
    for x in range(out.size):
        out[x] = factor * values[x] if names[x] == name else zero


@row_kernel
def _has_name(names: Indices, name: np.int8) -> bool:
    found = np.int8(0)
    for x in range(names.size):
        found |= np.int8(names[x] == name)
    return found != 0


@row_kernel
def _gather_windows(y: int, slopes: Floats, factors: Floats, sums: Floats, gathered: Floats) -> None:
    """Apply the adjoint of the window means: weighted slopes of the windows around each pixel of row y, out (K, W)."""
    height, width = slopes.shape[1:]
    above, below = max(y - 1, 0), min(y + 1, height - 1)  # beyond the border the factor is 0
    sums[0] = sums[width + 1] = factors[0, 0] - factors[0, 0]
    for k in range(slopes.shape[0]):
        for x in range(width):
            sums[x + 1] = (
                factors[0, x] * slopes[k, above, x]
                + factors[1, x] * slopes[k, y, x]
                + factors[2, x] * slopes[k, below, x]
            )
        for x in range(width):
            gathered[k, x] = sums[x] + sums[x + 1] + sums[x + 2]
        gathered[k, 1] += sums[1]
        gathered[k, width - 2] += sums[width]


@row_kernel
def _backward_brightness(
    y: int,
    n: int,
    grad: Floats,  # (H, W) of the residual
    winner: Indices,  # (H, W)
    view: Floats,  # (3, H, W)
    compared: Floats,  # (3, H, W) the target as bright as the view
    target: Floats,  # (3, H, W)
    changed: NDArray[np.bool_],  # (W) where it is
    gathered: Floats,  # (12, W)
    weights: Floats,
    column: Floats,
    grad_brightness: NDArray[np.float64],  # (2) is added to
) -> None:
    """Propagate through a * target + b for one row."""
    zero, one, two = column[0], column[1], column[2]
    difference_share = (one - weights[0]) / column[3]
    for c in range(3):
        for x in range(changed.size):
            if not changed[x]:
                continue
            w, t = view[c, y, x], compared[c, y, x]
            sign = one if w > t else (-one if w < t else zero)
            own = difference_share * sign * grad[y, x] if winner[y, x] == n else zero
            g = gathered[9 + c, x] + two * t * gathered[3 * c + 1, x] + w * gathered[3 * c + 2, x] - own
            grad_brightness[0] += g * target[c, y, x]
            grad_brightness[1] += g


@row_kernel
def _project_row(
    y: int,
    source_height: int,
    source_width: int,
    inverse_depth: Floats,  # (W)
    m: Floats,  # (3, 4)
    column: Floats,
    near: float,
    projected: Floats,  # out (3, W) u and v, clamped to the source, and 1 / z, negative behind the camera
) -> None:
    zero, one = column[0], column[1]
    right, bottom = column[source_width - 1], column[source_height - 1]
    us, vs, scales = projected[0], projected[1], projected[2]
    for x in range(inverse_depth.size):
        inverse = inverse_depth[x] if inverse_depth[x] > near else zero
        q2 = m[2, 0] * column[x] + m[2, 1] * column[y] + m[2, 2] + m[2, 3] * inverse
        scale = one / q2 if q2 > near else one
        u = (m[0, 0] * column[x] + m[0, 1] * column[y] + m[0, 2] + m[0, 3] * inverse) * scale
        v = (m[1, 0] * column[x] + m[1, 1] * column[y] + m[1, 2] + m[1, 3] * inverse) * scale
        us[x], vs[x] = clamped(u, zero, right), clamped(v, zero, bottom)
        scales[x] = scale if q2 > near else -scale


@row_kernel
def _find_active(factors: Floats, sums: Floats, active: Floats) -> None:
    """Write a number that is 0 where no window around a pixel has a factor (3, W): out (W)."""
    width = active.size
    sums[0] = sums[width + 1] = factors[0, 0] - factors[0, 0]
    for x in range(width):
        sums[x + 1] = abs(factors[0, x]) + abs(factors[1, x]) + abs(factors[2, x])
    for x in range(width):
        active[x] = sums[x] + sums[x + 1] + sums[x + 2]


@row_kernel
def _sample_slopes(
    source: Floats,  # (Hs, Ws, 3)
    projected: Floats,  # (3, W) u, v
    active: Floats,  # (W) 0 where nothing is needed
    column: Floats,
    sampled: Floats,  # out (9, W) colors, and their slopes along u and v
) -> None:
    source_height, source_width, _ = source.shape
    zero, one = column[0], column[1]
    us, vs = projected[0], projected[1]
    step, last_x, last_y = np.uint64(1), np.uint64(source_width - 1), np.uint64(source_height - 1)
    for x in range(us.size):
        if active[x] == zero:
            continue
        u, v = us[x], vs[x]
        x0, y0 = np.uint64(u), np.uint64(v)
        x1, y1 = min(x0 + step, last_x), min(y0 + step, last_y)
        fx, fy = u - column[x0], v - column[y0]
        for c in range(3):
            s00, s01, s10, s11 = source[y0, x0, c], source[y0, x1, c], source[y1, x0, c], source[y1, x1, c]
            along_upper, along_lower = s01 - s00, s11 - s10
            upper, lower = s00 + fx * along_upper, s10 + fx * along_lower
            sampled[c, x] = (one - fy) * upper + fy * lower
            sampled[3 + c, x] = (one - fy) * along_upper + fy * along_lower
            sampled[6 + c, x] = lower - upper


@row_kernel
def _backward_comparison(
    w: Floats,  # (W) of the view
    t: Floats,  # (W) of the target
    of_mean: Floats,  # (W) gradients of the window means of w, w^2 and w t
    of_square: Floats,
    of_product: Floats,
    grad: Floats,  # (W) of the residual where this source won, otherwise 0
    difference_share: float,
    column: Floats,
    grad_view: Floats,  # out (W)
) -> None:
    """Add the gradients of SSIM and of the absolute difference for one row of a channel."""
    zero, one, two = column[0], column[1], column[2]
    for x in range(w.size):
        sign = one if w[x] > t[x] else (-one if w[x] < t[x] else zero)
        ssim = of_mean[x] + two * w[x] * of_square[x] + t[x] * of_product[x]
        grad_view[x] = ssim + difference_share * sign * grad[x]


@row_kernel
def _add_products(grad: Floats, along_u: Floats, along_v: Floats, grad_u: Floats, grad_v: Floats) -> None:
    for x in range(grad.size):
        grad_u[x] += grad[x] * along_u[x]
        grad_v[x] += grad[x] * along_v[x]


@row_kernel
def _backward_projection(
    y: int,
    source_height: int,
    source_width: int,
    grad_u: Floats,  # (W)
    grad_v: Floats,  # (W)
    projected: Floats,  # (3, W)
    inverse_depth: Floats,  # (W)
    m: Floats,  # (3, 4)
    column: Floats,
    near: float,
    grad_inverse_depth: Floats,  # (W) is added to
    grad_transform: NDArray[np.float64],  # (3, 4) is added to
) -> None:
    """Propagate through the projection for one row."""
    zero = column[0]
    right, bottom = column[source_width - 1], column[source_height - 1]
    us, vs, scales = projected[0], projected[1], projected[2]
    for x in range(inverse_depth.size):
        u, v, before, scale = us[x], vs[x], scales[x] > zero, abs(scales[x])
        known = inverse_depth[x] > near
        grad_0 = grad_u[x] * scale if (u > zero) & (u < right) else zero  # at the border the sampled value is constant
        grad_1 = grad_v[x] * scale if (v > zero) & (v < bottom) else zero
        grad_2 = -(grad_0 * u + grad_1 * v) if before else zero
        slope = grad_0 * m[0, 3] + grad_1 * m[1, 3] + grad_2 * m[2, 3]
        grad_inverse_depth[x] += slope if known else zero
        grad_u[x], grad_v[x], scales[x] = grad_0, grad_1, grad_2
        us[x] = inverse_depth[x] if known else zero
    _sum_transform(y, grad_u, us, column, grad_transform[0])
    _sum_transform(y, grad_v, us, column, grad_transform[1])
    _sum_transform(y, scales, us, column, grad_transform[2])


@row_sum
def _sum_transform(
    y: int,
    grad: Floats,  # (W)
    inverse_depth: Floats,  # (W)
    column: Floats,
    sums: NDArray[np.float64],  # (4) is added to
) -> None:
    """Sum a row's gradients of one row of the transform."""
    along, total, at_depth = 0.0, 0.0, 0.0
    for x in range(grad.size):
        g = np.float64(grad[x])
        along += g * column[x]
        total += g
        at_depth += g * inverse_depth[x]
    sums[0] += along
    sums[1] += total * column[y]
    sums[2] += total
    sums[3] += at_depth


@row_kernel
def backward_resize(
    _first: int,
    _last: int,
    grad: Floats,  # (H, W) of the resized map
    grad_values: Floats,  # out (h, w)
    scales: Floats,  # h / H, w / W, 1 / 2
    column: Floats,
) -> None:
    """Apply the adjoint of the bilinear `depth_maps.resize_map` to a whole map: along columns, then along rows."""
    height, width = grad.shape
    lines = np.empty((grad_values.shape[0], width), grad.dtype)
    lines[:], grad_values[:] = column[0], column[0]
    for y in range(height):
        y0, y1, share = _bilinear_neighbors(column[y], scales[0], scales[2], len(lines), column)
        for x in range(width):
            lines[y0, x] += (column[1] - share) * grad[y, x]
        for x in range(width):
            lines[y1, x] += share * grad[y, x]
    for x in range(width):
        x0, x1, share = _bilinear_neighbors(column[x], scales[1], scales[2], grad_values.shape[1], column)
        for y in range(len(lines)):
            grad_values[y, x0] += (column[1] - share) * lines[y, x]
            grad_values[y, x1] += share * lines[y, x]


@row_kernel
def _bilinear_neighbors(
    position: float, scale: float, half: float, size: int, column: Floats
) -> tuple[int, int, float]:
    """Return the two source indices of a resized pixel, and the share of the second."""
    source = max(scale * (position + half) - half, column[0])
    first = min(int(source), size - 1)
    return first, min(first + 1, size - 1), source - column[first]
