"""One scale of the photometric loss as a single CPU operation, with the same results as `reprojection`.

The target's statistics and the unwarped residuals are computed once per step. The backward pass follows the winning
source and uses the stored views and slopes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from stadia.core.types import Camera
from stadia.differentiable.batch import is_temporal
from stadia.differentiable.view_synthesis import infinity_and_epipole
from stadia.geometry.cameras import NEAR
from stadia.losses.cpu import reprojection_kernels as kernels
from stadia.losses.cpu.reprojection_kernels import Floats, Indices, clamped, row_kernel, row_sum, run_in_bands
from stadia.losses.reprojection import SSIM_C1, SSIM_C2, MinimumReprojection, Reprojection, ReprojectionInputs


@row_kernel
def backward_rows(
    first: int,
    last: int,
    grad: Floats,  # (H, W) gradient of the residual
    winner: Indices,  # (H, W)
    slopes: Floats,  # (9, H, W), with brightness (12, H, W)
    views: Floats,  # (N, 3, H, W)
    target: Floats,  # (3, H, W)
    # Target with the brightness of each source (N, 3, H, W), and mask of changed pixels (N, H, W), or None.
    brightened: Floats | None,
    changed: NDArray[np.bool_] | None,
    sources: Floats,  # (N, Hs, Ws, 3)
    inverse_depth: Floats,  # (H, W)
    transform: Floats,  # (N, 3, 4)
    grad_inverse_depth: Floats,  # output (H, W)
    grad_transform: NDArray[np.float64],  # output (H, N, 3, 4), the share of each row
    grad_brightness: NDArray[np.float64] | None,  # output (H, N, 2)
    weights: Floats,
    column: Floats,
    near: float,
) -> None:
    """Propagate the gradient of the residual (H, W) to inverse depth, transforms (N, 3, 4) and brightness (N, 2).

    Each pixel passes its gradient to the source that won there. The comments give the shapes of all arrays.
    """
    height, width = inverse_depth.shape
    factors, sums = np.empty((3, width), column.dtype), np.empty(width + 2, column.dtype)
    grad_view, gathered = np.empty_like(factors), np.empty((len(slopes), width), column.dtype)
    difference_share = (column[1] - weights[0]) / column[3]
    for y in range(first, last):
        grad_inverse_depth[y], grad_transform[y] = column[0], 0.0
        if grad_brightness is not None:
            grad_brightness[y] = 0.0
        rows = max(y - 1, 0), y, min(y + 1, height - 1)  # The factor is 0 beyond the border.
        for n in range(len(sources)):
            if not _winning_factors(y, height, n, grad, winner, column, factors):
                continue
            compared = target
            if brightened is not None:
                compared = brightened[n]
            _gather_windows(rows, slopes, factors, sums, gathered)
            for c in range(3):
                w, t, shares = views[n, c, y], compared[c, y], gathered[3 * c : 3 * c + 3]
                _backward_comparison(w, t, shares, factors[1], difference_share, column, grad_view[c])
            given = sources[n], inverse_depth[y], transform[n], column, near
            _backward_sampling(y, grad_view, *given, grad_inverse_depth[y], grad_transform[y, n])
            if grad_brightness is not None and changed is not None:
                view, changed_row, out_brightness = views[n], changed[n, y], grad_brightness[y, n]
                _backward_brightness(
                    y, n, grad, winner, view, compared, target, changed_row, gathered, weights, column, out_brightness
                )


@row_kernel
def _winning_factors(
    y: int, height: int, n: int, grad: Floats, winner: Indices, column: Floats, factors: Floats
) -> bool:
    """Weight the windows centered in rows y - 1, y, y + 1 that source n won, out (3, W); return whether it won any.

    A window at the border is reflected, so it counts the second row or column twice.
    """
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
    """Write factor * values (W) at the pixels with a name, otherwise 0."""
    for x in range(out.size):
        out[x] = factor * values[x] if names[x] == name else zero


@row_kernel
def _has_name(names: Indices, name: np.int8) -> bool:
    found = np.int8(0)
    for x in range(names.size):
        found |= np.int8(names[x] == name)
    return found != 0


@row_kernel
def _gather_windows(
    rows: tuple[int, int, int], slopes: Floats, factors: Floats, sums: Floats, gathered: Floats
) -> None:
    """Apply the adjoint of the window means: weighted slopes of the windows around each pixel of a row, out (K, W)."""
    width = gathered.shape[1]
    above, here, below = rows
    sums[0] = sums[width + 1] = factors[0, 0] - factors[0, 0]
    for k in range(slopes.shape[0]):
        for x in range(width):
            sums[x + 1] = (
                factors[0, x] * slopes[k, above, x]
                + factors[1, x] * slopes[k, here, x]
                + factors[2, x] * slopes[k, below, x]
            )
        for x in range(width):
            gathered[k, x] = sums[x] + sums[x + 1] + sums[x + 2]
        gathered[k, 1] += sums[1]
        gathered[k, width - 2] += sums[width]


@row_kernel
def _backward_comparison(
    w: Floats,  # (W) row of the view
    t: Floats,  # (W) row of the target
    gathered: Floats,  # (3, W)
    grad: Floats,  # (W) gradient of the residual where this source won, otherwise 0
    difference_share: float,
    column: Floats,
    grad_view: Floats,  # output (W)
) -> None:
    """Add the gradients of SSIM and of the absolute difference for a row of a channel."""
    zero, one, two = column[0], column[1], column[2]
    for x in range(w.size):
        sign = one if w[x] > t[x] else (-one if w[x] < t[x] else zero)
        ssim = gathered[0, x] + two * w[x] * gathered[1, x] + t[x] * gathered[2, x]
        grad_view[x] = ssim + difference_share * sign * grad[x]


@row_kernel
def _backward_brightness(
    y: int,
    n: int,
    grad: Floats,  # (H, W) gradient of the residual
    winner: Indices,  # (H, W)
    view: Floats,  # (3, H, W)
    compared: Floats,  # (3, H, W) target with the brightness of the view
    target: Floats,  # (3, H, W)
    changed: NDArray[np.bool_],  # (W) mask of changed pixels
    gathered: Floats,  # (12, W)
    weights: Floats,
    column: Floats,
    grad_brightness: NDArray[np.float64],  # (2); the kernel adds to it
) -> None:
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
def _backward_sampling(
    y: int,
    grad_view: Floats,  # (3, W)
    source: Floats,  # (Hs, Ws, 3)
    inverse_depth: Floats,  # (W)
    m: Floats,  # (3, 4)
    column: Floats,
    near: float,
    grad_inverse_depth: Floats,  # (W); the kernel adds to it
    grad_transform: NDArray[np.float64],  # (3, 4); the kernel adds to it
) -> None:
    source_height, source_width, _ = source.shape
    zero, one = column[0], column[1]
    right, bottom = column[source_width - 1], column[source_height - 1]
    us, vs, scales = np.empty_like(inverse_depth), np.empty_like(inverse_depth), np.empty_like(inverse_depth)
    for x in range(inverse_depth.size):  # Without sampling, this loop runs on several pixels at once.
        inverse = inverse_depth[x] if inverse_depth[x] > near else zero
        q2 = m[2, 0] * column[x] + m[2, 1] * column[y] + m[2, 2] + m[2, 3] * inverse
        scale = one / q2 if q2 > near else one
        u = (m[0, 0] * column[x] + m[0, 1] * column[y] + m[0, 2] + m[0, 3] * inverse) * scale
        v = (m[1, 0] * column[x] + m[1, 1] * column[y] + m[1, 2] + m[1, 3] * inverse) * scale
        us[x], vs[x] = clamped(u, zero, right), clamped(v, zero, bottom)
        scales[x] = scale if q2 > near else -scale  # The scale is negative behind the camera.
    step, last_x, last_y = np.uint64(1), np.uint64(source_width - 1), np.uint64(source_height - 1)
    grad_u, grad_v = np.empty_like(inverse_depth), np.empty_like(inverse_depth)
    for x in range(inverse_depth.size):
        grad_u[x] = grad_v[x] = zero
        g0, g1, g2 = grad_view[0, x], grad_view[1, x], grad_view[2, x]
        if g0 == zero and g1 == zero and g2 == zero:
            continue
        u, v = us[x], vs[x]
        x0, y0 = np.uint64(u), np.uint64(v)
        x1, y1 = min(x0 + step, last_x), min(y0 + step, last_y)
        fx, fy = u - column[x0], v - column[y0]
        s00 = g0 * source[y0, x0, 0] + g1 * source[y0, x0, 1] + g2 * source[y0, x0, 2]
        s01 = g0 * source[y0, x1, 0] + g1 * source[y0, x1, 1] + g2 * source[y0, x1, 2]
        s10 = g0 * source[y1, x0, 0] + g1 * source[y1, x0, 1] + g2 * source[y1, x0, 2]
        s11 = g0 * source[y1, x1, 0] + g1 * source[y1, x1, 1] + g2 * source[y1, x1, 2]
        grad_u[x] = (one - fy) * (s01 - s00) + fy * (s11 - s10)
        grad_v[x] = (one - fx) * (s10 - s00) + fx * (s11 - s01)
    for x in range(inverse_depth.size):
        u, v, before, scale = us[x], vs[x], scales[x] > zero, abs(scales[x])
        known = inverse_depth[x] > near
        grad_0 = grad_u[x] * scale if (u > zero) & (u < right) else zero  # The sampled value is constant at the border.
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
    sums: NDArray[np.float64],  # (4); the kernel adds to it
) -> None:
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


class FusedReprojector:
    """Compare target and sources with compiled CPU loops; values and gradients equal TorchReprojector's.

    Images get no gradient, and second derivatives are not available.
    """

    def __init__(
        self, images: ReprojectionInputs, *, ssim_weight: float, auto_mask: bool, brightness: Tensor | None = None
    ) -> None:
        self.camera, self.source_camera, self.auto_mask = images.camera, images.source_camera, auto_mask
        target, sources = images.target.detach().contiguous(), images.sources.detach().contiguous()
        height, width = target.shape[-2:]
        self.dtype = target.dtype
        self.brightness = None if brightness is None else brightness.to(self.dtype)
        self.weights = np.array([ssim_weight, SSIM_C1, SSIM_C2], dtype=target.numpy().dtype)
        self.ends = np.array(images.saturation, dtype=self.weights.dtype)
        self.column = np.arange(max(height, width, 10), dtype=self.weights.dtype)
        self.target = target.numpy()
        self.target_mean, self.target_variance = (self.target, self.target)  # With brightness, both are unused.
        if brightness is None:
            self.target_mean, self.target_variance = np.empty_like(self.target), np.empty_like(self.target)
            found = self.target, self.target_mean, self.target_variance
            run_in_bands(kernels.statistics_rows, height, found, (self.column,))
        # A pixel's three colors are neighbors in memory.
        self.sources = sources.permute(0, 1, 3, 4, 2).contiguous().numpy()

        identity_residual = torch.empty_like(sources[:, :, 0])
        self.largest_identity_residual = torch.empty_like(target[:, :1])
        self.best_identity = torch.empty_like(target[:, :1], dtype=torch.int8)
        brightened = None if self.brightness is None else self.brighten(sources, self.brightness)[0].numpy()
        identity = identity_residual, self.largest_identity_residual[:, 0], self.best_identity[:, 0]
        statistics = self.target_mean, self.target_variance
        arrays = sources.numpy(), self.target, *statistics, brightened, *(each.numpy() for each in identity)
        kinds = np.array([is_temporal(name) for name in images.source_names], np.int8)
        run_in_bands(kernels.residual_rows, height, arrays, (kinds, self.weights, self.column))
        self.identity_residual = identity_residual.numpy()

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        return self.bind_motion(T_source_target)(inverse_depth)

    def bind_motion(self, T_source_target: Tensor) -> Callable[[Tensor], Reprojection]:
        """Return a function that compares by inverse depth (B, 1, H, W) at the motions T_source_target (B, N, 4, 4)."""
        K = self.camera.K[..., None, :, :]  # N sources share one target.
        camera = Camera(K, self.camera.height, self.camera.width)
        at_infinity, epipole = infinity_and_epipole(camera, self.source_camera, T_source_target)
        transform = torch.cat([at_infinity, epipole[..., None]], dim=-1).to(self.dtype)  # (B, N, 3, 4)
        return partial(self._compare, transform)

    def _compare(self, transform: Tensor, inverse_depth: Tensor) -> Reprojection:
        given = inverse_depth[:, 0].to(self.dtype).contiguous(), transform.contiguous()
        compare: Any = _Compare.apply  # torch has no type for it.
        residual, winner, nearest, unmasked = compare(*given, self.brightness, self)
        minimum = MinimumReprojection(residual[:, None], winner[:, None], nearest[:, None], unmasked[:, None])
        detached = tuple(each.detach() for each in given)
        views, nearest_view = partial(self._sample_views, *detached), partial(self._sample_nearest, *detached)
        return _FusedReprojection(minimum, self.largest_identity_residual, views, nearest_view)

    def _sample_views(self, inverse_depth: Tensor, transform: Tensor) -> Tensor:
        return self.warp(inverse_depth, transform)[0]

    def _sample_nearest(self, inverse_depth: Tensor, transform: Tensor, nearest: Tensor) -> Tensor:
        selected = inverse_depth.new_empty(len(nearest), 3, *nearest.shape[1:])
        arrays = self.sources, *(each.numpy() for each in (inverse_depth, transform, nearest, selected))
        run_in_bands(kernels.warp_nearest_rows, nearest.shape[1], arrays, (self.column, NEAR))
        return selected

    def warp(self, inverse_depth: Tensor, transform: Tensor) -> tuple[Tensor, Tensor]:
        """Return the views (B, N, 3, H, W) at inverse depth (B, H, W), and their masks of visible pixels (B, N, H, W).

        transform: (B, N, 3, 4) homographies of infinity and epipoles.
        """
        size = (*transform.shape[:2], *inverse_depth.shape[1:])
        views, seen = inverse_depth.new_empty(*size[:2], 3, *size[2:]), torch.empty(size, dtype=torch.bool)
        given = self.sources, inverse_depth.numpy(), transform.numpy()
        run_in_bands(kernels.warp_rows, size[2], (*given, views.numpy(), seen.numpy()), (self.column, NEAR))
        return views, seen

    def brighten(self, images: Tensor, brightness: Tensor) -> tuple[Tensor, Tensor]:
        """Return the target (B, N, 3, H, W) with each image's brightness, and the mask of changed pixels (B, N, H, W).

        images: (B, N, 3, H, W).
        brightness: (B, N, 2) gain and offset.
        """
        brightened, changed = torch.empty_like(images), torch.empty_like(images[:, :, 0], dtype=torch.bool)
        given = images.numpy(), self.target, brightness.detach().contiguous().numpy()
        arrays = *given, brightened.numpy(), changed.numpy()
        run_in_bands(kernels.brighten_rows, images.shape[-2], arrays, (self.ends,))
        return brightened, changed


@dataclass(frozen=True, slots=True)
class _FusedReprojection(Reprojection):
    """A comparison that samples the warped sources again on demand."""

    sample_nearest: Callable[[Tensor], Tensor]

    def nearest_view(self) -> Tensor:
        return self.sample_nearest(self.minimum.nearest[:, 0])


class _Compare(torch.autograd.Function):
    """Map inverse depth (B, H, W), transform (B, N, 3, 4) and brightness (B, N, 2) or None to the comparison.

    Returns residual, winner, nearest and unmasked (B, H, W).
    """

    @staticmethod
    def forward(
        ctx: Any, inverse_depth: Tensor, transform: Tensor, brightness: Tensor | None, scene: FusedReprojector
    ) -> tuple[Tensor, ...]:
        height, width = inverse_depth.shape[1:]
        residual, unmasked = torch.empty_like(inverse_depth), torch.empty_like(inverse_depth)
        winner, nearest = (torch.empty_like(inverse_depth, dtype=torch.int8) for _ in range(2))
        size = (height, width) if any(ctx.needs_input_grad) else (0, 0)
        slopes = inverse_depth.new_empty(len(inverse_depth), 9 if brightness is None else 12, *size)
        minimum = residual.numpy(), winner.numpy(), nearest.numpy(), unmasked.numpy(), slopes.numpy()
        identity = scene.best_identity[:, 0].numpy(), scene.identity_residual
        views, seen = scene.warp(inverse_depth, transform)
        brightened, changed = (None, None) if brightness is None else scene.brighten(views, brightness)
        target = scene.target, scene.target_mean, scene.target_variance, _to_numpy(brightened)
        arrays = views.numpy(), seen.numpy(), *target, *identity, *minimum
        run_in_bands(kernels.compare_rows, height, arrays, (scene.weights, scene.column, scene.auto_mask))

        ctx.mark_non_differentiable(winner, nearest, unmasked)
        # Zeros for outputs without gradient would take 9 MB a scale at 320x96, batch 8.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(winner, slopes, views, inverse_depth, transform, brightened, changed)
        ctx.scene = scene
        return residual, winner, nearest, unmasked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        winner, slopes, views, inverse_depth, transform = (tensor.numpy() for tensor in ctx.saved_tensors[:5])
        brightened, changed = map(_to_numpy, ctx.saved_tensors[5:])
        scene: FusedReprojector = ctx.scene
        batch, height, _width = inverse_depth.shape
        grad_inverse_depth = np.empty_like(inverse_depth)
        grad_transform = np.empty((batch, height, *transform.shape[1:]))
        grad_brightness = None if brightened is None else np.empty((batch, height, transform.shape[1], 2))
        target = scene.target, brightened, changed
        arrays = grad.contiguous().numpy(), winner, slopes, views, *target, scene.sources, inverse_depth, transform
        gradients = grad_inverse_depth, grad_transform, grad_brightness
        run_in_bands(backward_rows, height, (*arrays, *gradients), (scene.weights, scene.column, NEAR))
        given = (None if each is None else each.sum(axis=1) for each in (grad_transform, grad_brightness))
        sums = (None if each is None else torch.from_numpy(each).to(grad.dtype) for each in given)
        return torch.from_numpy(grad_inverse_depth), *sums, None


def _to_numpy(tensor: Tensor | None) -> NDArray[Any] | None:
    return None if tensor is None else tensor.numpy()
