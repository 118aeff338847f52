"""Refine the result of another program by its images, and write it: `stadia refine`, `stadia.refine_reconstruction`.

A result is written in its own format, with the deviations of its poses, a COLMAP model with points and transforms.json.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.progress import TrackProgress, no_progress
from stadia.io.atomic_files import atomic_folder, write_lines
from stadia.io.image_io import write_image
from stadia.io.records.colmap import ColmapCamera, join_camera
from stadia.io.records.json_scenes import write_transforms
from stadia.io.records.read import read_reconstruction, write_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.error import MeasuredError
from stadia.judge.reconstructions.check_reconstruction import measure_reconstruction, replace_camera, replace_posed
from stadia.sfm.held_out import HeldOutGain
from stadia.sfm.image_matches import ImageMatches, check_images, match_images
from stadia.sfm.match_triangulation import scale_intrinsics
from stadia.sfm.pose_error import Array
from stadia.sfm.sparse_map import SparseMap, align_cameras, import_pycolmap

DEVIATIONS = "deviations.csv"
"""File with the deviation of each pose."""

TRANSFORMS = "transforms.json"

MODEL = PurePosixPath("sparse/0")
"""Folder of the COLMAP model, as nerfstudio and Gaussian splatting look for it."""


@dataclass(frozen=True, slots=True, eq=False)
class RefinedReconstruction:
    """A refined result.

    reconstruction: cameras and poses, in the world and scale of the given ones; the given one if nothing was better.
    is_changed: whether poses were refined.
    gain: how held-out matches fit before and after.
    error: the measured error of the given poses and cameras.
    images: (F,) indices of the images with a pose.
    rows: (F,) their rows in `reconstruction`.
    deviations_deg: (F,) standard deviation of each rotation, degrees; NaN if matches do not determine the pose.
    deviations: (F,) standard deviation of each position as a share of the extent of the path; NaN likewise.
    sparse: points triangulated from the final poses, in the virtual camera of `view_matches`.
    notes: sentences for the user.
    """

    reconstruction: Reconstruction
    is_changed: bool
    gain: HeldOutGain
    error: MeasuredError
    images: NDArray[np.intp]
    rows: NDArray[np.intp]
    deviations_deg: Array
    deviations: Array
    sparse: SparseMap
    notes: tuple[str, ...] = ()


def refine_reconstruction(
    path: Path | str,
    images: Path | str,
    *,
    camera: str | None = None,
    out: Path | str | None = None,
    work: Path | None = None,
    track: TrackProgress = no_progress,
) -> RefinedReconstruction:
    """Refine the camera poses of any program by bundle adjustment with new matches between its images.

    Some matches are held out. The refined poses are kept only if they fit the held-out matches better by more than the
    scatter of these matches. Scale, origin and orientation of the world do not change.

    path: the reconstruction: a COLMAP model, transforms.json, an .npz with cameras, a trajectory, or another format of
        `stadia.io.records.read.FORMATS`.
    images: the folder of images, or the video.
    camera: a camera file, or numbers such as fx=700,fy=700,cx=640,cy=360 (pixels), for formats without a camera.
    out: a new folder for the result, the standard deviations of its poses, and a COLMAP model with points; None writes
        nothing.
    work: folder for the cached matches; None takes a folder in the user's cache.
    track: wraps loops to show their progress.

    Raises DataError for an unknown file, for images that do not match, and for fewer than 3 images with a pose.
    """
    reconstruction = read_reconstruction(Path(path))
    check_images(reconstruction, images)
    matches = match_images(images, work, track)
    refined = refine_poses(replace_camera(reconstruction, matches, camera), matches, track)
    if out is not None:
        write_refined(refined, matches, Path(out))
    return refined


def refine_poses(
    reconstruction: Reconstruction, matches: ImageMatches, track: TrackProgress = no_progress
) -> RefinedReconstruction:
    """Take the poses and cameras that the error is measured with, if held-out matches fit them better.

    reconstruction: cameras and poses.
    matches: independent matches.
    track: shows progress.

    Raises DataError if fewer than 3 images have a pose, or the reconstruction has no camera.
    """
    measured = measure_reconstruction(reconstruction, matches, track)
    adjusted, found = measured.adjusted, measured.search.found
    is_changed = found is not None or adjusted.gain.is_sure()
    degrees, shares = (np.full(len(adjusted.given.images), np.nan) for _ in range(2))
    T, points = adjusted.given.T_camera_world.copy(), adjusted.sparse.points.copy()
    for part in measured.differences:
        T[part.rows] = part.T_adjusted
        scale, R, t = align_cameras(adjusted.posed.T_camera_world[part.rows], part.T_adjusted)
        seen = np.unique(adjusted.sparse.observed[np.isin(adjusted.sparse.observed[:, 0], part.rows), 1])
        points[seen] = scale * adjusted.sparse.points[seen] @ R.T + t
        degrees[part.rows], shares[part.rows] = part.deviations_deg, part.deviations
    result, rows = reconstruction, adjusted.given.rows
    notes = [*reconstruction.notes, *adjusted.given.notes]
    if is_changed:
        result = replace_posed(measured.base, adjusted.given, replace(adjusted.posed, T_camera_world=T))
        rows = np.arange(len(rows)) if adjusted.given.how == "time" else rows
        if found is not None:
            notes.append(f"before, {found.what}; this is undone")
        if left := int(np.isnan(degrees).sum()):
            notes.append(f"{left} of {len(degrees)} images have too few matches, and keep their pose")
        if len(result) > len(rows):
            notes.append(f"{len(result) - len(rows)} poses belong to images that were not matched, and are as before")
    return RefinedReconstruction(
        reconstruction=result,
        is_changed=is_changed,
        gain=adjusted.gain,
        error=measured.error,
        images=adjusted.given.images,
        rows=rows,
        deviations_deg=degrees,
        deviations=shares,
        sparse=replace(adjusted.sparse, points=points, T_camera_world=T),
        notes=tuple(notes),
    )


def write_refined(refined: RefinedReconstruction, matches: ImageMatches, out: Path) -> Path:
    """Write a refined result into a new folder.

    The folder contains the result in its own format and under its own name, `deviations.csv` (name, degrees, share of
    the extent), a COLMAP model with points in `sparse/0`, and `transforms.json`. For a video it also has the frames, in
    `images`.

    refined: the result.
    matches: the images.
    out: the new folder.

    Returns the path of the result in its own format.
    """
    seen = place_in_images(refined, matches)
    with atomic_folder(out) as folder:
        images = matches.read_images(refined.images.tolist()) if matches.source is not None else {}
        if matches.source is not None and matches.source.is_dir():
            names = list(seen.names)
            paths = [Path(os.path.relpath(matches.source / name, out)).as_posix() for name in names]
        else:
            names = [f"{name}.jpg" for name in seen.names]
            paths = [f"images/{name}" for name in names]
            for name, index in zip(names, refined.images.tolist(), strict=True):
                if index in images:
                    quality = (cv2.IMWRITE_JPEG_QUALITY, 95)
                    write_image(folder / "images" / name, images[index][..., ::-1], quality)
        model = folder / MODEL
        model.mkdir(parents=True)
        write_model(model, replace(seen, names=tuple(names)), refined, images)
        write_deviations(folder / DEVIATIONS, seen.names, refined)
        own = write_reconstruction(refined.reconstruction, folder / name_result(refined.reconstruction))
        if own.name != TRANSFORMS:
            write_transforms(
                replace(seen, names=tuple(paths), format="", path=folder / TRANSFORMS), folder / TRANSFORMS
            )
    return out / own.name


def name_result(reconstruction: Reconstruction) -> str:
    """Return the name of the refined file or folder: the given one's, without a number such as COLMAP's 0."""
    name = reconstruction.path.name
    return name if name and not name.isdecimal() and name != MODEL.parts[0] else "refined"


def place_in_images(refined: RefinedReconstruction, matches: ImageMatches) -> Reconstruction:
    """Return the poses and cameras of the matched images, with their names, and K for the images as they are."""
    found = refined.reconstruction.rows(refined.rows)
    sizes = matches.sizes[refined.images]
    known = np.where(found.sizes > 0, found.sizes, sizes)
    return replace(
        found,
        names=tuple(matches.names[index] for index in refined.images),
        K=scale_intrinsics(found.K, sizes / known),
        sizes=sizes,
        depth=None,
    )


def write_deviations(path: Path, names: tuple[str, ...], refined: RefinedReconstruction) -> None:
    """Write the standard deviation of each pose: name, degrees, share of the extent; empty if not determined."""
    lines = list[str]()
    for name, degrees, share in zip(names, refined.deviations_deg, refined.deviations, strict=True):
        lines.append(f'"{name}",{degrees:.6g},{share:.6g}' if np.isfinite(degrees) else f'"{name}",,')
    write_lines(path, ["name,degrees,share_of_extent", *lines])


def write_model(
    folder: Path, seen: Reconstruction, refined: RefinedReconstruction, images: dict[int, NDArray[np.uint8]]
) -> None:
    """Write cameras, poses and points as COLMAP's binary model.

    folder: an existing folder.
    seen: poses and cameras of the matched images.
    refined: the points.
    images: (H, W, 3) RGB images by their index; they give the colors of points; black without them.
    """
    pycolmap = import_pycolmap()
    model, sparse, camera_of = pycolmap.Reconstruction(), refined.sparse, list[int]()
    numbers = dict[ColmapCamera, int]()
    for row, (width, height) in enumerate(seen.sizes.tolist()):
        lens = None if seen.lenses is None else seen.lenses[row]
        camera_of_row = join_camera(seen.K[row], seen.distortion[row], lens, (width, height))
        numbers.setdefault(camera_of_row, len(numbers) + 1)
        camera_of.append(numbers[camera_of_row])
    cameras = [
        pycolmap.Camera(camera_id=number, model=one.model, width=one.width, height=one.height, params=one.params)
        for one, number in numbers.items()
    ]
    for camera in cameras:
        model.add_camera_with_trivial_rig(camera)
    place, colors = np.zeros(len(sparse.observed), np.int64), np.zeros((len(sparse.points), 3), np.uint8)
    for row, index in enumerate(refined.images.tolist()):
        at = np.flatnonzero(sparse.observed[:, 0] == row)
        place[at] = np.arange(len(at))
        rays = (sparse.xy[at] - sparse.camera.center_px) / sparse.camera.focal_px
        pixels = cameras[camera_of[row] - 1].img_from_cam(np.column_stack((rays, np.ones(len(rays))))) - 0.5
        if index in images:
            x, y = np.rint(pixels).astype(int).T
            height, width = images[index].shape[:2]
            colors[sparse.observed[at, 1]] = images[index][y.clip(0, height - 1), x.clip(0, width - 1)]
        points = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in pixels + 0.5])
        image = pycolmap.Image(name=seen.names[row], camera_id=camera_of[row], image_id=row + 1, points2D=points)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(seen.T_camera_world[row, :3]))
    order = np.argsort(sparse.observed[:, 1], kind="stable")
    starts = np.searchsorted(sparse.observed[order, 1], np.arange(len(sparse.points) + 1))
    for point, (start, stop) in enumerate(pairwise(starts.tolist())):
        track = [pycolmap.TrackElement(int(sparse.observed[at, 0]) + 1, int(place[at])) for at in order[start:stop]]
        model.add_point3D(sparse.points[point], pycolmap.Track(elements=track), colors[point])
    model.update_point_3d_errors()
    model.write_binary(str(folder))
