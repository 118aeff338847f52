"""Compose background, depth and cut-out to an image with depth and mask. This module does not import torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.core.seeds import make_generator
from stadia.data.frame_store import resize_depth, resize_image
from stadia.geometry.cameras import resize_K
from stadia.overlay.config import PlacementConfig
from stadia.overlay.world.backgrounds import (
    Background,
    BackgroundImage,
    DepthLabel,
    describe_background_depth,
    fingerprint_backgrounds,
)
from stadia.overlay.world.foregrounds import Cutout, Foreground, fingerprint_foregrounds, resize_cutout

MASK_MIN_ALPHA = 0.5  # alpha from which a pixel belongs to the cut-out, in mask and depth

OCCLUDER_DEPTH_RATIO = 0.97
"""The background occludes a pasted cut-out at pixels where the background's depth is below this share of the cut-out's.

The share is below 1, because the cut-out gets one depth although the object is thick.
"""

GRID_SIZES = (90 / 150, 80 / 150, 70 / 150, 60 / 150)
"""Longer sides of the pasted objects in the published dataset, by row of its grid of positions, the nearest row first.

They are shares of the image's shorter side, which is 150 pixels there.
"""

GRID_FEET = (1.0, 0.9, 0.8, 0.7)  # lower edge of each row, as a share of the height. Only the sizes are published.

GRID_COLUMNS = 5  # places in a row of the published layout
POSITIONS = 2 * len(GRID_SIZES) * GRID_COLUMNS  # 40: each place as it is, then mirrored

MIN_VISIBLE_SHARE = 0.25
"""A random place is drawn again if less than this share of the cut-out would be visible."""

MAX_PLACEMENT_TRIES = 8
"""Most random places of a cut-out that are drawn."""

_CACHE_SIZE = 1024  # backgrounds and foregrounds, each, that stay in memory

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CutoutPlacement:
    """Describe where and how large a cut-out is pasted into an image.

    size: longer side of the cut-out, as a share of the image's shorter side.
    foot: position of the cut-out's lower edge, as a share of the image's height from the top.
    across: horizontal position, from 0 if the cut-out touches the image's left edge to 1 if it touches the right one.
    flipped: whether the cut-out is mirrored.
    position: number of the place in the published grid, counted from 0; -1 if it is not one of these.
    """

    size: float
    foot: float
    across: float
    flipped: bool
    position: int = -1

    def box(self, cutout: tuple[int, int], image: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the pixels that the cut-out covers: top row, left column, height and width.

        cutout: (height, width) of the cut-out's file in pixels.
        image: (height, width) of the background in pixels.
        """
        (h, w), (H, W) = cutout, image
        scale = self.size * min(H, W) / max(h, w)
        height, width = max(1, round(scale * h)), max(1, round(scale * w))
        top = min(max(round(self.foot * H) - height, 0), H - height)
        return top, round(self.across * (W - width)), height, width


def make_grid_placement(position: int) -> CutoutPlacement:
    """Return one of the 40 places of the grid: row by row from the nearest, then all of them mirrored."""
    row, column = divmod(position % (POSITIONS // 2), GRID_COLUMNS)
    across, flipped = column / (GRID_COLUMNS - 1), position >= POSITIONS // 2
    return CutoutPlacement(GRID_SIZES[row], GRID_FEET[row], across, flipped, position)


def placement_size_range(config: PlacementConfig) -> tuple[float, float]:
    """Return the range of a cut-out's longer side, as a share of the image's shorter side."""
    return (min(GRID_SIZES), max(GRID_SIZES)) if config.rule == "grid" else config.size


def draw_placement(config: PlacementConfig, random: np.random.Generator) -> CutoutPlacement:
    """Return a random place, as configured."""
    if config.rule == "grid":
        return make_grid_placement(int(random.integers(POSITIONS)))
    size, foot = random.uniform(*config.size), random.uniform(*config.foot)
    return CutoutPlacement(size, foot, random.uniform(), bool(random.integers(2)))


@dataclass(frozen=True, slots=True)
class PasteResult:
    """Hold a composite image with its labels.

    image: (H, W, 3) uint8 RGB.
    depth: (H, W) float32 z in the unit of the background's depth; 0 means unknown.
    mask: (H, W) bool, true for pixels that show the pasted object.
    share: visible share of the cut-out's pixels; the rest is behind the background.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    mask: NDArray[np.bool_]
    share: float


def find_foot_pixel(cutout: Cutout) -> tuple[int, int]:
    """Return row and column of a cut-out's foot: the middle of its lowest covered row."""
    alpha = cutout[..., 3]
    covered = alpha >= min(MASK_MIN_ALPHA, float(alpha.max()))
    row = int(np.flatnonzero(covered.any(1))[-1])
    columns = np.flatnonzero(covered[row])
    return row, int((columns[0] + columns[-1]) // 2)


def estimate_ground_depth(depth: NDArray[np.float32], row: int, column: int) -> float:
    """Return the depth of the ground at a pixel: the median of a patch that grows until it has depth.

    depth: (H, W); 0 means unknown.

    Raises DataError without depth.
    """
    height, width = depth.shape
    radius = max(1, min(height, width) // 64)
    while radius < 2 * max(height, width):
        patch = depth[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
        valid = patch[patch > 0]
        if valid.size:
            return float(np.median(valid))
        radius *= 2
    raise DataError(
        "background", found="no depth at any pixel", expected="depth of the ground", fix="leave this background out"
    )


def paste_cutout(
    background: NDArray[np.uint8], depth: NDArray[np.float32], cutout: Cutout, top: int, left: int
) -> PasteResult:
    """Paste a cut-out object into a background image, as if it stood on the ground; return the image and its labels.

    All pixels of the object get the depth of the ground under its foot, the middle of its lowest row. The image is (1
    - alpha) background + alpha cut-out, except where the background is nearer than the object (OCCLUDER_DEPTH_RATIO).

    background: (H, W, 3) uint8 RGB.
    depth: (H, W) z of the background; 0 means unknown.
    cutout: (h, w, 4) RGB and alpha in [0, 1], with RGB multiplied by alpha.
    top: image row of the cut-out's first row.
    left: image column of the cut-out's first column.

    Raises GeometryError if the cut-out is larger than the image or has its foot outside of it. Source: Porter and
    Duff, SIGGRAPH 1984.
    """
    H, W = depth.shape
    h, w = cutout.shape[:2]
    if h > H or w > W:
        found, expected = f"{w}x{h} pixels", f"at most the background's {W}x{H}"
        raise GeometryError("foreground", found=found, expected=expected, fix="paste it smaller")
    foot_row, foot_column = np.add(find_foot_pixel(cutout), (top, left)).tolist()
    if not (0 <= foot_row < H and 0 <= foot_column < W):
        found, expected = f"its foot at row {foot_row}, column {foot_column}", f"a pixel of the {W}x{H} background"
        raise GeometryError("foreground", found=found, expected=expected, fix="move it into the image")
    z = estimate_ground_depth(depth, foot_row, foot_column)
    rows, columns = slice(max(top, 0), min(top + h, H)), slice(max(left, 0), min(left + w, W))
    inner = cutout[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    ground = depth[rows, columns]
    behind = (ground == 0) | (ground >= np.float32(OCCLUDER_DEPTH_RATIO * z))
    shown = inner * behind[..., None]
    image, mask, composed = background.copy(), np.zeros((H, W), bool), depth.copy()
    mixed = background[rows, columns].astype(np.float32) * (1 - shown[..., 3:]) + 255 * shown[..., :3]
    image[rows, columns] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    mask[rows, columns] = shown[..., 3] >= MASK_MIN_ALPHA
    composed[mask] = z
    whole_px = int((cutout[..., 3] >= MASK_MIN_ALPHA).sum())
    return PasteResult(image, composed, mask, float(mask.sum()) / max(whole_px, 1))


@dataclass(frozen=True, slots=True)
class CompositePair:
    """Name the background and the foreground of a composite image.

    background: name of the background image.
    world: name of the recording that contains the background.
    foreground: name of the cut-out image.
    object: name of the object that the cut-out shows; several cut-outs may show it from different views.
    position: number of the place on the published grid; -1 if it is not on the grid.
    """

    background: str
    world: str
    foreground: str
    object: str
    position: int = -1


@dataclass(frozen=True, slots=True)
class CompositeSample:
    """Hold a composite image with its background and labels.

    image: (H, W, 3) uint8 RGB with the pasted object.
    background: (H, W, 3) uint8 RGB without it.
    depth: (H, W) float32 true z; 0 means unknown.
    mask: (H, W) bool, true for pixels of the pasted object.
    K: (3, 3) intrinsics.
    pair: names of background and foreground.
    """

    image: NDArray[np.uint8]
    background: NDArray[np.uint8]
    depth: NDArray[np.float32]
    mask: NDArray[np.bool_]
    K: NDArray[np.float64]
    pair: CompositePair

    def resized(self, height: int, width: int) -> "CompositeSample":
        """Return the sample at another size: images by area, depth by the nearest pixel, the mask by the majority."""
        if self.mask.shape == (height, width):
            return self
        return CompositeSample(
            resize_image(self.image, height, width),
            resize_image(self.background, height, width),
            resize_depth(self.depth, height, width),
            resize_cutout(self.mask.astype(np.float32), height, width) >= 0.5,
            resize_K(self.K, self.mask.shape, height, width),
            self.pair,
        )


class CompositeSource(Protocol):
    """A split of composite images, which are composed on demand (count: None) or read from disk, and their label."""

    label: DepthLabel

    @property
    def count(self) -> int | None:
        """Return the number of images; None if it is unlimited."""

    def pair(self, number: int) -> CompositePair:
        """Return the names of foreground and background of the n-th sample, without opening an image."""
        ...

    def composed(self, number: int) -> CompositeSample:
        """Return the n-th sample. Raises DataError if a file cannot be read."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return facts that identify the set, for run.json."""
        ...


class CompositeComposer:
    """Composes the images of a split. In each round, every background and every foreground is used once.

    split: name of the random stream.
    label: source and scale of the backgrounds' depth.
    per_background: number of consecutive images with the same background.
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

    def choose_parts(self, number: int) -> tuple[int, int]:
        """Return the indices of the background and the foreground of a sample."""
        block = number // self.per_background
        return (
            _draw_index_in_rounds(self.seed, self.split, "backgrounds", len(self.backgrounds), block),
            _draw_index_in_rounds(self.seed, self.split, "foregrounds", len(self.foregrounds), number),
        )

    def pair(self, number: int) -> CompositePair:
        """Return the parts of a sample by its number."""
        return self._pair(number, draw_placement(self.placement, self._random(number)))

    def composed(self, number: int) -> CompositeSample:
        """Compose a sample by its number."""
        b, f = self.choose_parts(number)
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
        pair = self._pair(number, place)
        return CompositeSample(pasted.image, scenery.image, pasted.depth, pasted.mask, scenery.K, pair)

    def facts(self) -> dict[str, Any]:
        """Return facts for the record of the run: splits, sources and labels."""
        return {
            "backgrounds": len(self.backgrounds),
            "worlds": len({background.recording.name for background in self.backgrounds}),
            "foregrounds": len(self.foregrounds),
            "objects": len({foreground.object for foreground in self.foregrounds}),
            "fingerprints": [fingerprint_backgrounds(self.backgrounds), fingerprint_foregrounds(self.foregrounds)],
            "depth": describe_background_depth(self.backgrounds),
        }

    def _random(self, number: int) -> np.random.Generator:
        return make_generator(self.seed, "overlay", self.split, "place", number)

    def _pair(self, number: int, place: CutoutPlacement) -> CompositePair:
        b, f = self.choose_parts(number)
        background, foreground = self.backgrounds[b], self.foregrounds[f]
        world = background.recording.session
        return CompositePair(background.name, world, foreground.name, foreground.object, place.position)


def _get_cached(kept: dict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    if key not in kept:
        value = make()
        while len(kept) >= _CACHE_SIZE:
            kept.pop(next(iter(kept)), None)
        kept[key] = value
    return kept[key]


@lru_cache(maxsize=64)
def _permutation_of_round(seed: int, split: str, what: str, count: int, round_: int) -> NDArray[np.int64]:
    return make_generator(seed, "overlay", split, what, round_).permutation(count)


def _draw_index_in_rounds(seed: int, split: str, what: str, count: int, number: int) -> int:
    round_, place = divmod(number, count)
    return int(_permutation_of_round(seed, split, what, count, round_)[place])
