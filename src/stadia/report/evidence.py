"""Arrange a finding's evidence for report and terminal: numbers by name, and small tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stadia.report import wording


@dataclass(frozen=True)
class Evidence:
    """numbers: (name, value) as text.  tables: those of a hypothesis a row, or of a frame a row; matrices.  image:
    path, or empty.
    """

    numbers: list[tuple[str, str]]
    tables: list[EvidenceTable]
    image: str


@dataclass(frozen=True)
class EvidenceTable:
    """title, and head, may be empty (a matrix has no head).  rows: text, a cell for each column."""

    title: str
    head: list[str]
    rows: list[list[str]]


def arrange(evidence: Mapping[str, Any]) -> Evidence:
    """Arrange evidence: lists of one length become columns of a table, nested lists a matrix, and a mapping's key its
    title.
    """
    numbers: list[tuple[str, str]] = []
    tables: list[EvidenceTable] = []
    named = {name: value for name, value in evidence.items() if isinstance(value, Mapping)}
    beside = {name: value for name, value in evidence.items() if name not in named and name != "image"}
    for title, group in (("", beside), *named.items()):
        columns: dict[int, dict[str, list[Any]]] = {}
        for name, value in group.items():
            if isinstance(value, list | tuple) and value and all(isinstance(row, list | tuple) for row in value):
                tables.append(EvidenceTable(str(name), [], [list(map(text, row)) for row in value]))
            elif isinstance(value, list | tuple):
                columns.setdefault(len(value), {})[str(name)] = list(value)
            else:
                numbers.append((f"{title} {name}".strip(), text(value)))
        for same in columns.values():
            if len(same) > 1:
                tables.append(
                    EvidenceTable(
                        str(title), list(same), [list(map(text, row)) for row in zip(*same.values(), strict=True)]
                    )
                )
            else:
                numbers += [(f"{title} {name}".strip(), text(values)) for name, values in same.items()]
    image = evidence.get("image")
    return Evidence(numbers, tables, image if isinstance(image, str) else "")


def text(value: Any) -> str:
    """Format numbers to three digits, lists on one line."""
    return "  ".join(map(wording.number, value)) if isinstance(value, list | tuple) else wording.number(value)
