"""Configuration of the depth and pose networks. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import StrictModel, row_of
from stadia.models import ACTIVATIONS, POSE_HEADS, POSE_NETS, ROTATIONS

Channels = Annotated[
    tuple[int, int, int, int, int], Field(description="decoder channels at 1/1, 1/2, 1/4, 1/8, 1/16 of the image")
]


class DepthAndMotionConfig(StrictModel):
    """The depth network and the pose network.

    encoder, pose_encoder: timm models (`stadia parts encoders`); pose_encoder applies to the pose network `resnet`.
    pretrained: start the encoders from timm's weights where available; otherwise one line warns.
    decoder_channels: at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image size.
    min_depth_m, max_depth_m: range of the sigmoid, linear in inverse depth (Monodepth2, arXiv 1806.01260, section 3.3).
    start_depth_m: depth that an untrained network predicts. It sets the head's bias, so that stereo training starts
        within reach of the true match.
    scales: number of decoder outputs, each half the size of the one before.
    rotation_scale, translation_scale: multiply the pose head, so that training starts near the identity.
    right_view: also predict the inverse depth of the rig's right camera from the left image (D3VO, arXiv 2003.01060).
    uncertainty: also predict log Sigma of each pixel's photometric residual (D3VO).
    brightness: also predict gain and offset between two images, for the stereo pair too (D3VO).
    brightness_scale: multiplies the heads of gain and offset.
    pose_net: encoder of image pairs (`stadia parts pose-nets`): `resnet`, `d3vo`, `shared` (the depth network's own
        encoder), or `correlation`, which needs little data.
    pose_head: maps its features to numbers (`stadia parts pose-heads`); `linear` requires the training image size.
    rotation: parametrization, axis_angle or euler (`stadia parts rotations`).
    activation, decoder_activation: of the pose network's own layers, and of the depth decoder (`stadia parts
        activations`).
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
    right_view: bool = False
    uncertainty: bool = False
    brightness: bool = False
    brightness_scale: float = Field(default=0.1, gt=0)
    pose_net: Annotated[str, AfterValidator(row_of(POSE_NETS))] = "resnet"
    pose_head: Annotated[str, AfterValidator(row_of(POSE_HEADS))] = "convolution"
    rotation: Annotated[str, AfterValidator(row_of(ROTATIONS))] = "axis_angle"
    activation: Annotated[str, AfterValidator(row_of(ACTIVATIONS))] = "relu"
    decoder_activation: Annotated[str, AfterValidator(row_of(ACTIVATIONS))] = "elu"

    def encoders(self, *, motion: bool) -> tuple[str, ...]:
        """Return the timm models it consists of, with a pose network or without."""
        return (self.encoder, self.pose_encoder) if motion and self.pose_net == "resnet" else (self.encoder,)

    @model_validator(mode="after")
    def _ordered(self) -> DepthAndMotionConfig:
        if not self.min_depth_m < self.start_depth_m < self.max_depth_m:
            raise ValueError("min_depth_m < start_depth_m < max_depth_m must hold")
        return self
