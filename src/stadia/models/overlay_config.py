"""Configuration of the networks of the recipe `overlay`. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel, row_of
from stadia.models import OVERLAY_NETWORKS
from stadia.models.dpt_networks import check_size as check_image_size

STRIDE = 8
"""Image sides are multiples of it: both networks halve the image three times and add skip connections."""


class OverlayNetConfig(StrictModel):
    """The network of the recipe `overlay`.

    network: see `stadia parts overlay-networks`: `light`, or `full` with 24,019,618 parameters.
    answer_stride: predict at 1/answer_stride of the image size and upsample bilinearly: smoother, at the same cost.
    start_depth_m: depth that an untrained network predicts, in the unit of the labels.
    """

    network: Annotated[str, AfterValidator(row_of(OVERLAY_NETWORKS))] = "light"
    answer_stride: Literal[1, 2, 4, 8] = 1
    start_depth_m: float = Field(default=10.0, gt=0)


def check_size(height: int, width: int) -> None:
    """Raise ConfigError with the nearest valid size if the image's sides are no multiples of STRIDE."""
    check_image_size("overlay", STRIDE, height=height, width=width)
