"""Write the results of an audit: audit.csv, audit.parquet, common.csv, exclude.txt and badge.svg."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stadia.audit.common_faults import CommonFault
from stadia.audit.judge_item import ItemVerdict
from stadia.core.verdict import Verdict
from stadia.io.atomic_files import atomic_write, write_lines, write_text
from stadia.judge.error import QUANTITIES, Measured

TABLE, PARQUET, COMMON, EXCLUDE = "audit.csv", "audit.parquet", "common.csv", "exclude.txt"
BADGE = "badge.svg"

BADGE_COLORS = ((0.02, "#4c1"), (0.1, "#dfb317"), (1.0, "#e05d44"))
"""Largest share of bad items, and the color of the badge: green, yellow, red."""

LETTER_PX = 6.6
"""Mean width of a letter of the badge."""


def sort_worst_first(verdicts: Sequence[ItemVerdict]) -> list[ItemVerdict]:
    """Return verdicts with the worst grade first, then those that are most certain."""
    return sorted(
        verdicts, key=lambda one: (not one.is_bad, -Verdict(one.grade).rank, -(one.certainty or 0.0), one.item)
    )


def write_tables(folder: Path, verdicts: Sequence[ItemVerdict], common: Sequence[CommonFault]) -> list[str]:
    """Write all tables of an audit and its badge, and return their names. The table in parquet needs pyarrow.

    folder: folder of the audit.
    verdicts: verdicts on all items.
    common: faults that items share.
    """
    rows = [describe_row(verdict, common) for verdict in sort_worst_first(verdicts)]
    write_csv(folder / TABLE, rows)
    write_csv(folder / COMMON, [describe_common(fault) for fault in common])
    bad = [verdict.item for verdict in verdicts if verdict.is_bad]
    write_lines(folder / EXCLUDE, ["# items that stadia audit judges as bad, one a line", *bad])
    write_text(folder / BADGE, draw_badge(verdicts))
    written = [TABLE, COMMON, EXCLUDE, BADGE]
    if _write_parquet(folder / PARQUET, rows):
        written.insert(1, PARQUET)
    return written


def draw_badge(verdicts: Sequence[ItemVerdict]) -> str:
    """Return a picture for the page of a dataset (SVG): how many items are judged and not bad.

    verdicts: verdicts on all items.

    Examples:
        >>> good = ItemVerdict(item="a", grade="usable")
        >>> "1 of 2 good" in draw_badge([good, ItemVerdict(item="b", grade="unusable", is_bad=True)])
        True
    """
    bad = sum(one.is_bad for one in verdicts)
    good = sum(not one.is_bad and one.grade != Verdict.NOT_JUDGED for one in verdicts)
    color = next(color for most, color in BADGE_COLORS if bad <= most * len(verdicts))
    name, text = "stadia audit", f"{good} of {len(verdicts)} good"
    left, right = (round(LETTER_PX * len(words) + 12) for words in (name, text))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img">
<title>{name}: {text}</title>
<rect width="{left + right}" height="20" rx="3" fill="#555"/>
<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z" fill="{color}"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{left / 2}" y="14" textLength="{left - 12}">{name}</text>
<text x="{left + right / 2}" y="14" textLength="{right - 12}">{text}</text>
</g>
</svg>
"""


def describe_row(verdict: ItemVerdict, common: Sequence[CommonFault]) -> dict[str, Any]:
    """Return the row of an item in audit.csv.

    verdict: the verdict on it.
    common: faults that items share.
    """
    named = [fault.what for fault in common if verdict.item in fault.items]
    first = verdict.causes[0] if verdict.causes else None
    row: dict[str, Any] = {
        "item": verdict.item,
        "grade": verdict.grade,
        "is_bad": verdict.is_bad,
        "certainty": verdict.certainty,
        "cause": "" if first is None else first.name,
        "what": "" if first is None else first.what,
        "size": None if first is None else first.size,
        "deviation": None if first is None else first.deviation,
        "unit": "" if first is None else first.unit,
        "fix": "" if first is None else first.fix,
        "causes": "; ".join(cause.name for cause in verdict.causes),
        "frames": "; ".join(verdict.frames),
        "common": "; ".join(named),
        "good_for": " ".join(name for name, holds in verdict.holds.items() if holds),
        "not_good_for": " ".join(name for name, holds in verdict.holds.items() if holds is False),
        "reason": verdict.reason,
        "images": verdict.images,
        "of": verdict.of,
        "seconds": verdict.seconds,
    }
    for name in QUANTITIES:
        row[name], row[f"{name}_deviation"] = verdict.error.get(name, (None, None))
    row |= {key: verdict.camera.get(key) for key in ("fx", "fy", "cx", "cy", "width", "height")}
    row |= {"depth": verdict.depth, "result": verdict.result, "source": verdict.source}
    return row | dict(verdict.groups)


def describe_common(fault: CommonFault) -> dict[str, Any]:
    """Return the row of a common fault in common.csv."""
    values = asdict(fault)
    size: Measured | None = fault.size
    values["items"] = json.dumps(list(fault.items))
    values["size"] = None if size is None else size.value
    values["deviation"] = None if size is None else size.deviation
    return {"rule": fault.rule, "group": fault.group, "count": len(fault.items), **values}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a CSV. The columns are those of all rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Write rows as parquet, if pyarrow is installed; return whether it is."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return False
    columns = dict.fromkeys(name for row in rows for name in row)
    table = pyarrow.table({name: [row.get(name) for row in rows] for name in columns})
    with atomic_write(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
    return True
