"""Find the cameras of photos of several shapes, and move their features into the images of one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stadia.datasets.formats.photo_lens import read_lens
from stadia.mapping.camera_search import START_ANGLES_DEG
from stadia.mapping.key_frames import import_pycolmap, read_features, write_features
from stadia.mapping.pair_matching import list_photo_pairs, match_pairs, write_database
from stadia.mapping.reconstruction import Workers, adjust, map_frames
from stadia.mapping.sparse_map import Array, LensCamera

FOCAL_SHARE = 1.2
"""Focal length over the longer side that a camera starts from, as in COLMAP."""

MAX_RETURN_PX = 0.5
"""Difference after a way to the first camera and back, from which a place is beyond a lens."""

ENOUGH = 0.95
"""Share of the photos from which no other first pair is tried."""


def find_photo_cameras(
    files: Mapping[int, Path],
    cameras: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    photos: Sequence[Path],
    work: Path,
    workers: Workers,
) -> list[LensCamera | None]:
    """Return the camera of each shape by a first map in which all are free; None if none of its photos was placed.

    files: features by photo.
    cameras: rows of `sizes`, of all photos.
    sizes: height and width of the small images of each camera.
    photos: whose EXIF may have the focal length to start from.
    work: a folder for the first map.
    """
    pycolmap, database = import_pycolmap(), work / "photos.db"
    starts = list[Any]()
    for row, (height, width) in enumerate(sizes):
        focal_mm, longer_mm = read_lens(photos[cameras.index(row)]) or (FOCAL_SHARE, 1.0)
        focal_px = focal_mm / longer_mm * max(height, width)
        starts.append(pycolmap.Camera.create_from_model_name(row + 1, "RADIAL", focal_px, width, height))
    write_database(database, files, [starts[cameras[index]] for index in sorted(files)], None)
    match_pairs(database, list_photo_pairs(files), workers)
    names, best = [f"{index:08d}" for index in sorted(files)], None
    for angle_deg in reversed(START_ANGLES_DEG):
        model = map_frames(database, names, starts[0], refine=True, workers=workers, init_angle_deg=angle_deg)
        if model is not None and (best is None or model.num_reg_images() > best.num_reg_images()):
            best = model
        if best is not None and best.num_reg_images() >= ENOUGH * len(names):
            break
    if best is None:
        return [None] * len(sizes)
    adjust(best, refine_focal=True, refine_lens=True, threads=workers.threads)
    found = {
        image.camera_id: LensCamera.from_pycolmap(image.camera) for image in best.images.values() if image.has_pose
    }
    return [found.get(row + 1) for row in range(len(sizes))]


def move_features(
    files: Mapping[int, Path], cameras: Sequence[int], lenses: Sequence[LensCamera], work: Path
) -> dict[int, Path]:
    """Write features as the first camera would see them, and return their files.

    Features that would not come back are left out: the first camera's lens is known only within its own image.

    cameras: rows of `lenses`, of all photos.
    """
    moved = dict[int, Path]()
    for index, file in files.items():
        features, moved[index] = read_features(file), work / f"moved-{index:08d}.npz"
        own, before = lenses[cameras[index]], np.asarray(features.xy, np.float64)
        xy = move_places(before, own, lenses[0])
        comes_back = np.linalg.norm(move_places(xy, lenses[0], own) - before, axis=1) < MAX_RETURN_PX
        write_features(moved[index], replace(features, xy=xy.astype(np.float32)).select(comes_back))
    return moved


def move_places(xy: Array, source: LensCamera, target: LensCamera) -> Array:
    """Return where another camera sees what a camera sees at places (N, 2), pixels."""
    if source == target:
        return xy
    rays = cv2.undistortPoints(xy[:, None], source.K, np.array(source.distortion), criteria=(3, 50, 1e-9))[:, 0]
    return target.project(np.column_stack((rays, np.ones(len(rays)))))
