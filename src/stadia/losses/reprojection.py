"""The sources seen through depth and motion, compared with the target: one scale of the photometric loss, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.warp import synthesize
from stadia.losses.photometric import Minimum, minimum_reprojection, photometric_residual, residual_to_beat


@dataclass(frozen=True, slots=True)
class Reprojection:
    """One scale's comparison.

    minimum: which warped source explains each pixel best, and how well.
    views: (B, N, 3, H, W) the warped sources, detached.
    """

    minimum: Minimum
    views: Tensor

    def nearest_view(self) -> Tensor:
        """(B, 3, H, W): at each pixel the warped source nearest to the target, 0 where none sees it."""
        nearest = self.minimum.nearest[:, None].expand(-1, -1, 3, -1, -1)
        return self.views.gather(1, nearest.clamp(min=0)).squeeze(1) * (self.minimum.nearest >= 0)


class Reprojector:
    """Made once a step with what does not depend on the prediction; called once a scale with what does.

    Args:
        target: (B, 3, H, W) in [0, 1].  camera: its camera, K (B, 3, 3).
        sources: (B, N, 3, H, W) in [0, 1].  source_camera: K (B, N, 3, 3).
        source_names: N names.
        ssim_weight, auto_mask: see LossConfig.
    """

    def __init__(
        self,
        target: Tensor,
        sources: Tensor,
        camera: Camera,
        source_camera: Camera,
        source_names: Sequence[str],
        *,
        ssim_weight: float,
        auto_mask: bool,
    ) -> None:
        self.target, self.sources, self.camera, self.source_camera = target, sources, camera, source_camera
        self.ssim_weight, self.auto_mask = ssim_weight, auto_mask
        with torch.no_grad():
            self.unwarped = self._residuals(sources)
            self.to_beat = residual_to_beat(self.unwarped, source_names)

    def __call__(self, depth_m: Tensor, T_source_target: Tensor) -> Reprojection:
        """Compare at a depth (B, 1, H, W) and transforms (B, N, 4, 4); differentiable with respect to both."""
        views = synthesize(self.sources, depth_m, self.camera, self.source_camera, T_source_target)
        residuals = self._residuals(views.image)
        minimum = minimum_reprojection(residuals, views.valid[:, :, 0], self.unwarped, self.to_beat, auto_mask=self.auto_mask)
        return Reprojection(minimum, views.image.detach())

    def _residuals(self, pictures: Tensor) -> Tensor:
        """(B, N, 3, H, W) against the target: (B, N, H, W)."""
        target = self.target[:, None].expand_as(pictures)
        return photometric_residual(pictures.flatten(0, 1), target.flatten(0, 1), self.ssim_weight).view(
            *pictures.shape[:2], *pictures.shape[3:]
        )
