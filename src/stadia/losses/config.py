"""Configuration of the losses. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel, row_of
from stadia.losses import SMOOTHNESS


class LossConfig(StrictModel):
    """The self-supervised loss. What the networks do not say is not asked: D3VO's parts (arXiv 2003.01060) are switched
    on in `model`.

    ssim_weight: share of SSIM in a residual; the rest is the absolute difference.
    smoothness: weight of the edge-aware smoothness at full resolution; halved with each coarser scale (D3VO's and
        Monodepth2's lambda).
    smoothness_kind: what is smooth: slope_over_mean, slope, log_slope or bend (`stadia parts smoothness`).
    auto_mask: a pixel trains only where a warped source explains it better than the unwarped ones do.
    residual_threshold: a pixel whose residual is larger stands at this value and trains nothing: no depth explains it.
        None: all train.
    pyramid: image sizes, each half the one before, at which every depth map is compared; 1 is the full size alone. A
        match that is 24 pixels away is 3 pixels away at the fourth size, within reach of the loss's slope.
    scale_weights: weight of each scale of the prediction in all terms, finest first; the sum is still divided by the
        number of scales.
        None: all 1.
    temporal_from_step: neighbors in time reach depth from this step on; before it they train the pose network alone,
        and depth has the stereo source to itself. None: never. Without a stereo source they reach depth from the start.
    uncertainty_from_step: where the network says an uncertainty, it weighs the residual from this step on; Sigma is 1
        before. Learnt sooner it explains what depth has not yet been given the time to.
    uncertainty_sizes: how many of the pyramid's sizes it weighs, the full one first; at the others Sigma is 1, so that
        what it
        explains away at full size still pulls depth from afar. None: all.
    brightness: beta, weight of (a - 1)^2 + b^2 summed over the sources, in units of `smoothness` at each scale (D3VO:
        1e-2, so 1e-5).
    brightness_from_step: where the network says a brightness, it is held at (1, 0) until the warped sources' residual
        is below 0.8 times that of the unwarped ones, or until this step, whichever is first. None: until the residual
        is.
    right_view: weight of the right view's reconstruction, where the network says the right view; its smoothness is
        weighted by it too.
    left_right_consistency: weight of the disagreement between the inverse depths of the left and the right view, both
        ways; 0 leaves it out. What one camera alone sees is wrongly asked to agree (Monodepth, arXiv 1609.03677, took
        1).
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
