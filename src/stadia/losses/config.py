"""Configuration of the losses. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from stadia.core.config import StrictModel


class LossConfig(StrictModel):
    """The self-supervised loss.

    ssim_weight: share of SSIM in a residual; the rest is the absolute difference.
    smoothness: weight of the edge-aware smoothness at full resolution; halved with each coarser scale.
    auto_mask: a pixel trains only where a warped source explains it better than the unwarped ones do.
    pyramid: picture sizes, each half the one before, at which every depth map is compared; 1 is the full size alone. A match
        that is 24 pixels away is 3 pixels away at the fourth size, within reach of the loss's slope.
    temporal_from_step: neighbours in time reach depth from this step on; before it they train the pose network alone,
        and depth has the stereo source to itself. None: never. Without a stereo source they reach depth from the start.
    """

    ssim_weight: float = Field(default=0.85, ge=0, le=1)
    smoothness: float = Field(default=1e-3, ge=0)
    auto_mask: bool = True
    pyramid: int = Field(default=1, ge=1, le=6)
    temporal_from_step: int | None = Field(default=0, ge=0)
