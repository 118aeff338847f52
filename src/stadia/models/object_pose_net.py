"""Class, rotation, center, depth and size of objects at every pixel of an image (FastPoseCNN, arXiv 2406.11063, section
3).

Each class has channels of its own for all but the mask: what a bottle's pixels say of a rotation need not be what a
box's say.
`models.object_aggregation` makes objects of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.core.types import Camera, Movable
from stadia.geometry.camera import inverse_intrinsics
from stadia.geometry.rotations import multiply, quaternion_of_ray
from stadia.geometry.segments import Segments, interpolated_at
from stadia.models.object_pose_config import ObjectPoseNetConfig
from stadia.models.pyramid import PyramidNet

START_PIXEL_M = 0.005
"""What a pixel spans at an object before training: that of an image 160 pixels wide, 0.8 m away. The logarithm makes up
for any other.
"""

START_SIZE_M = 0.1

CHANNELS = {"quaternion": 4, "translation": 3, "size": 3}
"""Of each class. Translation: two of the direction to the center, one of depth."""


@dataclass(frozen=True, slots=True)
class ObjectMaps(Movable):
    """What the network says, C classes with the background; all but the first for each class but the background, and at
    the network's
    stride, (h, w): `ObjectPoseNet.pixels` interpolates them where an object is.

    class_logits: (B, C, H, W), of each pixel.
    quaternion: (B, C - 1, 4, h, w) w, x, y, z of any length, in the frame of `rotation_frame`.
    to_center: (B, C - 1, 2, h, w) x, y towards the object's center, of any length.
    log_pixel_m: (B, C - 1, 1, h, w), ln(z / fx): how many metres a pixel spans at the object. It is in the image, z
        alone is not.
    log_size: (B, C - 1, 3, h, w), logarithms of metres.
    """

    class_logits: Tensor
    quaternion: Tensor
    to_center: Tensor
    log_pixel_m: Tensor
    log_size: Tensor

    @property
    def class_map(self) -> Tensor:
        """(B, H, W), the most probable class; 0 = background."""
        return self.class_logits.max(1).indices  # five times as fast as argmax, on a CPU

    @property
    def direction(self) -> Tensor:
        """(B, 2, h, w) x, y to the center whatever the class: the mean of the classes' unit vectors by their
        probabilities.
        """
        stride = self.class_logits.shape[-2] // self.to_center.shape[-2]
        probability = F.avg_pool2d(self.class_logits, stride).softmax(1)[:, 1:, None]
        length = (
            self.to_center.square().sum(2, keepdim=True).sqrt()
        )  # F.normalize takes seventy times as long along this axis, on a CPU
        return (probability * self.to_center / length.clamp(min=1e-12)).sum(1)


@dataclass(frozen=True, slots=True)
class ObjectPixels:
    """What the network says at the P pixels of `Segments`, each for its object's class.

    place: (P, 2) x, y.  quaternion: (P, 4) in the camera's frame, length 1 or as said.  to_center: (P, 2).  log_depth:
        (P,) ln z in metres.
    log_size: (P, 3).
    """

    place: Tensor
    quaternion: Tensor
    to_center: Tensor
    log_depth: Tensor
    log_size: Tensor


class ObjectPoseNet(nn.Module):
    """A PyramidNet with four answers.

    Args:
        config: of encoder and decoders.
        classes: how many, with the background; TableWorld and NOCS have 7.
    """

    def __init__(self, config: ObjectPoseNetConfig, classes: int = 7) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.net = PyramidNet(
            config.encoder,
            {"mask": classes, **{name: channels * (classes - 1) for name, channels in CHANNELS.items()}},
            pretrained=config.pretrained,
            pyramid=config.pyramid_channels,
            segmentation=config.segmentation_channels,
            dropout=config.dropout,
        )

    @property
    def stride(self) -> int:
        """Images have sides that are multiples of it."""
        return self.net.encoder.strides[-1]

    def forward(self, image: Tensor) -> ObjectMaps:
        """(B, 3, H, W) RGB in [0, 1]; H and W multiples of the encoder's coarsest stride."""
        said = self.net(image)
        of_class = {name: said[name].unflatten(1, (self.classes - 1, channels)) for name, channels in CHANNELS.items()}
        return ObjectMaps(
            F.interpolate(said["mask"], image.shape[-2:], mode="bilinear", align_corners=False),
            of_class["quaternion"],
            of_class["translation"][:, :, :2],
            of_class["translation"][:, :, 2:] + math.log(START_PIXEL_M),
            of_class["size"] + math.log(START_SIZE_M),
        )

    def pixels(self, maps: ObjectMaps, segments: Segments, class_id: Tensor, camera: Camera) -> ObjectPixels:
        """What the maps say at the pixels of objects whose classes are (M,), above 0. camera: K (B, 3, 3)."""
        height, width = maps.class_logits.shape[-2:]
        picture, kind = segments.image[segments.segment], class_id[segments.segment] - 1
        within = segments.pixel % (height * width)
        place = torch.stack((within % width, within // width), -1).to(maps.quaternion.dtype)
        of_class = torch.cat((maps.quaternion, maps.to_center, maps.log_pixel_m, maps.log_size), 2).flatten(0, 1)
        stride = height // maps.quaternion.shape[-2]
        said = interpolated_at(of_class, picture * (self.classes - 1) + kind, place, stride)
        quaternion, to_center, log_pixel_m, log_size = torch.split(said, [4, 2, 1, 3], -1)
        if self.config.rotation_frame == "ray":
            homogeneous = torch.cat((place, torch.ones_like(place[:, :1])), -1)
            rays = (inverse_intrinsics(camera.K)[picture].to(place) * homogeneous[:, None, :]).sum(-1)
            quaternion = multiply(quaternion_of_ray(rays), quaternion)
        log_depth = log_pixel_m[:, 0] + camera.fx[picture].log().to(place)
        return ObjectPixels(place, quaternion, to_center, log_depth, log_size)
