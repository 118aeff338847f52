"""Check whether the scene fills the image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import Survey

MAX_BLACK, MAX_BAR_RANGE = 20, 4
"""Gray levels: brightness of a bar, and range of its pixels over all checked images. A night sky has sensor noise and
no sharp edge.
"""

MIN_BAR_SHARE, BLUR_PX = 0.02, 2
"""Share of the side of the image for one bar, and the blur of its edge by a codec."""


def borders(survey: Survey) -> Iterator[Finding]:
    """D14 black bars."""
    images = np.stack([survey.image(i) for i in survey.anchors])
    rows, columns = (_measure_bars(images, axis) for axis in (1, 2))
    px = dict(zip(("top", "bottom", "left", "right"), (*rows, *columns), strict=True))
    sides = {"top": images.shape[1], "bottom": images.shape[1], "left": images.shape[2], "right": images.shape[2]}
    wide = {name: count for name, count in px.items() if count >= max(2, MIN_BAR_SHARE * sides[name])}
    if not wide:
        return
    yield finding(
        "D14",
        Severity.WARN,
        measured=(
            f"black bars in all of {len(images)} images:"
            f" {', '.join(f'{count} px {name}' for name, count in wide.items())}, of"
            f" {images.shape[2]}x{images.shape[1]}"
        ),
        expected="a scene that fills the image",
        evidence={f"{name}_px": count for name, count in px.items()},
        where=[survey.name],
    )


def _measure_bars(images: NDArray[np.uint8], axis: int) -> tuple[int, int]:
    """Count rows (axis 1) or columns (axis 2) of a bar from either end of (N, H, W, 3); 0 for a black image."""
    others = tuple(i for i in range(4) if i != axis)
    low, high = images.min(axis=others).astype(int), images.max(axis=others).astype(int)
    return _count_bar_lines(low, high), _count_bar_lines(low[::-1], high[::-1])


def _count_bar_lines(low: NDArray[np.int_], high: NDArray[np.int_]) -> int:
    flat = (high <= MAX_BLACK) & (high - low <= MAX_BAR_RANGE)
    count = len(flat) if flat.all() else int(np.argmin(flat))
    if count in (0, len(flat)) or np.ptp([low[:count].min(), high[:count].max()]) > MAX_BAR_RANGE:
        return 0
    return count if high[min(count + BLUR_PX, len(high) - 1)] > MAX_BLACK + MAX_BAR_RANGE else 0
