"""Draw the contact sheets of rendered datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.files import replacing

Image = NDArray[np.uint8]


def depth_image(depth_m: NDArray[np.float32], near_m: float, far_m: float) -> Image:
    """Color depth as (H, W, 3) RGB on a logarithmic scale: near is bright, far is dark, none is black."""
    import cv2

    share = np.log(np.clip(depth_m, near_m, far_m) / near_m) / np.log(far_m / near_m)
    image = cv2.applyColorMap((255 * (1 - share)).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(depth_m[..., None] > 0, image, 0).astype(np.uint8)


def caption(text: str, width: int) -> Image:
    """Draw a white bar with a line of text, (18, W, 3), at least as wide as the text."""
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    bar = np.full((18, max(width, int(cv2.getTextSize(text, *font, 1)[0][0]) + 4), 3), 255, np.uint8)
    return np.asarray(cv2.putText(bar, text, (2, 13), *font, (40, 40, 40), 1, cv2.LINE_AA), np.uint8)


def write_sheet(dataset: Path, sheet: Image) -> Path:
    """Write DATASET/preview.png, RGB. Returns its path."""
    import cv2

    path = dataset / "preview.png"
    with replacing(path) as temporary:
        cv2.imwrite(str(temporary), sheet[..., ::-1])
    return path
