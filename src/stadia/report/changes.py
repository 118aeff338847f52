"""What changed against the run before: configuration, code, data, environment, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stadia.report import wording
from stadia.report.run_files import RunFiles

ABSENT = "not there"
IDENTITY = ("code", "data", "version", "seed", "command")  # the parts of run.json that say what was run


@dataclass(frozen=True)
class Change:
    """One value that differs between two runs, as text."""

    key: str
    before: str
    now: str


@dataclass(frozen=True)
class Changes:
    """Every difference to the run before, in groups; `outcome` compares the scores that both have."""

    before: str
    config: list[Change]
    code_and_data: list[Change]
    environment: list[Change]
    outcome: list[Change]

    @property
    def none(self) -> bool:
        return not (self.config or self.code_and_data or self.environment)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as `dotted.key -> leaf`; lists are leaves."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat


def differences(before: Any, now: Any) -> list[Change]:
    """The leaves that differ, by key."""
    old, new = flatten(before), flatten(now)
    return [
        Change(key, _text(old, key), _text(new, key)) for key in dict.fromkeys([*new, *old]) if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]


def compare(before: RunFiles, now: RunFiles) -> Changes:
    """What changed from one run to the next."""
    old_result, new_result = flatten(before.result), flatten(now.result)
    return Changes(
        before=before.folder.resolve().name,
        config=differences(before.config, now.config),
        code_and_data=differences(*({k: run.run[k] for k in IDENTITY if k in run.run} for run in (before, now))),
        environment=differences(before.run.get("environment", {}), now.run.get("environment", {})),
        outcome=[
            Change(key, wording.score_value(key, old_result[key]), wording.score_value(key, value))
            for key, value in new_result.items()
            if key in old_result and wording.score(key).better != "neither"
        ],
    )


def _text(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else ABSENT
