"""Read the catalog of findings from the TOML files beside this module, and check them. Imports no torch.

Each table is an entry: what a finding of a code means. `measured` quotes thresholds by their names, "{MAX_GAIN}": they
are constants of the modules that `checks` names. A case, as `[S30.cases.own_data]`, is another cause or fix of the
entry; the check that reports it fills its placeholders.
"""

from __future__ import annotations

import ast
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError
from stadia.diagnostics.finding import Family, Stage

PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Case:
    """A case of an entry: its own cause or fix with named placeholders; empty where it is that of the entry.

    factor: by which a known mistake makes lengths too long; 0 for any other case.
    """

    cause: str = ""
    fix: str = ""
    factor: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A known failure in general; a Finding describes one occurrence in particular data.

    code: family letter and number.  title: as in a bug report.  stage: when it is checked.
    symptom: what users notice.  cause, fix: in general.
    measured_text: how the check measures it, with the names of its thresholds in braces.
    source: where this failure is documented.  checks: modules that report it, and have its thresholds.
    proof: test with the mutation that this code must find.  cases: other causes and fixes by the name of the case.
    """

    code: str
    title: str
    stage: Stage
    symptom: str
    cause: str
    fix: str
    measured_text: str
    source: str
    checks: tuple[str, ...]
    proof: str
    cases: Mapping[str, Case] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """Return how the check measures it, with its thresholds."""
        return fill_thresholds(self.measured_text, self.checks)

    @property
    def family(self) -> Family:
        """Return the family of the code."""
        return Family(self.code[0])


def load_entries(folder: Path = Path(__file__).parent) -> dict[str, Entry]:
    """Return every entry by its code.

    Raises:
        DataError: naming the file and the code, for a table that is not an entry.
    """
    entries = {}
    for family in Family:
        path = folder / f"{family.name.lower()}.toml"
        for code, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            entries[code] = _read_entry(path, family, code, table)
    return entries


def _read_entry(path: Path, family: Family, code: str, table: dict[str, Any]) -> Entry:
    values = {"measured_text" if name == "measured" else name: value for name, value in table.items()}
    wanted = {entry_field.name for entry_field in fields(Entry)} - {"code", "cases"}
    problems = [f"no {name.removesuffix('_text')}" for name in sorted(wanted) if not values.get(name)]
    problems += [f"unknown {name}" for name in sorted(values.keys() - wanted - {"cases"})]
    if code[:1] != family or not (len(code) == 3 and code[1:].isdigit()):
        problems.append(f"a code outside of {family}00 to {family}99")
    if values.get("stage") not in set(Stage):
        problems.append(f"stage {values.get('stage')!r}")
    if problems:
        expected = "the fields of `Entry` in catalog/entries.py"
        raise DataError(f"{path}, [{code}]", found="; ".join(problems), expected=expected)
    texts = {name: " ".join(values[name].split()) for name in wanted - {"stage", "checks"}}
    cases = {name: _read_case(case) for name, case in values.get("cases", {}).items()}
    return Entry(code=code, stage=Stage(values["stage"]), checks=tuple(values["checks"]), cases=cases, **texts)


def _read_case(table: dict[str, Any]) -> Case:
    texts = {name: " ".join(table.get(name, "").split()) for name in ("cause", "fix")}
    return Case(factor=table.get("factor", 0.0), **texts)


# -- Thresholds: the constants that a text quotes.


class _ThresholdFormatter(string.Formatter):
    """Fills a text with constants of modules: `{NAME}` as a number, `{NAME:%}` in percent, `{NAME[0]}` of a pair."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = modules

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        return find_constant(self.modules, str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "%":
            return f"{100 * value:.3g} %"
        return format(value, format_spec or ".6g").replace("e-0", "e-")


def fill_thresholds(text: str, modules: Sequence[str]) -> str:
    """Return a text whose placeholders are filled with constants of modules, such as `{MAX_GAIN}` or `{MAX_GAIN:%}`.

    Raises KeyError for a name that is no constant of theirs.

    Examples:
        >>> fill_thresholds("above {MAX_GAIN}", ["stadia.diagnostics.monitors.prediction_monitors"])
        'above 1.6'
    """
    return _ThresholdFormatter(modules).format(text)


def find_constant(modules: Sequence[str], name: str) -> object:
    """Return a constant of these modules, or of those that they import from. Raises KeyError where none has it.

    Sources are read, since importing a check of networks imports torch, which takes seconds.
    """
    for module in modules:
        constants, imported = read_constants(module)
        places = [constants, *(read_constants(source)[0] for source in imported if name not in constants)]
        for place in places:
            if name in place:
                return place[name]
    raise KeyError(name)


@cache
def read_constants(module: str) -> tuple[dict[str, object], list[str]]:
    """Return the constants of a module whose values are literals, by name, and the modules that it imports from."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    constants: dict[str, object] = {}
    imported: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stadia."):
            imported.append(str(node.module))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants |= _evaluate(node.targets[0], node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else ()
            for target, value in zip(node.targets[0].elts, values, strict=False):
                constants |= _evaluate(target, value)
    return constants, imported


def _evaluate(target: ast.expr, value: ast.expr) -> dict[str, object]:
    """Return the name and value of an assigned literal or quotient of literals; nothing for another expression."""
    try:
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div):
            return {ast.unparse(target): ast.literal_eval(value.left) / ast.literal_eval(value.right)}
        return {ast.unparse(target): ast.literal_eval(value)}
    except ValueError:
        return {}


# -- The measurements behind the thresholds of the data checks.


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


def load_readings() -> tuple[CalibrationReading, ...]:
    """Return the rows of calibration.toml, with the thresholds of the modules that their `checks` name."""
    text = Path(__file__).with_name("calibration.toml").read_text(encoding="utf-8")
    readings = []
    for row in tomllib.loads(text)["reading"]:
        modules = row.pop("checks")
        readings.append(CalibrationReading(**{name: fill_thresholds(cell, modules) for name, cell in row.items()}))
    return tuple(readings)
