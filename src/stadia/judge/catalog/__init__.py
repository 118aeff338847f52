"""The catalog of findings: every code with its symptom, cause and fix; and the root cause of a run."""

import ast
import string
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError
from stadia.judge import limits
from stadia.judge.finding import Family, Finding, Severity, Stage, find_family

PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Case:
    """A cause or fix that replaces the entry's; empty to keep it.

    factor: factor on distances that a known mistake causes; else 0.
    """

    cause: str = ""
    fix: str = ""
    factor: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A known failure. A Finding is one occurrence of it.

    measured_text: how the check measures it, with the names of its thresholds in braces.
    checks: modules that report it and have its thresholds.
    proof: test with a mutation that has this finding.
    source: document of this failure.
    cases: other causes and fixes by name.
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
        expected = "the fields of `stadia.judge.catalog.Entry`"
        raise DataError(f"{path}, [{code}]", found="; ".join(problems), expected=expected)
    texts = {name: " ".join(values[name].split()) for name in values.keys() - {"stage", "checks", "cases"}}
    cases = {name: _read_case(case) for name, case in values.get("cases", {}).items()}
    return Entry(code=code, stage=Stage(values["stage"]), checks=tuple(values["checks"]), cases=cases, **texts)


def _read_case(table: dict[str, Any]) -> Case:
    texts = {name: " ".join(table.get(name, "").split()) for name in ("cause", "fix")}
    return Case(factor=table.get("factor", 0.0), **texts)


# -- Thresholds.


class _ThresholdFormatter(string.Formatter):
    """Format limits and constants: `{NAME}` as a number, `{NAME:%}` in percent, `{NAME[0]}` of a pair.

    `{SCALE_LIMITS[deviation].doubtful}` is a bound of a table of `judge.limits`.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = modules

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        return getattr(limits, str(key), None) or find_constant(self.modules, str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "%":
            return f"{100 * value:.3g} %"
        return format(value, format_spec or ".6g").replace("e-0", "e-")


def fill_thresholds(text: str, modules: Sequence[str]) -> str:
    """Fill `{MAX_GAIN}` or `{MAX_GAIN:%}` in a text with constants of modules. Raises KeyError for an unknown name."""
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


CATALOG: dict[str, Entry] = load_entries()  # every entry by its code


def make_finding(
    code: str,
    severity: Severity,
    measured: str,
    expected: str,
    *,
    case: str = "",
    values: Mapping[str, object] | None = None,
    where: str | Sequence[str] = (),
    cause: str | None = None,
    fix: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Finding:
    """Create a finding with the cause and the fix from the catalog.

    code: code of the catalog's entry, such as "E01".
    severity: stop, warn or note.
    measured, expected: the measured value and the valid one, as text.
    case: name of a case of the entry; its cause and fix replace the entry's.
    values: values for the placeholders of the case, by name.
    where: the recording or file, or several of them.
    cause, fix: texts that replace the catalog's.
    evidence: measurements behind the finding, by name.

    Examples:
        >>> from stadia.judge.finding import Severity
        >>> finding = make_finding("E01", Severity.STOP, "baseline -0.54 m", "baseline 0.54 m")
        >>> finding.code, finding.measured
        ('E01', 'baseline -0.54 m')
    """
    entry = CATALOG[code]
    chosen = describe_case(code, case, values or {}) if case else Case(entry.cause, entry.fix)
    return Finding(
        code=code,
        severity=severity,
        stage=entry.stage,
        measured=measured,
        expected=expected,
        cause=cause or chosen.cause,
        fix=fix or chosen.fix,
        evidence=evidence or {},
        where=((where,) if where else ()) if isinstance(where, str) else tuple(where),
        title=entry.title,
    )


def describe_case(code: str, case: str, values: Mapping[str, object]) -> Case:
    """Return the cause and the fix of a case. The entry supplies a missing one.

    code: code of the catalog's entry.
    case: name of the case.
    values: values for the placeholders of the case, by name.
    """
    entry = CATALOG[code]
    given = entry.cases[case]
    return Case((given.cause or entry.cause).format_map(values), (given.fix or entry.fix).format_map(values))


_RANK = {Severity.STOP: 0, Severity.WARN: 1, Severity.NOTE: 2}


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Sort by family, then by severity, then by code."""
    families = list(Family)
    return sorted(
        findings,
        key=lambda finding: (
            families.index(Family(finding.code[0])),
            _RANK[finding.severity],
            finding.code,
            finding.where,
        ),
    )


# -- The chain of causes.

VERDICT_CODES = "M30", "M31", "M32", "M33", "M34", "M35", "M36", "M37", "S30", "T40"
"""Findings of the verdict on a run's predictions."""


class OwnLink(StrEnum):
    """Codes with another place in the chain of causes than their family."""

    OPTIMIZER = "optimizer"
    """Weights that change too little or too much look like wrong data from view synthesis on."""

    SPLITS = "splits"
    """Splits that share data distort only scores."""

    SHORT_TRAINING = "short training"
    """A training that hardly learned."""

    VERDICT = "verdict"
    """The verdict on predictions is a symptom of everything before it."""


Link = Family | OwnLink

OWN_LINKS: dict[str, OwnLink] = {  # codes whose link is not their family
    **dict.fromkeys(("T02", "T09", "T10", "T14", "T15", "T20", "T21", "T22", "T23"), OwnLink.OPTIMIZER),
    **dict.fromkeys(("D09", "D10", "D12", "D13", "C01", "C02"), OwnLink.SPLITS),
    **dict.fromkeys(VERDICT_CODES, OwnLink.VERDICT),
    "T40": OwnLink.SHORT_TRAINING,
}

LEARNING: tuple[Link, ...] = (  # families of training on video: a fault in one shows in the later ones
    Family.VIEW_SYNTHESIS,
    Family.DEPTH_RANGE,
    Family.LOSSES,
    Family.UNCERTAINTY,
    Family.BRIGHTNESS,
    Family.CAMERA_MOTION,
    Family.SMOOTHNESS,
    Family.CAMERA_HEIGHT,
)

OUTCOME: tuple[Link, ...] = (Family.TRAINING, OwnLink.SHORT_TRAINING, OwnLink.VERDICT)
"""Links that finally show every training fault."""

EFFECTS: dict[Link, frozenset[Link]] = {  # links in order of causes, with the links that show their symptoms
    Family.DATA: frozenset(
        {Family.INTRINSICS, Family.EXTRINSICS, *LEARNING, Family.OBJECTS, Family.COMPOSITES, *OUTCOME}
    ),
    Family.INTRINSICS: frozenset({Family.EXTRINSICS, *LEARNING, Family.OBJECTS, *OUTCOME}),
    Family.EXTRINSICS: frozenset({*LEARNING, *OUTCOME}),
    OwnLink.OPTIMIZER: frozenset({*LEARNING, Family.OBJECTS, Family.COMPOSITES, *OUTCOME}) - {Family.LOSSES},
    **{family: frozenset({*LEARNING[place + 1 :], *OUTCOME}) for place, family in enumerate(LEARNING)},
    Family.OBJECTS: frozenset({Family.TRAINING}),
    Family.COMPOSITES: frozenset({Family.TRAINING}),
    Family.TRAINING: frozenset({OwnLink.SHORT_TRAINING, OwnLink.VERDICT}),
    OwnLink.SHORT_TRAINING: frozenset({OwnLink.VERDICT}),
    OwnLink.VERDICT: frozenset(),
    OwnLink.SPLITS: frozenset(),
    Family.NOT_CHECKED: frozenset(),
}

NEVER_A_CAUSE = {"T06"}  # Findings about time change no training run.


def find_link(code: str) -> Link:
    """Return the key of EFFECTS to which a finding code belongs: its own link, or its family.

    Raises ValueError for an unknown family.
    """
    return OWN_LINKS.get(code) or Family(code[:1])


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The finding to fix first, its possible symptoms, findings with another cause, and checks that did not run."""

    first: Finding | None
    follows: tuple[Finding, ...]
    apart: tuple[Finding, ...]
    unchecked: tuple[Finding, ...]

    @property
    def stops(self) -> int:
        """Number of findings with severity STOP."""
        every = (*([self.first] if self.first else []), *self.follows, *self.apart)
        return sum(finding.severity is Severity.STOP for finding in every)


def find_root_cause(findings: Sequence[Finding]) -> Diagnosis:
    """Choose the first finding to fix: a stop before a warning, then the earliest in EFFECTS.

    Notes and NEVER_A_CAUSE are never first; a stop of the verdict is first only if no warning may have caused it.
    """
    chain = list(EFFECTS)
    ordered = sort_findings(finding for finding in findings if find_family(finding.code) is not None)
    ordered.sort(key=lambda finding: chain.index(find_link(finding.code)))
    unchecked = tuple(finding for finding in ordered if finding.family is Family.NOT_CHECKED)
    checked = [finding for finding in ordered if finding.family is not Family.NOT_CHECKED]
    causes = [finding for finding in checked if finding.code not in NEVER_A_CAUSE]
    severe = [finding for level in (Severity.STOP, Severity.WARN) for finding in causes if finding.severity is level]
    first = next(iter(severe), None)
    if first is None:
        return Diagnosis(None, (), tuple(checked), unchecked)
    if first.code in VERDICT_CODES:
        leading = (cause for cause in causes if cause.severity is not Severity.NOTE and _may_follow(cause, first))
        first = next((cause for cause in leading if find_link(cause.code) is not OwnLink.VERDICT), first)
    rest = [finding for finding in checked if finding is not first]
    follows = tuple(finding for finding in rest if _may_follow(first, finding))
    apart = tuple(finding for finding in rest if not _may_follow(first, finding))
    return Diagnosis(first, follows, apart, unchecked)


def _may_follow(first: Finding, finding: Finding) -> bool:
    if finding.severity is Severity.NOTE or finding.code in NEVER_A_CAUSE:
        return False
    return finding.code == first.code or find_link(finding.code) in EFFECTS[find_link(first.code)]


NOT_CHECKED = "N01"
SAMPLED = "N02"


class NotChecked(Exception):
    """A check cannot run; the message has the reason.

    hides: a common mistake that would go unnoticed.
    is_out_of_time: whether it lacks time.
    """

    def __init__(self, reason: str, *, hides: str = "", is_out_of_time: bool = False) -> None:
        super().__init__(reason)
        self.hides = hides
        self.is_out_of_time = is_out_of_time


def make_not_checked(
    check: str,
    reason: str,
    where: str = "",
    *,
    hides: str = "",
    is_out_of_time: bool = False,
    case: str = "",
    values: dict[str, object] | None = None,
) -> Finding:
    """Create the finding N01, which records a check that could not run.

    check: what could not be checked.
    reason: why it could not be checked.
    where: the recording or file.
    hides: a common mistake that would go unnoticed.
    is_out_of_time: whether the check lacked time.
    case, values: a case of the entry, and the values for its placeholders.
    """
    evidence: dict[str, object] = {"check": check, "reason": reason}
    evidence |= {"hides": hides} if hides else {}
    evidence |= {"is_out_of_time": True} if is_out_of_time else {}
    return make_finding(
        NOT_CHECKED,
        Severity.NOTE,
        f"{check}: {reason}",
        "something to compare with",
        case=case,
        values=values,
        where=where,
        evidence=evidence,
    )
