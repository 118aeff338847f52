"""Open what is predicted: an image, a folder, a video or a data set. Images are decoded when they are predicted.

Your own video gets the stride of the training, and its camera where none is known.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.config import resolve_config
from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.datasets import DATASETS
from stadia.datasets.config import CameraConfig, SourceOptions
from stadia.datasets.ignored_regions import read_ignored_region
from stadia.datasets.image_files import IMAGE_SUFFIXES, read_rgb
from stadia.datasets.open_dataset import open_recordings, refuse_idle_options
from stadia.datasets.recordings import Intrinsics, check_K
from stadia.datasets.video.content_hash import hash_video
from stadia.datasets.video.frame_selection import FrameSelector
from stadia.datasets.video.video_camera import is_camera_known, read_user_camera
from stadia.datasets.video.video_decoding import VIDEO_SUFFIXES, VideoFrame, count_indexed_frames, stream_video
from stadia.datasets.video.video_map import find_static_mask
from stadia.diagnostics.prediction_checks import reduce_image
from stadia.diagnostics.prediction_checks.prediction_verdict import MAX_FRAMES_APART
from stadia.evaluation.frame_preparation import Frame, frame_name, has_frame_numbers, read_frames
from stadia.evaluation.plots.videos import DEFAULT_RATE_HZ, estimate_frame_rate_hz
from stadia.files.paths import expand_home
from stadia.files.run_facts import RUN_FILE, read_run_facts
from stadia.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionInput:
    """Frames to predict, in order.

    count: None if the video file does not give it.
    recording: of a data set, else None.
    video_hash: of the video file; "" for other inputs.
    has_frame_numbers: whether the frames are named by their number in a video.
    indices: of the frames in the recording; empty without one.
    names: of all frames; empty where a video file does not give their number.
    """

    name: str
    frames: Iterable[Frame]
    count: int | None
    rate_hz: float
    recording: Recording | None = None
    video_hash: str = ""
    has_frame_numbers: bool = False
    indices: Sequence[int] = ()
    names: Sequence[str] = ()


def open_inputs(path: Path, *, every: int = 1, format: str = "auto", **options: Any) -> list[PredictionInput]:
    """Open an image, a video file, a folder of images, or a data set that `open_recordings` reads (left cameras).

    Args:
        path: of it.
        every: take each `every`-th frame.
        format: a name of `stadia.datasets.DATASETS`, or "auto".
        options: fields of `datasets.config.SourceOptions`. An image uses `camera` and `ignore`; a video file `frames`
            and `stride` too.

    A video file is streamed instead of decoded into the cache, since prediction reads it once. Every frame of your own
    video or images gets depth. The trajectory uses only the frames that a training with the same `stride` selects,
    because its neighbors are that far apart; see `add_training_options`.
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
        given = make_recording_input(recording, range(0, len(recording), every))
        inputs.append(replace(given, frames=_mark_on_path(given.frames, stride)) if own else given)
    return inputs


def make_recording_input(recording: Recording, indices: Sequence[int]) -> PredictionInput:
    """Return frames of a recording, by rising indices, as an input."""
    every = indices[1] - indices[0] if len(indices) > 1 else 1
    return PredictionInput(
        recording.name,
        read_frames(recording, indices),
        len(indices),
        estimate_frame_rate_hz(recording, every),
        recording,
        has_frame_numbers=has_frame_numbers(recording),
        indices=indices,
        names=tuple(frame_name(recording, index) for index in indices),
    )


def is_own_video(path: Path, format: str) -> bool:
    """Return whether this is your own video or images, not a data set."""
    if format == "auto":
        format = next((name for name in DATASETS if path.exists() and DATASETS.load(name)().recognizes(path)), format)
    return format == "video"


def _mark_on_path(frames: Iterable[Frame], stride: int | Literal["auto"]) -> Iterator[Frame]:
    """Yield all frames; those that a training selects are on the trajectory."""
    chooser = FrameSelector(stride, lists_kept=False)
    for frame in frames:
        yield replace(frame, on_path=chooser.keep(frame.image))


def _open_image(path: Path, options: SourceOptions) -> PredictionInput:
    refuse_idle_options(options, SourceOptions.model_fields.keys() - {"camera", "stride", "ignore"}, "an image")
    image = read_rgb(path)
    camera = read_user_camera(options.camera, path, image.shape[0], image.shape[1], frames=1)
    ignored = _read_ignored(options, path, (image.shape[0], image.shape[1]))
    frame = Frame(path.stem, camera.undistort(image), camera.intrinsics.select_K(0), ignored=ignored)
    return PredictionInput(path.stem, [frame], 1, DEFAULT_RATE_HZ)


def _read_ignored(options: SourceOptions, path: Path, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    static = find_static_mask(path) if path.suffix.lower() in VIDEO_SUFFIXES else None
    ignore = options.ignore if options.ignore is not None or static is None else str(static)
    if ignore is None:
        return None
    return read_ignored_region(ignore, (path.stem,), size=size, filmed_size=size)


def _open_video(path: Path, options: SourceOptions, every: int) -> PredictionInput:
    """Read two frames for size and frame rate."""
    idle = SourceOptions.model_fields.keys() - {"camera", "frames", "stride", "ignore", "video_decoder"}
    refuse_idle_options(options, idle, "predicting a video file")
    head = list(itertools.islice(stream_video(path, options.video_decoder), 2))
    height, width = head[0].image.shape[:2]
    announced = count_indexed_frames(path)
    camera = read_user_camera(options.camera, path, height, width, frames=announced)
    ignored = _read_ignored(options, path, (height, width))
    interval_s = head[-1].time_s - head[0].time_s
    start, stop = options.frames or (0, None)
    if announced is not None and stop is not None and stop > announced:
        raise DataError(
            path, found=f"{announced} frames", expected=f"frames {start} to {stop}", fix="correct data.frames"
        )

    def frames() -> Iterator[Frame]:
        chooser = FrameSelector(options.stride, lists_kept=False)
        decoded_frames = stream_video(path, options.video_decoder)
        filmed = (
            frame
            for frame in itertools.takewhile(lambda frame: stop is None or frame.index < stop, decoded_frames)
            if frame.index >= start
        )
        stream = (replace(frame, image=camera.undistort(frame.image)) for frame in filmed)
        for decoded in stream:
            on_path = every > 1 or chooser.keep(decoded.image, decoded.index - start)
            name, K = f"{decoded.index:06d}", camera.intrinsics.select_K(decoded.index)
            between = itertools.islice(stream, every - 1)
            skipped = [_reduce_frame(frame, camera.intrinsics) for frame in itertools.islice(between, MAX_FRAMES_APART)]
            deque(between, maxlen=0)
            between_frames = partial(tuple, skipped)
            yield Frame(name, decoded.image, K, decoded.time_s, every, on_path, between_frames, ignored)

    last = announced if stop is None else stop
    numbers = None if last is None else range(start, last, every)
    rate_hz = 1 / (interval_s * every) if interval_s > 0 else DEFAULT_RATE_HZ
    return PredictionInput(
        path.stem,
        frames(),
        None if numbers is None else len(numbers),
        rate_hz,
        video_hash=hash_video(path),
        has_frame_numbers=True,
        names=tuple(f"{number:06d}" for number in numbers or ()),
    )


def _reduce_frame(decoded: VideoFrame, cameras: Intrinsics) -> Frame:
    """Return a frame that is not predicted, small: some wait in memory."""
    image, K = reduce_image(decoded.image, cameras.select_K(decoded.index))
    return Frame(f"{decoded.index:06d}", image, K, decoded.time_s)


# -- the stride and the camera of a training, for your own video


def add_training_options(checkpoint: Checkpoint, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` completed by the training options of your own video: its stride, and its camera if no camera
    is given and none lies beside it.
    """
    if not is_own_video(path, options.get("format", "auto")):
        return dict(options)
    trained = checkpoint.header.config.get("data", {})
    stride = {"stride": trained.get("stride", "auto")}
    if _is_same_source(trained, path) and "camera" in trained:
        return {**stride, "camera": trained["camera"], **options}
    camera = find_assumed_camera(checkpoint, path, options)
    if camera is None:
        return {**stride, **options}
    log.warning("%s: %s", path, describe_assumed_camera(camera))
    return {**stride, "camera": camera.model_dump(), **options}


def find_assumed_camera(checkpoint: Checkpoint, path: Path, options: Mapping[str, Any]) -> CameraConfig | None:
    """Return the training's camera for a video of which none is known; None where one is known, or the training's not.

    A camera is known where `options` give it, a file beside the video holds it, or the same video trained.
    """
    own = is_own_video(path, options.get("format", "auto"))
    if not own or "camera" in options or is_camera_known(expand_home(path)):
        return None
    trained = checkpoint.header.config.get("data", {})
    return None if _is_same_source(trained, path) and "camera" in trained else find_training_camera(checkpoint)


def find_training_camera(checkpoint: Checkpoint) -> CameraConfig | None:
    """Return the one camera of a training, K and size, from its run.json; None where it had several or is not known.

    Raises DataError for a K that cannot be intrinsics.
    """
    run = checkpoint.run_folder
    camera = read_run_facts(run).recipe_facts.camera if (run / RUN_FILE).is_file() else None
    if camera is None:
        return None
    check_K(run / RUN_FILE, np.array(camera.K, dtype=np.float64))
    return CameraConfig(K=camera.K, size=camera.size)


def _is_same_source(trained: Mapping[str, Any], path: Path) -> bool:
    return "path" in trained and expand_home(trained["path"]).resolve() == expand_home(path).resolve()


def describe_assumed_camera(camera: CameraConfig) -> str:
    """Return the sentence for a training's camera, with K and size, that is used where none is given."""
    assert camera.K is not None
    assert camera.size is not None
    height, width = camera.size
    fov_deg = math.degrees(2 * math.atan(width / 2 / camera.K[0][0]))
    return (
        f"no camera is given, so that of the training is used: field of view {fov_deg:.1f} degrees, from images of"
        f" {width}x{height}; data.camera.horizontal_fov_deg=DEGREES sets another"
    )
