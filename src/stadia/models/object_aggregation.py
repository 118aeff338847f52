"""Combine pixel predictions to objects, for all objects of a batch at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.types import Camera, Movable
from stadia.geometry import se3
from stadia.geometry.center import Centers, translation_from_center, vote_center
from stadia.geometry.rotations import quaternion_mean_of_segments
from stadia.geometry.segments import Segments, segment_means, segment_sums
from stadia.models.object_pose_net import ObjectPixels

CenterVote = Callable[[Tensor, Tensor, Tensor, int], Centers]
"""Positions (P, 2), directions (P, 2), segment (P,), count: `geometry.center.vote_center` or `vote_center_ransac`."""


@dataclass(frozen=True, slots=True)
class ObjectPoses(Movable):
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
class ObjectMeans(Movable):
    """Means of M objects that need no center.

    quaternion_wxyz: (M, 4) unit, w >= 0.
    log_depth: (M,).
    size_m: (M, 3).
    """

    quaternion_wxyz: Tensor
    log_depth: Tensor
    size_m: Tensor


def means_of(pixels: ObjectPixels, segments: Segments) -> ObjectMeans:
    """Average each object's pixels: quaternions by eigenvector, depth and size as logarithms. Differentiable."""
    segment, count = segments.segment, segments.count
    quaternion = quaternion_mean_of_segments(torch.nn.functional.normalize(pixels.quaternion, dim=-1), segment, count)
    mean = segment_means(torch.cat((pixels.log_depth[:, None], pixels.log_size), -1), segment, count)
    return ObjectMeans(quaternion, mean[:, 0], mean[:, 1:].exp())


def aggregate(pixels: ObjectPixels, segments: Segments, camera: Camera, vote: CenterVote = vote_center) -> ObjectPoses:
    """Combine `means_of` with the center that the pixels vote for. camera: K (B, 3, 3).

    Differentiable; the center too with `vote_center`.
    """
    means = means_of(pixels, segments)
    centers = vote(pixels.place, pixels.to_center, segments.segment, segments.count)
    object_camera = Camera(camera.K[segments.image], camera.height, camera.width)
    t = translation_from_center(centers.pixel, means.log_depth.exp(), object_camera)
    T = se3.from_rotation_translation(se3.matrix_from_quaternion_wxyz(means.quaternion_wxyz), t)
    return ObjectPoses(means.quaternion_wxyz, T, means.size_m, centers.pixel, centers.known, means.log_depth)


def class_scores(class_logits: Tensor, segments: Segments, class_id: Tensor) -> Tensor:
    """Return (M,) the mean probability of each object's class over its pixels, from logits (B, C, H, W)."""
    probability = segments.of(class_logits).softmax(-1)
    own = probability.gather(1, class_id[segments.segment][:, None])
    return segment_means(own, segments.segment, segments.count)[:, 0]


def likeliest_class(class_logits: Tensor, segments: Segments) -> Tensor:
    """Return (M,) the foreground class with the largest product of pixel probabilities, from logits (B, C, H, W)."""
    log_p = segments.of(class_logits)[:, 1:].log_softmax(-1)
    return segment_sums(log_p, segments.segment, segments.count).argmax(1) + 1
