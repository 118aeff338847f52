"""Composite images of a training: opened or composed on demand, surveyed, batched."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stadia.core.types import Batch, OverlayInputs, OverlayTargets
from stadia.data.loader import Loader
from stadia.data.overlay.samples import PackedOverlay
from stadia.data.overlay.sources import Overlays, open_overlays
from stadia.data.overlay.survey import survey
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.overlays import overlay_findings
from stadia.recipes.loaders import loaders
from stadia.recipes.overlay_config import OverlayConfig

PAUSE_S = 30.0
"""Seconds between progress lines if the output is no terminal."""

OverlayBatch = Batch[OverlayInputs, OverlayTargets]
OverlayLoader = Loader[PackedOverlay, OverlayBatch]


@dataclass(frozen=True)
class OverlayData:
    """Batches for training and validation, and their origin.

    scored: open interval of depth labels that are trained and scored.
    """

    overlays: Overlays
    train: OverlayLoader
    val: OverlayLoader | None
    scored: tuple[float, float]

    @property
    def facts(self) -> dict[str, object]:
        """Return the identity of the data for run.json."""
        return self.overlays.facts

    def findings(self) -> list[Finding]:
        """Check what the splits share, unreadable files, the labels, and how many of them count."""
        return overlay_findings(survey(self.overlays, self.scored))


def open_overlay_data(config: OverlayConfig, console: Console) -> OverlayData:
    """Open the data of a configuration; by default RoadWorld and TableWorld are rendered first. Raises DataError."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        printed = [time.monotonic()]

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
                if not console.is_terminal:
                    console.print(what, markup=False, highlight=False)
            if not console.is_terminal and (now := time.monotonic()) - printed[-1] >= PAUSE_S:
                printed.append(now)
                console.print(f"{what}: {done} of {total}", markup=False, highlight=False)
            bars.update(tasks[what], completed=done, total=total)

        overlays = open_overlays(config.data, seed=config.seed, progress=progress)
    val = overlays.samples("val") if "val" in overlays.images and overlays.asked("val") else None
    train, val_batches = loaders(overlays.samples("train"), val, config.training, seed=config.seed)
    return OverlayData(overlays, train, val_batches, (config.loss.min_depth, config.loss.max_depth))
