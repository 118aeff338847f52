"""Does the scene fill the image?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import Survey

BLACK, SAME = 20, 4
"""Gray levels: a bar is at most so bright, and its pixels differ by at most so much, in all images that are looked at.
A night sky has the noise of its sensor, and fades into what is below it.
"""

LEAST_SHARE, BLUR_PX = 0.02, 2
"""Of the image's side, for one bar; and how far a codec blurs its edge."""


def borders(survey: Survey) -> Iterator[Finding]:
    """D14 black bars."""
    images = np.stack([survey.image(i) for i in survey.anchors])
    rows, columns = (_bars(images, axis) for axis in (1, 2))
    px = dict(zip(("top", "bottom", "left", "right"), (*rows, *columns), strict=True))
    sides = {"top": images.shape[1], "bottom": images.shape[1], "left": images.shape[2], "right": images.shape[2]}
    wide = {name: count for name, count in px.items() if count >= max(2, LEAST_SHARE * sides[name])}
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


def _bars(images: NDArray[np.uint8], axis: int) -> tuple[int, int]:
    """How many rows (axis 1) or columns (axis 2) are a bar, from either end of (N, H, W, 3); all of a black image is
    none.
    """
    others = tuple(i for i in range(4) if i != axis)
    low, high = images.min(axis=others).astype(int), images.max(axis=others).astype(int)
    return _from_start(low, high), _from_start(low[::-1], high[::-1])


def _from_start(low: NDArray[np.int_], high: NDArray[np.int_]) -> int:
    flat = (high <= BLACK) & (high - low <= SAME)
    count = len(flat) if flat.all() else int(np.argmin(flat))
    if count in (0, len(flat)) or np.ptp([low[:count].min(), high[:count].max()]) > SAME:
        return 0
    return count if high[min(count + BLUR_PX, len(high) - 1)] > BLACK + SAME else 0
