"""Configuration of the metric scale loss. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from stadia.core.config import StrictModel


class MetricScaleConfig(StrictModel):
    """Metric scale from objects of known height and from the constant camera height. Weights vary over the epochs.

    object_height: weight of |H - h D / f_y| over object pixels. Alone it makes every object a plane facing the camera.
    camera_height: weight of the camera height error on the road. Keep it small: uniform depth, a road parallel to the
        image, is a minimum of this term too. With weight 1 depth collapses to it; 0.05 already blurs depth.
    """

    object_height: float = Field(default=1.0, ge=0)
    camera_height: float = Field(default=0.01, ge=0, lt=0.1)
