"""List where the metres of a run's predictions come from."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stadia.core.errors import StadiaError
from stadia.io.input_files import read_json
from stadia.report.run_files import RunFiles, as_mapping, check_inside, format_number, is_finite
from stadia.report.score_tables import MAX_RECEIPTS


@dataclass(frozen=True)
class ReceiptRow:
    """One source of a scale, as text.

    unit: metres per unit of the network's depth.
    deviation: its relative standard deviation.
    measured: the measurements.
    """

    prediction: str
    source: str
    unit: str
    deviation: str
    measured: str
    verdict: str


def list_scale_receipts(run: RunFiles) -> list[ReceiptRow]:
    """Return the sources of metres of a run's predictions, at most MAX_RECEIPTS."""
    rows: list[ReceiptRow] = []
    for path in sorted(run.folder.glob("predictions/**/predictions.json")):
        with suppress(StadiaError, OSError):  # a damaged record is listed by the images of the same file
            receipt = as_mapping(as_mapping(read_json(check_inside(run.folder, path))).get("scale_from"))
            fits = {source: as_mapping(fit) for source, fit in as_mapping(receipt.get("sources")).items()}
            rows += [_make_receipt_row(path.parent.name, source, fit) for source, fit in fits.items() if fit]
    return rows[:MAX_RECEIPTS]


def _make_receipt_row(prediction: str, source: str, fit: dict[str, Any]) -> ReceiptRow:
    factor, deviation = fit.get("factor"), fit.get("relative_deviation")
    return ReceiptRow(
        prediction,
        source,
        format_number(factor, "m") if is_finite(factor) else "–",
        f"± {deviation:.1%}" if is_finite(deviation) else "–",
        f"{fit.get('measurements', 0)} in {fit.get('images', 0)} images",
        str(fit.get("verdict", "")),
    )
