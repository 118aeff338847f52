"""The picture sheet: a step's pictures with their names, side by side in one."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

_BAR, _GAP = 20, 4  # pixels: the label's bar, the gap between tiles
_BACKGROUND, _INK = 24, (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_SHAPE = 1.5  # width over height that a sheet comes near to


def compose(pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay labelled (H, W, 3) uint8 RGB pictures out on one sheet, in their order, row by row.

    All tiles have the size of the largest picture; a smaller one is enlarged by its nearest pixels, its shape kept. Where the labels are
    wider than that, all are enlarged by a whole factor.
    """
    if not pictures:
        raise ValueError("a sheet needs a picture")
    height = max(picture.shape[0] for picture in pictures.values())
    width = max(picture.shape[1] for picture in pictures.values())
    factor = -(-max(map(_width_of, pictures)) // width)
    height, width = factor * height, factor * width
    tile_height, tile_width = height + _BAR + _GAP, width + _GAP
    columns = min(range(1, len(pictures) + 1), key=lambda n: abs(np.log(n * tile_width / (-(-len(pictures) // n) * tile_height) / _SHAPE)))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * tile_height + _GAP, columns * tile_width + _GAP, 3), _BACKGROUND, np.uint8)
    for number, (label, picture) in enumerate(pictures.items()):
        top, left = (number // columns) * tile_height + _GAP, (number % columns) * tile_width + _GAP
        cv2.putText(sheet, label, (left + 2, top + _BAR - 6), *_FONT, _INK, 1, cv2.LINE_AA)
        fitted = _enlarged(picture, height, width)
        sheet[top + _BAR : top + _BAR + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def _width_of(label: str) -> int:
    """Of what is written, with two pixels on either side."""
    return int(cv2.getTextSize(label, *_FONT, 1)[0][0]) + 4


def _enlarged(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture is (H, W, 3) uint8, found {picture.shape} {picture.dtype}")
    factor = min(height / picture.shape[0], width / picture.shape[1])
    size = max(round(picture.shape[1] * factor), 1), max(round(picture.shape[0] * factor), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), np.uint8)
