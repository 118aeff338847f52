"""One scale of the photometric loss as a single CPU operation; equal to `reprojection`.

The target's window statistics and the unwarped residuals are computed once per step. No intermediate map is stored
between views and minimum. The backward pass follows each pixel's winning source only, with slopes stored by the
forward pass. With brightness every source has its own target, stored beside its view.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from stadia.core.types import Camera
from stadia.geometry.depth_maps import resize_map
from stadia.geometry.numpy_camera import NEAR
from stadia.geometry.warp import infinity_and_epipole
from stadia.losses import reprojection_kernels as kernels
from stadia.losses.affine_brightness import MAX_DARK, MIN_BRIGHT
from stadia.losses.auto_mask import MinimumReprojection, identity_reprojection
from stadia.losses.photometric import SSIM_C1, SSIM_C2
from stadia.losses.reprojection import Reprojection, ReprojectionInputs
from stadia.losses.reprojection_backward_kernels import backward_resize, backward_rows

_ROWS = 32  # per band: large enough to amortize scheduling, small enough to balance the threads


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; a fork does not inherit its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="stadia-reprojection")


def _run(
    kernel: Callable[..., None], height: int, of_sample: Sequence[NDArray[Any] | None], shared: Sequence[Any]
) -> None:
    """Run `kernel(first row, last row, *arrays of one sample, *shared)` on bands of rows, on torch's threads.

    None in place of an array is passed as None.
    """
    assert of_sample[0] is not None
    bands = [(b, y, min(y + _ROWS, height)) for b in range(len(of_sample[0])) for y in range(0, height, _ROWS)]

    remaining = iter(bands)  # shared: each thread takes the next band when it is done with one

    def work() -> None:
        for sample, first, last in remaining:
            kernel(first, last, *(None if array is None else array[sample] for array in of_sample), *shared)

    threads = torch.get_num_threads()
    others = [_pool(os.getpid(), threads - 1).submit(work) for _ in range(threads - 1)]
    work()  # this thread works too: the others may wake late
    for other in others:
        if not other.cancel():  # it has begun
            other.result()


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
            _run(kernels.statistics_rows, height, statistics, (self.column,))
        self.sources = sources.permute(0, 1, 3, 4, 2).contiguous().numpy()  # the three colors of a pixel side by side

        unwarped = torch.empty_like(sources[:, :, 0])
        brightened, _ = self.brightened_for(sources, self.brightness)
        arrays = sources.numpy(), *self.compared(brightened), unwarped.numpy()
        _run(kernels.residual_rows, height, arrays, (self.weights, self.column))
        identity_residual = identity_reprojection(unwarped, images.source_names)
        self.identity_residual = identity_residual.numpy()
        self.largest_identity_residual = identity_residual.amax(dim=1, keepdim=True)
        self.best_identity = (unwarped.shape[1] + unwarped.min(dim=1, keepdim=True).indices).to(torch.int8)

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        K = self.camera.K[..., None, :, :]  # one target for N sources
        camera = Camera(K, self.camera.height, self.camera.width)
        at_infinity, epipole = infinity_and_epipole(camera, self.source_camera, T_source_target)
        transform = torch.cat([at_infinity, epipole[..., None]], dim=-1).to(self.dtype)  # (B, N, 3, 4)
        compare: Any = _Compare.apply  # untyped in torch
        compared = compare(inverse_depth[:, 0].to(self.dtype), transform, self.brightness, self)
        residual, winner, nearest, unmasked, views = compared
        minimum = MinimumReprojection(residual[:, None], winner[:, None], nearest[:, None], unmasked[:, None])
        return Reprojection(minimum, views, self.largest_identity_residual)

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
        _run(kernels.brighten_rows, images.shape[-2], (*given, brightened.numpy(), changed.numpy()), (self.ends,))
        return brightened, changed


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
        _run(kernels.warp_rows, height, warped, (scene.column, NEAR))

        brightened, changed = scene.brightened_for(views, brightness)
        residual, unmasked = torch.empty_like(inverse_depth), torch.empty_like(inverse_depth)
        winner, nearest = (torch.empty_like(inverse_depth, dtype=torch.int8) for _ in range(2))
        kinds = 9 if brightness is None else 12
        slopes = inverse_depth.new_empty(batch, kinds, *((height, width) if any(ctx.needs_input_grad) else (0, 0)))
        minimum = residual.numpy(), winner.numpy(), nearest.numpy(), unmasked.numpy(), slopes.numpy()
        identity = scene.best_identity[:, 0].numpy(), scene.identity_residual
        arrays = views.numpy(), seen, *scene.compared(brightened), *identity, *minimum
        _run(kernels.compare_rows, height, arrays, (scene.weights, scene.column, scene.auto_mask))

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
        _run(backward_rows, height, (*arrays, *gradients), (scene.weights, scene.column, NEAR))
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
        _run(backward_resize, 1, (resized, values.reshape(-1, *size)), (scales, column))  # a map is one band
        return torch.from_numpy(values), None, None
