"""Position and size of a cut-out: on a grid of 40 places, or at random. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stadia.data.overlay.config import PlacementConfig

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
class Place:
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


def on_grid(position: int) -> Place:
    """Return one of the 40 places of the grid: row by row from the nearest, then the same mirrored."""
    row, column = divmod(position % (POSITIONS // 2), GRID_COLUMNS)
    return Place(GRID_SIZES[row], GRID_FEET[row], column / (GRID_COLUMNS - 1), position >= POSITIONS // 2, position)


def sizes(config: PlacementConfig) -> tuple[float, float]:
    """Return the range of a cut-out's longer side, as a share of the image's shorter one."""
    return (min(GRID_SIZES), max(GRID_SIZES)) if config.rule == "grid" else config.size


def draw_place(config: PlacementConfig, random: np.random.Generator) -> Place:
    """Draw a place as configured."""
    if config.rule == "grid":
        return on_grid(int(random.integers(POSITIONS)))
    size, foot = random.uniform(*config.size), random.uniform(*config.foot)
    return Place(size, foot, random.uniform(), bool(random.integers(2)))
