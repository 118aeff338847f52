"""Open any dataset: `open_recordings(path)`."""

import contextlib
import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.registry import find_nearest_name
from stadia.core.types import Recording
from stadia.data import DATASETS, IMAGE_LAYOUTS
from stadia.data.config import POSES_OF_MAP, CameraConfig, SourceOptions, refuse_idle_options
from stadia.data.frame_store import ReportProgress
from stadia.data.ignored_regions import IgnoringRecording, ignore_region
from stadia.data.recordings import CalibratedRecording, FrameRange
from stadia.data.video.static_parts import find_static_content
from stadia.data.video.video_camera import find_static_mask, read_image_size, read_user_camera
from stadia.data.video.video_map import read_map_geometry
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.input_files import check_no_archive, check_path_exists, expand_home, is_url, read_json, read_lines
from stadia.io.number_rows import read_kitti_poses

log = logging.getLogger(__name__)

VIDEO = "video"  # the format of any video and any folder of images
OWN_FORMATS = (VIDEO, "videos")  # formats whose files other datasets may hold too
EMPTY_FOLDER = "an empty folder"
MAX_SUBFOLDERS = 20  # subfolders that are searched for datasets of another format


class DatasetFormat:
    """The layout of a dataset as folders of recordings.

    A format is a line of `stadia.data.DATASETS`, an entry point `stadia.datasets` of an installed package, or your
    own class: `data.format=mypackage.module:Class` (docs/tutorials/add-a-dataset.md).

    layout: the expected files, for error messages.
    options: the fields of SourceOptions that not all formats use, but this one does.
    opens_slowly: whether opening decodes a recording. If so, only recordings of the used splits are opened.
    """

    layout: ClassVar[str] = "the layout of this format"
    options: ClassVar[frozenset[str]] = frozenset()
    opens_slowly: ClassVar[bool] = False

    def find_recordings(self, path: Path) -> dict[str, Path]:
        """Return the folder or file of each recording in a dataset, by the recording's name.

        Only file names are read.
        """
        raise NotImplementedError

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        """Open one recording.

        name, folder: name and path of the recording, as `find_recordings` returned them.
        options: options for reading.
        progress: called while a video is decoded; or None.
        """
        raise NotImplementedError

    def recognizes(self, path: Path) -> bool:
        """Return whether the data at a path have the layout of this format, judged by file names only."""
        return path.is_dir() and bool(self.find_recordings(path))

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        """Open the recordings of a dataset that `options.recordings` selects, by default all.

        path: path of the dataset.
        options: options for reading.
        progress: called while videos are decoded.

        Raises DataError if the dataset has no recordings or a name is unknown.
        """
        found = self.find_recordings(path) if path.is_dir() else {}
        if not found:
            raise DataError(path, found="no recording", expected=self.layout, fix="pass the folder that holds it")
        names = select_recordings(list(found), options, path)
        return [self.open_recording(name, found[name], options, progress) for name in names]

    def sample(self, path: Path, options: SourceOptions) -> list[Recording]:
        """Open recordings for a quick check of the data: by default all selected ones, of videos some segments."""
        return self.open(path, options)

    def splits(self, path: Path) -> dict[str, list[str]]:
        """Return the names of the recordings of each split that the dataset itself defines, or nothing."""
        return {}


def open_recordings(
    path: str | Path, format: str = "auto", *, progress: ReportProgress | None = None, **options: Any
) -> list[Recording]:
    """Open the recordings of a dataset, a video, or a folder of images. Images are decoded only if necessary.

    path: path of the dataset, video or folder.
    format: a name of `DATASETS` or of an entry point, your own `module:Class`, or "auto" to detect the format.
    progress: called while a video is decoded.
    options: fields of `SourceOptions`, such as recordings, frames and camera.

    Raises ConfigError for wrong options, and DataError if no readable recording is found.
    """
    return _open(path, format, options, progress)


def sample_recordings(path: str | Path, format: str = "auto", **options: Any) -> list[Recording]:
    """Open recordings like `open_recordings`, but decode only some segments of a video.

    If the option `frames` is given, the whole video is decoded.

    path: path of the dataset, video or folder.
    format: a name of `DATASETS`, or "auto" to detect it.
    options: fields of `SourceOptions`.
    """
    return _open(path, format, options, sample=True)


def _open(
    where: str | Path, format: str, options: Any, progress: ReportProgress | None = None, *, sample: bool = False
) -> list[Recording]:
    path = expand_home(where)
    chosen = resolve_config(SourceOptions, options)
    name, reader = _find_reader(path, format)
    of_formats = frozenset[str]().union(*(DATASETS.load(format_name).options for format_name in DATASETS))
    refuse_idle_options(chosen, of_formats - reader.options, f"'{name}'")
    if chosen.split is not None:
        splits = reader.splits(path)
        if not splits.get(chosen.split):
            named = f"splits {', '.join(filter(splits.get, splits))}" if splits else "a dataset without named splits"
            fix = "change data.split" if splits else "remove data.split to use every recording"
            raise DataError(path, found=named, expected=f"a split '{chosen.split}'", fix=fix)
        names = tuple(select_recordings(splits[chosen.split], chosen, path))
        chosen = chosen.model_copy(update={"recordings": names})
    in_parts = sample and chosen.frames is None
    recordings = reader.sample(path, chosen) if in_parts else reader.open(path, chosen, progress)
    if chosen.poses == POSES_OF_MAP:
        _take_map(recordings, path, chosen.map_unit_m or 1.0)
    elif chosen.poses is not None:
        _replace_poses(recordings, expand_home(chosen.poses))
    if chosen.ignore is not None:
        recordings = [ignore_region(recording, chosen.ignore) for recording in recordings]
    elif name == VIDEO:
        recordings = [_ignore_static(recording, path, chosen.camera) for recording in recordings]
    if chosen.frames is not None:
        recordings = [FrameRange(recording, *chosen.frames) for recording in recordings]
    return recordings


def _ignore_static(recording: Recording, path: Path, camera: CameraConfig) -> Recording:
    """Return the recording of a user's video without what never moves in it."""
    if find_static_content(path).mask is None:
        return recording
    mask = find_static_mask(read_user_camera(camera, path, *read_image_size(path)), path)
    if mask is None:
        return recording
    shown = recording.camera(0)
    region = cv2.resize(mask.astype(np.uint8), (shown.width, shown.height), interpolation=cv2.INTER_NEAREST)
    return IgnoringRecording(recording, region > 0)


def read_named_splits(path: Path, format: str = "auto") -> dict[str, list[str]]:
    """Return the names of the recordings of each split that a dataset itself defines; empty if it defines none.

    path: path of the dataset.
    format: name of its format, or "auto".
    """
    return _find_reader(path, format)[1].splits(path)


def find_held_out_split(path: Path, format: str = "auto") -> str | None:
    """Return the name of the split to score: the dataset's test split, otherwise its val split, otherwise None."""
    splits = read_named_splits(path, format)
    return next((name for name in ("test", "val") if splits.get(name)), None)


def opens_slowly(path: Path, format: str = "auto") -> bool:
    """Return whether opening a dataset decodes videos, which takes time."""
    return _find_reader(path, format)[1].opens_slowly


def detect_format(path: Path, format: str = "auto") -> str:
    """Return the name of the format of a dataset, video or folder.

    path: path of the dataset, video or folder.
    format: the known name, which is returned; "auto" detects it.

    Raises DataError if the path is missing or no format fits.
    """
    return _find_reader(path, format)[0]


def _find_reader(path: Path, format: str) -> tuple[str, DatasetFormat]:
    check_path_exists(path)
    name = _detect_format(path) if format == "auto" else format
    reader = DATASETS.load(name)
    if not (isinstance(reader, type) and issubclass(reader, DatasetFormat)):
        base = "stadia.data.open_dataset.DatasetFormat"
        raise ConfigError("dataset", found=f"'{name}'", expected=f"a class derived from {base}")
    return name, reader()


def _take_map(recordings: list[Recording], path: Path, unit: float) -> None:
    for recording in recordings:
        if not isinstance(recording, CalibratedRecording) or not recording.has_stride:
            found, expected = f"the dataset {recording.name}", "a video or images that `stadia map` has mapped"
            raise DataError("data.poses=map", found=found, expected=expected, fix="remove data.poses=map")
        numbers = [recording.number(index) for index in range(len(recording))]
        camera = recording.camera(0)
        recording.geometry = read_map_geometry(path, numbers, float(camera.fx) / camera.width).scale(unit)
        recording.poses = recording.geometry.poses


def _replace_poses(recordings: list[Recording], path: Path) -> None:
    if len(recordings) != 1 or not isinstance(recordings[0], CalibratedRecording):
        found = f"{len(recordings)} recordings ({', '.join(recording.name for recording in recordings[:4])})"
        raise DataError(path, found=found, expected="one recording", fix="choose one with data.recordings")
    recordings[0].poses = read_kitti_poses(path, len(recordings[0]), recordings[0].numbers)


def _detect_format(path: Path) -> str:
    if is_url(path):
        return "shards"
    if (name := _read_signature(path)) is not None:
        return name
    if (path / "dataset.json").exists():
        _refuse_images(path)
    if (path / "predictions.json").is_file() and (path / "depth").is_dir():
        _refuse_outputs(path)  # its picture of a photo next to its depth is no image of a dataset
    if (name := recognize_format(path)) is not None:
        _refuse_several_datasets(path, name)
        return name
    _refuse_images(path)
    _refuse_outputs(path)
    if (video := _find_only_video(path)) is not None:
        found = f"a folder with one video, {video.name}"
        raise DataError(path, found=found, expected="the video file", fix=f"pass the video itself: {video}")
    check_no_archive(path)
    found = _describe_contents(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        fix = f"pass the folder of its sequence, or predict this image: `stadia predict {path}`"
        raise DataError(path, found="one image", expected="a video, a folder of images or a dataset", fix=fix)
    fix = "check the path; `stadia list datasets` lists the layouts, docs/how-to/own-data.md explains your own"
    if found != EMPTY_FOLDER and (above := _find_dataset_above(path)) is not None:
        fix = f"if it belongs to the dataset {above}, pass that folder; else {fix}"
    if path.is_file():
        fix = f"write its images to a folder, or a video, with the program that made it; {fix}"
    if path.suffix.lower() in (".txt", ".csv"):
        fix = f"for poses: stadia check {path} --images FOLDER; else check the path (`stadia list datasets`)"
    if path.is_file() or found == EMPTY_FOLDER:
        raise DataError(path, found=found, expected="an image, a video, a folder of images or a dataset", fix=fix)
    raise DataError(path, found=found, expected=f"a dataset of one of: {', '.join(DATASETS)}", fix=fix)


def recognize_format(path: Path) -> str | None:
    """Return the name of the first format that recognizes the data at a path by file names; None if none does."""
    name = _read_signature(path)
    return name or next((name for name in DATASETS if DATASETS.load(name)().recognizes(path)), None)


def _read_signature(path: Path) -> str | None:
    """Return the format that is certain without any other reader: files that state "stadia", or a folder of images
    only.
    """
    if _lists_recordings(path):
        return "stadia"
    return "video" if path.is_dir() and _has_only_images(path) else None


def _has_only_images(folder: Path) -> bool:
    """Return whether a folder has images and nothing else; hidden files do not count."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    return bool(names) and all(name.lower().endswith(tuple(IMAGE_SUFFIXES)) for name in names)


def _find_dataset_above(path: Path) -> Path | None:
    """Return the folder around a file or folder that is a dataset of a known layout."""
    readers = [DATASETS.load(name)() for name in DATASETS if name not in ("videos", "video")]
    for folder in path.absolute().parents[:2]:
        with contextlib.suppress(StadiaError, OSError):
            if any(reader.recognizes(folder) for reader in readers):
                return folder
    return None


def _refuse_images(path: Path) -> None:
    for recipe in IMAGE_LAYOUTS:
        if (found := IMAGE_LAYOUTS.load(recipe)(path)) is not None:
            place = shlex.quote(str(path))
            fix = f"check: `stadia check {place} --recipe {recipe}`, or train: `stadia train {recipe} {place}`"
            raise DataError(path, found=found, expected="a video or recordings", fix=fix)


def _refuse_several_datasets(path: Path, format: str) -> None:
    """Raise DataError if a subfolder is a dataset of another format, unless a list of recordings decides."""
    if format in OWN_FORMATS or not path.is_dir():
        return
    formats = {name: DATASETS.load(name)() for name in DATASETS if name not in OWN_FORMATS}
    others = list[str]()
    for folder in _list_folders(path)[:MAX_SUBFOLDERS]:
        with contextlib.suppress(OSError):  # unreadable folders such as lost+found
            if not formats[format].recognizes(folder):
                others += [f"{folder.name} ({name})" for name, reader in formats.items() if reader.recognizes(folder)]
    if others:
        found = f"datasets of several formats: {format}, and in its folders {', '.join(others)}"
        raise DataError(path, found=found, expected="one dataset", fix=f"pass one folder, or set data.format={format}")


def _lists_recordings(path: Path) -> bool:
    if (path / "recording.json").is_file():
        return True
    with contextlib.suppress(StadiaError, OSError):
        found = read_json(path / "dataset.json") if (path / "dataset.json").is_file() else None
        return isinstance(found, dict) and found.get("format") == "stadia"
    return False


def _list_folders(path: Path) -> list[Path]:
    """Return the folders in a folder, without circular links and links to places that this user may not read."""

    def is_folder(entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir()
        except OSError:
            return False

    with os.scandir(path) as entries:  # This finds folders among thousands of files at once, also on a network drive.
        return sorted(Path(entry) for entry in entries if is_folder(entry))


def _refuse_outputs(path: Path) -> None:
    expected = "images, a video or a dataset"
    if (path / "predictions.json").is_file():
        fix = f"pass the input of the prediction; to score it: `stadia evaluate --depth {path} --reference TRUTH`"
        raise DataError(path, found="a folder of predictions", expected=expected, fix=fix)
    if (path / "run.json").is_file():
        fix = "pass the data; a run is a checkpoint: `stadia predict RUN DATA`"
        raise DataError(path, found="the folder of a run", expected=expected, fix=fix)


def _find_only_video(path: Path) -> Path | None:
    from stadia.io.video_decoding import VIDEO_SUFFIXES

    inside = list(path.iterdir()) if path.is_dir() else []
    videos = [entry for entry in inside if entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file()]
    return videos[0] if len(videos) == 1 and not any(entry.is_dir() for entry in inside) else None


def _describe_contents(path: Path) -> str:
    if path.is_file():
        return f"a file ending in '{path.suffix}'" if path.suffix else "a file without a suffix"
    names = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
    if not names:
        return EMPTY_FOLDER
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def select_names(available: Sequence[str], selected: Sequence[str], where: Path) -> list[str]:
    """Return the available names that the user selected, in the order of the selection.

    A selected name may be the whole name or its end. Without a selection, all names are returned.

    available: names of all recordings.
    selected: names that the user gave.
    where: path of the dataset, for messages.

    Raises DataError for a selected name that is not available.

    Examples:
        >>> select_names(["kitti/06", "kitti/07"], ["06"], Path("kitti"))
        ['kitti/06']
    """
    if not selected:
        return list(available)
    chosen = []
    for wanted in selected:
        found = [name for name in available if f"/{name}".endswith(f"/{wanted}") or wanted.endswith(f"/{name}")]
        if not found:
            near = find_nearest_name(wanted, list(available))
            expected = f"one of {', '.join(available[:8])}{' ...' * (len(available) > 8)}"
            fix = f"did you mean '{near}'?" if near else None
            raise DataError(where, found=f"no recording '{wanted}'", expected=expected, fix=fix)
        chosen += found
    return list(dict.fromkeys(chosen))


def select_recordings(available: Sequence[str], options: SourceOptions, where: Path) -> list[str]:
    """Return the available names that `data.recordings` selects and `data.exclude` does not leave out.

    available: names of all recordings.
    options: the options.
    where: path of the dataset, for messages.

    Raises DataError for a selected name that is not available, or if no name is left.
    """
    chosen = select_names(available, options.recordings, where)
    if options.exclude is None:
        return chosen
    file = expand_home(options.exclude)
    lines = (line.strip() for line in read_lines(file, expected="names of recordings, one a line"))
    excluded = {line for line in lines if line and not line.startswith("#")}
    kept = [name for name in chosen if name not in excluded]
    if unknown := excluded - set(available):
        log.warning("%s: %d names are not in %s, such as %s", file, len(unknown), where, min(unknown))
    if not kept:
        found = f"all {len(chosen)} recordings left out by {options.exclude}"
        raise DataError(where, found=found, expected="at least one", fix="remove data.exclude, or choose other data")
    return kept


# -- lists of frames to score, in the format of KITTI's Eigen split
