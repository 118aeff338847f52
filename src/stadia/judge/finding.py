"""A Finding: what was measured and expected, the likely cause and the fix; and its JSON lines."""

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError, DataError, mask_secrets, summarize_exception
from stadia.io.atomic_files import atomic_write, write_text
from stadia.io.input_files import MAX_TEXT_BYTES, parse_json_lines, read_bytes, read_text

WRONG_BASELINE = "a wrong baseline"  # goes unnoticed if the baseline cannot be checked


class Severity(StrEnum):
    """stop: training would be wasted. warn: it may work. note: for the record, or why a check could not run."""

    STOP = "stop"
    WARN = "warn"
    NOTE = "note"

    @classmethod
    def stop_if(cls, is_severe: bool) -> "Severity":
        """Return STOP if a measurement is beyond its second threshold, otherwise WARN."""
        return cls.STOP if is_severe else cls.WARN


class Stage(StrEnum):
    """When a finding is made."""

    DATA = "data"
    BEFORE_TRAINING = "before_training"
    START = "start"
    TRAINING = "training"
    EVALUATION = "evaluation"


class Family(StrEnum):
    """Families of findings by the first letter of their codes, causes before effects."""

    DATA = "D"
    INTRINSICS = "K"
    EXTRINSICS = "E"
    VIEW_SYNTHESIS = "S"
    DEPTH_RANGE = "M"
    LOSSES = "L"
    UNCERTAINTY = "U"
    BRIGHTNESS = "B"
    CAMERA_MOTION = "P"
    SMOOTHNESS = "R"
    CAMERA_HEIGHT = "H"
    OBJECTS = "O"
    COMPOSITES = "C"
    TRAINING = "T"
    NOT_CHECKED = "N"

    @property
    def label(self) -> str:
        """The name in words: "camera motion"."""
        return self.name.lower().replace("_", " ")


def find_family(code: str) -> Family | None:
    """Return the family of a code; None for an unknown one.

    Examples:
        >>> find_family("E01").label
        'extrinsics'
    """
    return next((family for family in Family if code[:1] == family), None)


FINDINGS = "findings as JSON, one a line"


class OnStop(StrEnum):
    """What a training does about a finding with severity STOP: halt, or continue with a warning."""

    HALT = "halt"
    WARN = "warn"

    @classmethod
    def parse(cls, value: str) -> "OnStop":
        """Return the member of a name. Raises ConfigError for another name."""
        if value not in list(cls):
            fix = "choose what to do on a finding of severity stop"
            raise ConfigError("on_stop", found=repr(value), expected=" or ".join(map(repr, map(str, cls))), fix=fix)
        return cls(value)


TRAIN_ANYWAY = 'with --on-stop warn (in Python on_stop="warn")'


@dataclass(frozen=True, slots=True)
class Finding:
    """One failure, or one check that could not run.

    measured, expected, cause, fix: one sentence each.
    evidence: numbers by name; lists of equal length are the columns of a table
        ({"sizes": {"hypothesis": [...], "fx": [...]}}). `write_findings` adds {"image": path}.
    where: the affected recordings or files; empty for all of them.
    image: PNG; empty if the numbers suffice.
    """

    code: str
    severity: Severity
    stage: Stage
    measured: str
    expected: str
    cause: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[str, ...] = ()
    image: bytes = field(default=b"", compare=False, repr=False)
    title: str = field(default="", compare=False)

    @property
    def family(self) -> Family | None:
        """The family of the code; None for an unknown one."""
        return find_family(self.code)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, in reading order."""
        values = {name: getattr(self, name) for name in ("measured", "expected", "cause", "fix")}
        named = {"code": self.code, **({"title": self.title} if self.title else {})}
        kind = {**named, "severity": self.severity.value, "stage": self.stage.value}
        return _to_json({**kind, "where": self.where, **values, "evidence": self.evidence})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Finding":
        """Return the inverse of `to_dict`. Raises DataError for a missing or invalid field."""
        try:
            severity, stage = Severity(values["severity"]), Stage(values["stage"])
            measured, expected, cause, fix = (str(values[name]) for name in ("measured", "expected", "cause", "fix"))
            evidence = dict(values.get("evidence", {}))
            where = tuple(map(str, values.get("where", ())))
            code, title = str(values["code"]), str(values.get("title") or "")
            return cls(code, severity, stage, measured, expected, cause, fix, evidence, where, title=title)
        except (KeyError, TypeError, ValueError) as error:
            found, expected = f"{type(error).__name__}: {error}", "the fields of a finding"
            raise DataError("finding", found=found, expected=expected) from error


def merge_findings(findings: Iterable[Finding], key: Callable[[Finding], Hashable]) -> list[Finding]:
    """Return the first finding of each key, with the places of all findings of that key."""
    merged: dict[Hashable, Finding] = {}
    for finding in findings:
        first = merged.setdefault(key(finding), finding)
        merged[key(finding)] = replace(first, where=tuple(dict.fromkeys((*first.where, *finding.where))))
    return list(merged.values())


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, str):
        return mask_secrets(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_findings(path: Path, findings: Iterable[Finding]) -> list[Finding]:
    """Write findings.jsonl and findings/<code>-<n>.png; return the findings with the names of their images."""
    written, count = [], Counter[str]()
    for finding in findings:
        if finding.image:
            count[finding.code] += 1
            name = f"findings/{finding.code}-{count[finding.code]}.png"
            with atomic_write(Path(path).parent / name) as temporary:
                temporary.write_bytes(finding.image)
            finding = replace(finding, evidence={**finding.evidence, "image": name})
        written.append(finding)
    write_text(path, "".join(json.dumps(finding.to_dict(), allow_nan=False) + "\n" for finding in written))
    return written


def append_finding(path: Path, finding: Finding) -> None:
    """Append one finding without an image to findings.jsonl."""
    before = read_text(path, expected=FINDINGS) if Path(path).exists() else ""
    before += "\n" * (before[-1:] not in ("", "\n"))
    write_text(path, before + json.dumps(finding.to_dict(), allow_nan=False) + "\n")


def read_valid_findings(path: Path) -> tuple[list[Finding], list[DataError]]:
    """Read the valid lines of findings.jsonl, and return an error for each other line."""
    findings, damaged = [], []
    expected, fix = "one finding as JSON a line", "delete the line"
    text = read_bytes(path, expected=FINDINGS, max_bytes=MAX_TEXT_BYTES).decode("utf-8", "replace")
    values = parse_json_lines(path, text, expected, fix=fix)
    for number, value in enumerate(values, start=1):
        try:
            if isinstance(value, DataError):
                raise value
            findings.append(Finding.from_dict(value))
        except (AttributeError, DataError) as error:
            found = error.found if isinstance(error, DataError) else summarize_exception(error)
            damaged.append(DataError(f"{path}:{number}", found=found, expected=expected, fix=fix))
    return findings, damaged
