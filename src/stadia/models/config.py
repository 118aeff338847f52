"""Configuration of the depth and motion networks. Imports no torch."""

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

    encoder, pose_encoder: any timm model by name (`stadia parts encoders`); pose_encoder is that of the pose network
        `resnet`.
    pretrained: start the encoders from timm's weights where they can be had; where not, one line says so.
    decoder_channels: at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image.
    min_depth_m, max_depth_m: what the sigmoid spans, linear in inverse depth (Monodepth2, arXiv 1806.01260, eq. in
        3.3).
    start_depth_m: what an untrained network answers; sets the head's bias so that stereo training starts in sight of
        the truth.
    scales: how many maps the decoder gives, each half the size of the one before.
    rotation_scale, translation_scale: multiply the pose head, so that training starts near the identity.
    right_view: the depth network also says the inverse depth that the rig's right camera sees, from the left image
        alone.
    uncertainty: the depth network also says log Sigma of each pixel's photometric residual.
    brightness: the pose network also says gain and offset of brightness between two images, the stereo pair too. (These
        three: D3VO, arXiv 2003.01060; the loss asks for whatever the networks say.)
    brightness_scale: multiplies the heads of gain and offset.
    pose_net: what compares two images (`stadia parts pose-nets`): `resnet`, `d3vo`, `shared`, the depth network's own
        encoder, or `correlation`, which learns motion from little data.
    pose_head: what makes numbers of that (`stadia parts pose-heads`); `linear` is bound to the size of the training's
        images.
    rotation: what its three numbers mean, axis_angle or euler (`stadia parts rotations`).
    activation, decoder_activation: of the pose network's own layers, and of the depth network's decoder (`stadia parts
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
        """The timm models that it is made of, with a pose network or without."""
        return (self.encoder, self.pose_encoder) if motion and self.pose_net == "resnet" else (self.encoder,)

    @model_validator(mode="after")
    def _ordered(self) -> DepthAndMotionConfig:
        if not self.min_depth_m < self.start_depth_m < self.max_depth_m:
            raise ValueError("min_depth_m < start_depth_m < max_depth_m must hold")
        return self
