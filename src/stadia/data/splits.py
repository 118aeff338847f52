"""Split frames into training and validation: by split files, whole recordings, the data set's own split, or blocks."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.core.seeds import make_generator
from stadia.data.config import SplitConfig
from stadia.io.image_files import READ_THREADS
from stadia.io.input_files import MAX_TEXT_BYTES, read_bytes, read_lines

BLOCK_FRAMES = 500  # one validation block per this many frames
_SIDES = {"l": LEFT, "r": RIGHT}
_LINE = re.compile(r"\s*(\S+)\s+([0-9]{1,19})(?:\s+([lr]))?\s*")


@dataclass(frozen=True)
class TargetFrames:
    """Frames of one side of a recording that are used as target images."""

    recording: Recording
    indices: Sequence[int]
    side: str = LEFT


@dataclass(frozen=True)
class TrainValSplit:
    """Target frames for training and for validation; `val` may be empty."""

    train: list[TargetFrames]
    val: list[TargetFrames]


def all_frames(recording: Recording, sides: Sequence[str]) -> list[TargetFrames]:
    """Return every frame of those of the given sides that the recording has."""
    return [TargetFrames(recording, range(len(recording)), side) for side in sides if side in recording.sides]


def unique_recordings(frames: Sequence[TargetFrames]) -> list[Recording]:
    """Return the recordings of these frames in order, each once."""
    return list({id(part.recording): part.recording for part in frames}.values())


def frame_indices(frames: Sequence[TargetFrames]) -> dict[str, list[int]]:
    """Return the indices of the frames by recording name, ascending and each once."""
    indices: dict[str, set[int]] = {}
    for part in frames:
        indices.setdefault(part.recording.name, set()).update(part.indices)
    return {name: sorted(numbers) for name, numbers in indices.items()}


def keep_labeled(frames: Sequence[TargetFrames]) -> list[TargetFrames]:
    """Return the frames that have depth files. Of recordings without depth files all frames are returned."""
    kept = []
    with ThreadPoolExecutor(READ_THREADS) as threads:
        for part in frames:
            files = [part.recording.depth_files(index, part.side) for index in part.indices]
            exist = threads.map(lambda candidates: not candidates or any(map(Path.is_file, candidates)), files)
            indices = [index for index, is_labeled in zip(part.indices, exist, strict=True) if is_labeled]
            kept += [part if len(indices) == len(part.indices) else replace(part, indices=indices)]
    return [part for part in kept if part.indices]


def draw_split(recordings: Sequence[Recording], config: SplitConfig, sides: Sequence[str] = (LEFT,)) -> TrainValSplit:
    """Draw the frames to validate on: blocks, whole recordings or places, as `config.unit` says."""
    split = split_blocks if config.unit == "frames" else split_recordings
    return split(recordings, config, sides)


def split_blocks(recordings: Sequence[Recording], config: SplitConfig, sides: Sequence[str] = (LEFT,)) -> TrainValSplit:
    """Validate on blocks of consecutive frames of every recording.

    The frames within `gap` of a block, at most a tenth of a recording, are not used.
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
    """Draw the first frame of a block; not one where the camera stands, so that most frames have no neighbors."""
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
    """Validate on whole recordings or places, drawn by seed and name. Raises DataError if there is only one."""
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

    The side is left by default. Raises DataError for invalid lines, and for missing frames with their number.
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
    """Return the index of each frame by the number in its image's name, or by its number in the video."""
    files = [recording.file(index) for index in range(len(recording))]
    named = [None if file is None or not file.stem.isdecimal() else int(file.stem) for file in files]
    return {recording.number(index) if n is None else n: index for index, n in enumerate(named)}


# -- lists of frames to score, in the format of KITTI's Eigen split


@dataclass(frozen=True)
class FrameList:
    """Frames to score: ascending indices by recording name.

    file, sha256: file and hash that identify the list.
    """

    file: str
    sha256: str
    indices: Mapping[str, Sequence[int]]

    def to_json(self) -> dict[str, str | int]:
        """Return the metadata for a score file."""
        return {"file": self.file, "sha256": self.sha256, "count": sum(map(len, self.indices.values()))}


def read_frame_list(path: Path, recordings: Sequence[Recording]) -> FrameList:
    """Read the frames to score, as `read_split_file` does.

    Raises DataError for repeated frames and for right images.
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
