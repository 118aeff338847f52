"""Compose images on demand: the n-th depends on the seed and n only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.datasets.frame_store import resize_depth, resize_image
from stadia.geometry.numpy_camera import resize_K
from stadia.synthetic.composites.backgrounds import Background, BackgroundImage, DepthLabel, fingerprint_backgrounds
from stadia.synthetic.composites.config import PlacementConfig
from stadia.synthetic.composites.foregrounds import Foreground, fingerprint_foregrounds
from stadia.synthetic.composites.pasting import Cutout, CutoutPlacement, draw_placement, paste_cutout, resize_cutout

MIN_VISIBLE_SHARE, MAX_PLACEMENT_TRIES = 0.25, 8
"""Random places that show less than this share of the cut-out are drawn again, at most so many times."""

_CACHE_SIZE = 1024  # backgrounds and foregrounds, each, that stay in memory

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CompositePair:
    """The parts of a composite image.

    background: its image.  world: its recording.  foreground: the cut-out.  object: of the cut-out.
    position: on the grid, from 0; -1 where places are drawn at random.
    """

    background: str
    world: str
    foreground: str
    object: str
    position: int = -1


@dataclass(frozen=True, slots=True)
class CompositeSample:
    """A composite image with its ground truth, all (H, W).

    image, background: (H, W, 3) uint8 RGB.  depth: float32, 0 = none, in the unit of the set's label.   mask: bool.  K:
        (3, 3) pixels.
    """

    image: NDArray[np.uint8]
    background: NDArray[np.uint8]
    depth: NDArray[np.float32]
    mask: NDArray[np.bool_]
    K: NDArray[np.float64]
    pair: CompositePair

    def resized(self, height: int, width: int) -> CompositeSample:
        """Return the sample at another size: images by area, depth by the nearest pixel, the mask where at least half
        of a pixel is covered.
        """
        if self.mask.shape == (height, width):
            return self
        small = (min(width, self.mask.shape[1]), min(height, self.mask.shape[0]))
        shrunk = cv2.resize(self.mask.astype(np.float32), small, interpolation=cv2.INTER_AREA)
        return CompositeSample(
            resize_image(self.image, height, width),
            resize_image(self.background, height, width),
            resize_depth(self.depth, height, width),
            cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5,
            resize_K(self.K, self.mask.shape, height, width),
            self.pair,
        )


class CompositeSource(Protocol):
    """A split of composite images, composed on demand or read from disk.

    label: source and scale of the depth.  count: number of images; None for unlimited.
    """

    label: DepthLabel

    @property
    def count(self) -> int | None: ...
    def pair(self, number: int) -> CompositePair:
        """Return what the n-th sample is composed of, without opening an image."""
        ...

    def composed(self, number: int) -> CompositeSample:
        """Return the n-th sample. Raises DataError with the file that cannot be read."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what identifies the set, for run.json."""
        ...


class CompositeComposer:
    """Composes the images of a split.

    Every background is taken once before one is taken again, and so is every foreground, both in an order drawn anew
    for each round: a part of the images, however small, has as many backgrounds as it can have.

    Args:
        split: names the random stream, so that no two splits draw alike.
        label: what the backgrounds' depth is.
        per_background: so many images of one follow one another.
    """

    count: int | None = None

    def __init__(
        self,
        split: str,
        backgrounds: Sequence[Background],
        foregrounds: Sequence[Foreground],
        *,
        height: int,
        width: int,
        placement: PlacementConfig,
        label: DepthLabel,
        seed: int,
        per_background: int = 1,
    ) -> None:
        self.split, self.backgrounds, self.foregrounds = split, list(backgrounds), list(foregrounds)
        self.height, self.width, self.placement, self.label, self.seed = height, width, placement, label, seed
        self.per_background = per_background
        self._scenery: dict[int, BackgroundImage] = {}
        self._cutouts: dict[int, Cutout] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scenery": {}, "_cutouts": {}}

    def chosen(self, number: int) -> tuple[int, int]:
        """Return the indices of background and foreground of a sample."""
        return (
            _index_in_rounds(
                self.seed, self.split, "backgrounds", len(self.backgrounds), number // self.per_background
            ),
            _index_in_rounds(self.seed, self.split, "foregrounds", len(self.foregrounds), number),
        )

    def pair(self, number: int) -> CompositePair:
        return self._pair(number, draw_placement(self.placement, self._random(number)))

    def composed(self, number: int) -> CompositeSample:
        b, f = self.chosen(number)
        scenery = _get_cached(self._scenery, b, lambda: self.backgrounds[b].scenery(self.height, self.width))
        whole = _get_cached(self._cutouts, f, lambda: self.foregrounds[f].cutout(2 * max(self.height, self.width)))
        random = self._random(number)
        for _ in range(MAX_PLACEMENT_TRIES):
            place = draw_placement(self.placement, random)
            top, left, h, w = place.box((whole.shape[0], whole.shape[1]), (self.height, self.width))
            cutout = resize_cutout(whole[:, ::-1] if place.flipped else whole, h, w)
            pasted = paste_cutout(scenery.image, scenery.depth, cutout, top, left)
            if self.placement.rule == "grid" or pasted.share >= MIN_VISIBLE_SHARE:
                break
        return CompositeSample(
            pasted.image, scenery.image, pasted.depth, pasted.mask, scenery.K, self._pair(number, place)
        )

    def facts(self) -> dict[str, Any]:
        return {
            "backgrounds": len(self.backgrounds),
            "worlds": len({one.recording.name for one in self.backgrounds}),
            "foregrounds": len(self.foregrounds),
            "objects": len({one.object for one in self.foregrounds}),
            "fingerprints": [fingerprint_backgrounds(self.backgrounds), fingerprint_foregrounds(self.foregrounds)],
        }

    def _random(self, number: int) -> np.random.Generator:
        return make_generator(self.seed, "overlay", self.split, "place", number)

    def _pair(self, number: int, place: CutoutPlacement) -> CompositePair:
        b, f = self.chosen(number)
        background, foreground = self.backgrounds[b], self.foregrounds[f]
        return CompositePair(
            background.name, background.recording.session, foreground.name, foreground.object, place.position
        )


def _get_cached(kept: dict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Return a cached value, or make and cache it; the oldest entry is evicted from a full cache."""
    if key not in kept:
        value = make()
        while len(kept) >= _CACHE_SIZE:
            kept.pop(next(iter(kept)), None)
        kept[key] = value
    return kept[key]


@lru_cache(maxsize=64)
def _permutation_of_round(seed: int, split: str, what: str, count: int, round_: int) -> NDArray[np.int64]:
    return make_generator(seed, "overlay", split, what, round_).permutation(count)


def _index_in_rounds(seed: int, split: str, what: str, count: int, number: int) -> int:
    round_, place = divmod(number, count)
    return int(_permutation_of_round(seed, split, what, count, round_)[place])
