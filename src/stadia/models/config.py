"""Configuration of the networks. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import StrictModel, check_registered
from stadia.models import ACTIVATIONS, OVERLAY_NETWORKS, POSE_HEADS, POSE_NETS, ROTATIONS
from stadia.models.depth.config import DepthModelConfig, check_size_multiple


class DepthPoseNetConfig(DepthModelConfig):
    """The depth network and the pose network.

    pose_encoder: timm model (`stadia list encoders`) of the pose network `resnet`.
    rotation_scale, translation_scale: multiply the pose head, so that training starts near the identity.
    brightness: also predict gain and offset between two images, for the stereo pair too (D3VO).
    brightness_scale: multiplies the heads of gain and offset.
    pose_net: encoder of image pairs (`stadia list pose-nets`): `correlation`, which needs little data, `resnet`, `d3vo`
        or `shared` (the depth network's own encoder).
    pose_head: maps its features to numbers (`stadia list pose-heads`); `linear` requires the training image size.
    pose_bias: biases in the convolutions of the pose network and its motion head.
    rotation: parametrization: axis_angle, euler angles by their order, or a matrix by its first two columns (matrix6d)
        or all (matrix9d) (`stadia list rotations`).
    activation: of the pose network's own layers (`stadia list activations`).
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
        """Return the timm models it consists of, with a pose network or without."""
        pose = (self.pose_encoder,) if motion and self.pose_net == "resnet" else ()
        return (*self.network.encoders, *pose)

    @model_validator(mode="after")
    def _has_an_encoder_to_share(self) -> Self:
        if self.pose_net == "shared" and not self.network.has_encoder:
            raise ValueError(f"pose_net=shared takes the depth network's encoder, and {self.network.name} has none")
        return self


def _in_fours(channels: int) -> int:
    if channels % 4:
        raise ValueError("expected a multiple of 4: each group of normalization has 4 channels")
    return channels


class ObjectPoseNetConfig(StrictModel):
    """One encoder, and one decoder per output (FastPoseCNN, arXiv 2406.11063).

    The decoder is the semantic branch of Panoptic FPN (arXiv 1901.02446). The defaults train in minutes on two cores.
    The reference networks are `resnet18` and `resnext50_32x4d` with 256 and 128 channels.

    encoder: any timm model (`stadia list encoders`); NAME@REVISION takes one commit of its weights on the hub.
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


OVERLAY_STRIDE = 8  # image sides are multiples of it: both networks halve the image three times


class OverlayNetConfig(StrictModel):
    """The network of the recipe `overlay`.

    network: see `stadia list overlay-networks`: `light`, or `full` with 24,019,618 parameters.
    output_stride: predict at 1/output_stride of the image size and upsample bilinearly: smoother, at the same cost.
    init_depth_m: depth that an untrained network predicts, in the unit of the labels.
    """

    network: Annotated[str, AfterValidator(check_registered(OVERLAY_NETWORKS))] = "light"
    output_stride: Literal[1, 2, 4, 8] = 1
    init_depth_m: float = Field(default=10.0, gt=0)


def check_overlay_size(height: int, width: int) -> None:
    """Raise ConfigError with the nearest valid size if the image's sides are no multiples of OVERLAY_STRIDE.

    Examples:
        >>> check_overlay_size(64, 128)  # multiples of 8 pass
    """
    check_size_multiple("overlay", OVERLAY_STRIDE, height=height, width=width)
