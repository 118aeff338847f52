"""Lines and modules stay below their budget, so that what comes in pushes something out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUDGETS = {"source lines": 90_000, "modules": 440, "test lines": 66_000, "words of documents": 110_000}
"""At most. Nobody raises a number without a reason in docs/results/code-size.md."""


def test_the_page_has_the_budgets() -> None:
    page = (ROOT / "docs" / "results" / "code-size.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([\d,]+) \|", page, re.MULTILINE))
    assert {name: int(number.replace(",", "")) for name, number in rows.items()} == BUDGETS
