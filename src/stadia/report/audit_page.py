"""Write the page of an audit: common faults, the worst items with their pictures, charts, and a table of all items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stadia.io.atomic_files import write_text
from stadia.report.charts import draw_histogram
from stadia.report.embedded_images import EmbeddedImage
from stadia.report.page_template import TEMPLATE_FOLDER, embed_scripts, make_environment

MIN_BARS = 5
"""Fewest values of a histogram."""


@dataclass(frozen=True, kw_only=True)
class ShownItem:
    """An item with a fault.

    name: its name.
    grade: its grade.
    what: its faults, as clauses.
    fix: what to do; "" if that is unknown.
    picture: the two images whose matches contradict it most; None without.
    """

    name: str
    grade: str
    what: Sequence[str]
    fix: str = ""
    picture: EmbeddedImage | None = None


@dataclass(frozen=True, kw_only=True)
class ShownGroup:
    """How many items of a group have each grade."""

    name: str
    count: int
    grades: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """What the page shows.

    title: name of the dataset.
    grade: a grade, which gives the color of the verdict.
    word: the verdict on the dataset.
    finding: the sentence below it.
    tiles: numbers by their label.
    common: for each common fault its group, "3 of 40 items", what it is, and its fix.
    items: the worst items.
    groups: numbers of grades by kind of group.
    histograms: values by the title of their histogram.
    changes: for each item whose grade changed since an earlier audit: name, grade before and now.
    columns: columns of the table.
    rows: cells of all items, the worst first; the second one is the grade.
    left_out: number of items that are not in `rows`.
    """

    title: str
    grade: str
    word: str
    finding: str
    tiles: Mapping[str, str]
    common: Sequence[tuple[str, str, str, str]]
    items: Sequence[ShownItem]
    groups: Mapping[str, Sequence[ShownGroup]]
    histograms: Mapping[str, Sequence[float]]
    changes: Sequence[tuple[str, str, str]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int

    @property
    def grades(self) -> list[str]:
        """Return the grades of the rows, by which they are filtered, in their order."""
        return list(dict.fromkeys(row[1] for row in self.rows))


def write_audit_page(path: Path, page: AuditPage) -> None:
    """Write one self-contained page, which loads nothing; its script filters the items.

    path: file to write.
    page: its content.
    """
    charts = {
        title: draw_histogram(title, values) for title, values in page.histograms.items() if len(values) >= MIN_BARS
    }
    script = embed_scripts([TEMPLATE_FOLDER / "audit.js"])
    write_text(path, make_environment().get_template("audit.html").render(page=page, charts=charts, **script))
