"""`stadia explain`, and that each finding can be traced to a line of the specifications or to a bug seen here, and has
a proof.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.catalog.entries import FAMILIES, TRACES

ROOT = Path(__file__).parents[2]
LINES = r"4\.0 [a-zA-Z ]+|4\.1 [A-H]\d+a?|4\.2 U\d+|4\.[345] \d+|F-\d\d[ab]?|[DPM]-\d\d"


@pytest.mark.parametrize("code", CATALOG)
def test_each_finding_has_a_line_or_a_bug_and_a_proof(code: str) -> None:
    assert code in TRACES, "say in catalog/traces.py which line it comes from, and which file proves it"
    trace = TRACES[code]
    assert bool(trace.lines) != bool(trace.here)
    assert all(re.fullmatch(LINES, line) for line in trace.lines), trace.lines
    assert re.search(rf"\b{code}\b", (ROOT / trace.proof).read_text(encoding="utf-8")), (
        f"{trace.proof} does not name {code}"
    )


def test_recording_findings_are_proven_on_recordings() -> None:
    assert {code[0] for code, trace in TRACES.items() if trace.proof == "tests/mutations/recordings.py"} == {
        "D",
        "K",
        "E",
        "B",
    }


def test_a_code_is_explained_in_all_its_parts(stadia) -> None:
    code, out, _ = stadia("explain", "h11")
    assert code == 0
    entry = CATALOG["H11"]
    for part in (entry.title, entry.symptom, entry.cause, entry.fix, entry.measured, entry.source, TRACES["H11"].proof):
        assert part in out
    assert FAMILIES["H"] in out
    assert "specifications" not in out  # no user has them


def test_a_zero_may_be_left_out(stadia) -> None:
    assert stadia("explain", "l5") == stadia("explain", "L05")


def test_all_are_listed_and_counted_and_a_letter_lists_its_family(stadia) -> None:
    _, out, _ = stadia("explain")
    assert all(f"{code}  " in out for code in CATALOG)
    assert out.endswith(f"{len(CATALOG)} findings\n")
    _, of_family, _ = stadia("explain", "u")
    assert {line[0] for line in of_family.splitlines()[:-1]} == {"U"}


def test_a_code_that_does_not_exist_names_one_that_does(stadia) -> None:
    code, _, err = stadia("explain", "U99")
    assert code == 2
    assert "'U99'" in err
    assert "stadia explain" in err
