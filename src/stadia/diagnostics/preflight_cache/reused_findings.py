"""Keep the findings of the data checks in the user's cache, and return them where nothing changed since.

When in doubt the data are checked again: a finding that is missing costs a training, the checks cost seconds.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from stadia.core.errors import StadiaError
from stadia.core.recording import Recording
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.preflight.incomplete_checks import collect_incomplete_checks
from stadia.diagnostics.preflight.split_checks import SplitFrames
from stadia.diagnostics.preflight_cache.data_fingerprint import DataFingerprint, fingerprint_data
from stadia.files.atomic_files import write_text
from stadia.files.input_files import name_parser_errors
from stadia.files.json_files import parse_json, read_json
from stadia.files.paths import find_private_folder

MAX_ENTRY_BYTES, MAX_ENTRIES = 16 << 20, 32
"""Of one file, and their number: those that were not used for the longest time are removed."""

MIN_AGE_S = 2.0
"""Seconds between the last change of a file and the checks: some file systems keep times in steps of 2 s."""

NEVER_KEPT = frozenset({"D01", "D17", "N02"})
"""Findings about files that could not be read, and about data of which a sample was checked."""

NOT_CHECKED, EXPECTED = "N01", "findings of data checks"


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
        if kept is not None:
            self.announce(_describe_reuse(kept))
            return kept.findings
        began_s = time.time()
        with collect_incomplete_checks() as incomplete:
            found = check(recordings, splits, seconds=seconds, one_camera=one_camera)
        is_complete = not incomplete and NEVER_KEPT.isdisjoint(one.code for one in found)
        is_old = before.changed_s < began_s - MIN_AGE_S
        if is_complete and is_old and _try_fingerprint(recordings, splits, one_camera) == before:
            self.write(before.digest, KeptFindings(found, began_s))
        else:
            self._remove(before.digest)
        return found

    def read(self, digest: str) -> KeptFindings | None:
        """Return the findings of a fingerprint; None without a file, or for one that is damaged or another's."""
        path = self._path(digest)
        try:
            values = read_json(path, expected=EXPECTED, max_bytes=MAX_ENTRY_BYTES)
            with name_parser_errors(path, expected=EXPECTED):
                if values["fingerprint"] != digest or values["sha256"] != _hash_entry(values):
                    return None
                kept = KeptFindings([_decode_finding(one) for one in values["findings"]], float(values["checked_s"]))
        except StadiaError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # of the files, those used last stay
        return kept

    def write(self, digest: str, kept: KeptFindings) -> None:
        """Write the findings of a fingerprint, and remove the oldest files beyond MAX_ENTRIES.

        Nothing is kept where the file would not give equal findings, be too large, or cannot be written.
        """
        text = _encode_entry(digest, kept)
        if text is None or len(text) > MAX_ENTRY_BYTES:
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


def _encode_entry(digest: str, kept: KeptFindings) -> str | None:
    """Return the content of a file; None where the findings hold values that JSON changes, or does not have."""
    values: dict[str, Any] = {"fingerprint": digest, "checked_s": kept.checked_s}
    try:
        values["findings"] = [_encode_finding(one) for one in kept.findings]
        text = json.dumps(values | {"sha256": _hash_entry(values)}, allow_nan=False)
    except (TypeError, ValueError):
        return None
    decoded = [_decode_finding(one) for one in parse_json("kept findings", text, EXPECTED)["findings"]]
    is_equal = decoded == kept.findings and all(
        one.image == other.image for one, other in zip(decoded, kept.findings, strict=True)
    )
    return text if is_equal else None


def _hash_entry(values: Mapping[str, Any]) -> str:
    """Return a SHA-256 that finds damage."""
    content = [values["fingerprint"], values["checked_s"], values["findings"]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _describe_reuse(kept: KeptFindings) -> str:
    count = sum(one.code != NOT_CHECKED for one in kept.findings)
    found = f"{count or 'no'} finding{'s' * (count != 1)}"
    again = "--check-again (in Python check_again=True) checks them again"
    return f"note: the data were checked {_describe_age(time.time() - kept.checked_s)} ago, " + (
        f"and nothing changed since: {found}; {again}"
    )


def _describe_age(seconds: float) -> str:
    """Return a time in its largest whole unit.

    Examples:
        >>> _describe_age(200), _describe_age(3600), _describe_age(-1)
        ('3 minutes', '1 hour', '0 seconds')
    """
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    name, size = next((one for one in units if seconds >= one[1]), units[-1])
    count = max(0, int(seconds // size))
    return f"{count} {name}{'s' * (count != 1)}"
