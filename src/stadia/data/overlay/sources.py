"""Open composite images: composed on demand, read from disk, or in the published layout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError
from stadia.data.cache import Progress, cache_folder, exclusively
from stadia.data.config import NO_AUGMENTATION, AugmentationConfig, CacheConfig
from stadia.data.overlay.backgrounds import open_backgrounds
from stadia.data.overlay.composer import Composer, OverlayImages
from stadia.data.overlay.config import OverlayDataConfig
from stadia.data.overlay.foregrounds import open_foregrounds
from stadia.data.overlay.label import Label
from stadia.data.overlay.published import PublishedOverlays, Scan, is_published, scan, splits
from stadia.data.overlay.samples import OverlaySamples
from stadia.data.overlay.written import is_written, open_written
from stadia.data.roadworld.cached import FRAMES, demo_worlds
from stadia.data.tableworld.cutouts import VERSION, write_cutouts
from stadia.data.tableworld.presets import CutoutConfig


@dataclass(frozen=True)
class Overlays:
    """The splits of composite images.

    images: by split, "train" and mostly "val" among them, perhaps "test".  scan: of the published layout, what of it
        is there.
    """

    config: OverlayDataConfig
    images: dict[str, OverlayImages]
    seed: int
    scan: Scan | None = None

    @property
    def label(self) -> Label:
        """Return the source and scale of the depth."""
        return self.images["train"].label

    def asked(self, split: str) -> int:
        """Return the number of images in an epoch of this split."""
        there = self.images[split].count
        wanted = self.config.samples if split == "train" else self.config.val_samples
        if there is None:
            return wanted
        return there if self.config.path is not None and split != "train" else min(there, wanted)

    def samples(self, split: str) -> OverlaySamples:
        """Return the samples of a split; only "train" is augmented and continues with new images in each epoch."""
        training, config = split == "train", self.config
        return OverlaySamples(
            self.images[split],
            split,
            height=config.height,
            width=config.width,
            count=self.asked(split),
            fresh=training and config.fresh,
            augmentation=AugmentationConfig(mirror=config.mirror, color=config.color) if training else NO_AUGMENTATION,
            seed=self.seed,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Return what identifies the data, for run.json."""
        return {
            "path": self.config.path,
            "label": self.label.to_dict(),
            "splits": {split: one.facts() for split, one in self.images.items()},
            "train_samples": self.asked("train"),
            "val_samples": self.asked("val") if "val" in self.images else 0,
        }


def open_overlays(config: OverlayDataConfig, *, seed: int, progress: Progress | None = None) -> Overlays:
    """Open what a configuration names; what it leaves out is rendered into the cache first. Raises DataError,
    ConfigError.

    seed: of the composition.  progress: called while data are rendered or decoded.
    """
    if config.path is None:
        return Overlays(config, dict(composers(config, seed=seed, progress=progress)), seed)
    path = Path(config.path).expanduser()
    if is_written(path):
        return Overlays(config, _require_train(path, dict(open_written(path))), seed)
    if is_published(path):
        found = scan(path)
        parts = {
            split: PublishedOverlays(path, indices, split) for split, indices in splits(found, config.val_share).items()
        }
        return Overlays(config, _require_train(path, dict(parts)), seed, found)
    raise DataError(
        path,
        found="neither a set of stadia data overlay nor the published layout",
        expected="dataset.json of composed images, or bg/ and bg1/fg_1/overlay",
        fix="write one (stadia data overlay --out FOLDER), or leave data.path out to compose during training",
    )


def _require_train(path: Path, images: dict[str, OverlayImages]) -> dict[str, OverlayImages]:
    if not images.get("train") or not images["train"].count:
        raise DataError(path, found="no image to train on", expected="a split 'train'", fix="write the set again")
    return images


def composers(config: OverlayDataConfig, *, seed: int, progress: Progress | None = None) -> dict[str, Composer]:
    """Return a composer for each split that has both backgrounds and foregrounds."""
    given = config.backgrounds.path
    path = (
        demo_worlds(config.cache, _count_progress(progress, "rendering RoadWorld", FRAMES))
        if given is None
        else Path(given).expanduser()
    )
    cut = config.foregrounds.path
    folder = rendered_cutouts(config.cache, progress) if cut is None else Path(cut).expanduser()
    foregrounds = open_foregrounds(folder, config.foregrounds.val_share)
    backgrounds, label = open_backgrounds(path, config.backgrounds, config.height, config.width, progress)
    return {
        split: Composer(
            split,
            backgrounds[split],
            foregrounds[split],
            height=config.height,
            width=config.width,
            placement=config.placement,
            label=label,
            seed=seed,
            per_background=config.per_background if split == "train" else 1,
        )
        for split in ("train", "val", "test")
        if backgrounds.get(split) and foregrounds.get(split)
    }


def rendered_cutouts(cache: CacheConfig, progress: Progress | None = None) -> Path:
    """Render the default objects to the cache, once. Concurrent processes wait for the first."""
    config = CutoutConfig()
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # other settings are other objects
    folder = cache_folder(cache) / f"cutouts-{VERSION}-{settings}"
    if (folder / "foregrounds.json").exists():  # written last
        return folder
    with exclusively(folder):
        if not (folder / "foregrounds.json").exists():  # another process may have written it meanwhile
            write_cutouts(
                config,
                folder,
                advance=_count_progress(progress, "rendering objects", sum(config.objects.values()) * config.views),
            )
    return folder


def _count_progress(progress: Progress | None, what: str, total: int) -> Callable[[int], None]:
    """Return a callback that adds up finished items and reports the total."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(what, done, total)

    return advance
