"""Estimate the motion between two frames by the pose network or by direct alignment."""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.core.types import Camera, DepthScale, Predictor
from stadia.evaluation.predict.predict_frames import FrameTensors
from stadia.geometry.bundle_adjustment.direct_alignment import DirectAlignment, align_direct
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.se3 import from_rotation_translation, matrix_from_quaternion_wxyz, quaternion_wxyz_from_matrix

MIN_OVERLAP = 0.25
"""Smallest share of an image that must be visible in the next one. With less overlap an alignment is unreliable."""

GAIN_RANGE = (0.7, 1.4)
"""Range of plausible brightness gains. Frame-to-frame exposure changes less. Unrelated images are aligned with a gain
near 0, which explains one image by a constant. On RoadWorld, correct alignments had .98 to 1, wrong ones .35 to .68,
and pairs across a cut 0 to .08.
"""


def is_reliable(found: DirectAlignment) -> bool:
    """Return whether an alignment of one pair is reliable, by LEAST_SEEN and GAINS."""
    return float(found.seen) >= MIN_OVERLAP and GAIN_RANGE[0] <= float(found.gain) <= GAIN_RANGE[1]


def predict_motion(
    predictor: Predictor, now: FrameTensors, following: FrameTensors, T_before: Tensor | None
) -> Tensor | None:
    """Predict the motion by the recipe's pose network.

    Args:
        predictor: of both views.
        now, following: neighbors in time.
        T_before: (4, 4) float64 motion of the pair before, None for the first.

    Returns T_next_now (4, 4) float64, None without a pose network. Its rotation is exact to float64, since thousands
    are chained.
    """
    T_next_now = predictor.T_next_now(now.image, now.camera, following.image, following.camera)
    if T_next_now is None:
        return None
    T = T_next_now[0].double().cpu()
    return from_rotation_translation(matrix_from_quaternion_wxyz(quaternion_wxyz_from_matrix(T[:3, :3])), T[:3, 3])


def align_motion(
    predictor: Predictor, now: FrameTensors, following: FrameTensors, T_before: Tensor | None
) -> Tensor | None:
    """Refine the motion of the pose network, or else the motion before, by direct alignment with the predicted depth.

    Arguments and result are those of `network_motion`. The network's motion is kept for too small an overlap
    (LEAST_SEEN) and for different images (GAINS). It is also kept for inverse depth up to an unknown shift.
    """
    predicted = predict_motion(predictor, now, following, T_before)
    if predictor.depth_scale is DepthScale.AFFINE_INVERSE:
        return predicted
    assert now.inverse_depth is not None
    start = next((T for T in (predicted, T_before) if T is not None), torch.eye(4, dtype=torch.float64))
    camera, next_camera = (
        Camera(v.camera.K[None].to(v.image.device), v.camera.height, v.camera.width) for v in (now, following)
    )
    start = start[None].to(now.image.device)
    found = align_direct(now.image, following.image, depth_from_inverse(now.inverse_depth), camera, next_camera, start)
    return found.T_source_target[0].cpu() if is_reliable(found) else predicted
