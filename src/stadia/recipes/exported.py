"""Predict opened inputs with a network in an ONNX file. Imports no torch."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from stadia.evaluation.exported import ExportedNetwork, stream_exported
from stadia.evaluation.frames import Listener
from stadia.evaluation.predictions import Predictions, Provenance
from stadia.evaluation.to_disk import write_predictions
from stadia.evaluation.watch import Watch, unwatched
from stadia.recipes.inputs import Input, side_by_side


def predict_exported(
    network: ExportedNetwork,
    given: Input,
    out: Path,
    provenance: Provenance,
    *,
    video: bool = True,
    watch: Watch = unwatched,
) -> Predictions:
    """Predict as `recipes.prediction.predict_input`, without trajectory and point cloud: an exported network has depth
    only.
    """
    listeners: list[Listener] = []
    with ExitStack() as files:
        if video:
            listeners.append(files.enter_context(side_by_side(given, out)))
        frames = stream_exported(network, watch(given.frames, given.count, f"predicting {given.name}"))
        return write_predictions(frames, network, out, provenance, source=given.name, listeners=listeners)
