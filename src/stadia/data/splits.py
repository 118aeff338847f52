"""Split recordings into frames for training and validation, and read lists of frames."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.config import DatasetConfig, SourceOptions, SplitConfig
from stadia.data.frame_store import ReportProgress
from stadia.data.open_dataset import open_recordings, opens_slowly, read_named_splits, select_names
from stadia.data.recordings import crop_recording
from stadia.io.image_files import READ_THREADS
from stadia.io.input_files import MAX_TEXT_BYTES, expand_home, read_bytes, read_lines

BLOCK_FRAMES = 500  # one validation block per this many frames

_SIDES = {"l": LEFT, "r": RIGHT}

_LINE = re.compile(r"\s*(\S+)\s+([0-9]{1,19})(?:\s+([lr]))?\s*")


@dataclass(frozen=True)
class TargetFrames:
    """Video frames of one recording that a training uses as target images.

    recording: the recording.
    indices: indices of the frames.
    side: "left" or "right".
    """

    recording: Recording
    indices: Sequence[int]
    side: str = LEFT


@dataclass(frozen=True)
class TrainValSplit:
    """The target frames for training and for validation.

    train: frames to train on.
    val: frames to validate on; may be empty.
    """

    train: list[TargetFrames]
    val: list[TargetFrames]


def all_frames(recording: Recording, sides: Sequence[str]) -> list[TargetFrames]:
    """Return all video frames of a recording as target frames, for each of the given sides that the recording has."""
    return [TargetFrames(recording, range(len(recording)), side) for side in sides if side in recording.sides]


def unique_recordings(frames: Sequence[TargetFrames]) -> list[Recording]:
    """Return the recordings of target frames, in order and each once."""
    return list({id(part.recording): part.recording for part in frames}.values())


def frame_indices(frames: Sequence[TargetFrames]) -> dict[str, list[int]]:
    """Return the indices of target frames by the name of their recording, ascending and each once."""
    indices: dict[str, set[int]] = {}
    for part in frames:
        indices.setdefault(part.recording.name, set()).update(part.indices)
    return {name: sorted(numbers) for name, numbers in indices.items()}


def keep_labeled(frames: Sequence[TargetFrames]) -> list[TargetFrames]:
    """Return only the target frames that have a ground-truth depth file.

    All frames are returned of recordings whose depth is not in files.
    """
    kept = []
    with ThreadPoolExecutor(READ_THREADS) as threads:
        for part in frames:
            files = [part.recording.depth_files(index, part.side) for index in part.indices]
            exist = threads.map(lambda candidates: not candidates or any(map(Path.is_file, candidates)), files)
            indices = [index for index, is_labeled in zip(part.indices, exist, strict=True) if is_labeled]
            kept += [part if len(indices) == len(part.indices) else replace(part, indices=indices)]
    return [part for part in kept if part.indices]


def draw_split(recordings: Sequence[Recording], config: SplitConfig, sides: Sequence[str] = (LEFT,)) -> TrainValSplit:
    """Draw the frames to validate on: blocks of frames, whole recordings or whole places, according to `config.unit`.

    recordings: recordings to split.
    config: share of the frames, unit and seed.
    sides: sides whose images are target images.
    """
    split = split_blocks if config.unit == "frames" else split_recordings
    return split(recordings, config, sides)


def split_blocks(recordings: Sequence[Recording], config: SplitConfig, sides: Sequence[str] = (LEFT,)) -> TrainValSplit:
    """Validate on blocks of consecutive frames of every recording, and train on the rest.

    The frames within `config.gap` of a block, at most a tenth of the recording, are used for neither.

    recordings: recordings to split.
    config: share of the frames, gap and seed.
    sides: sides whose images are target images.
    """
    split = TrainValSplit([], [])
    for recording in recordings:
        frames = len(recording)
        count = round(config.val_share * frames)
        use = np.zeros(frames, np.int8)  # 0 trains, 1 validates, 2 is unused
        gap = min(config.gap, frames // 10)
        random = make_generator(config.seed, "split", recording.name)
        for segment, wanted in zip(_shares(frames, frames), _shares(frames, count), strict=True):
            if not wanted:
                continue
            start = _draw_start(recording, segment, len(wanted), random)
            stop = start + len(wanted)
            use[max(start - gap, 0) : stop + gap] = np.maximum(use[max(start - gap, 0) : stop + gap], 2)
            use[start:stop] = 1
        for part, value in ((split.train, 0), (split.val, 1)):
            indices = np.flatnonzero(use == value).tolist()
            part += [TargetFrames(recording, indices, side) for side in sides if indices and side in recording.sides]
    return split


def _draw_start(recording: Recording, segment: range, count: int, random: np.random.Generator) -> int:
    """Draw the first frame of a block. Avoid starts at a stationary camera, where most frames have no neighbors."""
    starts = np.arange(segment.start, segment.stop - count + 1)
    start = int(random.choice(starts))
    moves = [None not in (recording.map_neighbor(index, -1), recording.map_neighbor(index, 1)) for index in segment]
    moving = np.convolve(moves, np.ones(count, int), "valid")  # frames of each block
    if 2 * moving[start - segment.start] < count:
        start = int(random.choice(starts[moving == moving.max()]))
    return start


def split_recordings(
    recordings: Sequence[Recording], config: SplitConfig, sides: Sequence[str] = (LEFT,)
) -> TrainValSplit:
    """Validate on whole recordings or whole places, which are drawn by seed and name, and train on the rest.

    recordings: recordings to split.
    config: share of the frames, unit ("recordings" or "places") and seed.
    sides: sides whose images are target images.

    Raises DataError if there is only one recording or place.
    """
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(recording.session if config.unit == "places" else recording.name, []).append(recording)
    if config.val_share and len(groups) < 2:
        found, fix = f"one ({next(iter(groups), 'none')})", "set data.split_by.unit=frames"
        raise DataError(f"data.split_by.unit={config.unit}", found=found, expected="at least two", fix=fix)
    order = sorted(groups, key=lambda name: (make_generator(config.seed, "split", name).random(), name))
    wanted = config.val_share * sum(map(len, recordings))
    chosen: set[str] = set()
    frames = 0
    for name in order[:-1]:
        if frames >= wanted:
            break
        chosen.add(name)
        frames += sum(map(len, groups[name]))
    val = {id(recording) for name in chosen for recording in groups[name]}
    split = TrainValSplit([], [])
    for recording in recordings:
        (split.val if id(recording) in val else split.train).extend(all_frames(recording, sides))
    return split


def _shares(frames: int, total: int) -> list[range]:
    edges = np.linspace(0, total, max(1, frames // BLOCK_FRAMES) + 1).round().astype(int).tolist()
    return [range(start, stop) for start, stop in pairwise(edges)]


def read_split_file(path: Path, recordings: Iterable[Recording]) -> list[TargetFrames]:
    """Read target frames, in order, from lines `recording frame l|r` (`2011_09_26/2011_09_26_drive_0001_sync 473 r`).

    path: the file. The side is left by default.
    recordings: recordings that the lines may name.

    Raises DataError for invalid lines, and if a named frame does not exist.
    """
    by_name = {recording.name: recording for recording in recordings}
    known: dict[str, tuple[Recording | None, dict[int, int]]] = {}
    indices: dict[tuple[str, str], list[int]] = {}
    absent: list[str] = []
    for number, line in enumerate(read_lines(path, expected="a list of frames"), start=1):
        words = _LINE.fullmatch(line)
        if words is None:
            expected, fix = "`recording frame l|r` or `recording frame`", "remove the line"
            raise DataError(path, found=f"'{line[:80]}' in line {number}", expected=expected, fix=fix)
        name, frame, side = words[1], int(words[2]), _SIDES[words[3] or "l"]
        if name not in known:
            found = _find_recording(name, list(by_name.values()), f"{path}, line {number}")
            known[name] = found, map_frame_numbers(found) if found else {}
        recording, numbers = known[name]
        if recording is None:
            absent.append(f"recording '{name}' in line {number}")
        elif frame not in numbers or side not in recording.sides:
            absent.append(f"frame {frame} {side} of '{name}' in line {number}")
        else:
            indices.setdefault((recording.name, side), []).append(numbers[frame])
    if absent:
        expected = f"images of {', '.join(list(by_name)[:4])}{' ...' * (len(by_name) > 4)}"
        missing = f"{absent[0]}, which does not exist ({len(absent)} such lines)"
        raise DataError(path, found=missing, expected=expected, fix="download them or remove their lines")
    return [TargetFrames(by_name[name], tuple(frames), side) for (name, side), frames in indices.items()]


def _find_recording(name: str, recordings: Sequence[Recording], where: str) -> Recording | None:
    exact = [recording for recording in recordings if recording.name == name]
    found = exact or [recording for recording in recordings if recording.name.endswith("/" + name)]
    if len(found) > 1:
        ends = f"'{name}', which is the end of {', '.join(recording.name for recording in found[:4])}"
        raise DataError(where, found=ends, expected="one recording", fix="write its whole name")
    return found[0] if found else None


def map_frame_numbers(recording: Recording) -> dict[int, int]:
    """Return the index of each video frame by its number: that in the name of its image, or that in the video."""
    files = [recording.file(index) for index in range(len(recording))]
    named = [None if file is None or not file.stem.isdecimal() else int(file.stem) for file in files]
    return {recording.number(index) if n is None else n: index for index, n in enumerate(named)}


@dataclass(frozen=True)
class FrameList:
    """A list of video frames to score.

    file, sha256: name and hash of the file that contains the list.
    indices: ascending indices of the frames by recording name.
    """

    file: str
    sha256: str
    indices: Mapping[str, Sequence[int]]

    def to_json(self) -> dict[str, str | int]:
        """Return file name, hash and number of frames, to be recorded in a file with scores."""
        return {"file": self.file, "sha256": self.sha256, "count": sum(map(len, self.indices.values()))}


def read_frame_list(path: Path, recordings: Sequence[Recording]) -> FrameList:
    """Read a list of video frames to score, in the format of `read_split_file`.

    path: the file.
    recordings: recordings that the lines may name.

    Raises DataError for an empty list, repeated frames and right images.
    """
    data = read_bytes(path, expected="a list of frames", max_bytes=MAX_TEXT_BYTES)
    indices: dict[str, Sequence[int]] = {}
    for frames in read_split_file(path, recordings):
        name = frames.recording.name
        if frames.side != LEFT:
            found = f"right images of '{name}'"
            raise DataError(path, found=found, expected="left images (`l`)", fix="remove these lines")
        once = sorted(set(frames.indices))
        if repeated := len(frames.indices) - len(once):
            found = f"{repeated} frames of '{name}' twice"
            raise DataError(path, found=found, expected="each frame once", fix="remove the repeated lines")
        indices[name] = once
    if not indices:
        raise DataError(path, found="an empty list", expected="one frame per line")
    return FrameList(path.name, hashlib.sha256(data).hexdigest(), indices)


def open_split(config: DatasetConfig, progress: ReportProgress | None = None) -> TrainValSplit:
    """Open a dataset, cut it to `config.crop`, and split it by `config.split_by`; its test split only by name."""
    split_by, path = config.split_by, expand_home(config.path)
    size = config.size or (config.height, config.width)
    options = config.model_dump(include=set(SourceOptions.model_fields)) | {"size": size}
    splits = read_named_splits(path, config.format)
    is_named = "train" in splits and config.split is None and not config.recordings
    if is_named and opens_slowly(path, config.format):
        options["recordings"] = (*splits["train"], *splits.get("val", ()))
    opened = open_recordings(path, config.format, progress=progress, **options)
    recordings = [crop_recording(recording, config.crop) for recording in opened]
    if split_by.train_file:
        files = (split_by.train_file, split_by.val_file)
        return TrainValSplit(*(read_split_file(expand_home(file), recordings) if file else [] for file in files))
    val_names: Sequence[str] = split_by.val_recordings
    if is_named:
        val_names = val_names or splits.get("val", [])
        recordings = _select_recordings(recordings, [*splits["train"], *splits.get("val", [])], path)
    if not val_names:
        return draw_split(recordings, split_by, config.target_sides)
    val = _select_recordings(recordings, val_names, path)
    train = [recording for recording in recordings if recording not in val]
    sides = config.target_sides
    return TrainValSplit(*([f for r in part for f in all_frames(r, sides)] for part in (train, val)))


def _select_recordings(recordings: Sequence[Recording], names: Sequence[str], path: Path) -> list[Recording]:
    chosen = set(select_names([recording.name for recording in recordings], names, path))
    return [recording for recording in recordings if recording.name in chosen]
