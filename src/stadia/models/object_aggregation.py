"""From what pixels say to objects: all objects of a batch at once, without a loop over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.types import Camera, Movable
from stadia.geometry import se3
from stadia.geometry.centre import Centres, translation_from_centre, vote_centre
from stadia.geometry.rotations import quaternion_mean_of_segments
from stadia.geometry.segments import Segments, segment_means, segment_sums
from stadia.models.object_pose_net import ObjectPixels

Vote = Callable[[Tensor, Tensor, Tensor, int], Centres]
"""Places (P, 2), directions (P, 2), segment (P,), count: `geometry.centre.vote_centre`, or `vote_centre_ransac` with its generator."""


@dataclass(frozen=True, slots=True)
class ObjectPoses(Movable):
    """Of M objects.

    quaternion_wxyz: (M, 4) unit, w >= 0.  T_camera_object: (M, 4, 4) metres.  size_m: (M, 3).
    centre_px: (M, 2) x, y.  log_depth: (M,).  centre_known: (M,) bool; false where the pixels' directions do not cross.
    """

    quaternion_wxyz: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    centre_px: Tensor
    centre_known: Tensor
    log_depth: Tensor


def aggregate(said: ObjectPixels, segments: Segments, camera: Camera, vote: Vote = vote_centre) -> ObjectPoses:
    """The mean of what the pixels of each object say: of quaternions by their eigenvector, of depth and sizes by their logarithms, and
    the centre by their votes. camera: K (B, 3, 3).

    Differentiable, with `vote_centre` in the centre too.
    """
    segment, count = segments.segment, segments.count
    quaternion = quaternion_mean_of_segments(torch.nn.functional.normalize(said.quaternion, dim=-1), segment, count)
    mean = segment_means(torch.cat((said.log_depth[:, None], said.log_size), -1), segment, count)
    centres = vote(said.place, said.to_centre, segment, count)
    of_each = Camera(camera.K[segments.picture], camera.height, camera.width)
    t = translation_from_centre(centres.pixel, mean[:, 0].exp(), of_each)
    T = se3.from_rotation_translation(se3.matrix_from_quaternion_wxyz(quaternion), t)
    return ObjectPoses(quaternion, T, mean[:, 1:].exp(), centres.pixel, centres.known, mean[:, 0])


def class_scores(class_logits: Tensor, segments: Segments, class_id: Tensor) -> Tensor:
    """(M,) the mean probability of each object's class over its pixels, of logits (B, C, H, W)."""
    probability = segments.of(class_logits).softmax(-1)
    own = probability.gather(1, class_id[segments.segment][:, None])
    return segment_means(own, segments.segment, segments.count)[:, 0]


def likeliest_class(class_logits: Tensor, segments: Segments) -> Tensor:
    """(M,) the class above 0 that all pixels of each object together find most probable, of logits (B, C, H, W): the largest product."""
    log_p = segments.of(class_logits)[:, 1:].log_softmax(-1)
    return segment_sums(log_p, segments.segment, segments.count).argmax(1) + 1
