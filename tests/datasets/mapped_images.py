"""A folder of images with a map beside it: a wall, and a camera that moves to the right."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from stadia.datasets.video.video_decoding import hash_source

FRAMES, STEP, WALL = 12, 0.01, 4.0
H, W, FOCAL = 48, 64, 40.0


def write_map(folder: Path, *, road: dict[str, object] | None = None, focal_px: float = FOCAL) -> None:
    """Write a map of a wall, of the images beside it; the camera moves to the right by STEP a frame."""
    folder.mkdir()
    camera = {
        "origin": "given",
        "focal_px": focal_px,
        "center_px": [31.5, 23.5],
        "distortion": [0, 0, 0, 0],
        "height": H,
        "width": W,
    }
    frames = []
    for index in range(FRAMES):
        T = np.eye(4)
        T[0, 3] = STEP * index
        frames.append({"index": index, "name": f"{index:06d}", "status": "key", "T_world_camera": T[:3].tolist()})
    images = folder.with_suffix("")
    record = {
        "format": "stadia-map",
        "fingerprint": hash_source(images) if images.is_dir() else "",
        "camera": camera,
        "frames": frames,
        "road": road,
    }
    (folder / "map.json").write_text(json.dumps(record))
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    points = np.column_stack((x.ravel(), y.ravel(), np.full(x.size, WALL)))
    keys = np.array([0, 6, 11])
    observed = np.array([(row, point) for row in range(len(keys)) for point in range(len(points))])
    np.savez(
        folder / "points.npz",
        points=points,
        observed=observed,
        frames=keys,
        relative_deviation=np.full(len(points), 0.01),
        track_length=np.full(len(points), 3),
    )


def write_images(folder: Path) -> Path:
    """Write FRAMES images of a texture that moves as the wall does."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (H + 8, W + 60, 3)).astype(np.uint8)
    noise = cv2.resize(noise, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    for index in range(FRAMES):
        shift = 40 + FOCAL * STEP * index / WALL
        image = cv2.warpAffine(noise, np.array([[1, 0, -shift], [0, 1, -8.0]]), (W, H), flags=cv2.INTER_LINEAR)
        cv2.imwrite(str(folder / f"{index:06d}.png"), image)
    return folder
