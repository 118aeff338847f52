"""A folder of images with a map beside it: a wall, and a camera that moves to the right."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from stadia.io.video_decoding import hash_source

FRAMES, STEP, WALL = 12, 0.01, 4.0
H, W, FOCAL = 48, 64, 40.0


def make_record(
    fingerprint: str,
    poses: Sequence[np.ndarray | None],
    focal_px: float = FOCAL,
    origin: str = "given",
    **others: object,
) -> dict[str, object]:
    """Return map.json of H x W images with these T_world_camera; None for a lost frame."""
    camera = {"origin": origin, "focal_px": focal_px, "center_px": [W / 2 - 0.5, H / 2 - 0.5]}
    camera |= {"distortion": [0, 0, 0, 0], "height": H, "width": W}
    rows = [None if T is None else T[:3].tolist() for T in poses]
    frames = [{"index": n, "name": f"{n:06d}", "status": "key", "T_world_camera": row} for n, row in enumerate(rows)]
    return {"format": "stadia-map", "fingerprint": fingerprint, "camera": camera, "frames": frames, **others}


def write_points(folder: Path, z: float, keys: Sequence[int], deviation: float = 0.01) -> None:
    """Write points.npz of a wall that all keyframes see."""
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    points = np.column_stack((x.ravel(), y.ravel(), np.full(x.size, z)))
    arrays = {"points": points, "observed": np.argwhere(np.ones((len(keys), len(points)))), "frames": np.array(keys)}
    arrays |= {"relative_deviation": np.full(x.size, deviation), "track_length": np.full(x.size, len(keys))}
    np.savez(folder / "points.npz", **arrays)


def write_map(folder: Path, *, road: dict[str, object] | None = None, focal_px: float = FOCAL) -> None:
    """Write a map of a wall, of the images beside it; the camera moves to the right by STEP a frame."""
    folder.mkdir()
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, 0, 3] = STEP * np.arange(FRAMES)
    images = folder.with_suffix("")
    record = make_record(hash_source(images) if images.is_dir() else "", list(poses), focal_px, road=road)
    (folder / "map.json").write_text(json.dumps(record))
    write_points(folder, WALL, [0, 6, 11])


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
