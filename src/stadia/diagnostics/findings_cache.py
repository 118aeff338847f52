"""Keep the findings of the data checks in the user's cache, and use them again where nothing changed since.

They follow from recordings, splits, files, code and versions, which are hashed. A recording that was opened holds its
calibration, poses, times and lists: these values are hashed, whatever file they are from. Images and depth are read
during the checks: of their files the size and the times are hashed.

When in doubt the data are checked again: a finding that is missing costs a training, the checks cost seconds.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import os
import platform
import stat
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import psutil
import scipy
import torch

from stadia.core.errors import StadiaError
from stadia.core.recording import Recording
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.not_checked import NOT_CHECKED, SAMPLED, collect_incomplete_checks
from stadia.diagnostics.preflight import CHECKS, PREREQUISITES, SPLIT_CHECKS
from stadia.diagnostics.preflight.split_checks import SplitFrames
from stadia.files.atomic_files import write_text
from stadia.files.input_files import name_parser_errors, read_bytes
from stadia.files.json_files import read_json
from stadia.files.paths import find_private_folder

MAX_ENTRY_BYTES = 16 << 20  # bytes of one file
MAX_ENTRIES = 32  # files: those that were not used for the longest time are removed

MIN_AGE_S = 2.0
"""Seconds between the last change of a file and the checks: some file systems keep times in steps of 2 s."""

NEVER_KEPT = frozenset({"D01", "D17"})
"""Findings about files that could not be read."""

MAX_SAMPLE_AGE_S = 3600.0
"""Seconds for which findings of a sample of the data are used again: the runs of a study check it once."""

EXPECTED = "findings of data checks"


class CheckData(Protocol):
    """`run_preflight`, with the arguments that a training gives."""

    def __call__(
        self,
        recordings: Sequence[Recording],
        splits: Mapping[str, Sequence[SplitFrames]],
        *,
        seconds: float,
        one_camera: Collection[Recording],
    ) -> list[Finding]: ...


@dataclass(frozen=True)
class KeptFindings:
    """Findings, and when the data were checked, in seconds since 1970."""

    findings: list[Finding]
    checked_s: float

    @property
    def is_old_sample(self) -> bool:
        """Return whether a sample of the data was checked, more than MAX_SAMPLE_AGE_S ago."""
        is_sample = any(finding.code == SAMPLED for finding in self.findings)
        return is_sample and time.time() - self.checked_s > MAX_SAMPLE_AGE_S


@dataclass(frozen=True)
class FindingsCache:
    """Findings of earlier data checks, one file for each fingerprint.

    Args:
        folder: private to the user.
        announce: called with a line where findings are used again.
        check_again: whether kept findings are replaced and not used.
    """

    folder: Path
    announce: Callable[[str], object]
    check_again: bool = False

    @classmethod
    def open(cls, announce: Callable[[str], object], *, check_again: bool = False) -> FindingsCache | None:
        """Return the cache of this user; None where no folder is private."""
        folder = find_private_folder("findings")
        return None if folder is None else cls(folder, announce, check_again)

    def find(
        self,
        check: CheckData,
        recordings: Sequence[Recording],
        splits: Mapping[str, Sequence[SplitFrames]],
        *,
        seconds: float,
        one_camera: Collection[Recording],
    ) -> list[Finding]:
        """Return the kept findings of these data; without any, check the data, and keep what was found.

        Nothing is kept where a check had no time or failed, or where a file could not be read. Nor is it where
        something changed during the checks or just before them.
        """
        before = _try_fingerprint(recordings, splits, one_camera)
        if before is None:
            return check(recordings, splits, seconds=seconds, one_camera=one_camera)
        kept = None if self.check_again else self.read(before.digest)
        if kept is not None and not kept.is_old_sample:
            self.announce(_describe_reuse(kept))
            return kept.findings
        began_s = time.time()
        with collect_incomplete_checks() as incomplete:
            findings = check(recordings, splits, seconds=seconds, one_camera=one_camera)
        is_complete = not incomplete and NEVER_KEPT.isdisjoint(finding.code for finding in findings)
        is_old = before.changed_s < began_s - MIN_AGE_S
        if is_complete and is_old and _try_fingerprint(recordings, splits, one_camera) == before:
            self.write(before.digest, KeptFindings(findings, began_s))
        else:
            self._remove(before.digest)
        return findings

    def read(self, digest: str) -> KeptFindings | None:
        """Return the findings of a fingerprint; None without a file, or for one that is damaged."""
        path = self._path(digest)
        try:
            values = read_json(path, expected=EXPECTED, max_bytes=MAX_ENTRY_BYTES)
            with name_parser_errors(path, expected=EXPECTED):
                findings = [_decode_finding(finding) for finding in values["findings"]]
                kept = KeptFindings(findings, float(values["checked_s"]))
        except StadiaError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # of the files, those used last stay
        return kept

    def write(self, digest: str, kept: KeptFindings) -> None:
        """Write the findings of a fingerprint, and remove the oldest files beyond MAX_ENTRIES.

        Nothing is kept where the file would be too large, or cannot be written.
        """
        text = json.dumps({"checked_s": kept.checked_s, "findings": list(map(_encode_finding, kept.findings))})
        if len(text) > MAX_ENTRY_BYTES:
            self._remove(digest)
            return
        with contextlib.suppress(StadiaError, OSError):  # a full disk: the findings are found again
            write_text(self._path(digest), text)
            entries = [(path.stat().st_mtime, path) for path in self.folder.glob("*.json")]
            for _, path in sorted(entries, reverse=True)[MAX_ENTRIES:]:
                path.unlink(missing_ok=True)

    def _remove(self, digest: str) -> None:
        with contextlib.suppress(OSError):
            self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.json"


def _try_fingerprint(
    recordings: Sequence[Recording], splits: Mapping[str, Sequence[SplitFrames]], one_camera: Collection[Recording]
) -> DataFingerprint | None:
    """Return the fingerprint; None where there is none, for whatever reason: then the data are checked."""
    try:
        return fingerprint_data(recordings, splits, one_camera)
    except Exception:  # also of a recording that cannot be read, which the checks report
        return None


def _encode_finding(finding: Finding) -> dict[str, Any]:
    return {**finding.to_dict(), "png": base64.b64encode(finding.image).decode("ascii")}


def _decode_finding(values: Mapping[str, Any]) -> Finding:
    return replace(Finding.from_dict(values), image=base64.b64decode(values["png"], validate=True))


def _describe_reuse(kept: KeptFindings) -> str:
    count = sum(finding.code != NOT_CHECKED for finding in kept.findings)
    counted = f"{count or 'no'} finding{'s' * (count != 1)}"
    again = "--check-again (in Python check_again=True) checks them again"
    return f"note: the data were checked {_describe_age(time.time() - kept.checked_s)} ago, " + (
        f"and nothing changed since: {counted}; {again}"
    )


def _describe_age(seconds: float) -> str:
    """Return a time in its largest whole unit.

    Examples:
        >>> _describe_age(200), _describe_age(3600), _describe_age(-1)
        ('3 minutes', '1 hour', '0 seconds')
    """
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    name, size = next(((name, size) for name, size in units if seconds >= size), units[-1])
    count = max(0, int(seconds // size))
    return f"{count} {name}{'s' * (count != 1)}"


# -- The fingerprint of all that findings follow from.

MAX_FINGERPRINT_SECONDS = 5.0
"""A slow file system or millions of files take longer; the checks read a sample, and end within their time."""

MAX_SOURCE_BYTES = 16 << 20  # of one file of the package

PACKAGE = Path(__file__).parents[1]


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
    state.add([any(recording is single for single in one_camera) for recording in recordings])
    try:
        numbered = {
            name: [(numbers[id(recording)], frames) for recording, frames in parts] for name, parts in splits.items()
        }
    except KeyError as error:
        raise NoFingerprintError("a split with a recording of its own") from error
    state.add(numbered)
    return DataFingerprint(state.digest(), state.changed_s)


def find_start_s() -> float:
    """Return a time before which this process imported none of its code, in seconds since 1970."""
    return float(psutil.Process().create_time())


def _check_depth_files(recording: Recording) -> None:
    """Raise NoFingerprintError for a class that reads depth, and leaves `depth_files` to the class above it."""
    classes = type(recording).__mro__
    reads, lists = (
        next(place for place, base in enumerate(classes) if name in vars(base)) for name in ("depth_m", "depth_files")
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
            if path.is_file() and path.suffix != ".pyc":
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
