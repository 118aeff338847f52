"""The sources seen through depth and motion, compared with the target: one scale of the photometric loss, in plain
torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.camera import resize
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.warp import synthesize
from stadia.losses.brightness import as_bright_as
from stadia.losses.photometric import Minimum, minimum_reprojection, photometric_residual, residual_to_beat


def sources_at(values: Tensor, indices: Sequence[int]) -> Tensor:
    """(B, N, ...) to (B, len(indices), ...). Indexing by a list would send it to the device, and wait for that."""
    if not indices:
        return values[:, :0]
    return torch.stack([values[:, index] for index in indices], dim=1)


@dataclass(frozen=True, slots=True)
class Images:
    """The target and the sources that compete to explain it; RGB in [0, 1], as recorded.

    target: (B, 3, H, W).  camera: its camera, K (B, 3, 3).
    sources: (B, N, 3, Hs, Ws).  source_camera: K (B, N, 3, 3).  source_names: N names.
    """

    target: Tensor
    camera: Camera
    sources: Tensor
    source_camera: Camera
    source_names: tuple[str, ...]

    def select(self, indices: Sequence[int]) -> Images:
        """The same target with some of the sources."""
        if list(indices) == list(range(len(self.source_names))):
            return self
        source_camera = Camera(
            sources_at(self.source_camera.K, indices), self.source_camera.height, self.source_camera.width
        )
        names = tuple(self.source_names[i] for i in indices)
        return Images(self.target, self.camera, sources_at(self.sources, indices), source_camera, names)

    def halved(self, times: int) -> Images:
        """Every image at 1 / 2^times of its size (rounded down), the cameras with it."""
        if times == 0:
            return self
        target, camera = resize(self.target, self.camera, self.camera.height >> times, self.camera.width >> times)
        height, width = self.source_camera.height >> times, self.source_camera.width >> times
        sources, source_camera = resize(self.sources.flatten(0, 1), self.source_camera, height, width)
        return Images(
            target, camera, sources.view(*self.sources.shape[:2], *sources.shape[1:]), source_camera, self.source_names
        )


@dataclass(frozen=True, slots=True)
class Reprojection:
    """One scale's comparison.

    minimum: which warped source explains each pixel best, and how well.
    views: (B, N, 3, H, W) the warped sources, detached.
    unwarped: (B, 1, H, W) what the residual would be without depth and motion; no gradient.
    """

    minimum: Minimum
    views: Tensor
    unwarped: Tensor

    def nearest_view(self) -> Tensor:
        """(B, 3, H, W): at each pixel the warped source nearest to the target, 0 where none sees it."""
        nearest = self.minimum.nearest.long()[:, None].expand(-1, -1, 3, -1, -1)
        return self.views.gather(1, nearest.clamp(min=0)).squeeze(1) * (self.minimum.nearest >= 0)


class Reprojector(Protocol):
    """Made once a step with what does not depend on depth and motion; called once a scale with these.

    brightness: (B, N, 2) gain and offset that make the target as bright as each source (`losses.brightness`); None: as
        recorded.
    """

    best_unwarped: Tensor
    """(B, 1, H, W) which unwarped source explains each pixel best, as a winner: N + its index."""

    def __init__(
        self, images: Images, *, ssim_weight: float, auto_mask: bool, brightness: Tensor | None = None
    ) -> None: ...

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        """Compare at inverse depth (B, 1, H, W) and transforms (B, N, 4, 4); differentiable with respect to both, and
        to brightness.
        """
        ...


class TorchReprojector:
    """The readable one: runs on any device, and any tensor may ask for a gradient."""

    def __init__(
        self, images: Images, *, ssim_weight: float, auto_mask: bool, brightness: Tensor | None = None
    ) -> None:
        self.images, self.ssim_weight, self.auto_mask, self.brightness = images, ssim_weight, auto_mask, brightness
        with torch.no_grad():
            self.unwarped = self._residuals(images.sources)
            self.to_beat = residual_to_beat(self.unwarped, images.source_names)
            self.best_unwarped = self.unwarped.shape[1] + self.unwarped.argmin(dim=1, keepdim=True)

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        seen_from = self.images
        views = synthesize(
            seen_from.sources,
            depth_from_inverse(inverse_depth),
            seen_from.camera,
            seen_from.source_camera,
            T_source_target,
        )
        residuals = self._residuals(views.image)
        minimum = minimum_reprojection(
            residuals, views.valid[:, :, 0], self.unwarped, self.to_beat, auto_mask=self.auto_mask
        )
        return Reprojection(minimum, views.image.detach(), self.to_beat.amax(dim=1, keepdim=True))

    def _residuals(self, images: Tensor) -> Tensor:
        """(B, N, 3, H, W) against the target: (B, N, H, W)."""
        target = self.images.target
        target = (
            target[:, None].expand_as(images)
            if self.brightness is None
            else as_bright_as(images, target, self.brightness)
        )
        residuals = photometric_residual(images.flatten(0, 1), target.flatten(0, 1), self.ssim_weight)
        return residuals.view(*images.shape[:2], *images.shape[3:])
