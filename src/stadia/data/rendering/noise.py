"""Periodic value noise summed over octaves (fractal Brownian motion), fast enough to make for each world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stadia.core.compiled import compiled

Map = NDArray[np.float32]


@compiled
def _add_octave(out: Map, grid: Map, amplitude: np.float32) -> None:
    """Add `amplitude` times the smooth interpolation of a periodic grid (R, C) to out (H, W)."""
    height, width = out.shape
    rows, columns = grid.shape
    left = np.empty(width, np.int32)
    part = np.empty(width, np.float32)
    for x in range(width):
        at = x * columns / width
        left[x] = int(at)
        f = at - int(at)
        part[x] = f * f * (3 - 2 * f)
    line = np.empty(columns + 1, np.float32)
    for y in range(height):
        at = y * rows / height
        above = int(at)
        f = at - above
        f = f * f * (3 - 2 * f)
        below = (above + 1) % rows
        for c in range(columns):
            line[c] = amplitude * ((1 - f) * grid[above, c] + f * grid[below, c])
        line[columns] = line[0]
        for x in range(width):
            i = left[x]
            out[y, x] += line[i] + part[x] * (line[i + 1] - line[i])


def fractal(
    random: np.random.Generator,
    height: int,
    width: int,
    *,
    cells: tuple[int, int] = (4, 4),
    octaves: int = 8,
    persistence: float = 0.6,
) -> Map:
    """Make (height, width) periodic noise with mean about 0 and standard deviation 1.

    Args:
        cells: rows and columns of the coarsest grid; each octave doubles both, up to the size of the map.
        persistence: ratio of an octave's amplitude to the one before: low is soft, high is gritty.
    """
    out = np.zeros((height, width), np.float32)
    amplitude = 1.0
    for _ in range(octaves):
        grid = random.random(cells, np.float32) - np.float32(0.5)
        _add_octave(out, grid, np.float32(amplitude))
        amplitude *= persistence
        cells = (min(2 * cells[0], height), min(2 * cells[1], width))
    out -= out.mean(dtype=np.float64).astype(np.float32)
    out /= np.float32(out.std(dtype=np.float64))
    return out
