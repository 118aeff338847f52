"""Draw a contact sheet of a dataset: images, instances and depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.preview import Image, depth_image, write_sheet

_NEAR_M, _FAR_M = 0.3, 3.0


def instance_image(instance: NDArray[np.uint8]) -> Image:
    """Color (H, W, 3) RGB instances, one hue an object, black for none."""
    hue = (instance.astype(int) * 67 % 180).astype(np.uint8)
    shown = np.where(instance > 0, 255, 0).astype(np.uint8)
    return np.asarray(cv2.cvtColor(np.stack([hue, shown * 3 // 4, shown], -1).astype(np.uint8), cv2.COLOR_HSV2RGB))


def _draw_table_row(scene: Path) -> Image:
    image = np.asarray(cv2.imread(str(scene / "image" / "000.png")))[..., ::-1]
    instance = np.asarray(cv2.imread(str(scene / "instance" / "000.png"), cv2.IMREAD_UNCHANGED))
    depth = np.load(scene / "depth" / "000.npy", allow_pickle=False)
    return np.hstack([image, instance_image(instance), depth_image(depth, _NEAR_M, _FAR_M)])


def write_preview(dataset: Path, scenes: list[str], rows: int = 8) -> Path:
    """Write DATASET/preview.png: the first images of up to 2 x `rows` tables spread evenly over the set. Returns its
    path.
    """
    count = min(2 * rows, len(scenes))
    chosen = [scenes[i] for i in np.linspace(0, len(scenes) - 1, count).round().astype(int)]
    tiles = [_draw_table_row(dataset / name) for name in chosen]
    if len(tiles) % 2:
        tiles.append(np.zeros_like(tiles[0]))
    return write_sheet(dataset, np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]))
