"""Predict with an exported network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from stadia.core.types import TrackProgress
from stadia.datasets.config import CameraConfig
from stadia.datasets.video.video_map import find_map_geometry
from stadia.diagnostics.prediction_checks import TrainingRecord
from stadia.evaluation.backends import BACKENDS, ONNXRUNTIME, Backend, BackendChoice, check_backend
from stadia.evaluation.exported_network import ExportedNetwork, stream_exported_predictions
from stadia.evaluation.frame_preparation import Listener
from stadia.evaluation.io.predictions_folder import write_predictions
from stadia.evaluation.plots.videos import depth_color_writer
from stadia.files.paths import expand_home, safe_join
from stadia.predict.prediction_inputs import is_own_video, open_inputs
from stadia.predict.prediction_outputs import (
    DEPTH_COLOR,
    list_files,
    mark_verdict,
    prediction_lines,
    side_by_side_writer,
    trust_line,
)
from stadia.predict.requests import PredictRequest, network_size_notes, parse_size, refuse_unused, requested_size
from stadia.predict.verdict import PredictionGate, refuse_unusable

EXPORTED_OPTIONS = ("options", "every", "size", "video", "backend", "strict")


def run_predict_exported(file: Path, request: PredictRequest, track: TrackProgress) -> Iterator[str]:
    """Predict an input with an exported network, a .onnx file, as `task.run_predict` does with a checkpoint.

    An exported network predicts depth only: no trajectory, no point cloud.
    """
    refuse_unused(request, EXPORTED_OPTIONS, "an exported network")
    name = request.backend or ONNXRUNTIME
    check_backend(BackendChoice(name), is_exported=True)
    network = ExportedNetwork(file, None if request.size is None else parse_size(request.size))
    trained = {"data": network.about.model_dump(include={"height", "width"})}
    size = requested_size(request.size, trained)
    backend: Backend = BACKENDS.load(name)(network.graph, (network.height, network.width))
    yield from (f"note: {note}" for note in network_size_notes(size, trained))
    own = is_own_video(request.source, request.options.get("format", "auto"))
    options = ({"stride": 1} if own else {}) | dict(request.options)  # no frame selection without a trajectory
    known = network.about.camera
    trained_camera = None if known is None else CameraConfig(K=known.K, size=known.size)
    inputs = open_inputs(request.source, every=request.every, trained_camera=trained_camera, **options)
    no_path = "no path, " if any(given.count != 1 for given in inputs) else ""
    yield f"note: an exported network predicts depth only: {no_path}no point cloud"
    if network.about.verdict is not None:
        yield f"note: verdict on record of its run when it was exported: {network.about.describe_verdict()}"
    checks: dict[str, Mapping[str, Any]] = {}
    for given in inputs:
        folder = request.out if len(inputs) == 1 else safe_join(request.out, given.name)
        yield from given.camera_lines()
        listeners: list[Listener] = []
        with ExitStack() as files:
            listeners.append(depth_color_writer(folder / DEPTH_COLOR))
            if request.video:
                listeners.append(files.enter_context(side_by_side_writer(given, folder)))
            shown = track(given.frames, given.count, f"predicting {given.name}")
            frames = stream_exported_predictions(network, shown, backend.run)
            provenance = network.provenance(size).model_copy(
                update={"backend": name, "camera_origin": given.describe_camera_origin()}
            )
            codes = network.about.verdict_codes.split(", ") if network.about.verdict == "unusable" else []
            training = TrainingRecord(
                focal=tuple(filter(None, (network.about.focal,))), recorded_codes=tuple(filter(None, codes))
            )
            mapped = find_map_geometry(expand_home(request.source), skip_damaged=True)
            gate = PredictionGate(
                network.depth_scale, training, camera_is_assumed=given.camera_is_assumed, mapped=mapped
            )
            written = write_predictions(
                frames,
                network,
                folder,
                provenance,
                source=given.name,
                has_frame_numbers=given.has_frame_numbers,
                listeners=listeners,
                complete=partial(_complete, files, folder, gate),
                checker=gate,
            )
        yield from prediction_lines(folder, written)
        yield from list_files(folder)
        yield trust_line(written)
        checks[given.name] = gate.to_json()
    if request.strict:
        refuse_unusable(checks)


def _complete(files: ExitStack, folder: Path, gate: PredictionGate) -> None:
    """Close the files of a prediction, and write the verdict into them."""
    files.close()
    mark_verdict(folder, gate)
