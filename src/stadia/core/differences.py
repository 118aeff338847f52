"""Compare two nested mappings (configurations, facts of runs) key by key. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ABSENT = "not there"

CHANGE_NO_RESULT = frozenset(
    {
        "name",
        *(f"training.{key}" for key in ("workers", "loggers", "checkpoint_every", "images_every", "histograms_every")),
    }
)
"""Keys of a configuration that change no loss and no weight."""


@dataclass(frozen=True)
class Change:
    """One key whose value differs, both values as text; ABSENT where one side has no such key."""

    key: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.now}"

    def under(self, keys: Iterable[str]) -> bool:
        """Return whether the key is one of these keys or lies in one of these groups."""
        return any(f"{self.key}.".startswith(f"{key}.") for key in keys)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[Change]:
    """Return each dotted key that differs. A group that only one side has is one change; so is a list, or `null` for a
    group.
    """
    changes = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key, ABSENT), now.get(key, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            changes.append(Change(f"{prefix}{key}", str(old), str(new)))
    return changes


def that_matter(changes: Iterable[Change], free: Iterable[str] = ()) -> list[Change]:
    """Return the changes that may alter the result of a training: all but CHANGE_NO_RESULT and `free` keys or groups.

    Two runs measure the effect of a key only where it is the only change.
    """
    ignored = {*CHANGE_NO_RESULT, *free}
    return [change for change in changes if not change.under(ignored)]
