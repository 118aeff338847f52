"""Configuration of the object pose network. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel


def _in_fours(channels: int) -> int:
    if channels % 4:
        raise ValueError("expected a multiple of 4: each group of normalization has 4 channels")
    return channels


class ObjectPoseNetConfig(StrictModel):
    """One encoder, and one decoder per output (FastPoseCNN, arXiv 2406.11063).

    The decoder is the semantic branch of Panoptic FPN (arXiv 1901.02446). The defaults train in minutes on two cores.
    The reference networks are `resnet18` and `resnext50_32x4d` with 256 and 128 channels.

    encoder: any timm model (`stadia parts encoders`).
    pretrained: start the encoder from timm's weights where available; otherwise one line warns.
    pyramid_channels: of each level of the pyramid.
    segmentation_channels: of each level after upsampling to the finest size.
    dropout: of whole channels, before each head.
    rotation_frame: the quaternion is relative to each pixel's ray ("ray"), so that an object's appearance does not
        depend on its position in the image, or relative to the camera axes ("camera").
    """

    encoder: str = "regnetx_002"
    pretrained: bool = True
    pyramid_channels: int = Field(default=64, ge=4)
    segmentation_channels: Annotated[int, Field(ge=4), AfterValidator(_in_fours)] = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rotation_frame: Literal["ray", "camera"] = "ray"
