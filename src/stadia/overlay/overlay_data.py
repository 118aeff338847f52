"""Composite images for a training, and `stadia data overlay`, which writes or draws them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stadia.core.errors import ConfigError, StadiaError
from stadia.data.frame_store import ReportProgress
from stadia.differentiable.batch import Batch
from stadia.io.input_files import expand_home
from stadia.io.output_files import is_own_file
from stadia.judge.finding import Finding, Severity
from stadia.overlay.composites import (
    CompositeSplits,
    OverlayInputs,
    OverlayTargets,
    PackedComposite,
    make_composers,
    open_composites,
)
from stadia.overlay.config import OverlayConfig, OverlayDataConfig
from stadia.overlay.label_checks import check_composites, survey_composites
from stadia.overlay.layout import is_published
from stadia.overlay.world.composite_files import write_composites, write_composites_preview
from stadia.overlay.world.published_layout import PUBLISHED_RANGE
from stadia.training.loading.loader import Loader
from stadia.training.recipes.base.video_data import make_loaders, report_progress

OverlayBatch = Batch[OverlayInputs, OverlayTargets]
OverlayLoader = Loader[PackedComposite, OverlayBatch]


@dataclass(frozen=True)
class OverlayData:
    """The data of a training: batches for training and validation, and their origin.

    scored: open interval of the depth that is scored.
    """

    overlays: CompositeSplits
    train: OverlayLoader
    val: OverlayLoader | None
    scored: tuple[float, float]

    @property
    def facts(self) -> dict[str, object]:
        """Return the facts that identify the data, for run.json."""
        return self.overlays.facts

    def findings(self) -> list[Finding]:
        """Return findings about what the splits share, unreadable files, and the labels."""
        return check_composites(survey_composites(self.overlays, self.scored))


def fit_label_range(config: OverlayConfig, console: Console) -> OverlayConfig:
    """Return the configuration with the depth range of the published labels, unless you set one.

    One line reports it.
    """
    path = config.data.path
    if path is None or not is_published(expand_home(path)) or {"min_depth", "max_depth"} & config.loss.model_fields_set:
        return config
    least, most = PUBLISHED_RANGE
    loss = config.loss.model_copy(update={"min_depth": least, "max_depth": most})
    model = config.model
    if "init_depth_m" not in model.model_fields_set:
        model = model.model_copy(update={"init_depth_m": math.sqrt(least * most)})
    console.print(
        f"labels are gray values divided by 255, so loss.min_depth={least:.3g}, loss.max_depth={most:.4g} are set",
        markup=False,
    )
    return config.model_copy(update={"loss": loss, "model": model})


def open_overlay_data(config: OverlayConfig, console: Console) -> OverlayData:
    """Open the data of a configuration. By default, RoadWorld and TableWorld are rendered first.

    Raises DataError for wrong files.
    """
    with report_progress(console, log=True) as progress:
        overlays = open_composites(config.data, seed=config.seed, progress=progress)
    val = overlays.samples("val") if "val" in overlays.images and overlays.count_images("val") else None
    train, val_batches = make_loaders(overlays.samples("train"), val, config.training, seed=config.seed)
    return OverlayData(overlays, train, val_batches, (config.loss.min_depth, config.loss.max_depth))


PREVIEW = "preview.png"


def write_overlay_set(
    config: OverlayDataConfig, out: Path, seed: int, workers: int | None, progress: ReportProgress
) -> Iterator[str]:
    """Write the images of each split, and yield lines for people.

    Raises StadiaError before anything is written, if a check stops it.
    """
    if config.path is not None:
        fix = "leave it out, or draw it with --sheet"
        raise ConfigError("path", found=config.path, expected="no path, since images are composed", fix=fix)
    made = make_composers(config, seed=seed, progress=progress)
    overlays = CompositeSplits(config, dict(made), seed)
    found, lines = _survey_set(overlays)
    yield from lines
    _refuse(found)
    counts = {split: count for split in made if (count := overlays.count_images(split))}
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        progress("composing", done, sum(counts.values()))

    path = write_composites({split: made[split] for split in counts}, counts, out, workers=workers, advance=advance)
    is_new = not (out / PREVIEW).exists() and not (out / PREVIEW).is_symlink()
    if is_new or is_own_file(out / PREVIEW, "overview"):  # another one is kept
        write_composites_preview(out / PREVIEW, {split: made[split] for split in counts}, counts)
    yield f"{path}  (check {out / PREVIEW})"


def draw_overlays(config: OverlayDataConfig, sheet: Path, seed: int, progress: ReportProgress) -> Iterator[str]:
    """Draw samples of a set into one PNG, and yield lines for people.

    Raises StadiaError after drawing, if a check stops.
    """
    overlays = open_composites(config, seed=seed, progress=progress)
    found, lines = _survey_set(overlays)
    yield from lines
    counts = {split: count for split in overlays.images if (count := overlays.count_images(split))}
    write_composites_preview(sheet, {split: overlays.images[split] for split in counts}, counts)
    yield str(sheet)
    _refuse(found)


def _survey_set(overlays: CompositeSplits) -> tuple[list[Finding], list[str]]:
    surveyed = survey_composites(overlays)
    found = check_composites(surveyed)
    shown = [one for one in found if one.severity is not Severity.STOP]
    return found, [*surveyed.lines(), *(f"{one.severity}: {one.code} {one.measured}; {one.fix}" for one in shown)]


def _refuse(findings: Sequence[Finding]) -> None:
    for one in findings:
        if one.severity is Severity.STOP:
            raise StadiaError(one.code, found=one.measured, expected=one.expected, fix=one.fix)
