"""`stadia data overlay`: composed pictures written or drawn, with what the splits share and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stadia.core.errors import ConfigError, StadiaError
from stadia.data.cache import Progress
from stadia.data.overlay.config import OverlayDataConfig
from stadia.data.overlay.preview import write_sheet
from stadia.data.overlay.sources import Overlays, composers, open_overlays
from stadia.data.overlay.survey import survey
from stadia.data.overlay.written import write_overlays
from stadia.diagnostics.finding import Severity
from stadia.diagnostics.overlays import overlay_findings

PREVIEW = "preview.png"


def write_overlay_set(config: OverlayDataConfig, out: Path, seed: int, workers: int | None, progress: Progress) -> Iterator[str]:
    """Write `config.samples` pictures to train on and `config.val_samples` for each other split; tell what they are, line by line.

    The n-th is the one that is composed on demand with this seed. Raises StadiaError, before anything is written, on a finding that stops.
    """
    if config.path is not None:
        raise ConfigError(
            "path", found=config.path, expected="nothing: pictures are composed", cure="leave it out, or draw it with --sheet"
        )
    made = composers(config, seed=seed, progress=progress)
    overlays = Overlays(config, dict(made), seed)
    yield from _told(overlays, refuse=True)
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
    """Draw samples of any set into one PNG: background, picture, depth and mask; and tell what there is, line by line."""
    overlays = open_overlays(config, seed=seed, progress=progress)
    yield from _told(overlays, refuse=False)
    counts = {split: count for split in overlays.pictures if (count := overlays.asked(split))}
    write_sheet(sheet, {split: overlays.pictures[split] for split in counts}, counts)
    yield str(sheet)


def _told(overlays: Overlays, *, refuse: bool) -> Iterator[str]:
    """The table of the splits, and a line for each finding."""
    seen = survey(overlays)
    yield from seen.lines()
    for found in overlay_findings(seen):
        if refuse and found.severity is Severity.STOP:
            raise StadiaError(f"{found.code}", found=found.measured, expected=found.expected, cure=found.cure)
        yield f"{found.severity}: {found.code} {found.measured}; {found.cure}"
