"""Compose background, depth and cut-out to an image, its depth and its mask. Arrays only; imports no torch.

A cut-out is (h, w, 4): red, green, blue times alpha, then alpha, float32 in [0, 1]. Premultiplied, so that resizing
adds no fringe in the color of transparent pixels.

Source: Porter and Duff, Compositing Digital Images, SIGGRAPH 1984.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.synthetic.composites.config import PlacementConfig

Cutout = NDArray[np.float32]

MASK_MIN_ALPHA = 0.5
"""Alpha from which on a pixel shows what was pasted: the mask, and the depth with it."""

OCCLUDER_DEPTH_RATIO = 0.97
"""Times the cut-out's depth: what of the background is nearer than that stays in front. A cut-out has no thickness and
what it shows has; without this margin, ground that slopes by a little would cut off its foot.
"""


@dataclass(frozen=True, slots=True)
class PasteResult:
    """A composite image.

    image: (H, W, 3) uint8 RGB.  depth: (H, W) float32 as the background's, 0 = none.  mask: (H, W) bool, what was
        pasted.
    share: of the cut-out's own mask, how much is seen.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    mask: NDArray[np.bool_]
    share: float


def premultiply_alpha(rgba: NDArray[np.uint8]) -> Cutout:
    """Convert (h, w, 4) uint8 RGBA with straight alpha to a cut-out without its empty margin.

    Raises DataError where all of it is transparent.
    """
    rows, columns = np.flatnonzero(rgba[..., 3].any(1)), np.flatnonzero(rgba[..., 3].any(0))
    if not rows.size:
        raise DataError(
            "foreground", found="alpha 0 everywhere", expected="an object that can be seen", fix="leave the file out"
        )
    inner = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / np.float32(255)
    inner[..., :3] *= inner[..., 3:]
    return inner


def resize_cutout(cutout: Cutout, height: int, width: int) -> Cutout:
    """Resize a cut-out: by area where it shrinks, bilinearly where it grows."""
    smaller = (min(width, cutout.shape[1]), min(height, cutout.shape[0]))
    shrunk = cv2.resize(cutout, smaller, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def find_foot_pixel(cutout: Cutout) -> tuple[int, int]:
    """Return row and column of the foot pixel: the middle of the lowest covered row."""
    alpha = cutout[..., 3]
    covered = alpha >= min(MASK_MIN_ALPHA, float(alpha.max()))
    row = int(np.flatnonzero(covered.any(1))[-1])
    columns = np.flatnonzero(covered[row])
    return row, int((columns[0] + columns[-1]) // 2)


def estimate_ground_depth(depth: NDArray[np.float32], row: int, column: int) -> float:
    """Return the depth of the ground at a pixel: the median of valid depth in a patch that grows until one is valid.

    Raises DataError where nothing of the map is known.
    """
    height, width = depth.shape
    radius = max(1, min(height, width) // 64)
    while radius < 2 * max(height, width):
        patch = depth[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
        known = patch[patch > 0]
        if known.size:
            return float(np.median(known))
        radius *= 2
    raise DataError(
        "background", found="no depth at any pixel", expected="depth of what things stand on", fix="leave it out"
    )


def paste_cutout(
    background: NDArray[np.uint8], depth: NDArray[np.float32], cutout: Cutout, top: int, left: int
) -> PasteResult:
    """Stand a cut-out upright on a background, where its foot's middle meets the ground: all of it has the ground's
    depth there.

    Args:
        background: (H, W, 3) RGB.  depth: (H, W), 0 = none; of any unit, larger is farther.
        cutout: (h, w, 4), see above.
        top, left: of its first pixel; it may reach over an edge, but not with its foot.

    image = (1 - alpha) background + alpha foreground, where nothing of the background is nearer (`NEARER`). What has
    no depth is behind. Raises GeometryError for a cut-out that is larger than the background, or whose foot is outside
    of it.
    """
    H, W = depth.shape
    h, w = cutout.shape[:2]
    if h > H or w > W:
        raise GeometryError(
            "foreground", found=f"{w}x{h} pixels", expected=f"at most the background's {W}x{H}", fix="paste it smaller"
        )
    foot_row, foot_column = top + find_foot_pixel(cutout)[0], left + find_foot_pixel(cutout)[1]
    if not (0 <= foot_row < H and 0 <= foot_column < W):
        raise GeometryError(
            "foreground",
            found=f"its foot at row {foot_row}, column {foot_column}",
            expected=f"a pixel of the {W}x{H} background",
            fix="move it into the image",
        )
    z = estimate_ground_depth(depth, foot_row, foot_column)
    rows, columns = slice(max(top, 0), min(top + h, H)), slice(max(left, 0), min(left + w, W))
    inner = cutout[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    there = depth[rows, columns]
    behind = (there == 0) | (there >= np.float32(OCCLUDER_DEPTH_RATIO * z))
    shown = inner * behind[..., None]
    image, mask, composed = background.copy(), np.zeros((H, W), bool), depth.copy()
    mixed = background[rows, columns].astype(np.float32) * (1 - shown[..., 3:]) + 255 * shown[..., :3]
    image[rows, columns] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    mask[rows, columns] = shown[..., 3] >= MASK_MIN_ALPHA
    composed[mask] = z
    return PasteResult(image, composed, mask, float(mask.sum()) / max(int((cutout[..., 3] >= MASK_MIN_ALPHA).sum()), 1))


# -- Position and size of a cut-out: on a grid of 40 places, or at random. Imports no torch.

GRID_SIZES = (90 / 150, 80 / 150, 70 / 150, 60 / 150)
"""Of the published images, nearest row first: pixels of a canvas of 150."""

GRID_FEET = (1.0, 0.9, 0.8, 0.7)
"""Where the lower edge of each row lies, as a share of the height: smaller and higher is farther. The sizes are
published, this is not.
"""

GRID_COLUMNS = 5
POSITIONS = 2 * len(GRID_SIZES) * GRID_COLUMNS
"""40: each place as it is, then mirrored."""


@dataclass(frozen=True, slots=True)
class CutoutPlacement:
    """Position and size of a cut-out.

    size: its longer side, as a share of the image's shorter one.  foot: its lower edge, as a share of the height.
    across: 0 at the left edge of the image, 1 at the right one.  flipped: mirrored.  position: on the grid, from 0; -1
        is none.
    """

    size: float
    foot: float
    across: float
    flipped: bool
    position: int = -1

    def box(self, cutout: tuple[int, int], image: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return top, left, height and width in pixels of a cut-out of this size within an image of this size."""
        (h, w), (H, W) = cutout, image
        scale = self.size * min(H, W) / max(h, w)
        height, width = max(1, round(scale * h)), max(1, round(scale * w))
        top = min(max(round(self.foot * H) - height, 0), H - height)
        return top, round(self.across * (W - width)), height, width


def make_grid_placement(position: int) -> CutoutPlacement:
    """Return one of the 40 places of the grid: row by row from the nearest, then the same mirrored."""
    row, column = divmod(position % (POSITIONS // 2), GRID_COLUMNS)
    return CutoutPlacement(
        GRID_SIZES[row], GRID_FEET[row], column / (GRID_COLUMNS - 1), position >= POSITIONS // 2, position
    )


def placement_size_range(config: PlacementConfig) -> tuple[float, float]:
    """Return the range of a cut-out's longer side, as a share of the image's shorter one."""
    return (min(GRID_SIZES), max(GRID_SIZES)) if config.rule == "grid" else config.size


def draw_placement(config: PlacementConfig, random: np.random.Generator) -> CutoutPlacement:
    """Draw a place as configured."""
    if config.rule == "grid":
        return make_grid_placement(int(random.integers(POSITIONS)))
    size, foot = random.uniform(*config.size), random.uniform(*config.foot)
    return CutoutPlacement(size, foot, random.uniform(), bool(random.integers(2)))
