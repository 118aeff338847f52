"""Give the photos of each image shape a camera of their own, starting from the camera of the video or map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stadia.data.formats.photo_lens import read_lens
from stadia.geometry.cameras import ASSUMED_HORIZONTAL_FOV_DEG
from stadia.sfm.camera_search import START_ANGLES_DEG
from stadia.sfm.frame_stream import MIN_FRAMES, FrameStream
from stadia.sfm.pair_matching import list_photo_pairs, match_pairs, read_features, write_database, write_features
from stadia.sfm.reconstruction import Workers, adjust, map_frames
from stadia.sfm.sparse_map import Array, LensCamera, import_pycolmap

FOCAL_SHARE = 1.2
"""Start value of an unknown photo camera's focal length over the longer image side, as in COLMAP."""

MAX_RETURN_PX = 0.5
"""Largest distance, pixels, between a feature and itself after it was moved into the first camera's image and back. A
feature with a larger distance is outside the range that the first lens is known in.
"""

ENOUGH = 0.95
"""No other first image pair is tried if this share of the photos has a pose."""


def unify_photo_cameras(
    stream: FrameStream, files: Mapping[int, Path], work: Path, workers: Workers
) -> tuple[dict[int, Path], list[LensCamera]]:
    """Move the features of photos of several image shapes to their position in the camera of the first shape.

    Afterwards one camera model fits all photos.

    stream: the photos.
    files: feature file of each photo, by the photo's index.
    work: folder for the moved features and a first map.
    workers: number of threads, and how progress is shown.

    Returns the new feature files by photo index, without photos whose camera is unknown, and the cameras of all shapes.

    Raises DataError if too few photos can be mapped.
    """
    assert stream.photos is not None
    cameras, sizes = stream.photos.cameras, stream.small_sizes()
    known = find_photo_cameras(files, cameras, sizes, stream.find_files(), work, workers)
    files = {index: file for index, file in files.items() if known[cameras[index]] is not None}
    if len(files) < MIN_FRAMES:
        raise stream.make_no_map_error("photos of several shapes without enough matches", "photos of one scene")
    lenses = [
        lens or LensCamera.from_fov(ASSUMED_HORIZONTAL_FOV_DEG, *size) for lens, size in zip(known, sizes, strict=True)
    ]
    return move_features(files, cameras, lenses, work), lenses


def find_photo_cameras(
    files: Mapping[int, Path],
    cameras: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    photos: Sequence[Path],
    work: Path,
    workers: Workers,
) -> list[LensCamera | None]:
    """Estimate one camera for each image shape among the photos, by a first map with all cameras as free parameters.

    files: feature file of each photo, by the photo's index.
    cameras: for every photo, the number of its shape (an index into `sizes`).
    sizes: (height, width) of the small images of each shape, pixels.
    photos: image files of all photos; the focal length in their EXIF data is the start value if present.
    work: folder for the database of the first map.
    workers: number of threads, and how progress is shown.

    Returns a camera for each shape; None for a shape whose photos all have no pose.
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
    """Write features as the camera of the first shape would see them.

    Features that do not return to their place when moved to the first camera and back are left out. The reason is that
    the first lens is known only within its own image.

    files: feature file of each photo, by the photo's index.
    cameras: for every photo, the number of its shape (an index into `lenses`).
    lenses: the camera of each shape.
    work: folder for the new files.

    Returns the new files by photo index.
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
    """Return the pixels (N, 2) at which the camera `target` sees the rays that the camera `source` sees at pixels xy
    (N, 2).

    Both cameras have the same position and orientation.
    """
    if source == target:
        return xy
    rays = cv2.undistortPoints(xy[:, None], source.K, np.array(source.distortion), criteria=(3, 50, 1e-9))[:, 0]
    return target.project(np.column_stack((rays, np.ones(len(rays)))))
