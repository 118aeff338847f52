"""From what pixels say to objects: all objects of a batch at once, without a loop over them."""

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

Vote = Callable[[Tensor, Tensor, Tensor, int], Centers]
"""Places (P, 2), directions (P, 2), segment (P,), count: `geometry.center.vote_center`, or `vote_center_ransac` with
its generator.
"""


@dataclass(frozen=True, slots=True)
class ObjectPoses(Movable):
    """Of M objects.

    quaternion_wxyz: (M, 4) unit, w >= 0.  T_camera_object: (M, 4, 4) metres.  size_m: (M, 3).
    center_px: (M, 2) x, y.  log_depth: (M,).  center_known: (M,) bool; false where the pixels' directions do not cross.
    """

    quaternion_wxyz: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    center_px: Tensor
    center_known: Tensor
    log_depth: Tensor


@dataclass(frozen=True, slots=True)
class ObjectMeans(Movable):
    """Of M objects: what is known of them without a center.

    quaternion_wxyz: (M, 4) unit, w >= 0.  log_depth: (M,).  size_m: (M, 3).
    """

    quaternion_wxyz: Tensor
    log_depth: Tensor
    size_m: Tensor


def means_of(said: ObjectPixels, segments: Segments) -> ObjectMeans:
    """The mean of what the pixels of each object say: of quaternions by their eigenvector, of depth and sizes by their
    logarithms.

    Differentiable.
    """
    segment, count = segments.segment, segments.count
    quaternion = quaternion_mean_of_segments(torch.nn.functional.normalize(said.quaternion, dim=-1), segment, count)
    mean = segment_means(torch.cat((said.log_depth[:, None], said.log_size), -1), segment, count)
    return ObjectMeans(quaternion, mean[:, 0], mean[:, 1:].exp())


def aggregate(said: ObjectPixels, segments: Segments, camera: Camera, vote: Vote = vote_center) -> ObjectPoses:
    """`means_of`, and the center by the pixels' votes. camera: K (B, 3, 3). Differentiable, with `vote_center` in the
    center too.
    """
    means = means_of(said, segments)
    centers = vote(said.place, said.to_center, segments.segment, segments.count)
    of_each = Camera(camera.K[segments.image], camera.height, camera.width)
    t = translation_from_center(centers.pixel, means.log_depth.exp(), of_each)
    T = se3.from_rotation_translation(se3.matrix_from_quaternion_wxyz(means.quaternion_wxyz), t)
    return ObjectPoses(means.quaternion_wxyz, T, means.size_m, centers.pixel, centers.known, means.log_depth)


def class_scores(class_logits: Tensor, segments: Segments, class_id: Tensor) -> Tensor:
    """(M,) the mean probability of each object's class over its pixels, of logits (B, C, H, W)."""
    probability = segments.of(class_logits).softmax(-1)
    own = probability.gather(1, class_id[segments.segment][:, None])
    return segment_means(own, segments.segment, segments.count)[:, 0]


def likeliest_class(class_logits: Tensor, segments: Segments) -> Tensor:
    """(M,) the class above 0 that all pixels of each object together find most probable, of logits (B, C, H, W): the
    largest product.
    """
    log_p = segments.of(class_logits)[:, 1:].log_softmax(-1)
    return segment_sums(log_p, segments.segment, segments.count).argmax(1) + 1
