"""Masks of objects from meshes and poses: whole, and with occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.raster import NEAR_M, Lens, draw

Points = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Silhouette:
    """The pixels that one object covers, in a window that may exceed the image.

    left, top: the window's corner in pixels of the image.  inverse_depth: (h, w) in 1/m at pixel centers, 0 = none.
    """

    left: int
    top: int
    inverse_depth: NDArray[np.float64]

    @property
    def full_px(self) -> int:
        """Return the pixels of the whole object without occlusion, also beyond the image's edge."""
        return int((self.inverse_depth > 0).sum())

    def windows(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the overlap of image and window: rows and columns of the image, then those of the window."""
        h, w = self.inverse_depth.shape
        top, left, bottom, right = (
            max(self.top, 0),
            max(self.left, 0),
            min(self.top + h, height),
            min(self.left + w, width),
        )
        bottom, right = max(bottom, top), max(right, left)
        there = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return (slice(top, bottom), slice(left, right)), there

    def within(self, height: int, width: int) -> NDArray[np.float64]:
        """Return (height, width) 1/z within the image, 0 = none."""
        out = np.zeros((height, width))
        here, there = self.windows(height, width)
        out[here] = self.inverse_depth[there]
        return out


def silhouette(vertices: Points, triangles: NDArray[np.int32], K: Points, height: int, width: int) -> Silhouette:
    """Draw a mesh, (N, 3) in the camera's frame in metres, where it falls: up to an image's size beyond each edge of
    the image.
    """
    low, high = np.array([-width, -height]), np.array([2 * width, 2 * height]) - 1
    if (vertices[:, 2] > NEAR_M).all():  # else it extends behind the camera, and its projection is unbounded
        pixels = (vertices[:, :2] / vertices[:, 2:]) * (K[0, 0], K[1, 1]) + K[:2, 2]
        low, high = (np.clip(edge, low, high) for edge in (np.floor(pixels.min(0)), np.ceil(pixels.max(0))))
    left, top = (int(q) for q in low)
    columns, rows = (int(q) for q in high - low + 1)
    lens = Lens(K[0, 0], K[1, 1], K[0, 2] - left, K[1, 2] - top, rows, columns, 1)
    return Silhouette(left, top, draw(np.ascontiguousarray(vertices), triangles, lens)[0])


def visible_masks(silhouettes: Sequence[Silhouette], height: int, width: int) -> NDArray[np.bool_]:
    """Return (N, height, width) masks of where each silhouette is the nearest."""
    nearest, owner = np.zeros((height, width)), np.full((height, width), -1)
    for number, one in enumerate(silhouettes):
        here, there = one.windows(height, width)
        nearer = one.inverse_depth[there] > nearest[here]
        nearest[here][nearer] = one.inverse_depth[there][nearer]
        owner[here][nearer] = number
    return owner == np.arange(len(silhouettes))[:, None, None]
