"""One scale of the photometric loss as a single CPU operation; equal to `reprojection`.

The target's window statistics and the unwarped residuals are computed once per step. No intermediate map is stored
between views and minimum. The backward pass follows each pixel's winning source only, with slopes stored by the
forward pass. With brightness every source has its own target, stored beside its view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from stadia.core.types import Camera, is_temporal
from stadia.geometry.depth_maps import resize_map
from stadia.geometry.numpy_camera import NEAR
from stadia.geometry.warp import infinity_and_epipole
from stadia.losses import reprojection_kernels as kernels
from stadia.losses.affine_brightness import MAX_DARK, MIN_BRIGHT
from stadia.losses.auto_mask import MinimumReprojection
from stadia.losses.photometric import SSIM_C1, SSIM_C2
from stadia.losses.reprojection import Reprojection, ReprojectionInputs
from stadia.losses.reprojection_backward_kernels import backward_resize, backward_rows
from stadia.losses.row_bands import run_in_bands


class FusedReprojector:
    """A Reprojector of compiled CPU loops, with the values and gradients of TorchReprojector.

    Gradients reach inverse depth, transforms, intrinsics and brightness, but not images. No second derivatives.
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
        self.ends = np.array([MAX_DARK, MIN_BRIGHT], dtype=self.weights.dtype)
        self.column = np.arange(max(height, width, 10), dtype=self.weights.dtype)
        self.target = target.numpy()
        self.target_mean, self.target_variance = (self.target, self.target)  # unused with brightness
        if brightness is None:
            self.target_mean, self.target_variance = np.empty_like(self.target), np.empty_like(self.target)
            statistics = self.target, self.target_mean, self.target_variance
            run_in_bands(kernels.statistics_rows, height, statistics, (self.column,))
        self.sources = sources.permute(0, 1, 3, 4, 2).contiguous().numpy()  # the three colors of a pixel side by side

        identity_residual = torch.empty_like(sources[:, :, 0])
        self.largest_identity_residual = torch.empty_like(target[:, :1])
        self.best_identity = torch.empty_like(target[:, :1], dtype=torch.int8)
        brightened, _ = self.brightened_for(sources, self.brightness)
        found = identity_residual, self.largest_identity_residual[:, 0], self.best_identity[:, 0]
        arrays = sources.numpy(), *self.compared(brightened), *(each.numpy() for each in found)
        kinds = np.array([is_temporal(name) for name in images.source_names], np.int8)
        run_in_bands(kernels.residual_rows, height, arrays, (kinds, self.weights, self.column))
        self.identity_residual = identity_residual.numpy()

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        return self.bind_motion(T_source_target)(inverse_depth)

    def bind_motion(self, T_source_target: Tensor) -> Callable[[Tensor], Reprojection]:
        """Return the comparison by inverse depth (B, 1, H, W) at these motions."""
        K = self.camera.K[..., None, :, :]  # one target for N sources
        camera = Camera(K, self.camera.height, self.camera.width)
        at_infinity, epipole = infinity_and_epipole(camera, self.source_camera, T_source_target)
        transform = torch.cat([at_infinity, epipole[..., None]], dim=-1).to(self.dtype)  # (B, N, 3, 4)
        return partial(self._compare, transform)

    def _compare(self, transform: Tensor, inverse_depth: Tensor) -> Reprojection:
        compare: Any = _Compare.apply  # untyped in torch
        compared = compare(inverse_depth[:, 0].to(self.dtype), transform, self.brightness, self)
        residual, winner, nearest, unmasked, views = compared
        minimum = MinimumReprojection(residual[:, None], winner[:, None], nearest[:, None], unmasked[:, None])
        return _FusedReprojection(minimum, views, self.largest_identity_residual)

    @staticmethod
    def resize(values: Tensor, height: int, width: int) -> Tensor:
        """Resize (B, C, h, w) as `depth_maps.resize_map`, whose backward pass in torch takes ten times as long."""
        apply: Any = _Resize.apply  # untyped in torch
        resized: Tensor = apply(values, height, width)
        return resized

    def compared(self, brightened: Tensor | None) -> tuple[NDArray[Any] | None, ...]:
        """Return the target and its statistics as the kernels' inputs."""
        return self.target, self.target_mean, self.target_variance, None if brightened is None else brightened.numpy()

    def brightened_for(self, images: Tensor, brightness: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return the target with each image's brightness (B, N, 3, H, W) and a mask of changes (B, N, H, W)."""
        if brightness is None:
            return None, None
        brightened, changed = torch.empty_like(images), torch.empty_like(images[:, :, 0], dtype=torch.bool)
        given = images.numpy(), self.target, brightness.detach().contiguous().numpy()
        run_in_bands(
            kernels.brighten_rows, images.shape[-2], (*given, brightened.numpy(), changed.numpy()), (self.ends,)
        )
        return brightened, changed


@dataclass(frozen=True, slots=True)
class _FusedReprojection(Reprojection):
    def nearest_view(self) -> Tensor:
        views, nearest = self.views.numpy(), self.minimum.nearest[:, 0].numpy()
        selected = torch.empty_like(self.views[:, 0])
        column = np.zeros(1, views.dtype)
        run_in_bands(kernels.select_rows, views.shape[-2], (views, nearest, selected.numpy()), (column,))
        return selected


class _Compare(torch.autograd.Function):
    """Map inverse depth (B, H, W), transform (B, N, 3, 4) and brightness (B, N, 2) or None to the comparison.

    Returns residual, winner, nearest, unmasked (B, H, W) and views (B, N, 3, H, W).
    """

    @staticmethod
    def forward(
        ctx: Any, inverse_depth: Tensor, transform: Tensor, brightness: Tensor | None, scene: FusedReprojector
    ) -> tuple[Tensor, ...]:
        inverse_depth, transform = inverse_depth.contiguous(), transform.contiguous()
        batch, height, width = inverse_depth.shape
        count = transform.shape[1]
        views = inverse_depth.new_empty(batch, count, 3, height, width)
        seen = np.empty((batch, count, height, width), np.bool_)
        warped = scene.sources, inverse_depth.numpy(), transform.numpy(), views.numpy(), seen
        run_in_bands(kernels.warp_rows, height, warped, (scene.column, NEAR))

        brightened, changed = scene.brightened_for(views, brightness)
        residual, unmasked = torch.empty_like(inverse_depth), torch.empty_like(inverse_depth)
        winner, nearest = (torch.empty_like(inverse_depth, dtype=torch.int8) for _ in range(2))
        kinds = 9 if brightness is None else 12
        slopes = inverse_depth.new_empty(batch, kinds, *((height, width) if any(ctx.needs_input_grad) else (0, 0)))
        minimum = residual.numpy(), winner.numpy(), nearest.numpy(), unmasked.numpy(), slopes.numpy()
        identity = scene.best_identity[:, 0].numpy(), scene.identity_residual
        arrays = views.numpy(), seen, *scene.compared(brightened), *identity, *minimum
        run_in_bands(kernels.compare_rows, height, arrays, (scene.weights, scene.column, scene.auto_mask))

        ctx.mark_non_differentiable(winner, nearest, unmasked, views)
        ctx.set_materialize_grads(False)  # no zeros for outputs without gradient: 9 MB a scale at 320x96, batch 8
        ctx.save_for_backward(winner, slopes, views, inverse_depth, transform, brightened, changed)
        ctx.scene = scene
        return residual, winner, nearest, unmasked, views

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        winner, slopes, views, inverse_depth, transform = (tensor.numpy() for tensor in ctx.saved_tensors[:5])
        brightened, changed = (None if tensor is None else tensor.numpy() for tensor in ctx.saved_tensors[5:])
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


class _Resize(torch.autograd.Function):
    """Map values (B, C, h, w) to (B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, height: int, width: int) -> Tensor:
        ctx.size = values.shape
        return resize_map(values, height, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        resized, values = grad.flatten(0, 1).contiguous().numpy(), np.empty(ctx.size, grad.numpy().dtype)
        (height, width), size = resized.shape[1:], ctx.size[2:]
        scales = np.array([size[0] / height, size[1] / width, 0.5], values.dtype)
        column = np.arange(max(height, width, *size), dtype=values.dtype)
        run_in_bands(backward_resize, 1, (resized, values.reshape(-1, *size)), (scales, column))  # a map is one band
        return torch.from_numpy(values), None, None
