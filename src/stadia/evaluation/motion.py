"""How a path is made of a predictor: the motion from one frame to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.types import Camera, Claim, ImageMaps, MapsPredictor, Predictor
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.direct_alignment import DirectAlignment, align_direct
from stadia.geometry.se3 import from_rotation_translation, matrix_from_quaternion_wxyz, quaternion_wxyz_from_matrix

LEAST_SEEN = 0.25
"""Share of an image that the next one must show still: with less in common, an alignment is a guess."""

GAINS = (0.7, 1.4)
"""Exposure changes by less from frame to frame. Images that show different things are brought together by a gain near
0: one is explained by a constant. On RoadWorld, alignments that were right gave .98 to 1, that went astray .35 to .68,
across a cut 0 to .08.
"""


@dataclass(frozen=True, slots=True)
class View:
    """A frame at the network's size.

    image: (1, 3, H, W).  camera: K (3, 3).  inverse_depth: (1, 1, H, W), predicted; None where nothing but the pose
        network is asked.
    """

    image: Tensor
    camera: Camera
    inverse_depth: Tensor | None = None


def predicted_maps(predictor: Predictor, image: Tensor, camera: Camera) -> ImageMaps:
    """All that a network says of an image (1, 3, H, W), in one pass of it."""
    if isinstance(predictor, MapsPredictor):
        return predictor.maps(image, camera)
    return ImageMaps(predictor.inverse_depth(image, camera))


def is_trusted(found: DirectAlignment) -> bool:
    """Whether an alignment of one pair is more than a guess, by LEAST_SEEN and GAINS."""
    return float(found.seen) >= LEAST_SEEN and GAINS[0] <= float(found.gain) <= GAINS[1]


def network_motion(predictor: Predictor, now: View, following: View, T_before: Tensor | None) -> Tensor | None:
    """What the recipe's pose network says; nothing where it has none.

    Args:
        predictor: of both views.
        now, following: neighbors in time.
        T_before: (4, 4) float64 motion of the pair before, None for the first.

    Returns T_next_now (4, 4) float64, its rotation exact to the last digit since thousands are chained; None where it
    is not known.
    """
    T_next_now = predictor.T_next_now(now.image, now.camera, following.image, following.camera)
    if T_next_now is None:
        return None
    T = T_next_now[0].double().cpu()
    return from_rotation_translation(matrix_from_quaternion_wxyz(quaternion_wxyz_from_matrix(T[:3, :3])), T[:3, 3])


def aligned_motion(predictor: Predictor, now: View, following: View, T_before: Tensor | None) -> Tensor | None:
    """The pose network's answer, or else the motion before, then moved to where the images fit by the depth predicted.

    Arguments and result are those of `network_motion`. The network's answer stands where too little stays in the image
    (LEAST_SEEN), where the images do not show the same thing (GAINS), and for inverse depth up to an unknown shift.
    """
    said = network_motion(predictor, now, following, T_before)
    if predictor.claim is Claim.AFFINE_INVERSE:
        return said
    assert now.inverse_depth is not None
    start = next((T for T in (said, T_before) if T is not None), torch.eye(4, dtype=torch.float64))
    camera, next_camera = (
        Camera(v.camera.K[None].to(v.image.device), v.camera.height, v.camera.width) for v in (now, following)
    )
    start = start[None].to(now.image.device)
    found = align_direct(now.image, following.image, depth_from_inverse(now.inverse_depth), camera, next_camera, start)
    return found.T_source_target[0].cpu() if is_trusted(found) else said
