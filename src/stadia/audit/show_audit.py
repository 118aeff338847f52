"""Collect the page of an audit, and what changed since an earlier audit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2

from stadia.audit.audit_files import sort_worst_first
from stadia.audit.common_faults import CommonFault
from stadia.audit.items import RECORD
from stadia.audit.judge_item import PROOF_WIDTH, ItemVerdict, find_proof
from stadia.batches.ledger import read_rows
from stadia.core.errors import DataError
from stadia.core.verdict import Verdict, find_worst
from stadia.io.image_io import read_image
from stadia.io.output_files import has_mark
from stadia.judge.error import Measured
from stadia.report.audit_page import AuditPage, ShownGroup, ShownItem, write_audit_page
from stadia.report.embedded_images import encode_jpeg

PAGE = "audit.html"

MAX_SHOWN = 24
"""Most items with a picture in the page."""

MAX_ROWS = 1000
MAX_CHANGES = 200
MAX_GROUPS = 40
"""Most groups of a kind in the page."""

CHARTS = {
    "Error of the focal length, %": ("focal_share", 100.0),
    "Error of the rotation, degrees": ("rotation_deg", 1.0),
    "Error of the position, % of the extent": ("position_share", 100.0),
}
"""Field of `ItemVerdict.error` and factor of each histogram."""

COLUMNS = ("item", "grade", "certainty", "faults", "images", "focal length, %", "rotation, °", "position, %")


def compare_audits(old: Path, verdicts: Sequence[ItemVerdict]) -> list[tuple[str, str, str]]:
    """Return name, grade before and grade now of each item whose grade changed, the worst grades now first.

    Items that are new or gone have the grades "new" and "gone".

    old: folder of an earlier audit.
    verdicts: verdicts on all items now.

    Raises DataError if the folder has no audit.
    """
    if not (old / RECORD).is_file() or not has_mark(old / RECORD, "audit"):
        raise DataError(old, found=f"no {RECORD} of stadia", expected="a folder of stadia audit")
    before = {row.item: row.grade for row in read_rows(str(old), ItemVerdict)}
    now = {verdict.item: verdict.grade for verdict in sort_worst_first(verdicts)}
    changed = [
        (name, before.get(name, "new"), grade) for name, grade in now.items() if before.get(name, "new") != grade
    ]
    return changed + [(name, grade, "gone") for name, grade in before.items() if name not in now]


def write_page(
    folder: Path,
    title: str,
    verdicts: Sequence[ItemVerdict],
    common: Sequence[CommonFault],
    changes: Sequence[tuple[str, str, str]],
) -> None:
    """Write audit.html into the folder of an audit.

    folder: folder with the pictures of items.
    title: name of the dataset.
    verdicts: verdicts on all items.
    common: faults that items share.
    changes: from `compare_audits`.
    """
    ordered = sort_worst_first(verdicts)
    faulty = [one for one in ordered if one.is_bad or one.causes or one.frames]
    bad = sum(one.is_bad for one in verdicts)
    worst = find_worst(Verdict(one.grade) for one in verdicts)
    grade = Verdict.UNUSABLE if bad else min(worst, Verdict.DOUBTFUL, key=lambda one: one.rank)
    counts = {str(grade): sum(one.grade == grade for one in verdicts) for grade in Verdict}
    write_audit_page(
        folder / PAGE,
        AuditPage(
            title=title,
            grade=str(grade),
            word=f"{bad} of {len(verdicts)} items are bad",
            finding=f"{len(faulty)} items have a fault. {len(common)} faults are common to several items.",
            tiles={name: str(count) for name, count in counts.items() if count}
            | {"processor": f"{sum(one.seconds for one in verdicts) / len(verdicts):.1f} s an item"},
            common=[(one.group, f"{len(one.items)} of {one.of}", one.what, one.fix) for one in common],
            items=[_show_item(folder, one) for one in faulty[:MAX_SHOWN]],
            groups=_count_groups(verdicts),
            histograms={
                name: [factor * one.error[key][0] for one in verdicts if key in one.error]
                for name, (key, factor) in CHARTS.items()
            },
            changes=list(changes[:MAX_CHANGES]),
            columns=COLUMNS,
            rows=[_describe_row(one) for one in ordered[:MAX_ROWS]],
            left_out=max(len(ordered) - MAX_ROWS, 0),
        ),
    )


def _list_faults(verdict: ItemVerdict) -> list[str]:
    return [*(cause.what for cause in verdict.causes), *verdict.frames, *([verdict.reason] if verdict.reason else [])]


def _show_item(folder: Path, verdict: ItemVerdict) -> ShownItem:
    file = find_proof(folder, verdict.item)
    picture = encode_jpeg(read_image(file, cv2.IMREAD_COLOR), PROOF_WIDTH) if file.is_file() else None
    fix = verdict.causes[0].fix if verdict.causes else ""
    return ShownItem(name=verdict.item, grade=verdict.grade, what=_list_faults(verdict), fix=fix, picture=picture)


def _count_groups(verdicts: Sequence[ItemVerdict]) -> dict[str, list[ShownGroup]]:
    """Return the numbers of grades of each group; those with the largest share of bad items first."""
    members = defaultdict[str, dict[str, list[ItemVerdict]]](lambda: defaultdict(list))
    for verdict in verdicts:
        for kind, value in verdict.groups.items():
            members[kind][value].append(verdict)
    found = {}
    for kind, groups in members.items():
        order = sorted(groups, key=lambda name: -sum(one.is_bad or bool(one.causes) for one in groups[name]))
        found[kind] = [
            ShownGroup(
                name=name,
                count=len(groups[name]),
                grades={
                    str(grade): count for grade in Verdict if (count := sum(one.grade == grade for one in groups[name]))
                },
            )
            for name in order[:MAX_GROUPS]
        ]
    return found


def _describe_row(verdict: ItemVerdict) -> list[str]:
    certainty = "" if verdict.certainty is None else f"{verdict.certainty:.2f}"
    cells = [verdict.item, verdict.grade, certainty, "; ".join(_list_faults(verdict))]
    cells.append(f"{verdict.images} of {verdict.of}")
    for key, factor in CHARTS.values():
        measured = verdict.error.get(key)
        cells.append("" if measured is None else Measured(*measured).show(factor))
    return cells
