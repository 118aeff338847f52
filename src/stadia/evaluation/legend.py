"""Words on pictures that can be read on anything, and what the colours of a sheet mean."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
_FONT, _HALO = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
_ROW, _SCALE = 26, 0.5


def text_size(words: str, scale: float) -> tuple[int, int]:
    """Width and height in pixels of what `write` writes."""
    (width, height), _ = cv2.getTextSize(words, _FONT, scale, 1)
    return width, height


def write(picture: Picture, words: str, at: tuple[int, int], colour: Colour, scale: float) -> None:
    """Into (H, W, 3) RGB, in a light halo; at: left and lowest pixel."""
    ink = np.zeros(picture.shape[:2], np.uint8)
    cv2.putText(ink, words, at, _FONT, scale, 255, 1, cv2.LINE_AA)
    halo = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    for mask, paint in ((halo, _HALO), (ink, colour)):
        share = (mask / 255.0)[..., None]
        picture[:] = (share * paint + (1 - share) * picture).round().astype(np.uint8)


def with_legend(picture: Picture, entries: Sequence[tuple[str, Colour]]) -> Picture:
    """(H + rows, W, 3) RGB: the picture, and below it a swatch of each colour with its words, as many in a row as go in."""
    width = picture.shape[1]
    places, x, row = list[tuple[int, int]](), 8, 0
    for words, _ in entries:
        wide = 28 + text_size(words, _SCALE)[0] + 20
        if x > 8 and x + wide > width:
            x, row = 8, row + 1
        places.append((x, row * _ROW))
        x += wide
    strip = np.full(((row + 1) * _ROW, width, 3), 255, np.uint8)
    for (words, colour), (left, top) in zip(entries, places, strict=True):
        cv2.rectangle(strip, (left, top + 5), (left + 20, top + _ROW - 6), colour, -1)
        cv2.putText(strip, words, (left + 28, top + _ROW - 8), _FONT, _SCALE, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate((picture, strip)) if entries else picture
