"""Draw a contact sheet of composite images: background, image, depth and mask of each split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from stadia.core.files import replacing
from stadia.core.types import Claim
from stadia.data.overlay.composer import Composed, OverlayImages
from stadia.data.rendering.preview import Image, caption, depth_image


def write_sheet(
    path: Path, images: Mapping[str, OverlayImages], counts: Mapping[str, int], rows: int = 4, columns: int = 4
) -> Path:
    """Write up to rows x columns samples of each split, spread evenly, into one PNG. Returns its path."""
    bands = []
    for split, one in images.items():
        numbers = np.linspace(0, counts[split] - 1, min(rows * columns, counts[split])).round().astype(int).tolist()
        bands += _draw_split(split, [one.composed(number) for number in numbers], columns, one.label.claim)
    width = max(band.shape[1] for band in bands)
    sheet = np.vstack(
        [np.pad(band, ((0, 6), (0, width - band.shape[1]), (0, 0)), constant_values=255) for band in bands]
    )
    with replacing(path) as temporary:
        cv2.imwrite(str(temporary), sheet[..., ::-1])
    return path


def _draw_split(split: str, samples: list[Composed], columns: int, claim: Claim) -> list[Image]:
    """Draw the samples of a split in rows under a caption, with one depth scale for all."""
    known = np.concatenate([one.depth[one.depth > 0] for one in samples])
    near, far = np.percentile(known, (2, 98)) if known.size else (1.0, 2.0)
    tiles = [_draw_sample(one, float(near), float(max(far, 1.01 * near))) for one in samples]
    size = max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)
    tiles = [
        np.pad(tile, ((0, size[0] - tile.shape[0]), (0, size[1] - tile.shape[1] + 4), (0, 0)), constant_values=255)
        for tile in tiles
    ]
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    scale = f"{near:.3g} (bright) to {far:.3g}{' m' * (claim is Claim.METRES)}"
    return [caption(f"{split}: background, image, depth {scale}, mask", rows[0].shape[1]), *rows]


def _draw_sample(one: Composed, near: float, far: float) -> Image:
    mask = np.where(one.mask[..., None], np.uint8(255), np.uint8(0)).repeat(3, -1)
    return np.hstack([one.background, one.image, depth_image(one.depth, near, far), mask])
