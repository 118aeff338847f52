"""Draw readable text and color legends on images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Color = tuple[int, int, int]
_FONT, _HALO = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
_ROW, _SCALE = 26, 0.5


def text_size(words: str, scale: float) -> tuple[int, int]:
    """Return width and height in pixels of text drawn by `write`."""
    (width, height), _ = cv2.getTextSize(words, _FONT, scale, 1)
    return width, height


def write(image: Image, words: str, at: tuple[int, int], color: Color, scale: float) -> None:
    """Draw text with a light halo into (H, W, 3) RGB; at: left and lowest pixel."""
    ink = np.zeros(image.shape[:2], np.uint8)
    cv2.putText(ink, words, at, _FONT, scale, 255, 1, cv2.LINE_AA)
    halo = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    for mask, paint in ((halo, _HALO), (ink, color)):
        share = (mask / 255.0)[..., None]
        image[:] = (share * paint + (1 - share) * image).round().astype(np.uint8)


def with_legend(image: Image, entries: Sequence[tuple[str, Color]]) -> Image:
    """Append a legend below an (H, W, 3) RGB image: a swatch with text for each color, as many in a row as fit."""
    width = image.shape[1]
    places, x, row = list[tuple[int, int]](), 8, 0
    for words, _ in entries:
        wide = 28 + text_size(words, _SCALE)[0] + 20
        if x > 8 and x + wide > width:
            x, row = 8, row + 1
        places.append((x, row * _ROW))
        x += wide
    strip = np.full(((row + 1) * _ROW, width, 3), 255, np.uint8)
    for (words, color), (left, top) in zip(entries, places, strict=True):
        cv2.rectangle(strip, (left, top + 5), (left + 20, top + _ROW - 6), color, -1)
        cv2.putText(strip, words, (left + 28, top + _ROW - 8), _FONT, _SCALE, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate((image, strip)) if entries else image
