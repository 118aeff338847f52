"""What to mend first: from cause to effect, whatever the order in which it was found."""

from __future__ import annotations

from itertools import permutations

import pytest

from stadia.diagnostics.catalogue import CATALOGUE
from stadia.diagnostics.catalogue.entry import FAMILIES, FEEDS
from stadia.diagnostics.diagnosis import Diagnosis, diagnosis
from stadia.diagnostics.finding import Finding, Severity, Stage

STOP, WARN, NOTE = Severity.STOP, Severity.WARN, Severity.NOTE


def found(code: str, severity: Severity = WARN, *where: str) -> Finding:
    return Finding(code, severity, Stage.DATA, "measured", "expected", "cause", "cure", where=where)


def codes(one: Diagnosis) -> tuple[str, list[str], list[str], list[str]]:
    rest = ([other.code for other in some] for some in (one.follows, one.apart, one.unchecked))
    return (one.first.code if one.first else "", *rest)


CHAIN = [found("K04", STOP), found("E09"), found("U02"), found("H09"), found("T07"), found("C06"), found("D10", NOTE), found("N01", NOTE)]


@pytest.mark.parametrize("order", list(permutations(range(8)))[::977])
def test_the_first_is_the_cause_and_what_it_cannot_explain_stands_apart(order: tuple[int, ...]) -> None:
    one = diagnosis([CHAIN[place] for place in order])
    assert codes(one) == ("K04", ["E09", "U02", "H09", "T07"], ["D10", "C06"], ["N01"])
    assert one.stops == 1


def test_a_warning_of_an_earlier_family_comes_before_a_stop_of_a_later_one_and_the_stop_counts() -> None:
    one = diagnosis([found("E01", STOP), found("D03")])
    assert codes(one) == ("D03", ["E01"], [], [])
    assert one.stops == 1


def test_of_one_family_the_worst_is_first() -> None:
    one = diagnosis([found("E03"), found("E09", STOP), found("E09", STOP, "another recording")])
    assert (one.first, codes(one)[1:]) == (found("E09", STOP), (["E09"], ["E03"], []))


def test_notes_alone_are_nothing_to_mend() -> None:
    assert codes(diagnosis([found("D13", NOTE), found("N02", NOTE)])) == ("", [], ["D13"], ["N02"])
    assert diagnosis([]) == Diagnosis(None, (), (), ())
    assert diagnosis([found("Z99")]) == Diagnosis(None, (), (), ())


def test_what_feeds_what_is_said_of_every_family_and_only_forward() -> None:
    order = list(FAMILIES)
    assert list(FEEDS) == order
    assert {code[0] for code in CATALOGUE} <= set(order)
    for family, fed in FEEDS.items():
        assert all(order.index(other) > order.index(family) for other in fed)
