"""Draw a contact sheet of a dataset: images, depth, normals and classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.preview import Image, depth_image, write_sheet
from stadia.data.roadworld.classes import PALETTE

_NEAR_M, _FAR_M = 3.0, 120.0


def normals_image(normals: NDArray[np.float16]) -> Image:
    """Color normals (H, W, 3): RGB = (x, -y, -z) mapped from [-1, 1]; sky is black."""
    shown = np.abs(normals).sum(-1, keepdims=True) > 0
    return np.where(shown, 127.5 + 127.5 * normals.astype(np.float32) * (1, -1, -1), 0).astype(np.uint8)


def semantic_image(semantic: NDArray[np.uint8]) -> Image:
    """Color classes as (H, W, 3) RGB."""
    table = np.zeros((256, 3), np.uint8)
    for kind, color in PALETTE.items():
        table[kind] = color
    return table[semantic]


def _draw_preview_row(recording: Path, frame: int) -> Image:
    name = f"{frame:06d}"
    image = np.asarray(cv2.imread(str(recording / "left" / f"{name}.png")))[..., ::-1]
    depth = np.load(recording / "depth" / "left" / f"{name}.npy", allow_pickle=False)
    normals = np.load(recording / "normals" / "left" / f"{name}.npy", allow_pickle=False)
    semantic = np.asarray(cv2.imread(str(recording / "semantic" / "left" / f"{name}.png"), cv2.IMREAD_UNCHANGED))
    return np.hstack([image, depth_image(depth, _NEAR_M, _FAR_M), normals_image(normals), semantic_image(semantic)])


def write_preview(dataset: Path, recordings: list[str], rows: int = 8) -> Path:
    """Write DATASET/preview.png: a row each for frames spread evenly over the recordings. Returns its path."""
    counts = {name: len(list((dataset / name / "left").glob("*.png"))) for name in recordings}
    frames = [(name, i) for name, count in counts.items() for i in range(count)]
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, min(rows, len(frames)) + 2).astype(int)[1:-1]]
    return write_sheet(dataset, np.vstack([_draw_preview_row(dataset / name, i) for name, i in chosen]))
