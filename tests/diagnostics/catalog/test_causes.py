"""Findings are sorted from cause to effect, whatever the order in which they were found."""

from __future__ import annotations

from itertools import permutations

import pytest

from stadia.diagnostics.catalog import CATALOG, EFFECTS, OWN_LINKS, Diagnosis, find_link, find_root_cause
from stadia.diagnostics.finding import Family, Finding, Severity, Stage

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


@pytest.mark.parametrize("order", list(permutations(range(8)))[::977])
def test_first_finding_is_the_cause_and_unrelated_ones_stand_apart(order: tuple[int, ...]) -> None:
    diagnosis = find_root_cause([CHAIN[link] for link in order])
    assert codes(diagnosis) == ("K04", ["E09", "U02", "H09", "T07"], ["C06", "D10"], ["N01"])
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
