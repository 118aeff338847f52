"""How a path is made of a predictor: the motion from one frame to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.types import Camera, Claim, Predictor
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.direct_alignment import align_direct
from stadia.geometry.se3 import from_rotation_translation, matrix_from_quaternion_wxyz, quaternion_wxyz_from_matrix

LEAST_SEEN = 0.25
"""Share of a picture that the next one must show still: with less in common, an alignment is a guess."""


@dataclass(frozen=True, slots=True)
class View:
    """A frame at the network's size. image: (1, 3, H, W).  camera: K (3, 3).  inverse_depth: (1, 1, H, W), predicted."""

    image: Tensor
    camera: Camera
    inverse_depth: Tensor


def network_motion(predictor: Predictor, now: View, following: View, T_before: Tensor | None) -> Tensor | None:
    """What the recipe's pose network says; nothing where it has none.

    Args:
        predictor: of both views.
        now, following: neighbours in time.
        T_before: (4, 4) float64 motion of the pair before, None for the first.

    Returns T_next_now (4, 4) float64, its rotation exact to the last digit since thousands are chained; None where it is not known.
    """
    T_next_now = predictor.T_next_now(now.image, following.image)
    if T_next_now is None:
        return None
    T = T_next_now[0].double().cpu()
    return from_rotation_translation(matrix_from_quaternion_wxyz(quaternion_wxyz_from_matrix(T[:3, :3])), T[:3, 3])


def aligned_motion(predictor: Predictor, now: View, following: View, T_before: Tensor | None) -> Tensor | None:
    """The pose network's answer, or else the motion before, then moved to where the pictures fit by the depth predicted.

    Arguments and result are those of `network_motion`. Where fewer than LEAST_SEEN of the pixels stay in the picture, and for
    inverse depth up to an unknown shift, the network's answer stands.
    """
    said = network_motion(predictor, now, following, T_before)
    if predictor.claim is Claim.AFFINE_INVERSE:
        return said
    start = next((T for T in (said, T_before) if T is not None), torch.eye(4, dtype=torch.float64))
    camera = Camera(now.camera.K[None], now.camera.height, now.camera.width)
    next_camera = Camera(following.camera.K[None], following.camera.height, following.camera.width)
    found = align_direct(now.image, following.image, depth_from_inverse(now.inverse_depth), camera, next_camera, start[None])
    return found.T_source_target[0] if float(found.seen) >= LEAST_SEEN else said
