"""`stadia data overlay`: composed images written or drawn, with what the splits share and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from stadia.core.errors import ConfigError, StadiaError
from stadia.data.cache import Progress
from stadia.data.overlay.config import OverlayDataConfig
from stadia.data.overlay.preview import write_sheet
from stadia.data.overlay.sources import Overlays, composers, open_overlays
from stadia.data.overlay.survey import survey
from stadia.data.overlay.written import write_overlays
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.overlays import overlay_findings

PREVIEW = "preview.png"


def write_overlay_set(
    config: OverlayDataConfig, out: Path, seed: int, workers: int | None, progress: Progress
) -> Iterator[str]:
    """Write `config.samples` images to train on and `config.val_samples` for each other split; tell what they are, line
    by line.

    The n-th is the one that is composed on demand with this seed. Raises StadiaError, before anything is written, on a
    finding that stops.
    """
    if config.path is not None:
        raise ConfigError(
            "path",
            found=config.path,
            expected="nothing: images are composed",
            fix="leave it out, or draw it with --sheet",
        )
    made = composers(config, seed=seed, progress=progress)
    overlays = Overlays(config, dict(made), seed)
    found, lines = _looked_at(overlays)
    yield from lines
    _refuse(found)
    counts = {split: count for split in made if (count := overlays.asked(split))}
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        progress("composing", done, sum(counts.values()))

    path = write_overlays({split: made[split] for split in counts}, counts, out, workers=workers, advance=advance)
    write_sheet(out / PREVIEW, {split: made[split] for split in counts}, counts)
    yield f"{path}  (look at {out / PREVIEW})"


def draw_overlays(config: OverlayDataConfig, sheet: Path, seed: int, progress: Progress) -> Iterator[str]:
    """Draw samples of any set into one PNG: background, image, depth and mask; and tell what there is, line by line.

    Raises StadiaError, once it is drawn, on a finding that stops.
    """
    overlays = open_overlays(config, seed=seed, progress=progress)
    found, lines = _looked_at(overlays)
    yield from lines
    counts = {split: count for split in overlays.images if (count := overlays.asked(split))}
    write_sheet(sheet, {split: overlays.images[split] for split in counts}, counts)
    yield str(sheet)
    _refuse(found)


def _looked_at(overlays: Overlays) -> tuple[list[Finding], list[str]]:
    """What is wrong with a set; and for people the table of its splits, with a line for each finding that does not
    stop.
    """
    seen = survey(overlays)
    found = overlay_findings(seen)
    told = (
        f"{one.severity}: {one.code} {one.measured}; {one.fix}" for one in found if one.severity is not Severity.STOP
    )
    return found, [*seen.lines(), *told]


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise StadiaError of the first finding that stops."""
    for one in findings:
        if one.severity is Severity.STOP:
            raise StadiaError(one.code, found=one.measured, expected=one.expected, fix=one.fix)
