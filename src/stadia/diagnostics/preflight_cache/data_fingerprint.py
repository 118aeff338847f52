"""Hash everything that the findings of the data checks follow from: recordings, splits, files, code and versions.

A recording that was opened holds its calibration, poses, times and lists: these values are hashed, whatever file they
are from. Images and depth are read during the checks: of their files the size and the times are hashed.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import stat
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil
import scipy
import torch

from stadia.core.recording import Recording
from stadia.diagnostics.preflight import CHECKS, PREREQUISITES, SPLIT_CHECKS
from stadia.diagnostics.preflight.split_checks import SplitFrames
from stadia.files.input_files import read_bytes

MAX_FINGERPRINT_SECONDS = 5.0
"""A slow file system or millions of files take longer; the checks read a sample, and end within their time."""

MAX_SOURCE_BYTES = 16 << 20
"""Of one file of the package."""

PACKAGE, OTHER_FILES = Path(__file__).parents[2], ("__pycache__", ".pyc")

_IMPORTED_S = time.time()
"""In a forked process the time of its parent, whose code it has."""


class NoFingerprintError(Exception):
    """The findings follow from something that cannot be hashed; the message names it."""


@dataclass(frozen=True, slots=True)
class DataFingerprint:
    """A hash of all that findings follow from.

    digest: 64 hexadecimal digits.
    changed_s: when the newest file was changed, in seconds since 1970.
    """

    digest: str
    changed_s: float


def fingerprint_data(
    recordings: Sequence[Recording],
    splits: Mapping[str, Sequence[SplitFrames]],
    one_camera: Collection[Recording],
    *,
    seconds: float = MAX_FINGERPRINT_SECONDS,
) -> DataFingerprint:
    """Return the fingerprint of what `run_preflight` gets, of the files that it reads, and of the program.

    Args:
        recordings, splits, one_camera: as of `run_preflight`.
        seconds: time limit.

    Raises:
        NoFingerprintError: for a class that is not of stadia, or a value of unknown type. Also where code was changed
            while this process runs, and where the time limit is reached.
    """
    state = _StateHash(time.monotonic() + seconds)
    state.add_program()
    numbers = {id(recording): number for number, recording in enumerate(recordings)}
    for recording in recordings:
        _check_depth_files(recording)
        state.add(recording)
        state.add((recording.name, recording.session, recording.sides, len(recording)))
        for side in recording.sides:
            for index in range(len(recording)):
                state.add((recording.file(index, side), *recording.depth_files(index, side)))
    state.add([id(recording) in {id(one) for one in one_camera} for recording in recordings])
    try:
        of_splits = {name: [(numbers[id(one)], frames) for one, frames in parts] for name, parts in splits.items()}
    except KeyError as error:
        raise NoFingerprintError("a split with a recording of its own") from error
    state.add(of_splits)
    return DataFingerprint(state.digest(), state.changed_s)


def find_start_s() -> float:
    """Return a time before which this process imported none of its code, in seconds since 1970."""
    return min(float(psutil.Process().create_time()), _IMPORTED_S)


def _check_depth_files(recording: Recording) -> None:
    """Raise NoFingerprintError for a class that reads depth, and leaves `depth_files` to the class above it."""
    classes = type(recording).__mro__
    reads, lists = (
        next(place for place, one in enumerate(classes) if name in vars(one)) for name in ("depth_m", "depth_files")
    )
    if reads < lists:
        raise NoFingerprintError(f"{type(recording).__name__}, which does not list the files of its depth")


class _StateHash:
    """A hash of nested values. Each value is preceded by its type and, if it holds others, their number.

    until: end of the time limit, of `time.monotonic`.
    """

    def __init__(self, until: float) -> None:
        self._digest, self._until = hashlib.sha256(), until
        self._files: dict[Path, str] = {}
        self.changed_s = -math.inf

    def digest(self) -> str:
        return self._digest.hexdigest()

    def add(self, value: object) -> None:
        """Add a value. Raises NoFingerprintError for a type that is not of stadia, Python or NumPy."""
        if value is None or isinstance(value, bool | int | float | str | bytes | range):
            self._write(f"{type(value).__qualname__} {value!r}")
        elif isinstance(value, Path):
            self._write(self._describe_file(value))
        elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            self._write(f"array {value.dtype.str} {value.shape}", value.tobytes())
        elif isinstance(value, list | tuple):
            self._write(f"list {len(value)}")
            for item in value:
                self.add(item)
        elif isinstance(value, Mapping):
            self._write(f"mapping {len(value)}")
            for key, item in value.items():
                self.add(key)
                self.add(item)
        elif isinstance(value, set | frozenset):
            self.add(sorted(map(repr, value)))
        elif type(value).__module__.partition(".")[0] == "stadia":
            self._write(f"object {type(value).__module__}.{type(value).__qualname__}")
            self.add(value.__getstate__())
        else:
            raise NoFingerprintError(f"{type(value).__module__}.{type(value).__qualname__}")

    def add_program(self) -> None:
        """Add the files of the package, the checks, and the versions of what computes them."""
        for path in sorted(PACKAGE.rglob("*")):
            if path.is_file() and not any(one in str(path.relative_to(PACKAGE)) for one in OTHER_FILES):
                source = read_bytes(path, expected="a file of stadia", max_bytes=MAX_SOURCE_BYTES)
                self._write(str(path.relative_to(PACKAGE)), hashlib.sha256(source).digest())
                self._note_change(path.stat())
        if self.changed_s == -math.inf:
            raise NoFingerprintError("no source of stadia in files")
        if self.changed_s >= find_start_s():  # this process may have imported what was there before
            raise NoFingerprintError("source of stadia that was changed while this process runs")
        libraries = (np.__version__, cv2.__version__, torch.__version__, scipy.__version__)
        self.add((sys.version, sys.platform, platform.machine(), *map(str, libraries)))
        self.add((dict(CHECKS), dict(SPLIT_CHECKS), PREREQUISITES))

    def _describe_file(self, path: Path) -> str:
        """Return the name of a file, its size, and the times of its content and its status. It may be missing."""
        if path not in self._files:
            self._files[path] = self._read_status(path)
        return self._files[path]

    def _read_status(self, path: Path) -> str:
        if time.monotonic() > self._until:
            raise NoFingerprintError("too many files, or a slow file system")
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return f"missing {path}"
        except (OSError, ValueError) as error:
            raise NoFingerprintError(f"{path}, which cannot be reached") from error
        if stat.S_ISDIR(status.st_mode):  # what is read of it is listed file by file
            return f"folder {path}"
        self._note_change(status)
        return f"file {path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"

    def _note_change(self, status: os.stat_result) -> None:
        self.changed_s = max(self.changed_s, status.st_mtime, status.st_ctime)

    def _write(self, head: str, data: bytes = b"") -> None:
        text = head.encode("utf-8", "surrogateescape")
        self._digest.update(f"{len(text)} {len(data)} ".encode() + text + data)
