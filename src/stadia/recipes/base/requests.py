"""Requests of `stadia predict`, `evaluate` and `odometry`, their options and inputs, and exported networks.

Images are decoded when they are predicted. Imports no torch.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError, DataError
from stadia.core.files import expand_home, safe_join
from stadia.core.input_files import read_json
from stadia.core.recording import Recording
from stadia.core.types import TrackProgress
from stadia.dataloading.config import DataConfig
from stadia.datasets import DATASETS
from stadia.datasets.config import MAX_NETWORK_PIXELS, CameraConfig, SourceOptions
from stadia.datasets.frame_selection import FrameSelector
from stadia.datasets.image_files import IMAGE_SUFFIXES, read_rgb
from stadia.datasets.open_dataset import open_recordings, refuse_idle_options
from stadia.datasets.video_decoding import VIDEO_SUFFIXES, count_indexed_frames, stream_video
from stadia.datasets.video_files import find_camera_file, read_image_size, read_user_intrinsics
from stadia.diagnostics.prediction_checks import TrainingRecord, Verdict
from stadia.evaluation.exported_network import ExportedNetwork, stream_exported_predictions
from stadia.evaluation.frame_preparation import Frame, Listener, read_frames
from stadia.evaluation.io.predictions_folder import Predictions, write_predictions
from stadia.evaluation.plots.videos import (
    DEFAULT_RATE_HZ,
    depth_color_writer,
    estimate_frame_rate_hz,
    open_side_by_side_video,
    side_by_side_image_writer,
)
from stadia.recipes.base.prediction_gate import PredictionGate, describe_trust, verdict_lines


@dataclass(frozen=True)
class PredictRequest:
    """`stadia predict CHECKPOINT INPUT`.

    options: how to open `source`, from `recipes.base.requests.parse_source_options`.
    every: each n-th frame.
    motion: method of the trajectory; None = aligned.
    size: "1216x352", if it is not the training's.
    video: whether to write it.
    cloud: whether to write it; None = where the recipe predicts points.
    background: of a composite image, the same image without the foreground; or a folder of such images.
    """

    checkpoint: Path
    source: Path
    options: Mapping[str, Any]
    out: Path
    every: int = 1
    motion: str | None = None
    size: str | None = None
    video: bool = True
    cloud: bool | None = None
    background: Path | None = None


@dataclass(frozen=True)
class EvaluateRequest:
    """`stadia evaluate CHECKPOINT DATA`.

    options: how to open `data`, from `recipes.base.requests.parse_source_options`.
    protocol: of depth.
    frames: file with a frame list.
    every: each n-th frame.
    held_out: only frames that did not train.
    motion: method of the trajectory.
    size: "1216x352", if it is not the training's.
    out: None = into the run.
    """

    checkpoint: Path
    data: Path
    options: Mapping[str, Any]
    protocol: str = "metric"
    frames: Path | None = None
    every: int = 1
    held_out: bool = False
    motion: str = "aligned"
    size: str | None = None
    out: Path | None = None

    @property
    def suffix(self) -> str:
        """Return the suffix of output names: other frames or another method give other files."""
        frames = f"-{self.frames.stem}" if self.frames else f"-every{self.every}" * (self.every > 1)
        return frames + "-held-out" * self.held_out + f"-{self.motion}" * (self.motion != "aligned")


@dataclass(frozen=True)
class OdometryRequest:
    """`stadia odometry CHECKPOINT INPUT`.

    options: how to open `source`, from `recipes.base.requests.parse_source_options`.
    method: of `stadia.odometry.ODOMETRY_METHODS`.
    size: "1216x352", if it is not the training's.
    out: None = into the run.
    """

    checkpoint: Path
    source: Path
    options: Mapping[str, Any]
    method: str = "refined"
    size: str | None = None
    out: Path | None = None


def refuse_unused(request: PredictRequest | EvaluateRequest, used: Collection[str], what: str) -> None:
    """Raise ConfigError for options that were given and have no effect. An option that is switched off is allowed.

    Args:
        used: fields of the request that have an effect.
        what: the recipe or network that runs.
    """
    optional = [one for one in fields(request) if one.name not in {"checkpoint", "source", "data", "options", "out"}]
    given = [one.name for one in optional if getattr(request, one.name) not in (one.default, False)]
    names = [f"--{name.replace('_', '-')}" for name in given if name not in used]
    if "options" not in used:
        names += [f"data.{name}" for name in request.options]
    if names:
        usable = ", ".join(f"--{one.name.replace('_', '-')}" for one in optional if one.name in used)
        expected = f"options that it uses ({usable})" if usable else "no options"
        raise ConfigError(" and ".join(names), found=f"given with {what}", expected=expected, fix="leave it out")


# -- `data.` options, the same keys as in a training


class FormatOptions(SourceOptions):
    """`SourceOptions` and the format."""

    format: str = "auto"


class _SourceKeys(StrictModel):
    data: FormatOptions = FormatOptions()


def parse_source_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Return keyword arguments of `open_recordings` from `data.key=value` options. Raises ConfigError."""
    return resolve_config(_SourceKeys, {}, overrides).data.model_dump(exclude_unset=True)


class _DataKeys(StrictModel):
    data: DataConfig


def parse_data_config(path: str, format: str, overrides: Sequence[str]) -> DataConfig:
    """Return the data configuration of `data.key=value` options, as in a training. Raises ConfigError."""
    return resolve_config(_DataKeys, {"data": {"path": path, "format": format}}, overrides).data


# -- network images of another size than in the training

Size = tuple[int, int]
"""Height and width, pixels."""

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")

MAX_SILOG_RATIO = 1.3
"""SILog at another size over SILog at the training size; above, the size is the cause (docs/dpt.md)."""


def parse_size(text: str) -> Size:
    """Return height and width of "1216x352", width first; the recipe checks what its network supports.

    Raises ConfigError.
    """
    found = _SIZE.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not height * width:
        fix = "for example --size 1216x352"
        raise ConfigError("--size", found=f"'{text}'", expected="WIDTHxHEIGHT in pixels", fix=fix)
    if height * width > MAX_NETWORK_PIXELS:
        given, expected = f"{text}, {height * width} pixels", f"at most {MAX_NETWORK_PIXELS} pixels"
        raise ConfigError("--size", found=given, expected=expected, fix="choose a smaller size")
    return height, width


def size_text(size: Size) -> str:
    """Return "WIDTHxHEIGHT"."""
    return f"{size[1]}x{size[0]}"


def trained_size(config: Mapping[str, Any]) -> Size | None:
    """Return the network's training size from a checkpoint's configuration; None if it has none."""
    data = config.get("data", {})
    return (data["height"], data["width"]) if {"height", "width"} <= data.keys() else None


def requested_size(requested: str | None, config: Mapping[str, Any]) -> Size | None:
    """Return the requested size if it differs from the training size, else None."""
    size = None if requested is None else parse_size(requested)
    return None if size == trained_size(config) else size


def network_size_notes(size: Size | None, config: Mapping[str, Any]) -> list[str]:
    """Return notes for predictions and scores at another size."""
    trained = trained_size(config)
    if size is None or trained is None:
        return []
    here, there = size_text(size), size_text(trained)
    return [
        f"run at {here}, trained at {there}: a network depends on the size of objects in pixels; "
        f"compare with the score at {there} (no --size)"
    ]


def compare_with_trained_size(silog: float, trained: Path, about: Mapping[str, Any]) -> list[str]:
    """Return a note that compares a score at another size with the one at the training size, if there is one.

    Args:
        silog: at the other size.
        trained: score file at the training size; may be missing.
        about: metadata of the score; a file whose metadata differ, except for `size`, is not compared.
    """
    if not trained.is_file():
        return []
    there = read_json(trained)
    same = {key: value for key, value in json.loads(json.dumps(about)).items() if key != "size"}
    before = there.get("metrics", {}).get("silog")
    if not before or any(there.get(key) != value for key, value in same.items()):
        return []
    times = silog / before
    verdict = f": above {MAX_SILOG_RATIO} the cause is the size, not the images" if times > MAX_SILOG_RATIO else ""
    return [f"SILog is {times:.2f} times that at the training's size, {before:.4g} in {trained.name}{verdict}"]


# -- inputs: an image, a folder, a video or a data set

VIDEO = "side_by_side.mp4"
IMAGE = "side_by_side.png"
DEPTH_COLOR = "depth_color"


@dataclass(frozen=True)
class PredictionInput:
    """Frames to predict, in order.

    count: None if the video file does not give it.
    recording: of a data set, else None.
    """

    name: str
    frames: Iterable[Frame]
    count: int | None
    rate_hz: float
    recording: Recording | None = None


def open_inputs(path: Path, *, every: int = 1, format: str = "auto", **options: Any) -> list[PredictionInput]:
    """Open an image, a video file, a folder of images, or a data set that `open_recordings` reads (left cameras).

    Args:
        path: of it.
        every: take each `every`-th frame.
        format: a name of `stadia.datasets.DATASETS`, or "auto".
        options: fields of `datasets.config.SourceOptions`. An image uses `camera`; a video file `camera`, `frames` and
            `stride`.

    A video file is streamed instead of decoded into the cache, since prediction reads it once. Every frame of your own
    video or images gets depth. The trajectory uses only the frames that a training with the same `stride` selects,
    because its neighbors are that far apart; see `recipes.base.depth_commands.add_training_options`.
    Raises DataError if there is nothing to read or no camera, ConfigError for a wrong option.
    """
    path = expand_home(path)
    own_file = path.is_file() and format in ("auto", "video")
    if own_file and path.suffix.lower() in IMAGE_SUFFIXES:
        return [_open_image(path, resolve_config(SourceOptions, options))]
    if own_file and path.suffix.lower() in VIDEO_SUFFIXES:
        return [_open_video(path, resolve_config(SourceOptions, options), every)]
    own, stride = is_own_video(path, format), resolve_config(SourceOptions, options).stride
    inputs = []
    for recording in open_recordings(path, format, **({**options, "stride": 1} if own else options)):
        indices = range(0, len(recording), every)
        frames = read_frames(recording, indices)
        shown = _mark_on_path(frames, stride) if own else frames
        rate_hz = estimate_frame_rate_hz(recording, every)
        inputs.append(PredictionInput(recording.name, shown, len(indices), rate_hz, recording))
    return inputs


def is_own_video(path: Path, format: str) -> bool:
    """Return whether this is your own video or images, not a data set."""
    if format == "auto":
        format = next((name for name in DATASETS if path.exists() and DATASETS.load(name)().recognizes(path)), format)
    return format == "video"


def _mark_on_path(frames: Iterable[Frame], stride: int | Literal["auto"]) -> Iterator[Frame]:
    """Yield all frames; those that a training selects are on the trajectory."""
    chooser = FrameSelector(stride)
    for frame in frames:
        yield replace(frame, on_path=chooser.keep(frame.image))


def _open_image(path: Path, options: SourceOptions) -> PredictionInput:
    refuse_idle_options(options, SourceOptions.model_fields.keys() - {"camera", "stride"}, "an image")
    image = read_rgb(path)
    camera = read_user_intrinsics(options.camera, path, image.shape[0], image.shape[1], frames=1)
    return PredictionInput(path.stem, [Frame(path.stem, image, camera.select_K(0))], 1, DEFAULT_RATE_HZ)


def _open_video(path: Path, options: SourceOptions, every: int) -> PredictionInput:
    """Read two frames for size and frame rate."""
    idle = SourceOptions.model_fields.keys() - {"camera", "frames", "stride"}
    refuse_idle_options(options, idle, "predicting a video file")
    head = list(itertools.islice(stream_video(path), 2))
    height, width = head[0].image.shape[:2]
    announced = count_indexed_frames(path)
    cameras = read_user_intrinsics(options.camera, path, height, width, frames=announced)
    interval_s = head[-1].time_s - head[0].time_s
    start, stop = options.frames or (0, None)
    if announced is not None and stop is not None and stop > announced:
        raise DataError(
            path, found=f"{announced} frames", expected=f"frames {start} to {stop}", fix="correct data.frames"
        )

    def frames() -> Iterator[Frame]:
        chooser = FrameSelector(options.stride)
        for decoded in itertools.islice(stream_video(path), start, stop, every):
            on_path = every > 1 or chooser.keep(decoded.image, decoded.index - start)
            yield Frame(
                f"{decoded.index:06d}",
                decoded.image,
                cameras.select_K(decoded.index),
                decoded.time_s,
                every == 1,
                on_path,
            )

    last = announced if stop is None else stop
    count = None if last is None else len(range(start, last, every))
    return PredictionInput(path.stem, frames(), count, 1 / (interval_s * every) if interval_s > 0 else DEFAULT_RATE_HZ)


def side_by_side_writer(given: PredictionInput, out: Path) -> AbstractContextManager[Listener]:
    """Return a listener that writes side_by_side.mp4 into `out`, or side_by_side.png for one image."""
    if given.count == 1:
        return nullcontext(side_by_side_image_writer(out / IMAGE))
    return open_side_by_side_video(out / VIDEO, given.rate_hz)


def list_files(folder: Path) -> Iterator[str]:
    """Yield one line for each file and folder in it."""
    yield from (f"  {path.name}{'/' if path.is_dir() else ''}" for path in sorted(folder.iterdir()))


def prediction_lines(folder: Path, predictions: Predictions) -> Iterator[str]:
    """Yield how many frames were predicted, and a note if the trajectory ends early."""
    posed = len(predictions.record.path) if predictions.record else 0
    frames = len(predictions.files)
    yield f"{folder}: {frames} frames, {posed or 'none'} of them with a pose (`path` of predictions.json)"
    if predictions.record and predictions.record.path_ends:
        yield f"note: {predictions.record.path_ends}"
    if predictions.record and predictions.record.checks:
        yield from verdict_lines(predictions.record.checks)


def trust_line(predictions: Predictions) -> str:
    """Return what users may rely on: by the depth scale, and by the verdict on these predictions."""
    checks = predictions.record.checks if predictions.record else None
    return f"depth scale: {describe_trust(predictions.depth_scale, checks['verdict'] if checks else Verdict.USABLE)}"


# -- predict with an exported network


def _make_camera(focal: float, height: int, width: int) -> dict[str, Any]:
    """Return the camera of images of this size from fx / width."""
    return CameraConfig(focal_px=focal * width).model_dump()


EXPORTED_OPTIONS = ("options", "every", "size", "video")


def run_predict_exported(request: PredictRequest, track: TrackProgress) -> Iterator[str]:
    """Predict an input with an exported network, as `recipes.base.runner.run_predict` does with a checkpoint.

    An exported network predicts depth only: no trajectory, no point cloud.
    """
    refuse_unused(request, EXPORTED_OPTIONS, "an exported network")
    network = ExportedNetwork(request.checkpoint, None if request.size is None else parse_size(request.size))
    trained = {"data": network.about.model_dump(include={"height", "width"})}
    size = requested_size(request.size, trained)
    yield from (f"note: {note}" for note in network_size_notes(size, trained))
    own = is_own_video(request.source, request.options.get("format", "auto"))
    options = ({"stride": 1} if own else {}) | dict(request.options)  # no frame selection without a trajectory
    source = expand_home(request.source)
    if own and "camera" not in options and source.exists() and find_camera_file(source) is None:
        options["camera"] = _make_camera(network.about.focal, *read_image_size(source))
        yield "note: no camera is given: depth is that of the training's field of view (data.camera.* sets another)"
    inputs = open_inputs(request.source, every=request.every, **options)
    no_path = "no path, " if any(given.count != 1 for given in inputs) else ""
    yield f"note: an exported network predicts depth only: {no_path}no point cloud"
    for given in inputs:
        folder = request.out if len(inputs) == 1 else safe_join(request.out, given.name)
        listeners: list[Listener] = []
        with ExitStack() as files:
            listeners.append(depth_color_writer(folder / DEPTH_COLOR))
            if request.video:
                listeners.append(files.enter_context(side_by_side_writer(given, folder)))
            shown = track(given.frames, given.count, f"predicting {given.name}")
            frames, provenance = stream_exported_predictions(network, shown), network.provenance(size)
            gate = PredictionGate(network.depth_scale, TrainingRecord(focal=(network.about.focal,)))
            about: dict[str, Any] = {"source": given.name, "listeners": listeners, "checker": gate}
            written = write_predictions(frames, network, folder, provenance, **about)
        yield from prediction_lines(folder, written)
        yield from list_files(folder)
        yield trust_line(written)
