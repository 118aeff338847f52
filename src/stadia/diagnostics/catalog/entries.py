"""Read the catalog of findings from TOML files. Imports no torch.

`measured` quotes constants of the modules in `checks` by name: "{MAX_GAIN}". A case, `[S30.cases.own_data]`, has
another cause or fix; the check that reports it fills its placeholders. `[default]` has fields that entries share.
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
    """A cause or fix that replaces the entry's; empty to keep it. factor: of distances, for a known mistake; else 0."""

    cause: str = ""
    fix: str = ""
    factor: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A known failure. A Finding is one occurrence of it.

    measured_text: how the check measures it, with the names of its thresholds in braces.
    checks: modules that report it and have its thresholds.  proof: test with a mutation that has this finding.
    source: document of this failure.  cases: other causes and fixes by name.
    """

    code: str
    title: str
    stage: Stage
    symptom: str
    cause: str
    fix: str
    measured_text: str
    checks: tuple[str, ...]
    proof: str
    source: str = ""
    cases: Mapping[str, Case] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """How the check measures it, with its thresholds."""
        return fill_thresholds(self.measured_text, self.checks)

    @property
    def family(self) -> Family:
        """The family of the code."""
        return Family(self.code[0])


def load_entries(folder: Path = Path(__file__).parent) -> dict[str, Entry]:
    """Return every entry by its code. Raises DataError for a table that is not an entry."""
    entries = {}
    for family in Family:
        path = folder / f"{family.name.lower()}.toml"
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        defaults = tables.pop("default", {})
        for code, table in tables.items():
            entries[code] = _read_entry(path, family, code, defaults | table)
    return entries


def _read_entry(path: Path, family: Family, code: str, table: dict[str, Any]) -> Entry:
    values = {"measured_text" if name == "measured" else name: value for name, value in table.items()}
    wanted = {entry_field.name for entry_field in fields(Entry)} - {"code", "cases", "source"}
    problems = [f"no {name.removesuffix('_text')}" for name in sorted(wanted) if not values.get(name)]
    problems += [f"unknown {name}" for name in sorted(values.keys() - wanted - {"cases", "source"})]
    if code[:1] != family or not (len(code) == 3 and code[1:].isdigit()):
        problems.append(f"a code outside of {family}00 to {family}99")
    if values.get("stage") not in set(Stage):
        problems.append(f"stage {values.get('stage')!r}")
    if problems:
        expected = "the fields of `Entry` in catalog/entries.py"
        raise DataError(f"{path}, [{code}]", found="; ".join(problems), expected=expected)
    texts = {name: " ".join(values[name].split()) for name in values.keys() - {"stage", "checks", "cases"}}
    cases = {name: _read_case(case) for name, case in values.get("cases", {}).items()}
    return Entry(code=code, stage=Stage(values["stage"]), checks=tuple(values["checks"]), cases=cases, **texts)


def _read_case(table: dict[str, Any]) -> Case:
    texts = {name: " ".join(table.get(name, "").split()) for name in ("cause", "fix")}
    return Case(factor=table.get("factor", 0.0), **texts)


# -- Thresholds.


class _ThresholdFormatter(string.Formatter):
    """Format constants of modules: `{NAME}` as a number, `{NAME:%}` in percent, `{NAME[0]}` of a pair."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = modules

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        return find_constant(self.modules, str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "%":
            return f"{100 * value:.3g} %"
        return format(value, format_spec or ".6g").replace("e-0", "e-")


def fill_thresholds(text: str, modules: Sequence[str]) -> str:
    """Fill `{MAX_GAIN}` or `{MAX_GAIN:%}` in a text with constants of modules. Raises KeyError for an unknown name.

    Examples:
        >>> fill_thresholds("above {MAX_GAIN}", ["stadia.diagnostics.monitors.prediction_monitors"])
        'above 1.6'
    """
    return _ThresholdFormatter(modules).format(text)


def find_constant(modules: Sequence[str], name: str) -> object:
    """Return a constant of these modules or of their imports, by source, which imports no torch. Raises KeyError."""
    for module in modules:
        constants, imported = read_constants(module)
        places = [constants, *(read_constants(source)[0] for source in imported if name not in constants)]
        for place in places:
            if name in place:
                return place[name]
    raise KeyError(name)


@cache
def read_constants(module: str) -> tuple[dict[str, object], list[str]]:
    """Return the literal constants of a module by name, and the modules that it imports from."""
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
    try:
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div):
            return {ast.unparse(target): ast.literal_eval(value.left) / ast.literal_eval(value.right)}
        return {ast.unparse(target): ast.literal_eval(value)}
    except ValueError:
        return {}
