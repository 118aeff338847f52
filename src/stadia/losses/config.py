"""Configuration of the self-supervised loss. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel, row_of
from stadia.losses import SMOOTHNESS


class LossConfig(StrictModel):
    """The self-supervised loss. Outputs that the networks do not predict are ignored; `model` switches on D3VO's parts.

    ssim_weight: share of SSIM in a residual; the rest is the absolute difference.
    smoothness: weight of edge-aware smoothness at full resolution, halved with each coarser scale (the lambda of D3VO,
        arXiv 2003.01060, and Monodepth2).
    smoothness_kind: slope_over_mean, slope, log_slope or bend (`stadia parts smoothness`).
    auto_mask: train a pixel only if a warped source explains it better than the unwarped ones.
    residual_threshold: residuals above it are clamped and train nothing, as outliers. None: no clamp.
    pyramid: number of image sizes, each half the one before, at which every depth map is compared; 1 is full size only.
        A match 24 pixels away is 3 pixels away at the fourth size, within reach of the loss's gradient.
    scale_weights: weight of each scale of the prediction in all terms, finest first; the sum is still divided by the
        number of scales. None: all 1.
    temporal_from_step: temporal neighbors train depth from this step on; before, they train only the pose network, and
        the stereo source trains depth. None: never. Without a stereo source they train depth from the start.
    uncertainty_from_step: a predicted uncertainty weights the residual from this step on; Sigma is 1 before. Earlier,
        it would explain residuals that depth has not had time to learn.
    uncertainty_sizes: number of pyramid sizes that it weights, the full one first; Sigma is 1 at the others, so that
        distant matches still train depth. None: all.
    brightness: beta, weight of (a - 1)^2 + b^2 summed over the sources, relative to `smoothness` at each scale (D3VO:
        1e-2, so 1e-5).
    brightness_from_step: a predicted brightness stays at (1, 0) until the warped sources' residual is below 0.8 times
        that of the unwarped ones, or until this step, whichever is first. None: only by the residual.
    right_view: weight of the right view's reconstruction and its smoothness, if it is predicted.
    left_right_consistency: weight of the difference between the left and right view's inverse depth, both ways; 0
        disables it. It also penalizes correct occlusions (Monodepth, arXiv 1609.03677, used 1).
    """

    ssim_weight: float = Field(default=0.85, ge=0, le=1)
    smoothness: float = Field(default=1e-3, ge=0)
    smoothness_kind: Annotated[str, AfterValidator(row_of(SMOOTHNESS))] = "slope_over_mean"
    auto_mask: bool = True
    residual_threshold: float | None = Field(default=None, gt=0)
    pyramid: int = Field(default=1, ge=1, le=6)
    scale_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    temporal_from_step: int | None = Field(default=0, ge=0)
    uncertainty_from_step: int = Field(default=0, ge=0)
    uncertainty_sizes: int | None = Field(default=None, ge=1)
    brightness: float = Field(default=1e-2, ge=0)
    brightness_from_step: int | None = Field(default=None, ge=0)
    right_view: float = Field(default=1.0, ge=0)
    left_right_consistency: float = Field(default=0.0, ge=0)
