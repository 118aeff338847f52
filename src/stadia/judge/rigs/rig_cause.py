"""The cause of an error of a calibration between sensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stadia.judge.error import Measured


@dataclass(frozen=True, slots=True)
class RigCause:
    """A cause of an error, which was undone and left a smaller one.

    name: its name, such as "inverse".
    what: what the files have, as a clause.
    fix: what to do, as a clause.
    items: names of the images or cameras that it concerns; empty for all.
    size: how large it is; None without a size.
    unit: unit of the size.
    is_fault: whether results are wrong until it is undone.
    """

    name: str
    what: str
    fix: str
    items: tuple[str, ...] = ()
    size: Measured | None = None
    unit: str = ""
    is_fault: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        size = None if self.size is None else self.size._asdict()
        return {"name": self.name, "what": self.what, "fix": self.fix, "items": list(self.items), "size": size,
                "unit": self.unit or None}  # fmt: skip
