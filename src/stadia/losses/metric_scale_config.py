"""Configuration of the losses that give depth its metres. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from stadia.core.config import StrictModel


class MetricScaleConfig(StrictModel):
    """Metres from objects of known height and from the one height of the camera. Each weight is multiplied by its share
    of the epoch.

    object_height: weight of |H - h D / f_y| over the pixels of objects. Alone it makes every object a plane that faces
        the camera.
    camera_height: weight of the road's distance to the camera against what is known of it. Small: uniform depth, the
        road parallel to the image, is a zero of this term too, and with a weight of 1 depth goes there; 0.05 already
        blurs it.
    """

    object_height: float = Field(default=1.0, ge=0)
    camera_height: float = Field(default=0.01, ge=0, lt=0.1)
