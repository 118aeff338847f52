"""Predict depth frame by frame, chain the motions between frames to a path, and write both to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stadia.core.types import Camera, DepthScale, MapsPredictor, PredictedMaps, Predictor
from stadia.evaluation import MOTIONS
from stadia.evaluation.frame_preparation import Frame, PredictedFrame, PreparedFrame
from stadia.evaluation.io.predictions_folder import Predictions, Provenance, write_predictions
from stadia.geometry.bundle_adjustment.direct_alignment import DirectAlignment, align_direct
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.se3 import (
    compose,
    from_rotation_translation,
    inverse,
    matrix_from_quaternion_wxyz,
    quaternion_wxyz_from_matrix,
)

MIN_OVERLAP = 0.25
"""Smallest share of an image that must be visible in the next one. With less overlap an alignment is unreliable."""

GAIN_RANGE = (0.7, 1.4)
"""Range of plausible brightness gains. Frame-to-frame exposure changes less. Unrelated images are aligned with a gain
near 0, which explains one image by a constant. On RoadWorld, correct alignments had .98 to 1, wrong ones .35 to .68,
and pairs across a cut 0 to .08.
"""


@dataclass(frozen=True, slots=True)
class FrameTensors:
    """A frame (1, 3, H, W) at the network's size, K (3, 3), and its predicted inverse depth (1, 1, H, W) if used."""

    image: Tensor
    camera: Camera
    inverse_depth: Tensor | None = None


def predict_maps(predictor: Predictor, image: Tensor, camera: Camera) -> PredictedMaps:
    """Return all maps that a network predicts for an image (1, 3, H, W), in one pass."""
    if isinstance(predictor, MapsPredictor):
        return predictor.maps(image, camera)
    return PredictedMaps(predictor.inverse_depth(image, camera))


Motion = Callable[[Predictor, FrameTensors, FrameTensors, Tensor | None], Tensor | None]
"""A method for the motion between two frames, such as `predict_motion`."""


def predict_to_folder(
    predictor: Predictor, frames: Iterable[Frame], out: Path, provenance: Provenance, **options: Any
) -> Predictions:
    """Predict frames, in order and one by one, into a folder, with the motion that the provenance names.

    Options and errors are those of `stadia.evaluation.io.predictions_folder.write_predictions`; `source` is required.
    """
    predicted = stream_predictions(predictor, frames, MOTIONS.load(provenance.motion))
    return write_predictions(predicted, predictor, out, provenance, **options)


def stream_predictions(predictor: Predictor, frames: Iterable[Frame], motion: Motion) -> Iterator[PredictedFrame]:
    """Predict frame by frame with two images in memory. Poses are chained from neighbor to neighbor, from the identity.

    motion: the method for each link of the chain.
    """
    before: FrameTensors | None = None
    T_next_now: Tensor | None = None
    T_world_camera: Tensor | None = torch.eye(4, dtype=torch.float64)
    for frame in frames:
        shown = PreparedFrame.prepare(predictor, frame)
        image = torch.from_numpy(shown.image)[None]
        camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
        maps = predict_maps(predictor, image, camera)
        inverse_depth = maps.inverse_depth
        predicted = shown.predicted(predictor.depth_scale, inverse_depth[0, 0].float().cpu().numpy(), None)
        if maps.log_uncertainty is not None:
            predicted = replace(predicted, log_uncertainty=maps.log_uncertainty[0, 0].float().cpu().numpy())
        if not frame.on_path:
            yield predicted
            continue
        now = FrameTensors(image.to(inverse_depth.device), camera, inverse_depth.float())
        if before is not None and T_world_camera is not None:
            T_next_now = motion(predictor, before, now, T_next_now) if frame.is_neighbor else None
            T_world_camera = None if T_next_now is None else compose(T_world_camera, inverse(T_next_now))
        before = now
        yield predicted if T_world_camera is None else replace(predicted, T_world_camera=T_world_camera.numpy())


def is_reliable(found: DirectAlignment) -> bool:
    """Return whether an alignment of one pair is reliable, by MIN_OVERLAP and GAIN_RANGE."""
    return float(found.seen) >= MIN_OVERLAP and GAIN_RANGE[0] <= float(found.gain) <= GAIN_RANGE[1]


def predict_motion(
    predictor: Predictor, now: FrameTensors, following: FrameTensors, T_before: Tensor | None
) -> Tensor | None:
    """Predict T_next_now, (4, 4) float64, by the recipe's pose network; None without one.

    T_before: (4, 4) float64 motion of the pair before, None for the first.

    The rotation is exact to float64, since thousands are chained.
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

    Arguments and result are those of `predict_motion`. The network's motion is kept for unreliable alignments, and for
    inverse depth up to an unknown shift.
    """
    predicted = predict_motion(predictor, now, following, T_before)
    if predictor.depth_scale is DepthScale.AFFINE_INVERSE:
        return predicted
    assert now.inverse_depth is not None
    start = next((T for T in (predicted, T_before) if T is not None), torch.eye(4, dtype=torch.float64))
    cameras = [Camera(v.camera.K[None].to(v.image.device), v.camera.height, v.camera.width) for v in (now, following)]
    depth, start = depth_from_inverse(now.inverse_depth), start[None].to(now.image.device)
    found = align_direct(now.image, following.image, depth, *cameras, start)
    return found.T_source_target[0].cpu() if is_reliable(found) else predicted
