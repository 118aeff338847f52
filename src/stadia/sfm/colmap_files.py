"""Write a map for other programs: the files of COLMAP, undistorted views, and nerfstudio's transforms.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.data.lens_distortion import Undistortion, make_undistortion
from stadia.data.video.video_map import MAP_CAMERA, MapCamera
from stadia.io.atomic_files import atomic_write, write_json, write_lines
from stadia.io.image_io import write_image
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.sparse_map import Array, LensCamera, SparseMap, import_pycolmap

PredictDepth = Callable[[NDArray[np.uint8], Array], NDArray[np.float32]]
"""Depth (H, W) up to scale of an image (H, W, 3) RGB with K (3, 3)."""

DEPTH_UNIT = 1000.0
"""Depth files hold this many times the depth in the map's unit: nerfstudio multiplies them by .001."""

MAX_DEPTH_SIDE_PX = 640
"""Longer side of depth files, which show no more detail than a network."""

MIN_DEPTH_POINTS = 20
"""Points of the map that scale the depth of a view."""


def to_lens(camera: MapCamera) -> LensCamera:
    """Return the camera of a record as the one that projects points."""
    return LensCamera(camera.focal_px, camera.center_px, camera.distortion, camera.height, camera.width)


def write_colmap(
    folder: Path,
    sparse: SparseMap,
    cameras: Sequence[LensCamera],
    T_first: Array,
    names: Mapping[int, str],
    residuals_px: Array,
) -> None:
    """Write a map as COLMAP's text and binary files.

    sparse: poses and pixels of the frames as filmed; its camera is not used.
    cameras: of each key frame.
    T_first: (4, 4), from the map's world to that of the files.
    names: file names of the key frames by their index.
    residuals_px: (M, 2) of the observations.
    """
    pycolmap = import_pycolmap()
    number_of, lines = dict[LensCamera, int](), list[str]()
    for camera in dict.fromkeys(cameras):
        number_of[camera] = len(number_of) + 1
        x, y = camera.center_px[0] + 0.5, camera.center_px[1] + 0.5
        model = "OPENCV" if any(camera.distortion) else "PINHOLE"
        distortion = camera.distortion if model == "OPENCV" else ()
        lens = " ".join(f"{value:.9g}" for value in (camera.focal_px, camera.focal_px, x, y, *distortion))
        lines.append(f"{number_of[camera]} {model} {camera.width} {camera.height} {lens}")
    write_lines(folder / "cameras.txt", lines)
    xy = sparse.xy + 0.5
    T = sparse.T_camera_world @ np.linalg.inv(T_first)
    quaternions = [np.roll(pycolmap.Rotation3d(pose[:3, :3]).quat, 1) for pose in T]  # w first
    order = np.argsort(sparse.observed[:, 0], kind="stable")
    place_in_frame = np.zeros(len(order), np.int64)
    by_frame: list[NDArray[np.intp]] = [order[sparse.observed[order, 0] == row] for row in range(len(sparse.frames))]
    for rows in by_frame:
        place_in_frame[rows] = np.arange(len(rows))

    def image_lines() -> Iterator[str]:
        for row, rows in enumerate(by_frame):
            pose = " ".join(f"{value:.9g}" for value in (*quaternions[row], *T[row, :3, 3]))
            yield f"{row + 1} {pose} {number_of[cameras[row]]} {names[sparse.frames[row]]}"
            yield " ".join(f"{xy[at, 0]:.3f} {xy[at, 1]:.3f} {sparse.observed[at, 1] + 1}" for at in rows)

    points = sparse.points @ T_first[:3, :3].T + T_first[:3, 3]
    errors = np.zeros(len(points))
    np.maximum.at(errors, sparse.observed[:, 1], np.linalg.norm(residuals_px, axis=1))
    tracks = [list[str]() for _ in points]
    for at, (frame, point) in enumerate(sparse.observed):
        tracks[point].append(f"{frame + 1} {place_in_frame[at]}")
    write_lines(folder / "images.txt", image_lines())
    write_lines(
        folder / "points3D.txt",
        (
            f"{row + 1} {_join(point)} {' '.join(map(str, color))} {error:.3f} {' '.join(track)}"
            for row, (point, color, error, track) in enumerate(zip(points, sparse.colors, errors, tracks, strict=True))
        ),
    )
    pycolmap.Reconstruction(folder).write_binary(folder)


def _join(values: Array) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def write_views(
    folder: Path,
    stream: FrameStream,
    filmed: SparseMap,
    cameras_filmed: Sequence[MapCamera],
    T_first: Array,
    residuals_px: Array,
    predict_depth: PredictDepth | None,
) -> None:
    """Write the key frames without bars and distortion, COLMAP's model of them, and nerfstudio's transforms.json.

    filmed: the map with poses and pixels of the frames as filmed.
    cameras_filmed: of each key frame.
    T_first: (4, 4), from the world of `filmed` to the axes of the first placed frame.
    residuals_px: (M, 2) of the observations.
    predict_depth: of the views, which then get depth in the map's unit; or None.
    """
    undistortions = dict[tuple[int, int], Undistortion | None]()
    names, depths, inside = dict[int, str](), dict[int, dict[str, str]](), filmed.in_camera()
    cameras, xy = list[LensCamera](), filmed.xy.copy()
    for row, frame in enumerate(stream.select(set(filmed.frames.tolist()))):
        own = cameras_filmed[row]
        if (size := (own.height, own.width)) not in undistortions:
            lens = own.lens if own.filmed is None else None
            undistortions[size] = None if lens is None else make_undistortion(lens, MAP_CAMERA)
        undistortion = undistortions[size]
        known = own.intrinsics if undistortion is None else undistortion.intrinsics
        fx, fy, x, y = (float(known.K[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
        cameras.append(LensCamera(math.sqrt(fx * fy), (x, y), (0.0, 0.0, 0.0, 0.0), known.height, known.width))
        is_row, bent = filmed.observed[:, 0] == row, to_lens(own)
        xy[is_row] = cv2.undistortPoints(xy[is_row][:, None], bent.K, np.array(bent.distortion), P=known.K)[:, 0]
        names[frame.index] = f"{frame.name}.jpg"
        image = frame.filmed if undistortion is None else undistortion(frame.filmed)
        write_image(folder / "images" / names[frame.index], image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
        depth = None if predict_depth is None else predict_depth(image, known.K)
        scaled = None if depth is None else scale_depth(depth, inside[is_row], known.K)
        if scaled is not None:
            depths[frame.index] = {"depth_file_path": f"depth/{frame.name}.npy"}
            with atomic_write(folder / "depth" / f"{frame.name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, scaled)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    straight = replace(filmed, xy=xy)
    write_colmap(model, straight, cameras, T_first, names, residuals_px)
    T = T_first @ np.linalg.inv(filmed.T_camera_world)
    shared = _describe_view(cameras[0]) if len(set(cameras)) == 1 else {}
    frames = [
        {
            "file_path": f"images/{names[index]}",
            "transform_matrix": (pose @ np.diag([1.0, -1, -1, 1])).tolist(),
            **depths.get(index, {}),
            **({} if shared else _describe_view(camera)),
        }
        for index, pose, camera in zip(filmed.frames.tolist(), T, cameras, strict=True)
    ]
    write_json(folder / "transforms.json", {"camera_model": "PINHOLE", **shared, "frames": frames})


def _describe_view(camera: LensCamera) -> dict[str, float]:
    """Return a camera as in nerfstudio's transforms.json, which has one for all frames or one for each."""
    (x, y), focal_px = camera.center_px, camera.focal_px
    return {"fl_x": focal_px, "fl_y": focal_px, "cx": x + 0.5, "cy": y + 0.5, "w": camera.width, "h": camera.height}


def scale_depth(depth: NDArray[np.float32], points: Array, K: Array) -> NDArray[np.float32] | None:
    """Return depth (H, W) as in a file, scaled by its median ratio to points (N, 3) in the camera's axes.

    None if it shows too few of them.
    """
    points = points[points[:, 2] > 0]
    x, y = np.rint((points / points[:, 2:]) @ K.T)[:, :2].astype(int).T
    is_seen = (x >= 0) & (y >= 0) & (x < depth.shape[1]) & (y < depth.shape[0])
    if is_seen.sum() < MIN_DEPTH_POINTS:
        return None
    factor = DEPTH_UNIT * float(np.median(points[is_seen, 2] / depth[y[is_seen], x[is_seen]]))
    shrink = min(1.0, MAX_DEPTH_SIDE_PX / max(depth.shape))
    small = cv2.resize(depth, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_NEAREST)
    return np.asarray(factor * small, np.float32)
