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

Cutout = NDArray[np.float32]

COVERS = 0.5
"""Alpha from which on a pixel shows what was pasted: the mask, and the depth with it."""

NEARER = 0.97
"""Times the cut-out's depth: what of the background is nearer than that stays in front. A cut-out has no thickness and
what it shows has; without this margin, ground that slopes by a little would cut off its foot.
"""


@dataclass(frozen=True, slots=True)
class Pasted:
    """A composite image.

    image: (H, W, 3) uint8 RGB.  depth: (H, W) float32 as the background's, 0 = none.  mask: (H, W) bool, what was
        pasted.
    share: of the cut-out's own mask, how much is seen.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    mask: NDArray[np.bool_]
    share: float


def premultiplied(rgba: NDArray[np.uint8]) -> Cutout:
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


def resized(cutout: Cutout, height: int, width: int) -> Cutout:
    """Resize a cut-out: by area where it shrinks, bilinearly where it grows."""
    smaller = (min(width, cutout.shape[1]), min(height, cutout.shape[0]))
    shrunk = cv2.resize(cutout, smaller, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def foot_of(cutout: Cutout) -> tuple[int, int]:
    """Return row and column of the foot pixel: the middle of the lowest covered row."""
    alpha = cutout[..., 3]
    covered = alpha >= min(COVERS, float(alpha.max()))
    row = int(np.flatnonzero(covered.any(1))[-1])
    columns = np.flatnonzero(covered[row])
    return row, int((columns[0] + columns[-1]) // 2)


def ground_depth(depth: NDArray[np.float32], row: int, column: int) -> float:
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


def paste(background: NDArray[np.uint8], depth: NDArray[np.float32], cutout: Cutout, top: int, left: int) -> Pasted:
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
    foot_row, foot_column = top + foot_of(cutout)[0], left + foot_of(cutout)[1]
    if not (0 <= foot_row < H and 0 <= foot_column < W):
        raise GeometryError(
            "foreground",
            found=f"its foot at row {foot_row}, column {foot_column}",
            expected=f"a pixel of the {W}x{H} background",
            fix="move it into the image",
        )
    z = ground_depth(depth, foot_row, foot_column)
    rows, columns = slice(max(top, 0), min(top + h, H)), slice(max(left, 0), min(left + w, W))
    inner = cutout[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    there = depth[rows, columns]
    behind = (there == 0) | (there >= np.float32(NEARER * z))
    shown = inner * behind[..., None]
    image, mask, composed = background.copy(), np.zeros((H, W), bool), depth.copy()
    mixed = background[rows, columns].astype(np.float32) * (1 - shown[..., 3:]) + 255 * shown[..., :3]
    image[rows, columns] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    mask[rows, columns] = shown[..., 3] >= COVERS
    composed[mask] = z
    return Pasted(image, composed, mask, float(mask.sum()) / max(int((cutout[..., 3] >= COVERS).sum()), 1))
