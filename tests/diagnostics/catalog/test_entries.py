"""Every line of the specifications' lists of failures is in a finding's trace, or in
docs/developing/lines-without-a-finding.md, and in one of both.

The specifications are no part of the project: where they are absent the page and the traces are held to one another
alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.catalog.entries import TRACES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "developing" / "lines-without-a-finding.md").read_text(encoding="utf-8")
UNTOLD, KINDS = "Not detected, or only in part", ("ruled out", "reported elsewhere", "advice")
TRACED = {line for trace in TRACES.values() for line in trace.lines}


def rows() -> list[tuple[str, str, str]]:
    """Of the page's tables: the line, its kind (UNTOLD for those of that section), and what becomes of it."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        for row in re.findall(r"^\| (.+) \|$", body, re.MULTILINE):
            line, _, *rest = row.split(" | ")
            if line != "line":
                found.append((line, UNTOLD if heading == UNTOLD else rest[0], rest[-1]))
    return found


ROWS = rows()


def counts() -> str:
    """The page's own sentence."""
    of = Counter(kind for _, kind, _ in ROWS)
    reported = ", ".join(f"{of[kind]} {kind}" for kind in KINDS)
    traced = f"Of {len(TRACED) + len(ROWS)} lines {len(TRACED)} are in the traces of findings"
    return f"**{traced}, and {len(ROWS)} stand here:\n{of[UNTOLD]} not detected, {reported}.**"


@pytest.fixture(scope="session")
def lines() -> set[str]:
    """By the names that traces give them: "4.0 share", "4.1 A8", "4.2 U6", "4.3 9", "F-03", "D-05"."""
    data = Path(os.environ.get("STADIA_REAL_DATA", ROOT.parent / "shared" / "data"))
    folder = data.parent / "specs"
    if not folder.is_dir():
        pytest.skip(f"no specifications in {folder}")
    named = set()
    for file, codes in (("metric_scale.md", "F"), ("dpt_pose_mask.md", "[DPM]")):
        named |= set(
            re.findall(rf"^\|\s*({codes}-\d+[ab]?)\s*\|", (folder / file).read_text(encoding="utf-8"), re.MULTILINE)
        )
    text = (folder / "self_supervised.md").read_text(encoding="utf-8")
    for section, body in re.findall(r"^### (4\.[0-5]) .*?\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL):
        named |= {f"{section} {name}" for name in _names(section, body)}
    return named


def _names(section: str, body: str) -> list[str]:
    """Of a section's lines: an instrument's (4.0), a letter with a number (4.1, 4.2), or the number that a sentence
    begins with.
    """
    if section == "4.0":
        return [
            name if name.isupper() else name.lower()
            for name in re.findall(r"^\* \*\*(a\*|[A-Za-z ]*[A-Za-z])", body, re.MULTILINE)
        ]
    if section == "4.1":
        return re.findall(r"^([A-H]\d+a?) ", body, re.MULTILINE)
    if section == "4.2":
        return re.findall(r"(?:^|\. )(U\d+) ", body, re.MULTILINE)
    return re.findall(r"(?:^|\. )(\d+) (?=\D)", body, re.MULTILINE)


def test_every_line_is_in_a_trace_or_on_the_page(lines: set[str]) -> None:
    named = TRACED | {line for line, _, _ in ROWS}
    assert sorted(named - lines) == [], "are no lines of the specifications"
    assert sorted(lines - named) == [], "are in no trace: list them in lines-without-a-finding.md"


def test_no_line_is_in_both_or_twice_on_the_page() -> None:
    on_page = [line for line, _, _ in ROWS]
    assert [line for line, times in Counter(on_page).items() if times > 1] == []
    assert sorted(TRACED & set(on_page)) == [], "have a finding: take them off lines-without-a-finding.md"


def test_every_line_of_the_page_has_a_verdict() -> None:
    assert {kind for _, kind, _ in ROWS} == {UNTOLD, *KINDS}
    on_page = {line for line, _, _ in ROWS}
    for line, _, becomes in ROWS:
        assert becomes, line
        assert set(re.findall(r"\b[A-Z]\d\d\b", becomes)) <= CATALOG.keys(), line
        assert set(re.findall(r"\bas (4\.\d \w+|[FDPM]-\d+)", becomes)) <= on_page, line


def test_the_page_counts_its_lines() -> None:
    assert counts() in PAGE, f"write: {counts()}"
