"""Dense class, rotation, center, depth and size of objects (FastPoseCNN, arXiv 2406.11063, section 3).

Each class has its own channels for all outputs but the mask. `models.object_aggregation` combines pixels to objects.
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

INIT_PIXEL_SIZE_M = 0.005
"""Initial size of a pixel at the object: an image 160 pixels wide at a distance of 0.8 m. Logarithms cover the rest."""

INIT_SIZE_M = 0.1

CHANNELS = {"quaternion": 4, "translation": 3, "size": 3}
"""Channels per class. Translation: two for the direction to the center, one for depth."""


@dataclass(frozen=True, slots=True)
class ObjectMaps(Movable):
    """Output of the network for C classes including the background.

    All maps but the first are for each class but the background, at the network's stride, (h, w).

    class_logits: (B, C, H, W), of each pixel.
    quaternion: (B, C - 1, 4, h, w) w, x, y, z of any length, in the frame of `rotation_frame`.
    to_center: (B, C - 1, 2, h, w) x, y towards the object's center, of any length.
    log_pixel_m: (B, C - 1, 1, h, w), ln(z / fx): meters per pixel at the object. The image shows it, unlike z alone.
    log_size: (B, C - 1, 3, h, w), logarithms of meters.
    """

    class_logits: Tensor
    quaternion: Tensor
    to_center: Tensor
    log_pixel_m: Tensor
    log_size: Tensor

    @property
    def class_map(self) -> Tensor:
        """Return the most probable class, (B, H, W); 0 = background."""
        return self.class_logits.max(1).indices  # five times as fast as argmax, on a CPU

    @property
    def direction(self) -> Tensor:
        """Return (B, 2, h, w) x, y to the center for any class: the mean of unit vectors by class probability."""
        stride = self.class_logits.shape[-2] // self.to_center.shape[-2]
        probability = F.avg_pool2d(self.class_logits, stride).softmax(1)[:, 1:, None]
        # F.normalize takes seventy times as long along this axis on a CPU.
        length = self.to_center.square().sum(2, keepdim=True).sqrt()
        return (probability * self.to_center / length.clamp(min=1e-12)).sum(1)


@dataclass(frozen=True, slots=True)
class ObjectPixels:
    """Predictions at the P pixels of `Segments`, each for its object's class.

    place: (P, 2) x, y.
    quaternion: (P, 4) in the camera frame, not normalized.
    to_center: (P, 2).
    log_depth: (P,) ln z in meters.
    log_size: (P, 3).
    """

    place: Tensor
    quaternion: Tensor
    to_center: Tensor
    log_depth: Tensor
    log_size: Tensor


class ObjectPoseNet(nn.Module):
    """A PyramidNet with four outputs.

    Args:
        config: of encoder and decoders.
        classes: number of classes, with the background; TableWorld and NOCS have 7.
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
        """Return the divisor of valid image sides."""
        return self.net.encoder.strides[-1]

    def forward(self, image: Tensor) -> ObjectMaps:
        """Map (B, 3, H, W) RGB in [0, 1] to maps; H and W are multiples of `stride`."""
        output = self.net(image)
        class_maps = {
            name: output[name].unflatten(1, (self.classes - 1, channels)) for name, channels in CHANNELS.items()
        }
        return ObjectMaps(
            F.interpolate(output["mask"], image.shape[-2:], mode="bilinear", align_corners=False),
            class_maps["quaternion"],
            class_maps["translation"][:, :, :2],
            class_maps["translation"][:, :, 2:] + math.log(INIT_PIXEL_SIZE_M),
            class_maps["size"] + math.log(INIT_SIZE_M),
        )

    def pixels(self, maps: ObjectMaps, segments: Segments, class_id: Tensor, camera: Camera) -> ObjectPixels:
        """Interpolate the maps at the pixels of objects with classes (M,), above 0. camera: K (B, 3, 3)."""
        height, width = maps.class_logits.shape[-2:]
        image_index, kind = segments.image[segments.segment], class_id[segments.segment] - 1
        within = segments.pixel % (height * width)
        place = torch.stack((within % width, within // width), -1).to(maps.quaternion.dtype)
        class_maps = torch.cat((maps.quaternion, maps.to_center, maps.log_pixel_m, maps.log_size), 2).flatten(0, 1)
        stride = height // maps.quaternion.shape[-2]
        values = interpolated_at(class_maps, image_index * (self.classes - 1) + kind, place, stride)
        quaternion, to_center, log_pixel_m, log_size = torch.split(values, [4, 2, 1, 3], -1)
        if self.config.rotation_frame == "ray":
            homogeneous = torch.cat((place, torch.ones_like(place[:, :1])), -1)
            rays = (inverse_intrinsics(camera.K)[image_index].to(place) * homogeneous[:, None, :]).sum(-1)
            quaternion = multiply(quaternion_of_ray(rays), quaternion)
        log_depth = log_pixel_m[:, 0] + camera.fx[image_index].log().to(place)
        return ObjectPixels(place, quaternion, to_center, log_depth, log_size)
