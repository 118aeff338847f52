"""Read many videos as one dataset: a folder, a glob, a text file of paths, or a CSV (docs/how-to/many-videos.md)."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from stadia.core.config import parse_value, resolve_config
from stadia.core.errors import DataError, StadiaError
from stadia.core.types import Recording
from stadia.data.config import CameraConfig, SourceOptions
from stadia.data.formats.stadia_folder import StadiaFolder
from stadia.data.frame_store import ReportProgress
from stadia.data.mask_files import MaskFiles
from stadia.data.open_dataset import DatasetFormat, select_recordings
from stadia.data.recordings import CalibratedRecording
from stadia.data.video.video_camera import NO_CAMERA
from stadia.data.video.video_files import OwnVideo, sample_segment
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.input_files import (
    find_glob,
    is_glob,
    join_listed_path,
    make_absolute,
    natural_sort_key,
    read_list,
    read_text,
)
from stadia.io.number_rows import read_kitti_poses
from stadia.io.video_decoding import VIDEO_SUFFIXES

log = logging.getLogger(__name__)
T = TypeVar("T")
ResultT = TypeVar("ResultT")

MAX_VIDEOS = 1_000_000
MAX_THREADS = 8  # videos opened at once; FFmpeg has its own threads for each
MAX_SAMPLED = 16  # videos of which `stadia check` decodes a segment, about a second each
COLUMNS = ("video", "name", "camera", "rig", "masks", "track", "split", "place")
_EXPECTED = f"a list of videos with the column video, and optionally {', '.join(COLUMNS[1:])}"


@dataclass(frozen=True, kw_only=True)
class VideoEntry:
    """One video of a list of videos.

    name: unique name in the list.
    path: a video file, a folder of images, or a recording of the stadia layout.
    camera: camera of the video; None for the camera given for all videos, or by the file next to the video.
    rig: name of the mount. Videos of one mount share a camera height.
    masks: folder of masks of road and objects, or None.
    track: file of camera-to-world poses, one row of KITTI's format (12 numbers) per video frame, or None.
    split: "train", "val", "test" or another name; "" if no split is given.
    place: name that videos share if they show the same things; "" if no other video shows them.
    """

    name: str
    path: Path
    camera: CameraConfig | None = None
    rig: str = ""
    masks: Path | None = None
    track: Path | None = None
    split: str = ""
    place: str = ""


class VideoList(DatasetFormat):
    """The reader of many videos, which are opened in parallel.

    They are given by a folder, a quoted glob, a .txt of paths, or a .csv with one row per video.
    """

    layout = "a folder, a glob or a list (.txt, .csv with a column video) of videos"
    options = frozenset({"camera", "stride", "frame_rate_hz", "video_decoder", "damaged"})
    opens_slowly = True

    def recognizes(self, path: Path) -> bool:
        if is_glob(path):
            return True
        if path.is_dir():
            return len(_list_folder(path)) > 1
        with contextlib.suppress(StadiaError, OSError):
            if path.suffix.lower() == ".csv" and path.is_file():
                header = read_text(path, expected=_EXPECTED).split("\n", 1)[0]
                return "video" in [cell.strip().strip('"') for cell in header.split(",")]
            if path.suffix.lower() == ".txt" and path.is_file():
                _, first = next(iter(_read_paths(path)), (0, ""))
                return bool(first) and _is_video(path.parent / first)
        return False

    def list_entries(self, path: Path) -> list[VideoEntry]:
        """Return an entry for each video of the folder, glob or list."""
        return read_entries(path)

    def complete(self, recording: Recording, entry: VideoEntry) -> Recording:
        """Add facts that the dataset contains, such as GPS poses, to an opened video. Subclasses override this.

        recording: the opened video.
        entry: its entry in the list.
        """
        return recording

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        entries = select_entries(self.list_entries(path), options, path)

        def open_one(entry: VideoEntry) -> Recording:
            return self.complete(open_entry(entry, options, progress), entry)

        return list(open_all(path, entries, open_one, damaged=options.damaged).values())

    def sample(self, path: Path, options: SourceOptions) -> list[Recording]:
        entries = select_entries(self.list_entries(path), options, path)
        sampled = np.unique(np.linspace(0, len(entries) - 1, min(MAX_SAMPLED, len(entries))).astype(int))
        if len(sampled) < len(entries):
            log.warning("%s: checking %d of %d videos, spread over the list", path, len(sampled), len(entries))

        def sample_one(entry: VideoEntry) -> Recording:
            if not entry.path.is_file():
                return self.complete(open_entry(entry, options), entry)
            segment = sample_segment(entry.path, _own_options(entry, options))
            return self.complete(describe_recording(segment, entry), entry)

        chosen = [entries[index] for index in sampled]
        return list(open_all(path, chosen, sample_one, damaged=options.damaged).values())

    def splits(self, path: Path) -> dict[str, list[str]]:
        if not (path.suffix.lower() == ".csv" and path.is_file()):
            return {}
        splits: dict[str, list[str]] = {}
        for entry in read_entries(path):
            splits.setdefault(entry.split, []).append(entry.name)
        without = splits.pop("", [])
        if splits and without:
            found, fix = f"no split for '{without[0]}' ({len(without)} such videos)", "fill the column split"
            raise DataError(path, found=found, expected="a split for all videos or for none", fix=fix)
        return splits


# -- the list


def read_entries(path: Path) -> list[VideoEntry]:
    """Return an entry for each video of a folder, a glob, a .txt or a .csv, in order.

    Raises DataError if no video is found, a name or path occurs twice, or a list is malformed.
    """
    if path.is_file() and path.suffix.lower() == ".csv":
        entries = _read_table(path)
    else:
        files = _find_videos(path)
        if len({file.is_absolute() for file in files}) > 1:
            files = [make_absolute(file) for file in files]
        root = Path(os.path.commonpath([file.parent for file in files])) if files else path
        entries = [VideoEntry(name=_name_of(file, root), path=file) for file in files]
    if not entries:
        raise DataError(path, found="no video", expected=VideoList.layout, fix="check the path or the pattern")
    for what in ("name", "path"):
        seen: dict[object, VideoEntry] = {}
        for entry in entries:
            value = getattr(entry, what)
            if value in seen:
                fix = "remove one row" if what == "path" else "fill the column name of a CSV"
                raise DataError(path, found=f"the {what} '{value}' twice", expected="each video once", fix=fix)
            seen[value] = entry
    return entries


def select_entries(entries: Sequence[VideoEntry], options: SourceOptions, path: Path) -> list[VideoEntry]:
    """Return the entries of the selected videos, in the order of the list.

    entries: all entries of the list.
    options: the options; see `select_recordings`.
    path: the list, for messages.

    Raises DataError for an unknown name.
    """
    chosen = set(select_recordings([entry.name for entry in entries], options, path))
    return [entry for entry in entries if entry.name in chosen]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES or (path.is_dir() and (_has_images(path) or _is_recording(path)))


def _is_recording(path: Path) -> bool:
    return (path / "recording.json").is_file()


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in folder.iterdir())


def _list_folder(path: Path) -> list[Path]:
    files = list[Path]()
    for entry in sorted(path.iterdir(), key=natural_sort_key):
        with contextlib.suppress(OSError):  # unreadable folders such as lost+found
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside = sorted(entry.iterdir(), key=natural_sort_key)
                files += [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()]
            elif entry.suffix.lower() in VIDEO_SUFFIXES:
                files.append(entry)
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                return []
    return files


def _read_paths(path: Path) -> Iterable[tuple[int, str]]:
    lines = enumerate(map(str.strip, read_text(path, expected="a path a line").splitlines()), start=1)
    return ((number, line) for number, line in lines if line and not line.startswith("#"))


def _find_videos(path: Path) -> list[Path]:
    if is_glob(path):
        return [file for file in find_glob(path) if _is_video(file)]
    if path.is_dir():
        return _list_folder(path)
    lines = list(_read_paths(path)) if path.is_file() else []
    return [join_listed_path(path, f"{path}, row {number}", line) for number, line in lines]


def _name_of(file: Path, root: Path) -> str:
    name = file.relative_to(root).as_posix()
    return name.removesuffix(file.suffix) if file.suffix.lower() in VIDEO_SUFFIXES else name


def _read_table(path: Path) -> list[VideoEntry]:
    entries = []
    for where, cells in read_list(path, columns=COLUMNS, expected=_EXPECTED, max_rows=MAX_VIDEOS):
        if not cells.get("video"):
            raise DataError(where, found="no video", expected="a path", fix="fill the column video")
        columns = [key for key in ("video", "masks", "track") if cells.get(key)]
        paths = {key: join_listed_path(path, where, cells[key]) for key in columns}
        video = paths["video"]
        name = cells.get("name") or _name_of(Path(os.path.relpath(video, path.parent)), Path())
        entries.append(
            VideoEntry(
                name=_check_name(where, name),
                path=video,
                camera=_parse_camera(path, where, cells.get("camera", "")),
                rig=cells.get("rig", ""),
                masks=paths.get("masks"),
                track=paths.get("track"),
                split=cells.get("split", ""),
                place=cells.get("place", ""),
            )
        )
    return entries


def _check_name(where: str, name: str) -> str:
    parts = [part for part in name.split("/") if part != ".."]  # Videos may be outside of the list's folder.
    if not parts or any(not part or part == "." or "\\" in part for part in parts):
        fix = "fill the column name"
        raise DataError(where, found=f"the name '{name[:80]}'", expected="words joined by /", fix=fix)
    return "/".join(parts)


def _parse_camera(path: Path, where: str, text: str) -> CameraConfig | None:
    if not text:
        return None
    if text == "estimate":
        return CameraConfig(estimate=True)
    key, equals, value = text.partition("=")
    if equals and key in CameraConfig.model_fields:
        try:
            return resolve_config(CameraConfig, {key: parse_value(value)})
        except StadiaError as error:
            raise DataError(
                f"{where}, column camera", found=error.found, expected=error.expected, fix=error.fix
            ) from error
    return CameraConfig(K_file=str(join_listed_path(path, where, text)))


# -- opening


def _own_options(entry: VideoEntry, options: SourceOptions) -> SourceOptions:
    own = {"recordings": (), "exclude": None, "poses": None, "frames": None, "split": None}
    return options.model_copy(update={**own, "camera": entry.camera or options.camera})


def open_entry(entry: VideoEntry, options: SourceOptions, progress: ReportProgress | None = None) -> Recording:
    """Open one video of a list as a recording.

    entry: the video.
    options: options for all videos; the entry's own camera takes precedence.
    progress: called while the video is decoded.
    """

    def report(_: str, done: int, total: int | None) -> None:
        if progress is not None:
            progress(f"{entry.name}: decoding", done, total)

    chosen = _own_options(entry, options)
    reader: DatasetFormat = StadiaFolder() if _is_recording(entry.path) else OwnVideo()
    (recording,) = reader.open(entry.path, chosen, report if progress is not None else None)
    return describe_recording(recording, entry)


def describe_recording(recording: Recording, entry: VideoEntry) -> Recording:
    """Give an opened video the name, mount, masks, place and poses of its entry in the list, and return it."""
    recording.name = entry.name
    recording.mount = entry.rig or recording.mount
    if entry.masks is not None:
        recording.mask_reader = MaskFiles(entry.masks)
    if isinstance(recording, CalibratedRecording):
        recording.place = entry.place
        if entry.track is not None:
            recording.poses = read_kitti_poses(entry.track, len(recording), recording.numbers)
    return recording


def open_all(
    path: Path, entries: Sequence[VideoEntry], open_one: Callable[[VideoEntry], ResultT], *, damaged: str
) -> dict[str, ResultT]:
    """Open videos in parallel, and return the results by the videos' names.

    path: the list, for messages.
    entries: the videos to open.
    open_one: function that opens one entry.
    damaged: "stop" raises DataError if a video cannot be read; "skip" leaves it out with a warning.

    Raises DataError if no video can be opened.
    """
    opened: dict[str, ResultT] = {}
    faults: dict[str, StadiaError] = {}

    def attempt(entry: VideoEntry) -> ResultT | StadiaError:
        try:
            return open_one(entry)
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as threads:
        for entry, result in zip(entries, threads.map(attempt, entries), strict=True):
            if isinstance(result, StadiaError):
                faults[entry.name] = result
            else:
                opened[entry.name] = result
    if faults and (damaged == "stop" or not opened):
        if len(entries) == 1 or len(faults) == 1:
            raise next(iter(faults.values()))
        named = "; ".join(f"{name}: {fault.found}" for name, fault in [*faults.items()][:3])
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        found = f"{len(faults)} of {len(entries)} videos cannot be opened ({named}{more})"
        fix = "copy them again, or set data.damaged=skip; `stadia data survey` lists all"
        if all(fault.found == NO_CAMERA for fault in faults.values()):
            first = next(entry for entry in entries if entry.name in faults).path
            fix = f"give each its camera, such as stadia camera {first} --fov DEGREES"
            fix += ", or all of them one: data.camera.horizontal_fov_deg=DEGREES"
        raise DataError(path, found=found, expected="videos that can be decoded, each with a camera", fix=fix)
    for name, fault in faults.items():
        log.warning("%s is left out: %s", name, fault.found)
    return opened
