"""Compiled loops of the fused comparison, on rows of one sample; `reprojection` is the readable reference.

Public kernels process rows `first` to `last` (exclusive) without the GIL. Arrays are C-contiguous and of one float
type. Integers would promote it to double, so they come as arrays of that type: `column` = 0, 1, 2, ... and `weights` =
SSIM's weight, C1, C2.

SSIM = A B / (C D) over 3x3 window means of a view w and the target t, with
    A = 2 mean_w mean_t + C1,  B = 2 cov + C2,  C = mean_w^2 + mean_t^2 + C1,  D = var_w + var_t + C2.
Its slopes with respect to the window means of w, w^2 and w t are
    d/dE[w]  = 2 mean_t (B - A) / (C D) - 2 mean_w SSIM (1/C - 1/D),   d/dE[w^2] = -SSIM / D,   d/dE[w t] = 2 A / (C D).
With brightness each source has its own target and a fourth slope, d/dE[t]: d/dE[w] with w and t swapped.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int8]

row_kernel = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath={"contract", "arcp", "nsz"})
# The compiler may reorder operations, so it processes several pixels at once.
row_sum = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

_ROWS = 32  # rows per band: large enough to amortize scheduling, small enough to balance the threads


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; a fork does not inherit its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="stadia-reprojection")


def run_in_bands(
    kernel: Callable[..., None], height: int, of_sample: Sequence[NDArray[Any] | None], shared: Sequence[Any]
) -> None:
    """Run `kernel(first row, last row, *arrays of one sample, *shared)` on bands of rows, on torch's threads."""
    assert of_sample[0] is not None
    bands = [(b, y, min(y + _ROWS, height)) for b in range(len(of_sample[0])) for y in range(0, height, _ROWS)]

    remaining = iter(bands)  # Each thread takes the next band when it finishes one.

    def work() -> None:
        for sample, first, last in remaining:
            kernel(first, last, *(None if array is None else array[sample] for array in of_sample), *shared)

    threads = torch.get_num_threads()
    others = [_pool(os.getpid(), threads - 1).submit(work) for _ in range(threads - 1)]
    work()  # This thread works too, because others may wake late.
    for other in others:
        if not other.cancel():  # Its work has begun.
            other.result()


@row_kernel
def clamped(value: float, low: float, high: float) -> float:
    """Clamp a value to a range, so that it is a valid index even if it is NaN."""
    if not value > low:
        return low
    return high if value > high else value


@row_kernel
def warp_rows(
    first: int,
    last: int,
    sources: Floats,  # (N, Hs, Ws, 3)
    inverse_depth: Floats,  # (H, W); 0 marks a pixel without depth
    transform: Floats,  # (N, 3, 4); columns: homography at infinity, epipole (`differentiable.view_synthesis`)
    views: Floats,  # output (N, 3, H, W)
    seen: NDArray[np.bool_],  # output (N, H, W)
    column: Floats,
    near: float,
) -> None:
    """Sample every source (N, Hs, Ws, 3) at the projections of the target's pixels, into `views` (N, 3, H, W)."""
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
    views: Floats,  # output (N, 3, R, W); the kernel writes row `to`
    seen: NDArray[np.bool_],  # output (N, R, W); the kernel writes row `to`
    column: Floats,
    near: float,
) -> None:
    """Sample every source (N, Hs, Ws, 3) at the projections of row y of the target, into row `to` of `views`."""
    count, source_height, source_width, _ = sources.shape
    one = column[1]
    step, last_x, last_y = np.uint64(1), np.uint64(source_width - 1), np.uint64(source_height - 1)  # unsigned
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
    inverse_depth: Floats,  # (H, W); 0 marks a pixel without depth
    transform: Floats,  # (N, 3, 4)
    nearest: Indices,  # (H, W)
    selected: Floats,  # output (3, H, W)
    column: Floats,
    near: float,
) -> None:
    """Write into `selected` (3, H, W) the view whose index `nearest` (H, W) gives; 0 for index -1."""
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
    inverse_depth: Floats,  # (W); 0 marks a pixel without depth
    m: Floats,  # (3, 4)
    source_height: int,
    source_width: int,
    us: Floats,  # output (W), clamped to the source
    vs: Floats,  # output (W)
    seen: NDArray[np.bool_],  # output (W)
    column: Floats,
    near: float,
) -> None:
    """Project a row of pixels; without sampling, the loop runs on several pixels at once."""
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
    """Copy the values (W,) of the pixels that have the given name."""
    for x in range(out.size):
        if names[x] == name:
            out[x] = values[x]


@row_kernel
def brighten_rows(
    first: int,
    last: int,
    images: Floats,  # (N, 3, H, W)
    target: Floats,  # (3, H, W)
    brightness: Floats,  # (N, 2) gain and offset
    brightened: Floats,  # output (N, 3, H, W)
    changed: NDArray[np.bool_],  # output (N, H, W)
    ends: Floats,  # values of a dark and of a bright pixel
) -> None:
    """Compute `affine_brightness.apply_brightness` of images (N, 3, H, W), and the mask (N, H, W) of changed pixels."""
    for n in range(images.shape[0]):
        gain, offset = brightness[n]
        for y in range(first, last):
            for x in range(target.shape[2]):
                t0, t1, t2 = target[0, y, x], target[1, y, x], target[2, y, x]
                p0, p1, p2 = images[n, 0, y, x], images[n, 1, y, x], images[n, 2, y, x]
                dark = (max(t0, t1, t2) <= ends[0]) | (max(p0, p1, p2) <= ends[0])
                bright = (min(t0, t1, t2) >= ends[1]) | (min(p0, p1, p2) >= ends[1])
                changes = not (dark | bright)
                changed[n, y, x] = changes
                brightened[n, 0, y, x] = gain * t0 + offset if changes else t0
                brightened[n, 1, y, x] = gain * t1 + offset if changes else t1
                brightened[n, 2, y, x] = gain * t2 + offset if changes else t2


@row_kernel
def _window(y: int, height: int) -> tuple[int, int, int]:
    """Return the rows of the windows centered in row y; rows beyond the border are reflected."""
    return abs(y - 1), y, y + 1 if y + 1 < height else height - 2


@row_kernel
def statistics_rows(
    first: int,
    last: int,
    image: Floats,  # (3, H, W)
    mean: Floats,  # output (3, H, W)
    variance: Floats,  # output (3, H, W)
    column: Floats,
) -> None:
    """Compute `photometric.window_statistics` of an image (3, H, W)."""
    _, height, width = image.shape
    sums = np.empty((3, width + 2), image.dtype)
    for c in range(3):
        for y in range(first, last):
            _window_statistics(image[c], _window(y, height), column, sums, mean[c, y], variance[c, y])


@row_kernel
def residual_rows(
    first: int,
    last: int,
    images: Floats,  # (N, 3, H, W)
    target: Floats,  # (3, H, W)
    target_mean: Floats,  # (3, H, W) over 3x3 windows
    target_variance: Floats,  # (3, H, W)
    brightened: Floats | None,  # (N, 3, H, W) target with the brightness of each image
    identity_residual: Floats,  # output (N, H, W)
    largest: Floats,  # output (H, W) the largest of the N residuals
    best: Indices,  # output (H, W) N + index of the least residual; below N are warped images
    kinds: Indices,  # (N) equal numbers for sources of one kind, temporal or stereo
    weights: Floats,
    column: Floats,
) -> None:
    """Compute `photometric.photometric_residual` of each image (N, 3, H, W), and `auto_mask.identity_reprojection`."""
    count, _, _, width = images.shape
    sums, slopes = np.empty((3, width + 2), images.dtype), np.empty((12, width), images.dtype)
    residuals, least = np.empty((count, width), images.dtype), np.empty(width, images.dtype)
    for y in range(first, last):
        for n in range(count):
            _residual_row(
                y, n, images[n], target, target_mean, target_variance, brightened, weights, column, sums,
                residuals[n], slopes,
            )  # fmt: skip
        for n in range(count):
            _least_of_kind(n, residuals, kinds, identity_residual[n, y])
        _largest_and_best(y, residuals, identity_residual, least, largest[y], best[y])


@row_kernel
def _least_of_kind(n: int, residuals: Floats, kinds: Indices, least: Floats) -> None:
    least[:] = residuals[n]
    for other in range(len(residuals)):
        if other == n or kinds[other] != kinds[n]:
            continue
        own = residuals[other]
        for x in range(least.size):
            least[x] = own[x] if (own[x] < least[x]) | (own[x] != own[x]) else least[x]


@row_kernel
def _largest_and_best(
    y: int, residuals: Floats, identity: Floats, least: Floats, largest: Floats, best: Indices
) -> None:
    """Write the row's largest identity residual (N, H, W), NaN if any is, and N + index of the least residual."""
    count = len(residuals)
    largest[:], least[:], best[:] = identity[0, y], residuals[0], np.int8(count)
    for n in range(1, count):
        own, of_kind, number = residuals[n], identity[n, y], np.int8(count + n)
        for x in range(largest.size):
            largest[x] = of_kind[x] if (of_kind[x] > largest[x]) | (of_kind[x] != of_kind[x]) else largest[x]
        for x in range(largest.size):
            nearer = own[x] < least[x]
            least[x] = own[x] if nearer else least[x]
            best[x] = number if nearer else best[x]


@row_kernel
def compare_rows(
    first: int,
    last: int,
    views: Floats,  # (N, 3, H, W)
    seen: NDArray[np.bool_],  # (N, H, W)
    target: Floats,  # (3, H, W)
    target_mean: Floats,  # (3, H, W) over 3x3 windows
    target_variance: Floats,  # (3, H, W)
    brightened: Floats | None,  # (N, 3, H, W) target with the brightness of each view
    identity_winner: Indices,  # (H, W) N + index of the best unwarped source
    identity_residual: Floats,  # (N, H, W)
    residual: Floats,  # output (H, W)
    winner: Indices,  # output (H, W)
    nearest: Indices,  # output (H, W)
    unmasked: Floats,  # output (H, W)
    # Output (9, H, W), slopes of the winner's residual, three a channel. It is (12, H, W) with brightness, and
    # (..., 0, 0) without gradients.
    slopes: Floats,
    weights: Floats,
    column: Floats,
    auto_mask: bool,
) -> None:
    """Compute the residual of every view (N, 3, H, W), the minimum over competing views, and the winner's slopes."""
    count, _, _, width = views.shape
    sums = np.empty((3, width + 2), views.dtype)
    residuals, slopes_of = np.empty((count, width), views.dtype), np.empty((count, len(slopes), width), views.dtype)
    for y in range(first, last):
        for n in range(count):
            _residual_row(
                y, n, views[n], target, target_mean, target_variance, brightened, weights, column, sums,
                residuals[n], slopes_of[n],
            )  # fmt: skip
        out = residual[y], winner[y], nearest[y], unmasked[y]
        _minimum_row(y, residuals, seen, identity_residual, identity_winner[y], auto_mask, *out)
        # The slopes belong to each pixel's winner; they are 0 if no view won.
        for k in range(len(slopes) if slopes.shape[1] else 0):
            slopes[k, y] = column[0]
            for n in range(count):
                copy_where(winner[y], np.int8(n), slopes_of[n, k], slopes[k, y])


@row_kernel
def _residual_row(
    y: int,
    n: int,
    image: Floats,  # (3, H, W)
    target: Floats,  # (3, H, W)
    target_mean: Floats,
    target_variance: Floats,
    brightened: Floats | None,
    weights: Floats,
    column: Floats,
    sums: Floats,  # scratch (3, W + 2)
    residual: Floats,  # output (W)
    slopes: Floats,  # output (9, W), with brightness (12, W)
) -> None:
    rows = _window(y, target.shape[1])
    residual[:] = column[0]
    for c in range(3):
        w, own = image[c, y], slopes[3 * c : 3 * c + 3]
        if brightened is not None:
            t = brightened[n, c]
            mean, variance = np.empty_like(w), np.empty_like(w)
            _window_statistics(t, rows, column, sums, mean, variance)
            _window_sums(image[c], t, rows, sums)
            _compare_channel(sums, w, t[y], mean, variance, weights, column, residual, own, slopes[9 + c])
        else:
            _window_sums(image[c], target[c], rows, sums)
            mean, variance = target_mean[c, y], target_variance[c, y]
            _compare_channel(sums, w, target[c, y], mean, variance, weights, column, residual, own, None)


@row_kernel
def _window_statistics(
    image: Floats,
    rows: tuple[int, int, int],
    column: Floats,
    sums: Floats,  # scratch (3, W + 2)
    mean: Floats,  # output (W)
    variance: Floats,  # output (W)
) -> None:
    ninth = column[1] / column[9]
    _window_sums(image, image, rows, sums)
    for x in range(image.shape[1]):
        mean[x] = (sums[0, x] + sums[0, x + 1] + sums[0, x + 2]) * ninth
        variance[x] = (sums[1, x] + sums[1, x + 1] + sums[1, x + 2]) * ninth - mean[x] * mean[x]


@row_kernel
def _window_sums(image: Floats, target: Floats, rows: tuple[int, int, int], sums: Floats) -> None:
    width = image.shape[1]
    w_above, w_here, w_below = image[rows[0]], image[rows[1]], image[rows[2]]
    t_above, t_here, t_below = target[rows[0]], target[rows[1]], target[rows[2]]
    for x in range(width):
        a, b, c = w_above[x], w_here[x], w_below[x]
        sums[0, x + 1] = a + b + c
        sums[1, x + 1] = a * a + b * b + c * c
        sums[2, x + 1] = a * t_above[x] + b * t_here[x] + c * t_below[x]
    for k in range(3):
        sums[k, 0], sums[k, width + 1] = sums[k, 2], sums[k, width - 1]


@row_kernel
def _compare_channel(
    sums: Floats,
    w_row: Floats,
    t_row: Floats,
    mean_row: Floats,
    variance_row: Floats,
    weights: Floats,
    column: Floats,
    residual: Floats,  # (W); the kernel adds one channel's share
    slopes: Floats,  # output (3, W)
    target_slope: Floats | None,  # output (W)
) -> None:
    share, c1, c2 = weights
    zero, one, two = column[0], column[1], column[2]
    third, ninth = one / column[3], one / column[9]
    slope = -share * third * ninth / two
    for x in range(w_row.size):
        mean_w = (sums[0, x] + sums[0, x + 1] + sums[0, x + 2]) * ninth
        mean_ww = (sums[1, x] + sums[1, x + 1] + sums[1, x + 2]) * ninth
        mean_wt = (sums[2, x] + sums[2, x + 1] + sums[2, x + 2]) * ninth
        mean_t = mean_row[x]
        a = two * mean_w * mean_t + c1
        b = two * (mean_wt - mean_w * mean_t) + c2
        inverse_c = one / (mean_w * mean_w + mean_t * mean_t + c1)
        inverse_d = one / (mean_ww - mean_w * mean_w + variance_row[x] + c2)
        similarity = a * b * inverse_c * inverse_d
        distance = (one - similarity) / two  # Only rounding errors exceed [0, 1]; the slope is 0 there.
        residual[x] += third * (share * min(max(distance, zero), one) + (one - share) * abs(w_row[x] - t_row[x]))
        slopes[0, x] = (
            two * slope * (mean_t * (b - a) * inverse_c * inverse_d - mean_w * similarity * (inverse_c - inverse_d))
        )
        slopes[1, x] = -slope * similarity * inverse_d
        slopes[2, x] = two * slope * a * inverse_c * inverse_d
        if target_slope is not None:
            target_slope[x] = (
                two * slope * (mean_w * (b - a) * inverse_c * inverse_d - mean_t * similarity * (inverse_c - inverse_d))
            )


@row_kernel
def _minimum_row(
    y: int,
    residuals: Floats,  # (N, W)
    seen: NDArray[np.bool_],  # (N, H, W)
    identity_residual: Floats,  # (N, H, W)
    identity_winner: Indices,  # (W)
    auto_mask: bool,
    residual: Floats,  # output (W)
    winner: Indices,  # output (W)
    nearest: Indices,  # output (W)
    unmasked: Floats,  # output (W)
) -> None:
    """Compute `auto_mask.minimum_reprojection` for a row, in loops that run on several pixels at once."""
    width = residual.size
    largest = np.empty_like(residual)
    residual[:], unmasked[:], largest[:] = np.inf, np.inf, identity_residual[0, y]
    winner[:], nearest[:] = -1, -1
    for n in range(len(residuals)):
        own, own_seen, identity, number = residuals[n], seen[n, y], identity_residual[n, y], np.int8(n)
        for x in range(width):
            nearer = own_seen[x] & (own[x] < unmasked[x])
            unmasked[x] = own[x] if nearer else unmasked[x]
            nearest[x] = number if nearer else nearest[x]
        for x in range(width):
            wins = own_seen[x] & (own[x] < residual[x]) & ((own[x] < identity[x]) | (not auto_mask))
            residual[x] = own[x] if wins else residual[x]
            winner[x] = number if wins else winner[x]
        for x in range(width):
            largest[x] = identity[x] if identity[x] > largest[x] else largest[x]
    for x in range(width):
        unmasked[x] = unmasked[x] if nearest[x] >= 0 else largest[x]
    for x in range(width):
        residual[x] = residual[x] if winner[x] >= 0 else largest[x]
    for x in range(width):
        masked = identity_winner[x] if nearest[x] >= 0 else nearest[x]
        winner[x] = winner[x] if winner[x] >= 0 else masked
