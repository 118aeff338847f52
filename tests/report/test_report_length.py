"""What a report shortens: hashes of other data, and series without a curve."""

from __future__ import annotations

import html
import re
from pathlib import Path

from stadia import report


def read_words(folder: Path) -> str:
    """Return the page's words without tags, scripts and styles."""
    text = report.build_report(folder).read_text(encoding="utf-8").replace("<wbr>", "")
    text = re.sub(r"<(script|style).*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_long_hashes_of_other_data_are_shortened(make_run):
    def data(digit: str) -> dict:
        return {"fingerprints": {"drive": digit * 32}, "train_images": {"drive": digit * 432}}

    make_run("2026-03-01-080000-before", run={"started": "2026-03-01T08:00:00+00:00", "data": data("a")})
    words = read_words(make_run(run={"data": data("b")})).split("Changes since the previous run")[1]
    assert "data.train_images.drive other images" in words
    assert f"{'a' * 12}… {'b' * 12}…" in words
    assert "a" * 13 not in words
    assert "The data differ from those of the previous run" in words


def test_many_series_without_a_curve_are_counted_and_not_listed(make_run):
    words = read_words(make_run(steps=2))
    assert "logged at fewer than 3 steps: no curve" in words  # few are listed
    folder = make_run("2026-03-05-101500-wide", steps=2)
    table = folder / "metrics.csv"
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    names = [f"val/abs_rel_{number}" for number in range(34)]
    table.write_text("\n".join([f"{head},{','.join(names)}", *(row + ",0.5" * 34 for row in rows)]) + "\n")
    words = read_words(folder)
    assert "quantities were logged at fewer than 3 steps and have no curve" in words
    assert "val/abs_rel_3" not in words
