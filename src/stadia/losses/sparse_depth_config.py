"""Configuration of the supervised depth loss. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel


class SparseDepthConfig(StrictModel):
    """Depth supervised by sparse (projected LiDAR) or dense ground truth: a weighted sum of terms.

    silog_per_image: weight of SILog, averaged over the images of a batch.
    silog_pooled: weight of SILog over the pixels of the whole batch, as in BTS; it depends on the batch size.
    affine_invariant: weight of the trimmed error of inverse depth up to scale and shift of each image.
    gradient_matching: weight of the gradients of the same error at four sizes, for dense ground truth.
    log_l1: weight of the mean |ln z - ln z_true|.
    silog_form: "root" is alpha sqrt(mean d^2 - lam mean(d)^2) with alpha 10 (BTS), "variance" is mean d^2 - lam
        mean(d)^2 (Eigen).
    silog_lam: share of a common factor that is ignored, 0 to 1; null: 0.85 for the root, 0.5 for the variance.
    trim: share of the largest errors that affine_invariant excludes in each image.
    min_depth_m, max_depth_m: ground truth outside this range is no label.
    """

    silog_per_image: float = Field(default=1.0, ge=0)
    silog_pooled: float = Field(default=0.0, ge=0)
    affine_invariant: float = Field(default=0.0, ge=0)
    gradient_matching: float = Field(default=0.0, ge=0)
    log_l1: float = Field(default=0.0, ge=0)
    silog_form: Literal["root", "variance"] = "root"
    silog_lam: float | None = Field(default=None, ge=0, le=1)
    trim: float = Field(default=0.2, ge=0, lt=1)
    min_depth_m: float = Field(default=1e-3, gt=0)
    max_depth_m: float = Field(default=80.0, gt=0)

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        if self.min_depth_m >= self.max_depth_m:
            raise ValueError(
                f"min_depth_m={self.min_depth_m:g} is not below max_depth_m={self.max_depth_m:g}: no label is left"
            )
        if not any(
            (self.silog_per_image, self.silog_pooled, self.affine_invariant, self.gradient_matching, self.log_l1)
        ):
            raise ValueError(
                "every part weighs 0: set one of silog_per_image, silog_pooled, affine_invariant, gradient_matching,"
                " log_l1"
            )
        return self
