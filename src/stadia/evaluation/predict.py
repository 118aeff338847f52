"""Predict depth of every frame and the path of the camera, and write both to disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stadia.core.types import Camera, Predictor
from stadia.evaluation import MOTIONS
from stadia.evaluation.frames import Frame, Listener, PredictedFrame, Shown
from stadia.evaluation.motion import View, predicted_maps
from stadia.evaluation.predictions import Predictions, Provenance
from stadia.evaluation.to_disk import write_predictions
from stadia.geometry.se3 import compose, inverse


def stream(predictor: Predictor, frames: Iterable[Frame], motion: str = "aligned") -> Iterator[PredictedFrame]:
    """Predict frame by frame with two images in memory. Poses are chained from neighbor to neighbor, from the identity.

    motion: row of `stadia.evaluation.MOTIONS`, the method for each link of the chain.
    """
    motion_between = MOTIONS.load(motion)
    before: View | None = None
    T_next_now: Tensor | None = None
    T_world_camera: Tensor | None = torch.eye(4, dtype=torch.float64)
    for picture in frames:
        shown = Shown.to(predictor, picture)
        image, camera = (
            torch.from_numpy(shown.image)[None],
            Camera(torch.from_numpy(shown.K), predictor.height, predictor.width),
        )
        maps = predicted_maps(predictor, image, camera)
        inverse_depth = maps.inverse_depth
        predicted = shown.predicted(predictor.claim, inverse_depth[0, 0].float().cpu().numpy(), None)
        if maps.log_uncertainty is not None:
            predicted = replace(predicted, log_uncertainty=maps.log_uncertainty[0, 0].float().cpu().numpy())
        if not picture.on_path:
            yield predicted
            continue
        now = View(image.to(inverse_depth.device), camera, inverse_depth.float())
        if before is not None and T_world_camera is not None:
            T_next_now = motion_between(predictor, before, now, T_next_now) if picture.is_neighbor else None
            T_world_camera = None if T_next_now is None else compose(T_world_camera, inverse(T_next_now))
        before = now
        yield predicted if T_world_camera is None else replace(predicted, T_world_camera=T_world_camera.numpy())


def predict(
    predictor: Predictor,
    frames: Iterable[Frame],
    out: Path,
    provenance: Provenance,
    *,
    source: str,
    fingerprint: str = "",
    listeners: Sequence[Listener] = (),
) -> Predictions:
    """Predict every frame into a new folder (layout: `stadia.evaluation.predictions`).

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
    predicted = stream(predictor, frames, provenance.motion)
    return write_predictions(
        predicted, predictor, out, provenance, source=source, fingerprint=fingerprint, listeners=listeners
    )
