"""Configuration of the networks. This module does not import torch."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import check_registered
from stadia.networks import ACTIVATIONS, POSE_HEADS, POSE_NETS, ROTATIONS
from stadia.networks.depth.config import DepthModelConfig


class DepthPoseNetConfig(DepthModelConfig):
    """The depth network and the pose network.

    pose_encoder: timm model (`stadia list encoders`) of the pose network `resnet`.
    rotation_scale, translation_scale: factors by which the pose head's outputs are multiplied, so that training starts
        near the identity.
    brightness: also predict gain and offset between two images (D3VO).
    brightness_scale: factor by which the outputs of the gain and offset heads are multiplied.
    pose_net: encoder of image pairs (`stadia list pose-nets`): `correlation`, which needs little data, `resnet`, `d3vo`
        or `shared`, which uses the depth network's own encoder.
    pose_head: layers that map the encoder's features to a motion (`stadia list pose-heads`). `linear` requires the
        training image size.
    pose_bias: use biases in the convolutions of the pose network and its motion head.
    rotation: parameters of a rotation (`stadia list rotations`): axis_angle, Euler angles named by their order, or a
        matrix, given by its first two columns (matrix6d) or by all columns (matrix9d).
    activation: activation of the pose network's own layers (`stadia list activations`).
    """

    pose_encoder: str = "resnet18"
    rotation_scale: float = Field(default=0.01, gt=0)
    translation_scale: float = Field(default=0.1, gt=0)
    brightness: bool = False
    brightness_scale: float = Field(default=0.1, gt=0)
    pose_net: Annotated[str, AfterValidator(check_registered(POSE_NETS))] = "correlation"
    pose_head: Annotated[str, AfterValidator(check_registered(POSE_HEADS))] = "convolution"
    pose_bias: bool = True
    rotation: Annotated[str, AfterValidator(check_registered(ROTATIONS))] = "axis_angle"
    activation: Annotated[str, AfterValidator(check_registered(ACTIVATIONS))] = "relu"

    def encoders(self, *, motion: bool) -> tuple[str, ...]:
        """Return the timm models that the configuration uses, with or without those of the pose network."""
        pose = (self.pose_encoder,) if motion and self.pose_net == "resnet" else ()
        return (*self.network.encoders, *pose)

    @model_validator(mode="after")
    def _has_an_encoder_to_share(self) -> Self:
        if self.pose_net == "shared" and not self.network.has_encoder:
            raise ValueError(f"pose_net=shared takes the depth network's encoder, and {self.network.name} has none")
        return self
