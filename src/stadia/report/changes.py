"""Compare a run with the previous one: configuration, code, data, environment, and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stadia.core.differences import Change, differences, that_matter
from stadia.report import wording
from stadia.report.run_files import RunFiles

IDENTITY = ("code", "data", "version", "seed", "command")  # the parts of run.json that identify what was run


@dataclass(frozen=True)
class Changes:
    """The differences to the previous run in groups; `outcome` compares the scores of both."""

    before: str
    config: list[Change]
    code_and_data: list[Change]
    environment: list[Change]
    outcome: list[Change]

    @property
    def none(self) -> bool:
        return not (self.config or self.code_and_data or self.environment)

    @property
    def confounded(self) -> str:
        """Return a warning where scores are compared and more than one key changed; else "".

        Another seed is another draw of the same, and other paths may lead to the same data, whose fingerprint is
        compared.
        """
        keys = [change.key for change in that_matter(self.config, ("seed", "data.path", "data.cache"))]
        if len(keys) < 2 or not self.outcome:
            return ""
        return f"{len(keys)} keys changed at once ({', '.join(keys)}): scores do not show the effect of any single one."


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping to `dotted.key -> leaf`; lists are leaves."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat


def compare(before: RunFiles, now: RunFiles) -> Changes:
    """Compare two runs."""
    old_result, new_result = flatten(before.result), flatten(now.result)
    return Changes(
        before=before.folder.resolve().name,
        config=differences(before.config, now.config),
        code_and_data=differences(_flatten_identity(before), _flatten_identity(now)),
        environment=differences(flatten(before.run.get("environment", {})), flatten(now.run.get("environment", {}))),
        outcome=[
            Change(key, wording.score_value(key, old_result[key]), wording.score_value(key, value))
            for key, value in new_result.items()
            if key in old_result and wording.score(key).better != "neither"
        ],
    )


def _flatten_identity(run: RunFiles) -> dict[str, Any]:
    return flatten({key: run.run[key] for key in IDENTITY if key in run.run})
