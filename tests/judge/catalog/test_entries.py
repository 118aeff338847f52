"""Entries of the catalog: complete, with thresholds from the code, and with cases that the checks report."""

import ast
import re
import string
from collections import defaultdict
from dataclasses import fields
from itertools import permutations
from pathlib import Path

import pytest
from tests.refusals import refuses
from tests.source_trees import list_nodes

import stadia
from stadia.core.errors import DataError
from stadia.judge import catalog, limits
from stadia.judge.catalog import (
    CATALOG,
    EFFECTS,
    NOT_CHECKED,
    OWN_LINKS,
    SAMPLED,
    Diagnosis,
    Entry,
    describe_case,
    fill_thresholds,
    find_link,
    find_root_cause,
    load_entries,
    make_finding,
    read_constants,
)
from stadia.judge.finding import Family, Finding, Severity, Stage
from stadia.training.loss_checks import loss_properties

ROOT = Path(__file__).parents[3]
PACKAGE = Path(stadia.__file__).parent
CASES = [(code, name) for code, entry in CATALOG.items() for name, case in entry.cases.items() if not case.factor]


def find_source(module: str) -> Path:
    place = PACKAGE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@pytest.mark.slow
def test_entries_are_complete() -> None:
    for code, entry in CATALOG.items():
        assert code == entry.code
        assert all(getattr(entry, field.name) for field in fields(Entry) if field.name not in ("cases", "source")), code
        assert "{" not in entry.measured
        assert re.search(rf"\b{code}\b", (ROOT / entry.proof).read_text(encoding="utf-8")), entry.proof
        assert all(find_source(module).is_file() for module in entry.checks), code


def test_recording_findings_are_proven_on_recordings() -> None:
    proven = {entry.family for entry in CATALOG.values() if entry.proof == "tests/mutations/recordings.py"}
    assert proven == {Family.DATA, Family.INTRINSICS, Family.EXTRINSICS, Family.BRIGHTNESS}


def test_codes_of_checks_are_those_of_the_catalog() -> None:
    folders = [
        PACKAGE / name for name in ("judge", "training", "predict", "scale", "sfm", "cli", "objectpose", "overlay")
    ]
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py") if path.parent.name != "catalog"]
    named = {code for source in sources for code in re.findall(r'"([A-Z][0-9]{2})"', source)}
    assert named | {NOT_CHECKED, SAMPLED} == set(CATALOG)


# -- Thresholds live in the code.

NUMBER = re.compile(r"(?<![\w./])-?(\d+\.\d+|\d+|\.\d+)(e-?\d+)?( %)?(?![\w/]|\.\d)")

COINCIDENCES = {"D08": {"8"}, "H13": {"1 %"}, "M21": {"5 %"}, "M22": {"5 %"}, "M30": {"95 %"}}
"""Typed numbers of an entry that equal a constant of its modules by chance."""


def find_typed_numbers(text: str) -> dict[str, float]:
    """Return the numbers of a text outside of placeholders, by how they are typed; 0 to 3 count things."""
    without = re.sub(r"\{[^}]*\}", "X", text)
    numbers = {}
    for match in NUMBER.finditer(without):
        value = float(match[1] + (match[2] or "")) / (100 if match[3] else 1)
        if value not in (0, 1, 2, 3):
            numbers[match[0]] = value
    return numbers


def find_typed_thresholds(entry: Entry) -> dict[str, str]:
    """Return the typed numbers of an entry that a constant of its modules or a quoted table has, with the name."""
    values = [(name, value) for module in entry.checks for name, value in read_constants(module)[0].items()]
    tables = {
        name: getattr(limits, name)
        for name in re.findall(r"\{([A-Z_]+)\[", entry.measured_text)
        if hasattr(limits, name)
    }
    values += [
        (name, tuple(limit.bounds.values.values())) for name, table in tables.items() for limit in table.values()
    ]
    thresholds = [
        (name, abs(number))
        for name, value in values
        for number in (value if isinstance(value, tuple) else (value,))
        if isinstance(number, int | float)
    ]
    return {
        text: name
        for text, number in find_typed_numbers(entry.measured_text).items()
        for name, value in thresholds
        if value == number
    }


def test_no_threshold_is_typed_again_in_the_text() -> None:
    """Quote constants as {NAME}, or list them in COINCIDENCES."""
    repeated = {code: find_typed_thresholds(entry) for code, entry in CATALOG.items()}
    assert {code: found for code, found in repeated.items() if found.keys() != COINCIDENCES.get(code, set())} == {}


def test_a_constant_of_the_diagnostics_has_one_value() -> None:
    """Two thresholds have two names: a text, and a reader, would take the one for the other."""
    values = defaultdict(set)
    folders = (PACKAGE / "judge", PACKAGE / "training" / "loss_checks", PACKAGE / "training" / "monitors")
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        module = ".".join(("stadia", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for name, value in read_constants(module)[0].items():
            values[name].add(repr(value))
    assert len(values) > 200
    assert {name: found for name, found in values.items() if len(found) > 1 and name.isupper()} == {}


def test_thresholds_are_filled_for_people() -> None:
    checks = ["stadia.training.loss_checks.loss_properties"]
    text = fill_thresholds("{MIN_COLOR_COST:%}, {MAX_ROUNDING_CHANGE}, {EPSILONS[0]}", checks)
    assert text == f"{loss_properties.MIN_COLOR_COST:.0%}, 1e-5, 0.001".replace("%", " %")
    assert fill_thresholds("{FROM_STEP}", ["stadia.training.monitors.training_monitor"]) == "100", "imported"
    with pytest.raises(KeyError):
        fill_thresholds("{MIN_TASTE}", checks)


# -- Cases: other causes and fixes.


def test_a_case_is_reported_with_all_of_its_values() -> None:
    """A file of the package names the case and each of its placeholders."""
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    unreported = []
    for code, name in CASES:
        case = CATALOG[code].cases[name]
        placeholders = {field for _, field, _, _ in string.Formatter().parse(case.cause + case.fix) if field}
        words = [f'"{word}"' for word in (name, *placeholders)]
        if not any(all(word in source for word in words) for source in sources):
            unreported.append((code, words))
    assert unreported == []


def test_a_case_replaces_cause_and_fix() -> None:
    finding = make_finding(
        "E11", Severity.WARN, "m", "e", case="shifted", values={"frames": "2 frames late", "shift": 2}
    )
    assert (finding.cause, finding.fix[:28]) == ("the poses are 2 frames late", "give image i the pose i2, or")
    only_fix = describe_case("D06", "factor", {"factor": 4})
    assert (only_fix.cause, only_fix.fix) == (CATALOG["D06"].cause, "divide the ground truth by 4")
    with pytest.raises(KeyError):
        make_finding("E11", Severity.WARN, "m", "e", case="shifted")


def test_known_mistakes_have_both_texts() -> None:
    mistakes = [case for entry in CATALOG.values() for case in entry.cases.values() if case.factor]
    assert len(mistakes) > 20
    assert all(case.cause and case.fix for case in mistakes)


# -- Tables that are no entry.

ENTRY = """
[R01]
title = "t"
stage = "before_training"
symptom = "s"
cause = "c"
fix = "f"
measured = "above {MAX_SMOOTHNESS_SHARE:%}"
checks = ["stadia.training.loss_checks.init_checks"]
proof = "tests/mutations/training_starts.py"
"""


def write_catalog(folder: Path, text: str) -> Path:
    """Copy the catalog, with the file of one family replaced."""
    for path in Path(catalog.__file__).parent.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "smoothness.toml").write_text(text)
    return folder


def test_an_entry_is_read(tmp_path: Path) -> None:
    assert load_entries(write_catalog(tmp_path, ENTRY))["R01"].measured == "above 30 %"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("R01", "S01", "a code outside of R00 to R99"),
        ('cause = "c"', "", "no cause"),
        ('measured = "above {MAX_SMOOTHNESS_SHARE:%}"', "", "no measured"),
        ('cause = "c"', 'cause = "c"\ncure = "f"', "unknown cure"),
        ('"before_training"', '"sometime"', "stage 'sometime'"),
    ],
)
def test_invalid_entry_is_refused_with_its_file_and_code(old: str, new: str, found: str, tmp_path: Path) -> None:
    with refuses(DataError, where=("smoothness.toml", "01")) as error:
        load_entries(write_catalog(tmp_path, ENTRY.replace(old, new)))
    assert found in str(error.value)


STOP, WARN, NOTE = Severity.STOP, Severity.WARN, Severity.NOTE


def found(code: str, severity: Severity = WARN, *where: str) -> Finding:
    return Finding(code, severity, Stage.DATA, "measured", "expected", "cause", "fix", where=where)


def codes(diagnosis: Diagnosis) -> tuple[str, list[str], list[str], list[str]]:
    rest = ([other.code for other in some] for some in (diagnosis.follows, diagnosis.apart, diagnosis.unchecked))
    return (diagnosis.first.code if diagnosis.first else "", *rest)


CHAIN = [
    found("K04", STOP),
    found("E09"),
    found("U02"),
    found("H09"),
    found("T07"),
    found("C06"),
    found("D10", NOTE),
    found("N01", NOTE),
]


def test_first_finding_is_the_cause_and_unrelated_ones_stand_apart() -> None:
    for order in list(permutations(CHAIN))[::977]:
        diagnosis = find_root_cause(list(order))
        assert codes(diagnosis) == ("K04", ["E09", "U02", "H09", "T07"], ["C06", "D10"], ["N01"]), order
        assert diagnosis.stops == 1


def test_stop_comes_before_warning() -> None:
    """A stop is no symptom of a warning."""
    diagnosis = find_root_cause([found("E01", STOP), found("D03"), found("T07")])
    assert codes(diagnosis) == ("E01", ["T07"], ["D03"], [])
    assert diagnosis.stops == 1


@pytest.mark.parametrize(
    ("findings", "first", "apart"),
    [
        ([found("S20"), found("P21"), found("T20", STOP)], "T20", []),
        ([found("S20"), found("M20"), found("T14")], "T14", []),
        ([found("M22"), found("T02")], "T02", []),
        ([found("K04", STOP), found("E01", STOP), found("D10")], "K04", ["D10"]),
        ([found("T07"), found("D13")], "T07", ["D13"]),
        ([found("T09"), found("E03"), found("M20")], "E03", ["T09"]),
        ([found("T06")], "", ["T06"]),  # a measurement of the training changes nothing in it
        ([found("T06"), found("T07")], "T07", ["T06"]),
    ],
)
def test_codes_with_a_link_other_than_their_family(findings: list[Finding], first: str, apart: list[str]) -> None:
    diagnosis = find_root_cause(findings)
    assert (diagnosis.first.code if diagnosis.first else "", [other.code for other in diagnosis.apart]) == (
        first,
        apart,
    )


def test_worst_finding_of_a_family_is_first() -> None:
    diagnosis = find_root_cause([found("E03"), found("E09", STOP), found("E09", STOP, "another recording")])
    assert (diagnosis.first, codes(diagnosis)[1:]) == (found("E09", STOP), (["E09"], ["E03"], []))


def test_notes_are_never_first() -> None:
    assert codes(find_root_cause([found("D13", NOTE), found("N02", NOTE)])) == ("", [], ["D13"], ["N02"])
    assert find_root_cause([]) == Diagnosis(None, (), (), ())
    assert find_root_cause([found("Z99")]) == Diagnosis(None, (), (), ())


def test_causes_cover_every_code_and_point_forward() -> None:
    order = list(EFFECTS)
    assert [link for link in order if isinstance(link, Family)] == list(Family)
    assert {find_link(code) for code in CATALOG} == set(order)
    assert set(OWN_LINKS) <= set(CATALOG)
    for link, effects in EFFECTS.items():
        assert all(order.index(effect) > order.index(link) for effect in effects)
    with pytest.raises(ValueError, match="Z"):
        find_link("Z99")


CODE = re.compile(rf"(?<![\w/.#-])[{''.join(Family)}]-?\d\d(?!\w|\.\d)")
"""Also with a hyphen: `D-08` is a line of another document, which `stadia explain` does not know."""


def find_texts(path: Path) -> list[str]:
    """Every string of a file that is no docstring."""
    nodes = list_nodes(path)
    notes = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    notes |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in texts if id(node) not in notes]


def test_codes_are_recognized() -> None:
    assert CODE.findall("stop K03 (D-08), M-21. R18, 2D10, SHA-25") == ["K03", "D-08", "M-21", "R18"]


@pytest.mark.slow
def test_every_code_in_a_text_exists() -> None:
    folder = Path(stadia.__file__).parent
    named = {
        (str(path.relative_to(folder)), code)
        for path in sorted(folder.rglob("*.py"))
        for text in find_texts(path)
        for code in CODE.findall(text)
    }
    assert len(named) > 50, "the search finds the codes of the checks"
    assert sorted((path, code) for path, code in named if code not in CATALOG) == []
