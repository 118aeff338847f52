"""One scale of the photometric loss as a single operation on the CPU: warp, compare, take the minimum; the twin of `reprojection`.

What makes it fast: the target's window statistics and the unwarped residuals are computed once a step; no map is written
between the views and the minimum; a pixel's backward pass runs through its winning source alone, with slopes that the
forward pass left behind.
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
from stadia.geometry.camera import NEAR
from stadia.geometry.warp import infinity_and_epipole
from stadia.losses import reprojection_kernels as kernels
from stadia.losses.photometric import C1, C2, Minimum, residual_to_beat, window_statistics
from stadia.losses.reprojection import Pictures, Reprojection

_ROWS = 32  # a band: long enough to forget the cost of handing it out, short enough to share a picture evenly


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Workers of this process (a fork does not have its parent's threads)."""
    return ThreadPoolExecutor(threads, thread_name_prefix="stadia-reprojection")


def _run(kernel: Callable[..., None], height: int, of_sample: Sequence[NDArray[Any]], shared: Sequence[Any]) -> None:
    """`kernel(first row, last row, *arrays of one sample, *shared)` for bands of rows of every sample, on torch's number of threads."""
    bands = [(b, y, min(y + _ROWS, height)) for b in range(len(of_sample[0])) for y in range(0, height, _ROWS)]

    def one(band: tuple[int, int, int]) -> None:
        sample, first, last = band
        kernel(first, last, *(array[sample] for array in of_sample), *shared)

    threads = torch.get_num_threads()
    for _ in map(one, bands) if threads == 1 else _pool(os.getpid(), threads).map(one, bands):
        pass


class FusedReprojector:
    """A Reprojector that runs as compiled loops on the CPU: the values and gradients of TorchReprojector.

    Gradients reach inverse depth, transforms and intrinsics, not the pictures. There are no second derivatives.
    """

    def __init__(self, pictures: Pictures, *, ssim_weight: float, auto_mask: bool) -> None:
        self.camera, self.source_camera, self.auto_mask = pictures.camera, pictures.source_camera, auto_mask
        target, sources = pictures.target.detach().contiguous(), pictures.sources.detach().contiguous()
        height, width = target.shape[-2:]
        self.dtype = target.dtype
        self.weights = np.array([ssim_weight, C1, C2], dtype=target.numpy().dtype)
        self.column = np.arange(max(height, width, 10), dtype=self.weights.dtype)
        self.target = target.numpy()
        self.target_mean, self.target_variance = (statistic.numpy() for statistic in window_statistics(target))
        self.sources = sources.permute(0, 1, 3, 4, 2).contiguous().numpy()  # the three colours of a pixel side by side

        unwarped = torch.empty_like(sources[:, :, 0])
        compared = sources.numpy(), self.target, self.target_mean, self.target_variance, unwarped.numpy()
        _run(kernels.residual_rows, height, compared, (self.weights, self.column))
        self.to_beat = residual_to_beat(unwarped, pictures.source_names).numpy()
        self.stands = (unwarped.shape[1] + unwarped.min(dim=1).indices).to(torch.int8).numpy()

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        """Compare at inverse depth (B, 1, H, W) and transforms (B, N, 4, 4); differentiable with respect to both."""
        camera = Camera(self.camera.K[..., None, :, :], self.camera.height, self.camera.width)  # one target for N sources
        at_infinity, epipole = infinity_and_epipole(camera, self.source_camera, T_source_target)
        transform = torch.cat([at_infinity, epipole[..., None]], dim=-1)  # (B, N, 3, 4)
        compared = _Compare.apply(inverse_depth[:, 0].to(self.dtype), transform.to(self.dtype), self)  # type: ignore[no-untyped-call]
        residual, winner, nearest, views = compared
        return Reprojection(Minimum(residual[:, None], winner[:, None], nearest[:, None]), views)


class _Compare(torch.autograd.Function):
    """Inverse depth (B, H, W) and transform (B, N, 3, 4) to residual, winner, nearest (B, H, W) and views (B, N, 3, H, W)."""

    @staticmethod
    def forward(ctx: Any, inverse_depth: Tensor, transform: Tensor, scene: FusedReprojector) -> tuple[Tensor, ...]:
        inverse_depth, transform = inverse_depth.contiguous(), transform.contiguous()
        batch, height, width = inverse_depth.shape
        count = transform.shape[1]
        views = inverse_depth.new_empty(batch, count, 3, height, width)
        seen = np.empty((batch, count, height, width), np.bool_)
        warped = scene.sources, inverse_depth.numpy(), transform.numpy(), views.numpy(), seen
        _run(kernels.warp_rows, height, warped, (scene.column, NEAR))

        residual = torch.empty_like(inverse_depth)
        winner, nearest = (torch.empty_like(inverse_depth, dtype=torch.int8) for _ in range(2))
        slopes = inverse_depth.new_empty(batch, 9, *((height, width) if any(ctx.needs_input_grad) else (0, 0)))
        target = scene.target, scene.target_mean, scene.target_variance, scene.stands, scene.to_beat
        minimum = residual.numpy(), winner.numpy(), nearest.numpy(), slopes.numpy()
        _run(kernels.compare_rows, height, (views.numpy(), seen, *target, *minimum), (scene.weights, scene.column, scene.auto_mask))

        ctx.mark_non_differentiable(winner, nearest, views)
        ctx.save_for_backward(winner, slopes, views, inverse_depth, transform)
        ctx.scene = scene
        return residual, winner, nearest, views

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None]:
        winner, slopes, views, inverse_depth, transform = (tensor.numpy() for tensor in ctx.saved_tensors)
        scene: FusedReprojector = ctx.scene
        batch, height, _width = inverse_depth.shape
        grad_inverse_depth, grad_transform = np.empty_like(inverse_depth), np.empty((batch, height, *transform.shape[1:]))
        arrays = grad.contiguous().numpy(), winner, slopes, views, scene.target, scene.sources, inverse_depth, transform
        _run(kernels.backward_rows, height, (*arrays, grad_inverse_depth, grad_transform), (scene.weights, scene.column, NEAR))
        return torch.from_numpy(grad_inverse_depth), torch.from_numpy(grad_transform.sum(axis=1)).to(grad.dtype), None
