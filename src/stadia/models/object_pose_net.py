"""Dense class, rotation, center, depth and size of objects (FastPoseCNN, arXiv 2406.11063), and their combination to objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.core.types import Camera, TensorDataclass
from stadia.geometry import se3
from stadia.geometry.camera import inverse_intrinsics
from stadia.geometry.objects.instances import VotedCenters, translation_from_center, vote_center
from stadia.geometry.se3 import quaternion_from_ray, quaternion_mean_by_segment, quaternion_multiply
from stadia.geometry.segments import Segments, interpolate_at, segment_means, segment_sums
from stadia.models.config import ObjectPoseNetConfig
from stadia.models.feature_pyramid import PyramidNet

# -- Dense class, rotation, center, depth and size of objects (FastPoseCNN, arXiv 2406.11063, section 3).
#
# Each class has its own channels for all outputs but the mask. `models.object_pose_net` combines pixels to objects.

INIT_PIXEL_SIZE_M = 0.005
"""Initial size of a pixel at the object: an image 160 pixels wide at a distance of 0.8 m. Logarithms cover the rest."""

INIT_SIZE_M = 0.1

POSE_CHANNELS = {"quaternion": 4, "translation": 3, "size": 3}
"""Channels per class. Translation: two for the direction to the center, one for depth."""


@dataclass(frozen=True, slots=True)
class ObjectMaps(TensorDataclass):
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
            {"mask": classes, **{name: channels * (classes - 1) for name, channels in POSE_CHANNELS.items()}},
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
            name: output[name].unflatten(1, (self.classes - 1, channels)) for name, channels in POSE_CHANNELS.items()
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
        values = interpolate_at(class_maps, image_index * (self.classes - 1) + kind, place, stride)
        quaternion, to_center, log_pixel_m, log_size = torch.split(values, [4, 2, 1, 3], -1)
        if self.config.rotation_frame == "ray":
            homogeneous = torch.cat((place, torch.ones_like(place[:, :1])), -1)
            rays = (inverse_intrinsics(camera.K)[image_index].to(place) * homogeneous[:, None, :]).sum(-1)
            quaternion = quaternion_multiply(quaternion_from_ray(rays), quaternion)
        log_depth = log_pixel_m[:, 0] + camera.fx[image_index].log().to(place)
        return ObjectPixels(place, quaternion, to_center, log_depth, log_size)


# -- Combine pixel predictions to objects, for all objects of a batch at once.


CenterVote = Callable[[Tensor, Tensor, Tensor, int], VotedCenters]
"""Positions (P, 2), directions (P, 2), segment (P,), count: `geometry.objects.instances.vote_center` or `vote_center_ransac`."""


@dataclass(frozen=True, slots=True)
class ObjectPoses(TensorDataclass):
    """Poses of M objects.

    quaternion_wxyz: (M, 4) unit, w >= 0.
    T_camera_object: (M, 4, 4) meters.
    size_m: (M, 3).
    center_px: (M, 2) x, y.
    log_depth: (M,).
    center_known: (M,) bool; false if the pixels' directions do not intersect.
    """

    quaternion_wxyz: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    center_px: Tensor
    center_known: Tensor
    log_depth: Tensor


@dataclass(frozen=True, slots=True)
class ObjectMeans(TensorDataclass):
    """Means of M objects that need no center.

    quaternion_wxyz: (M, 4) unit, w >= 0.
    log_depth: (M,).
    size_m: (M, 3).
    """

    quaternion_wxyz: Tensor
    log_depth: Tensor
    size_m: Tensor


def average_object_pixels(pixels: ObjectPixels, segments: Segments) -> ObjectMeans:
    """Average each object's pixels: quaternions by eigenvector, depth and size as logarithms. Differentiable."""
    segment, count = segments.segment, segments.count
    quaternion = quaternion_mean_by_segment(torch.nn.functional.normalize(pixels.quaternion, dim=-1), segment, count)
    mean = segment_means(torch.cat((pixels.log_depth[:, None], pixels.log_size), -1), segment, count)
    return ObjectMeans(quaternion, mean[:, 0], mean[:, 1:].exp())


def aggregate_objects(
    pixels: ObjectPixels, segments: Segments, camera: Camera, vote: CenterVote = vote_center
) -> ObjectPoses:
    """Combine `means_of` with the center that the pixels vote for. camera: K (B, 3, 3).

    Differentiable; the center too with `vote_center`.
    """
    means = average_object_pixels(pixels, segments)
    centers = vote(pixels.place, pixels.to_center, segments.segment, segments.count)
    object_camera = Camera(camera.K[segments.image], camera.height, camera.width)
    t = translation_from_center(centers.pixel, means.log_depth.exp(), object_camera)
    T = se3.from_rotation_translation(se3.matrix_from_quaternion_wxyz(means.quaternion_wxyz), t)
    return ObjectPoses(means.quaternion_wxyz, T, means.size_m, centers.pixel, centers.known, means.log_depth)


def score_classes(class_logits: Tensor, segments: Segments, class_id: Tensor) -> Tensor:
    """Return (M,) the mean probability of each object's class over its pixels, from logits (B, C, H, W)."""
    probability = segments.of(class_logits).softmax(-1)
    own = probability.gather(1, class_id[segments.segment][:, None])
    return segment_means(own, segments.segment, segments.count)[:, 0]


def predict_object_class(class_logits: Tensor, segments: Segments) -> Tensor:
    """Return (M,) the foreground class with the largest product of pixel probabilities, from logits (B, C, H, W)."""
    log_p = segments.of(class_logits)[:, 1:].log_softmax(-1)
    return segment_sums(log_p, segments.segment, segments.count).argmax(1) + 1
