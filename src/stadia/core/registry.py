"""Map the names of parts to the modules that define them, without importing these."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from stadia.core.errors import ConfigError


def find_nearest_name(name: str, valid: Mapping[str, object] | list[str]) -> str | None:
    """Return the valid name closest to a misspelt one, or None where nothing is close."""
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return found[0] if found else None


class Registry(Mapping[str, str]):
    """A read-only table from a part's name to `"module:attribute"`.

    Args:
        kind: the singular name of the parts for error messages ("loss", "dataset").
        parts: name to `"package.module:attribute"`.
        refused: names of known mistakes, and why there is no such part.
    """

    def __init__(self, kind: str, parts: Mapping[str, str], refused: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._parts = dict(parts)
        self._refused = dict(refused or {})

    def __getitem__(self, name: str) -> str:
        self.check(name)
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def check(self, name: str) -> str:
        """Return the name itself. Raises ConfigError with the nearest valid one. Imports nothing."""
        if name in self._refused or name not in self._parts:
            near = find_nearest_name(name, self._parts)
            fix = self._refused.get(name) or (f"did you mean '{near}'?" if near else "see `stadia list`")
            raise ConfigError(self.kind, found=f"'{name}'", expected=f"one of {', '.join(self._parts)}", fix=fix)
        return name

    def load(self, name: str) -> Any:
        """Import the part and return it."""
        module, attribute = self[name].split(":")
        return getattr(importlib.import_module(module), attribute)
