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

from stadia.core.types import Camera, is_temporal
from stadia.geometry.numpy_camera import NEAR
from stadia.geometry.warp import infinity_and_epipole
from stadia.losses.auto_mask import MinimumReprojection
from stadia.losses.cpu import reprojection_kernels as kernels
from stadia.losses.cpu.reprojection_backward_kernels import backward_rows
from stadia.losses.cpu.reprojection_kernels import run_in_bands
from stadia.losses.photometric import SSIM_C1, SSIM_C2
from stadia.losses.reprojection import Reprojection, ReprojectionInputs


class FusedReprojector:
    """Compare target and sources with compiled CPU loops; values and gradients equal those of TorchReprojector.

    Images get no gradient, and there are no second derivatives.
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
        self.target_mean, self.target_variance = (self.target, self.target)  # unused with brightness
        if brightness is None:
            self.target_mean, self.target_variance = np.empty_like(self.target), np.empty_like(self.target)
            found = self.target, self.target_mean, self.target_variance
            run_in_bands(kernels.statistics_rows, height, found, (self.column,))
        # a pixel's three colors are neighbors in memory
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
        K = self.camera.K[..., None, :, :]  # one target for N sources
        camera = Camera(K, self.camera.height, self.camera.width)
        at_infinity, epipole = infinity_and_epipole(camera, self.source_camera, T_source_target)
        transform = torch.cat([at_infinity, epipole[..., None]], dim=-1).to(self.dtype)  # (B, N, 3, 4)
        return partial(self._compare, transform)

    def _compare(self, transform: Tensor, inverse_depth: Tensor) -> Reprojection:
        given = inverse_depth[:, 0].to(self.dtype).contiguous(), transform.contiguous()
        compare: Any = _Compare.apply  # untyped in torch
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
        # zeros for outputs without gradient would take 9 MB a scale at 320x96, batch 8
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
