"""`stadia data overlay`: write or draw composite images, with the findings of their survey."""

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
    """Write `config.samples` training images and `config.val_samples` for each other split; yield lines for people.

    Image n is the one composed on demand with this seed. Raises StadiaError on a finding with severity stop, before
    anything is written.
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
    found, lines = _survey_set(overlays)
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
    yield f"{path}  (check {out / PREVIEW})"


def draw_overlays(config: OverlayDataConfig, sheet: Path, seed: int, progress: Progress) -> Iterator[str]:
    """Draw samples of a set into one PNG: background, image, depth and mask; yield lines for people.

    Raises StadiaError on a finding with severity stop, after drawing.
    """
    overlays = open_overlays(config, seed=seed, progress=progress)
    found, lines = _survey_set(overlays)
    yield from lines
    counts = {split: count for split in overlays.images if (count := overlays.asked(split))}
    write_sheet(sheet, {split: overlays.images[split] for split in counts}, counts)
    yield str(sheet)
    _refuse(found)


def _survey_set(overlays: Overlays) -> tuple[list[Finding], list[str]]:
    """Return the findings of a set, and lines: the table of its splits and the findings below stop."""
    surveyed = survey(overlays)
    found = overlay_findings(surveyed)
    lines = (
        f"{one.severity}: {one.code} {one.measured}; {one.fix}" for one in found if one.severity is not Severity.STOP
    )
    return found, [*surveyed.lines(), *lines]


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise StadiaError for the first finding with severity stop."""
    for one in findings:
        if one.severity is Severity.STOP:
            raise StadiaError(one.code, found=one.measured, expected=one.expected, fix=one.fix)
