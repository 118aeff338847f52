"""Predict depth and camera path frame by frame, and write them to a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from stadia.core.types import Camera, MapsPredictor, PredictedMaps, Predictor
from stadia.evaluation import MOTIONS
from stadia.evaluation.io.prediction_writer import write_predictions
from stadia.evaluation.io.predictions_folder import Predictions, Provenance
from stadia.evaluation.predict.frame_preparation import Frame, Listener, PredictedFrame, PreparedFrame
from stadia.geometry.se3 import compose, inverse


def stream_predictions(
    predictor: Predictor, frames: Iterable[Frame], motion: str = "aligned"
) -> Iterator[PredictedFrame]:
    """Predict frame by frame with two images in memory. Poses are chained from neighbor to neighbor, from the identity.

    motion: row of `stadia.evaluation.MOTIONS`, the method for each link of the chain.
    """
    motion_between = MOTIONS.load(motion)
    before: FrameTensors | None = None
    T_next_now: Tensor | None = None
    T_world_camera: Tensor | None = torch.eye(4, dtype=torch.float64)
    for picture in frames:
        shown = PreparedFrame.to(predictor, picture)
        image, camera = (
            torch.from_numpy(shown.image)[None],
            Camera(torch.from_numpy(shown.K), predictor.height, predictor.width),
        )
        maps = predict_maps(predictor, image, camera)
        inverse_depth = maps.inverse_depth
        predicted = shown.predicted(predictor.depth_scale, inverse_depth[0, 0].float().cpu().numpy(), None)
        if maps.log_uncertainty is not None:
            predicted = replace(predicted, log_uncertainty=maps.log_uncertainty[0, 0].float().cpu().numpy())
        if not picture.on_path:
            yield predicted
            continue
        now = FrameTensors(image.to(inverse_depth.device), camera, inverse_depth.float())
        if before is not None and T_world_camera is not None:
            T_next_now = motion_between(predictor, before, now, T_next_now) if picture.is_neighbor else None
            T_world_camera = None if T_next_now is None else compose(T_world_camera, inverse(T_next_now))
        before = now
        yield predicted if T_world_camera is None else replace(predicted, T_world_camera=T_world_camera.numpy())


def predict_to_folder(
    predictor: Predictor,
    frames: Iterable[Frame],
    out: Path,
    provenance: Provenance,
    *,
    source: str,
    fingerprint: str = "",
    listeners: Sequence[Listener] = (),
) -> Predictions:
    """Predict every frame into a new folder (layout: `stadia.evaluation.io.predictions_folder`).

    Args:
        predictor: from `stadia.recipes.load_predictor`.
        frames: in order, neighbors in time; consumed one by one.
        out: a new or empty folder, or one with the same unfinished prediction, which starts again.
        provenance: origin of the predictions.
        source: name of the input, for people.
        fingerprint: of the input, for `Predictions.check_made_by`.
        listeners: functions that take every predicted frame.

    Raises StadiaError where `out` is in use, there is no frame, two frames have one name, or depth is not finite.
    """
    predicted = stream_predictions(predictor, frames, provenance.motion)
    return write_predictions(
        predicted, predictor, out, provenance, source=source, fingerprint=fingerprint, listeners=listeners
    )


@dataclass(frozen=True, slots=True)
class FrameTensors:
    """A frame at the network's size.

    image: (1, 3, H, W).
    camera: K (3, 3).
    inverse_depth: (1, 1, H, W), predicted; None where only the pose network is used.
    """

    image: Tensor
    camera: Camera
    inverse_depth: Tensor | None = None


def predict_maps(predictor: Predictor, image: Tensor, camera: Camera) -> PredictedMaps:
    """Return all maps that a network predicts for an image (1, 3, H, W), in one pass."""
    if isinstance(predictor, MapsPredictor):
        return predictor.maps(image, camera)
    return PredictedMaps(predictor.inverse_depth(image, camera))
