"""Open composite images and load them as training samples."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.core.types import Camera
from stadia.data.config import NO_AUGMENTATION, AugmentationConfig, CacheConfig
from stadia.data.frame_store import ReportProgress, lock_beside
from stadia.differentiable.batch import Batch, Inputs, Meta, Targets
from stadia.geometry.cameras import mirror_camera
from stadia.io.input_files import expand_home, find_cache_folder
from stadia.overlay.config import CutoutConfig, OverlayDataConfig
from stadia.overlay.layout import is_composite_set, is_published
from stadia.overlay.world.backgrounds import DepthLabel, open_backgrounds
from stadia.overlay.world.composer import CompositeComposer, CompositeSource
from stadia.overlay.world.composite_files import open_composite_files
from stadia.overlay.world.foregrounds import CUTOUTS_VERSION, open_foregrounds, write_cutouts
from stadia.overlay.world.published_layout import (
    LayoutScan,
    PublishedComposites,
    scan_published_layout,
    split_published_layout,
)
from stadia.synthetic.roadworld.roadworld_writer import DEMO_FRAMES, render_demo_worlds
from stadia.training.loading.loader import PackedTensors, stack_packed
from stadia.training.loading.transforms import apply_color, compute_mean_gray, draw_augmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayInputs(Inputs):
    """A composite image (B, 3, H, W) without sources, and its background.

    background: (B, 3, H, W) RGB in [0, 1].
    """

    background: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayTargets(Targets):
    """Hold the labels of composite images: true depth, where 0 means unknown, and mask.

    mask: (B, 1, H, W) bool, true for pixels of the pasted object.
    """

    mask: Tensor


@dataclass(frozen=True, slots=True)
class PackedComposite(PackedTensors):
    """Hold one sample of a composite image in compact types, as a loader passes it between processes.

    images: (2, 3, H, W) uint8 RGB: the composite image, then the background without the pasted object.
    K: (3, 3) intrinsics.
    depth: (1, H, W) float32 true z; 0 means unknown.
    mask: (1, H, W) bool, true for pixels of the pasted object.
    color: (3, 4) matrix of the color augmentation that is applied to the network's input only; None for none.
    meta: name and number of the sample.
    """

    images: Tensor
    K: Tensor
    depth: Tensor
    mask: Tensor
    color: Tensor | None
    meta: tuple[Meta, ...]


class CompositeSamples(Dataset[Batch[OverlayInputs, OverlayTargets]]):
    """Composite images as samples. A sample depends only on (seed, epoch, index).

    count: number of samples in an epoch; by default all images on disk.
    fresh: compose new images in each epoch.
    """

    def __init__(
        self,
        images: CompositeSource,
        split: str,
        *,
        height: int,
        width: int,
        count: int | None = None,
        fresh: bool = False,
        augmentation: AugmentationConfig = NO_AUGMENTATION,
        seed: int = 0,
    ) -> None:
        self.images, self.split, self.height, self.width, self.seed = images, split, height, width, seed
        self.count = min(x for x in (count, images.count) if x is not None)
        self.fresh = fresh and images.count is None
        self._augmentation = augmentation

    def __len__(self) -> int:
        return self.count

    def number(self, key: tuple[int, int]) -> int:
        """Return the number of the image for a key (epoch, index)."""
        epoch, index = key
        return epoch * self.count + index if self.fresh else index

    def packed(self, key: tuple[int, int]) -> PackedComposite:
        """Return the sample for a key (epoch, index)."""
        number = self.number(key)
        one = self.images.composed(number).resized(self.height, self.width)
        # The name of the stream stays, so that draws stay equal.
        random = make_generator(self.seed, "overlay", "colour", *key)
        change = draw_augmentation(self._augmentation, self.height, self.width, random)
        both = np.stack([one.image, one.background]).transpose(0, 3, 1, 2)
        camera, depth, mask = Camera(torch.from_numpy(one.K), self.height, self.width), one.depth, one.mask
        if change.mirror:
            both, camera = both[..., ::-1], mirror_camera(camera)
            depth, mask = depth[:, ::-1].copy(), mask[:, ::-1].copy()
        name = f"{self.split}: {one.pair.foreground} on {one.pair.background}"
        return PackedComposite(
            images=torch.from_numpy(np.ascontiguousarray(both)),
            K=camera.K.float(),
            depth=torch.from_numpy(depth)[None],
            mask=torch.from_numpy(mask)[None],
            color=change.color,
            meta=(Meta(name, number, mirrored=change.mirror),),
        )

    def __getitem__(self, index: int) -> Batch[OverlayInputs, OverlayTargets]:
        return self.unpack(self.stack([self.packed((0, index))]))

    stack = staticmethod(stack_packed)

    def unpack(
        self, packed: PackedComposite, device: torch.device | str = "cpu"
    ) -> Batch[OverlayInputs, OverlayTargets]:
        """Convert a batch to floats on the device. Inputs may share their memory with targets."""
        packed = packed.to(device)
        images = packed.images.mul(1 / 255)
        image, inputs = images[:, 0], images
        if packed.color is not None:
            inputs = apply_color(images, packed.color, compute_mean_gray(images[:, 1]))
        size, height, width = len(packed.meta), *images.shape[-2:]
        camera = Camera(packed.K, height, width)
        none, no_motion = images.new_zeros(size, 0, 3, height, width), images.new_zeros(size, 0, 4, 4)
        no_camera = Camera(camera.K[:, None].expand(-1, 0, -1, -1), height, width)
        return Batch(
            OverlayInputs(inputs[:, 0], none, camera, no_motion, background=inputs[:, 1]),
            OverlayTargets(image, none, camera, no_camera, no_motion, packed.depth, mask=packed.mask),
            packed.meta,
        )


@dataclass(frozen=True)
class CompositeSplits:
    """Composite images by split: "train", usually "val", and perhaps "test".

    scan: the files of the published layout, if the images have it.
    """

    config: OverlayDataConfig
    images: dict[str, CompositeSource]
    seed: int
    scan: LayoutScan | None = None

    @property
    def label(self) -> DepthLabel:
        """Return the source and the scale of the depth."""
        return self.images["train"].label

    def count_images(self, split: str) -> int:
        """Return the number of images in an epoch of this split."""
        available = self.images[split].count
        wanted = self.config.samples if split == "train" else self.config.val_samples
        if available is None:
            return wanted
        return available if self.config.path is not None and split != "train" else min(available, wanted)

    def samples(self, split: str) -> CompositeSamples:
        """Return the samples of a split. Only "train" is augmented, and renewed in each epoch."""
        training, config = split == "train", self.config
        return CompositeSamples(
            self.images[split],
            split,
            height=config.height,
            width=config.width,
            count=self.count_images(split),
            fresh=training and config.fresh,
            augmentation=AugmentationConfig(mirror=config.mirror, color=config.color) if training else NO_AUGMENTATION,
            seed=self.seed,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Return facts that identify the data, for run.json."""
        return {
            "path": self.config.path,
            "label": self.label.to_dict(),
            "splits": {split: source.facts() for split, source in self.images.items()},
            "train_samples": self.count_images("train"),
            "val_samples": self.count_images("val") if "val" in self.images else 0,
        }


def open_composites(config: OverlayDataConfig, *, seed: int, progress: ReportProgress | None = None) -> CompositeSplits:
    """Open the data that a configuration names. What it does not name is rendered into the cache.

    Raises DataError for wrong files, and ConfigError for a wrong configuration.
    """
    if config.path is None:
        return CompositeSplits(config, dict(make_composers(config, seed=seed, progress=progress)), seed)
    path = expand_home(config.path)
    if is_composite_set(path):
        return CompositeSplits(config, _require_train(path, dict(open_composite_files(path))), seed)
    if is_published(path):
        scan = scan_published_layout(path)
        splits = split_published_layout(scan, config.val_share, config.val_rule)
        parts = {split: PublishedComposites(path, indices, split) for split, indices in splits.items()}
        return CompositeSplits(config, _require_train(path, dict(parts)), seed, scan)
    found = "neither a set of stadia data overlay nor the published layout"
    expected = "dataset.json of composed images, or bg/ and bg1/fg_1/overlay"
    fix = "write one with stadia data overlay --out FOLDER, or leave data.path out"
    raise DataError(path, found=found, expected=expected, fix=fix)


def _require_train(path: Path, images: dict[str, CompositeSource]) -> dict[str, CompositeSource]:
    if not images.get("train") or not images["train"].count:
        raise DataError(path, found="no image to train on", expected="a split 'train'", fix="write the set again")
    return images


def make_composers(
    config: OverlayDataConfig, *, seed: int, progress: ReportProgress | None = None
) -> dict[str, CompositeComposer]:
    """Return a composer for each split that has both backgrounds and foregrounds."""
    if config.backgrounds.path is None:
        path = render_demo_worlds(config.cache, _count_progress(progress, "rendering RoadWorld", DEMO_FRAMES))
    else:
        path = expand_home(config.backgrounds.path)
    cut = config.foregrounds.path
    folder = render_cached_cutouts(config.cache, progress) if cut is None else expand_home(cut)
    foregrounds = open_foregrounds(folder, config.foregrounds.val_share)
    backgrounds, label = open_backgrounds(path, config.backgrounds, config.height, config.width, progress)
    return {
        split: CompositeComposer(
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


def render_cached_cutouts(cache: CacheConfig, progress: ReportProgress | None = None) -> Path:
    """Render the default objects to the cache, once, and return their folder. Other processes wait for the first."""
    config = CutoutConfig()
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # other settings are other objects
    folder = find_cache_folder(cache.folder) / f"cutouts-{CUTOUTS_VERSION}-{settings}"
    if (folder / "foregrounds.json").exists():  # written last
        return folder
    with lock_beside(folder):
        if not (folder / "foregrounds.json").exists():  # another process may have written it meanwhile
            count = sum(config.counts.values()) * config.views
            write_cutouts(config, folder, advance=_count_progress(progress, "rendering objects", count))
    return folder


def _count_progress(progress: ReportProgress | None, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(what, done, total)

    return advance
