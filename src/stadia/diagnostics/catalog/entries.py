"""Read the catalog of findings from the TOML files beside this module, and check them. Imports no torch.

Each table is an entry (what a finding means) with its trace: the lines of the project's specifications behind it, or a
bug of this project, and the test that proves it. Lines are "4.1 A5" (self-supervised), "F-09" (metric scale), "D-09",
"P-20" or "M-14" (DPT, pose, mask). docs/developing/lines-without-a-finding.md lists the other lines, and
tests/diagnostics/catalog/test_entries.py checks both.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError
from stadia.diagnostics import loss_checks
from stadia.diagnostics.finding import Stage

FAMILIES: dict[str, str] = {
    "D": "data",
    "K": "intrinsics",
    "E": "extrinsics",
    "S": "view synthesis",
    "M": "depth range",
    "L": "losses",
    "U": "uncertainty",
    "B": "brightness",
    "P": "camera motion",
    "R": "smoothness",
    "H": "camera height",
    "O": "objects",
    "C": "composites",
    "T": "training",
    "N": "not checked",
}
"""Families by the first letter of a code, causes before effects. The file of a family has its name:
`camera_motion.toml`.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A known failure in general; a Finding describes one occurrence in particular data.

    code: family letter and number.  title: as in a bug report.  stage: when it is checked.
    symptom: what users notice.  cause, fix: in general.  measured: how the check measures it, and its thresholds.
    source: where this failure is documented.
    """

    code: str
    title: str
    stage: Stage
    symptom: str
    cause: str
    fix: str
    measured: str
    source: str


TRACE_FIELDS = {"proof", "lines", "here"}


@cache
def read_tables(folder: Path = Path(__file__).parent) -> dict[str, dict[str, Any]]:
    """Read the TOML files of all families. Return their tables by code, with thresholds filled in.

    Thresholds that code and texts share are constants of `loss_checks`, in braces in the text:
    "{MIN_COLOR_COST:.0%}".

    Raises:
        DataError: naming the file and the code, for a table that is not an entry.
    """
    tables: dict[str, dict[str, Any]] = {}
    for letter, family in FAMILIES.items():
        path = folder / f"{family.replace(' ', '_')}.toml"
        for code, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            tables[code] = _check_table(path, letter, code, table)
    return tables


def load_entries() -> dict[str, Entry]:
    """Return every entry by its code."""
    names = [field.name for field in fields(Entry) if field.name not in ("code", "stage")]
    return {
        code: Entry(code=code, stage=Stage(table["stage"]), **{name: table[name] for name in names})
        for code, table in read_tables().items()
    }


def _check_table(path: Path, letter: str, code: str, table: dict[str, Any]) -> dict[str, Any]:
    wanted = {field.name for field in fields(Entry)} - {"code"} | {"proof"}
    problems = [f"no {name}" for name in sorted(wanted - table.keys())]
    problems += [f"unknown {name}" for name in sorted(table.keys() - wanted - TRACE_FIELDS)]
    if code[:1] != letter or not (len(code) == 3 and code[1:].isdigit()):
        problems.append(f"a code outside of {letter}00 to {letter}99")
    if table.get("stage") not in set(Stage):
        problems.append(f"stage {table.get('stage')!r}")
    if ("lines" in table) == ("here" in table):
        problems.append("not exactly one of lines and here")
    filled = {}
    for name, value in table.items():
        try:
            filled[name] = " ".join(value.split()).format_map(vars(loss_checks)) if isinstance(value, str) else value
        except (KeyError, ValueError) as error:
            problems.append(f"{name} with {error}")
    if problems:
        expected = "the fields of Entry and Trace, with thresholds of loss_checks/__init__.py in braces"
        raise DataError(f"{path}, [{code}]", found="; ".join(problems), expected=expected, fix="correct the table")
    return filled


@dataclass(frozen=True, slots=True)
class Trace:
    """Where an entry comes from: lines of the specifications, or `here`, a bug of this project; and its proof, the file
    of the mutation that this code must find.
    """

    proof: str
    lines: tuple[str, ...] = ()
    here: str = ""


TRACES = {
    code: Trace(table["proof"], tuple(table.get("lines", ())), table.get("here", ""))
    for code, table in read_tables().items()
}
"""Traces by the code of the finding."""


@dataclass(frozen=True, slots=True)
class CalibrationReading:
    """A measurement of the preflight checks: its ranges on clean and on broken data, from which thresholds come."""

    measurement: str
    codes: str
    roadworld: str
    real: str
    broken: str
    warns: str
    stops: str


CALIBRATION = tomllib.loads(Path(__file__).with_name("calibration.toml").read_text(encoding="utf-8"))

READINGS = tuple(CalibrationReading(**table) for table in CALIBRATION["reading"])
