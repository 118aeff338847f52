"""List how the metres of a run's predictions were measured, from the receipts in predictions.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stadia.core.errors import StadiaError
from stadia.files.json_files import read_json
from stadia.report.metric_labels import format_number, is_finite
from stadia.report.run_files import RunFiles, check_inside

MAX_RECEIPTS = 12


@dataclass(frozen=True)
class ReceiptRow:
    """One source of a scale.

    prediction: that it scaled.  source: as of `--scale-from`.
    unit: metres for a unit of the network's depth.  deviation: relative.  measured: how much, in how many images.
    """

    prediction: str
    source: str
    unit: str
    deviation: str
    measured: str
    verdict: str


def list_scale_receipts(run: RunFiles) -> list[ReceiptRow]:
    """Return the sources of metres of a run's predictions, at most MAX_RECEIPTS; records without one are left out."""
    rows: list[ReceiptRow] = []
    for path in sorted(run.folder.glob("predictions/**/predictions.json")):
        try:
            record = read_json(check_inside(run.folder, path))
        except (StadiaError, OSError):  # listed by the images of the same file
            continue
        receipt = record.get("scale_from") if isinstance(record, dict) else None
        sources = receipt.get("sources") if isinstance(receipt, dict) else None
        for source, fit in sources.items() if isinstance(sources, dict) else ():
            if isinstance(fit, dict) and len(rows) < MAX_RECEIPTS:
                rows.append(_make_row(path.parent.name, str(source), fit))
    return rows


def _make_row(prediction: str, source: str, fit: dict[str, Any]) -> ReceiptRow:
    factor, deviation = fit.get("factor"), fit.get("relative_deviation")
    return ReceiptRow(
        prediction,
        source,
        format_number(factor, "m") if is_finite(factor) else "–",
        f"± {deviation:.1%}" if is_finite(deviation) else "–",
        f"{fit.get('measurements', 0)} in {fit.get('images', 0)} images",
        str(fit.get("verdict", "")),
    )
