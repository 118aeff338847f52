"""Open data for `stadia check`, assume a camera if none is known, and find image regions that never change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import Recording
from stadia.data import IMAGE_LAYOUTS
from stadia.data.config import CameraConfig, DataConfig, DatasetConfig, SourceOptions
from stadia.data.ignored_regions import name_mask
from stadia.data.open_dataset import open_recordings, read_named_splits, sample_recordings
from stadia.data.recordings import RecordingView, crop_recording
from stadia.data.splits import open_split
from stadia.data.video.input_camera import choose_input_camera, is_own_video
from stadia.data.video.static_parts import find_static_parts
from stadia.data.video.video_files import ImageSegment, VideoSegment
from stadia.io.atomic_files import open_atomic
from stadia.io.input_files import expand_home
from stadia.judge.recordings.frame_checks import draw_ignored_regions
from stadia.judge.recordings.preflight_runner import SplitFrames

CAMERA_FREE = ("frames", "timestamps", "borders", "exposure", "parallax", "splits")
"""Names of the checks that need no camera, or give the same result for any plausible one."""


@dataclass(frozen=True)
class CheckedData:
    """The data that `stadia check` examines.

    recordings: the recordings of all datasets.
    splits: for each split ("train", "val", ...), its frames of all datasets.
    one_camera: recordings whose second camera is switched off by `data.stereo=false`.
    """

    recordings: Sequence[Recording]
    splits: Mapping[str, list[SplitFrames]]
    one_camera: Sequence[Recording]


@dataclass(frozen=True)
class StaticPart:
    """An image region that shows the same all along, such as a car's hood.

    recording: name of the recording.
    share: share of the image, 0 to 1.
    region: (H, W), true in the region.
    """

    recording: str
    share: float
    region: NDArray[np.bool_]


def assume_camera(config: DataConfig) -> CameraConfig | None:
    """Return an assumed camera for your own video whose camera is unknown; None if the camera is known or it is a data
    set.
    """
    path = expand_home(config.path)
    if config.extra_datasets or not path.exists() or not is_own_video(path, config.format):
        return None
    try:
        chosen = choose_input_camera(config.camera, path)
    except DataError:  # reported when the video is opened
        return None
    return chosen.config if chosen.is_assumed else None


def open_checked_data(config: DataConfig) -> CheckedData:
    """Open every dataset of a configuration; of a video file, only a few stretches are opened."""
    recordings: list[Recording] = []
    one_camera: list[Recording] = []
    splits: dict[str, list[SplitFrames]] = {}
    for dataset in config.sets.values():
        opened, named = _open(dataset)
        recordings += opened
        one_camera += opened if dataset.stereo is False and dataset.offsets else []
        for name, frames in named.items():
            splits.setdefault(name, []).extend(frames)
    return CheckedData(recordings, splits, one_camera)


def _open(config: DatasetConfig) -> tuple[list[Recording], dict[str, list[SplitFrames]]]:
    if "split_by" in config.model_fields_set:
        split = open_split(config)
        named = {"train": split.train, "val": split.val}
        recordings = list({part.recording.name: part.recording for parts in named.values() for part in parts}.values())
        return recordings, {name: [(part.recording, part.indices) for part in parts] for name, parts in named.items()}
    path = expand_home(config.path)
    options = config.model_dump(include=set(SourceOptions.model_fields) & config.model_fields_set)
    if config.frames is None:
        recordings = sample_recordings(path, config.format, **options)
    else:
        recordings = open_recordings(path, config.format, **{"size": (config.height, config.width), **options})
    recordings = [crop_recording(recording, config.crop) for recording in recordings]
    splits: dict[str, list[SplitFrames]] = {
        split: [
            (recording, range(len(recording)))
            for recording in recordings
            if f"/{recording.name}".endswith(tuple(f"/{name}" for name in names))
        ]
        for split, names in read_named_splits(path, config.format).items()
    }
    return recordings, splits


def is_composite(data: Path) -> bool:
    """Return whether the data are composite images (objects pasted onto backgrounds) instead of recordings."""
    return IMAGE_LAYOUTS.load("overlay")(expand_home(data)) is not None


def draw_ignored(recordings: Sequence[Recording], out: Path) -> list[tuple[Path, float]]:
    """Write a picture of each region that a mask excludes; return its file and its share of the image.

    recordings: the recordings.
    out: folder for the pictures.
    """
    drawn = []
    for number, (share, picture) in enumerate(draw_ignored_regions(recordings)):
        path = out / f"ignored{f'-{number}' if number else ''}.png"
        with open_atomic(path) as stream:
            stream.write(picture)
        drawn.append((path, share))
    return drawn


MAX_SEARCHED = 4  # recordings that are searched; each takes seconds
MIN_STATIC_SHARE = 0.005
"""Smallest share of the image of a reported region that never changes."""


def search_static_parts(recordings: Sequence[Recording]) -> list[StaticPart]:
    """Find image regions that never change, in the first recordings that have no mask of ignored pixels yet."""
    found = []
    for recording in recordings[:MAX_SEARCHED]:
        try:
            if recording.ignored() is not None:
                continue
            region = find_static_parts(recording)
        except DataError:  # the checks report it
            continue
        if (share := float(region.mean())) >= MIN_STATIC_SHARE:
            found.append(StaticPart(recording.name, share, region))
    return found


def write_static_masks(recordings: Sequence[Recording], parts: Sequence[StaticPart], folder: Path) -> None:
    """Write a mask of each recording as `data.ignore` reads it: white pixels are ignored.

    recordings: the recordings.
    parts: the regions found in them.
    folder: folder for the masks.
    """
    found: dict[str, NDArray[np.bool_]] = {}
    names = {recording.name: _name_whole(recording) for recording in recordings}
    for part in parts:
        found.setdefault(names[part.recording], part.region)
    folder.mkdir(parents=True, exist_ok=True)
    for name, recording in {names[recording.name]: recording for recording in recordings}.items():
        region = found.get(name, recording.ignored())
        if region is None:
            camera = recording.camera(0)
            region = np.zeros((camera.height, camera.width), bool)
        with open_atomic(folder / name_mask(name)) as stream:
            stream.write(cv2.imencode(".png", region.astype(np.uint8) * 255)[1].tobytes())


def _name_whole(recording: Recording) -> str:
    return recording.name.partition(" from ")[0] if recording.is_part else recording.name


def describe_opened(recordings: Sequence[Recording]) -> str:
    """Return words for how much of the data was opened: a number of recordings, or frames and stretches of a video."""

    def is_stretch(recording: Recording) -> bool:
        if isinstance(recording, RecordingView):
            return is_stretch(recording.recording)
        return isinstance(recording, VideoSegment | ImageSegment)

    stretches = [recording for recording in recordings if is_stretch(recording)]
    if not stretches:
        return f"{len(recordings)} recording{'s' * (len(recordings) != 1)}"
    camera, parts = stretches[0].camera(0), f"{len(stretches)} stretch{'es' * (len(stretches) > 1)}"
    return f"checked {sum(map(len, stretches))} frames in {parts}, {camera.width}x{camera.height}"
