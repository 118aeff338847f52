"""Lines and modules stay below their budget, so that what comes in pushes something out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUDGETS = {"source lines": 101_849, "modules": 470, "test lines": 68_785, "words of documents": 59_999}
"""These are the most that is allowed, about what was measured last; docs/results/code-size.md has the goals."""


def count_lines(folder: str) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (ROOT / folder).rglob("*.py"))


def measure() -> dict[str, int]:
    """Return what the budgets are of."""
    return {
        "source lines": count_lines("src"),
        "modules": sum(1 for _ in (ROOT / "src").rglob("*.py")),
        "test lines": count_lines("tests"),
        "words of documents": sum(len(page.read_text(encoding="utf-8").split()) for page in ROOT.glob("docs/**/*.md")),
    }


@pytest.mark.parametrize("name", BUDGETS)
def test_budget(name: str) -> None:
    assert measure()[name] <= BUDGETS[name]


def test_the_page_has_the_budgets() -> None:
    page = (ROOT / "docs" / "results" / "code-size.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([\d,]+) \|", page, re.MULTILINE))
    assert {name: int(number.replace(",", "")) for name, number in rows.items()} == BUDGETS
