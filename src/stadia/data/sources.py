"""One way to open any dataset: `open_recordings(path)`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.config import resolve
from stadia.core.errors import ConfigError, DataError
from stadia.core.recording import LEFT, MaskReader, Recording, RoadMasks
from stadia.core.tables import nearest
from stadia.core.types import Camera
from stadia.data import DATASETS
from stadia.data.cache import Progress
from stadia.data.config import SourceOptions
from stadia.data.object_layout import refuse_objects
from stadia.data.poses import read_kitti_poses
from stadia.data.recordings import CalibratedRecording
from stadia.data.video_sample import sample_video


class Format(Protocol):
    """A dataset's layout, one class a file, listed in `stadia.data.DATASETS`.

    layout: what it looks for, for error messages.
    options: the fields of SourceOptions that mean something to this format alone.
    """

    layout: str
    options: frozenset[str]

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        """Whether the path has this layout: looks at names only, opens no image."""
        ...

    @classmethod
    def open(cls, path: Path, options: SourceOptions, progress: Progress | None = None) -> list[Recording]:
        """The recordings that the options ask for; `progress` is told where that takes long (a video is decoded once)."""
        ...

    @classmethod
    def splits(cls, path: Path) -> dict[str, list[str]]:
        """Recording names of each split that the dataset itself names; empty where it names none."""
        ...


def open_recordings(
    path: str | Path, format: str = "auto", *, progress: Progress | None = None, **options: Any
) -> list[Recording]:
    """The recordings of a dataset, a video, or a folder of images. Nothing is decoded that need not be.

    Args:
        path: the dataset's folder, or a video file.
        format: a name of `DATASETS`, or "auto" to find it out.
        progress: told while a video is decoded.
        options: the fields of `stadia.data.config.SourceOptions`.

    Raises ConfigError for a wrong option, DataError where nothing readable is found (saying what was looked for).
    """
    return _open(
        Path(path).expanduser(), format, options, lambda reader, path, chosen: reader.open(path, chosen, progress)
    )


def sample_recordings(path: str | Path, format: str = "auto", **options: Any) -> list[Recording]:
    """As `open_recordings`, for a look at the data: a video file is not decoded into the cache, only stretches of it
    into memory.
    """

    def sample(reader: Format, path: Path, chosen: SourceOptions) -> list[Recording]:
        own_file = reader is DATASETS.load("video") and path.is_file()
        return sample_video(path, chosen) if own_file else reader.open(path, chosen)

    return _open(Path(path).expanduser(), format, options, sample)


def _open(
    path: Path, format: str, options: dict[str, Any], how: Callable[[Format, Path, SourceOptions], list[Recording]]
) -> list[Recording]:
    chosen = resolve(SourceOptions, options)
    name, reader = _reader(path, format)
    particular = frozenset[str]().union(*(DATASETS.load(other).options for other in DATASETS))
    refuse_idle_options(chosen, particular - reader.options, f"'{name}'")
    if chosen.split is not None:
        splits = reader.splits(path)
        if not splits.get(chosen.split):
            named = f"splits {', '.join(filter(splits.get, splits))}" if splits else "a dataset that names no split"
            raise DataError(path, found=named, expected=f"a split '{chosen.split}'", fix="correct data.split")
        chosen = chosen.model_copy(update={"recordings": tuple(choose(splits[chosen.split], chosen.recordings, path))})
    recordings = how(reader, path, chosen)
    if chosen.poses is not None:
        _give_poses(recordings, Path(chosen.poses).expanduser())
    if chosen.frames is not None:
        recordings = [Excerpt.between(recording, *chosen.frames) for recording in recordings]
    return recordings


def named_splits(path: Path, format: str = "auto") -> dict[str, list[str]]:
    """Recording names of each split that the dataset itself names; empty where it names none."""
    return _reader(path, format)[1].splits(path)


def held_out_split(path: Path, format: str = "auto") -> str | None:
    """The split to score where nobody asks for one: the dataset's own test, else its val; None where it names neither."""
    splits = named_splits(path, format)
    return next((name for name in ("test", "val") if splits.get(name)), None)


def check_there(path: Path) -> None:
    """Raise DataError where there is nothing at a path. Opens nothing."""
    if not path.exists():
        expected = "a dataset's folder, a video file, or an image to predict"
        raise DataError(path, found="nothing there", expected=expected, fix="check the path")


def format_of(path: Path, format: str = "auto") -> str:
    """The name of the format that a path is read by. Raises as `open_recordings`."""
    return _reader(path, format)[0]


def _reader(path: Path, format: str) -> tuple[str, Format]:
    check_there(path)
    name = _recognized(path) if format == "auto" else DATASETS.check(format)
    return name, DATASETS.load(name)


def refuse_idle_options(chosen: SourceOptions, idle: Collection[str], what: str) -> None:
    """An option that was given and would do nothing is a mistake: the camera of a dataset that has its own, for
    example.
    """
    given = [key for key in sorted(idle) if getattr(chosen, key) != SourceOptions.model_fields[key].get_default()]
    if given:
        raise ConfigError(
            ", ".join(f"data.{key}" for key in given),
            found="given",
            expected=f"nothing: {what} has no use for it",
            fix="remove it",
        )


def _give_poses(recordings: list[Recording], path: Path) -> None:
    if len(recordings) != 1 or not isinstance(recordings[0], CalibratedRecording):
        found = ", ".join(recording.name for recording in recordings[:4])
        raise DataError(
            path,
            found=f"{len(recordings)} recordings ({found})",
            expected="one recording",
            fix="choose it by data.recordings",
        )
    recordings[0].poses = read_kitti_poses(path, len(recordings[0]), recordings[0].numbers)


def _recognized(path: Path) -> str:
    """The name of the first format that recognizes the path.

    A dataset that lost its dataset.json is not taken for the image that lies beside its recordings.
    """
    below = sorted(described.parent.name for described in path.glob("*/recording.json"))
    if below and not (path / "dataset.json").exists() and not (path / "recording.json").exists():
        raise DataError(
            path,
            found=f"recordings below ({', '.join(below[:4])}{' ...' if len(below) > 4 else ''}) and no dataset.json",
            expected="dataset.json, which names their splits",
            fix="write it as docs/own-data.md shows, or pass the folder of one recording",
        )
    if (path / "dataset.json").exists():
        refuse_objects(path)
    for name in DATASETS:
        if DATASETS.load(name).recognizes(path):
            return name
    refuse_objects(path)
    layouts = "; ".join(f"{name} ({DATASETS.load(name).layout})" for name in DATASETS)
    raise DataError(
        path, found=_contents(path), expected=f"one of: {layouts}", fix="check the path, or see docs/own-data.md"
    )


def _contents(path: Path) -> str:
    if path.is_file():
        return f"a file ending in '{path.suffix}'"
    names = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def chosen_folders(found: Mapping[str, Path], asked: Sequence[str], where: Path, layout: str) -> dict[str, Path]:
    """The folders of the recordings asked for, of those found at a path, by name. Raises DataError where there is none."""
    if not found:
        raise DataError(where, found="no recording", expected=layout, fix="pass the folder that holds it")
    return {name: found[name] for name in choose(list(found), asked, where)}


def choose(available: Sequence[str], asked: Sequence[str], where: Path) -> list[str]:
    """The names that were asked for (each by its whole name or by its end), in that order; all of them where nothing
    was.
    """
    if not asked:
        return list(available)
    chosen = []
    for wanted in asked:
        found = [
            name for name in available if name == wanted or name.endswith(f"/{wanted}") or wanted.endswith(f"/{name}")
        ]
        if not found:
            near = nearest(wanted, list(available))
            raise DataError(
                where,
                found=f"no recording '{wanted}'",
                expected=f"one of {', '.join(available[:8])}{' ...' * (len(available) > 8)}",
                fix=f"did you mean '{near}'?" if near else "correct data.recordings",
            )
        chosen += found
    return list(dict.fromkeys(chosen))


class Excerpt(Recording):
    """Some consecutive frames of a recording, under its name."""

    def __init__(self, recording: Recording, start: int, stop: int) -> None:
        self.recording, self.start, self.stop = recording, start, stop
        self.name, self.sides, self.T_right_left = recording.name, recording.sides, recording.T_right_left
        self.mount = recording.mount

    @classmethod
    def between(cls, recording: Recording, start: int, stop: int) -> Excerpt:
        """[start, stop), which must lie inside the recording."""
        if stop > len(recording):
            raise DataError(
                recording.name,
                found=f"{len(recording)} frames",
                expected=f"frames {start} to {stop}",
                fix="correct data.frames",
            )
        return cls(recording, start, stop)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def session(self) -> str:
        return self.recording.session

    def _at(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.start + index

    @property
    def mask_reader(self) -> MaskReader | None:
        return self.recording.mask_reader

    @mask_reader.setter
    def mask_reader(self, reader: MaskReader | None) -> None:
        self.recording.mask_reader = reader

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        return self.recording.masks(self._at(index), side)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return self.recording.image(self._at(index), side)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return self.recording.camera(self._at(index), side)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        return self.recording.K(self._at(index), side)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        return self.recording.depth_m(self._at(index), side)

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        return self.recording.T_world_camera(self._at(index), side)

    def timestamp_s(self, index: int) -> float | None:
        return self.recording.timestamp_s(self._at(index))

    def number(self, index: int) -> int:
        return self.recording.number(self._at(index))

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.recording.file(self._at(index), side)

    def fingerprint(self) -> str:
        return f"{self.recording.fingerprint()}[{self.start}:{self.stop}]"
