"""Configuration of the depth and motion networks. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from stadia.core.config import StrictModel

Channels = Annotated[tuple[int, int, int, int, int], Field(description="decoder channels at 1/1, 1/2, 1/4, 1/8, 1/16 of the picture")]


class DepthAndMotionConfig(StrictModel):
    """The depth network and the pose network.

    encoder, pose_encoder: any timm model by name (`stadia parts encoders`).
    pretrained: start the encoders from timm's weights where they can be had; where not, one line says so.
    decoder_channels: at 1/1, 1/2, 1/4, 1/8 and 1/16 of the picture.
    min_depth_m, max_depth_m: what the sigmoid spans, linear in inverse depth (Monodepth2, arXiv 1806.01260, eq. in 3.3).
    start_depth_m: what an untrained network answers; sets the head's bias so that stereo training starts in sight of the truth.
    scales: how many maps the decoder gives, each half the size of the one before.
    rotation_scale, translation_scale: multiply the pose head, so that training starts near the identity.
    """

    encoder: str = "resnet18"
    pose_encoder: str = "resnet18"
    pretrained: bool = True
    decoder_channels: Channels = (16, 32, 64, 128, 256)
    min_depth_m: float = Field(default=0.5, gt=0)
    max_depth_m: float = Field(default=100.0, gt=0)
    start_depth_m: float = Field(default=12.0, gt=0)
    scales: int = Field(default=4, ge=1, le=4)
    rotation_scale: float = Field(default=0.01, gt=0)
    translation_scale: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> DepthAndMotionConfig:
        if not self.min_depth_m < self.start_depth_m < self.max_depth_m:
            raise ValueError("min_depth_m < start_depth_m < max_depth_m must hold")
        return self
