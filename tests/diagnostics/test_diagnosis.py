"""What to mend first: from cause to effect, whatever the order in which it was found."""

from __future__ import annotations

from itertools import permutations

import pytest

from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.catalog.entry import ELSEWHERE, FAMILIES, FEEDS, place
from stadia.diagnostics.diagnosis import Diagnosis, diagnosis
from stadia.diagnostics.finding import Finding, Severity, Stage

STOP, WARN, NOTE = Severity.STOP, Severity.WARN, Severity.NOTE


def found(code: str, severity: Severity = WARN, *where: str) -> Finding:
    return Finding(code, severity, Stage.DATA, "measured", "expected", "cause", "fix", where=where)


def codes(one: Diagnosis) -> tuple[str, list[str], list[str], list[str]]:
    rest = ([other.code for other in some] for some in (one.follows, one.apart, one.unchecked))
    return (one.first.code if one.first else "", *rest)


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
def test_the_first_is_the_cause_and_what_it_cannot_explain_stands_apart(order: tuple[int, ...]) -> None:
    one = diagnosis([CHAIN[place] for place in order])
    assert codes(one) == ("K04", ["E09", "U02", "H09", "T07"], ["C06", "D10"], ["N01"])
    assert one.stops == 1


def test_what_is_proven_is_mended_before_what_is_suspected() -> None:
    """A stop is no symptom of a warning."""
    one = diagnosis([found("E01", STOP), found("D03"), found("T07")])
    assert codes(one) == ("E01", ["T07"], ["D03"], [])
    assert one.stops == 1


@pytest.mark.parametrize(
    ("told", "first", "apart"),
    [
        ([found("S20"), found("P21"), found("T20", STOP)], "T20", []),
        ([found("S20"), found("M20"), found("T14")], "T14", []),
        ([found("M22"), found("T02")], "T02", []),
        ([found("K04", STOP), found("E01", STOP), found("D10")], "K04", ["D10"]),
        ([found("T07"), found("D13")], "T07", ["D13"]),
        ([found("T09"), found("E03"), found("M20")], "E03", ["T09"]),
    ],
)
def test_codes_that_are_causes_elsewhere_than_their_family(told: list[Finding], first: str, apart: list[str]) -> None:
    one = diagnosis(told)
    assert (one.first.code if one.first else "", [other.code for other in one.apart]) == (first, apart)


def test_of_one_family_the_worst_is_first() -> None:
    one = diagnosis([found("E03"), found("E09", STOP), found("E09", STOP, "another recording")])
    assert (one.first, codes(one)[1:]) == (found("E09", STOP), (["E09"], ["E03"], []))


def test_notes_alone_are_nothing_to_mend() -> None:
    assert codes(diagnosis([found("D13", NOTE), found("N02", NOTE)])) == ("", [], ["D13"], ["N02"])
    assert diagnosis([]) == Diagnosis(None, (), (), ())
    assert diagnosis([found("Z99")]) == Diagnosis(None, (), (), ())


def test_what_feeds_what_is_said_of_every_place_and_only_forward() -> None:
    order = list(FEEDS)
    assert [one for one in order if one in FAMILIES] == list(FAMILIES)
    assert {place(code) for code in CATALOG} == set(order)
    assert set(ELSEWHERE) <= set(CATALOG)
    for one, fed in FEEDS.items():
        assert all(order.index(other) > order.index(one) for other in fed)
    with pytest.raises(KeyError):
        place("Z99")
