"""Write a map into its folder: map.json, points, camera trajectory, masks, and files for other programs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale
from stadia.data.frame_selection import KeyFrames
from stadia.data.lens_distortion import Undistortion, make_undistortion
from stadia.data.video.video_map import (
    FORMAT,
    MAP_CAMERA,
    MASK,
    MAX_RECORD_BYTES,
    MOVABLE,
    POINTS,
    RECORD,
    MapCamera,
    MapLens,
)
from stadia.geometry.poses import invert_pose
from stadia.io.atomic_files import atomic_folder, atomic_write, write_json, write_lines
from stadia.io.image_io import write_image
from stadia.io.input_files import read_bytes, read_json
from stadia.io.output_files import ANOTHER_OUT_OR_REMOVE, check_output_folder
from stadia.io.records.trajectory import (
    TRAJECTORY,
    TRAJECTORY_DRAWING,
    TRAJECTORY_TUM,
    Trajectory,
    write_tum_trajectory,
)
from stadia.judge.map_verdict import MapVerdict
from stadia.sfm.camera_intervals import PARAMETERS, RowReadout
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.map_parts import CameraEstimate
from stadia.sfm.photo_cameras import move_places
from stadia.sfm.road_sweep import RoadPlane
from stadia.sfm.sparse_map import Array, LensCamera, PlacedFrame, SparseMap, import_pycolmap, stack_poses

PredictDepth = Callable[[NDArray[np.uint8], Array], NDArray[np.float32]]
"""A function of an image (H, W, 3) RGB and its intrinsics K (3, 3) that returns its depth (H, W), up to scale."""

DEPTH_UNIT = 1000.0
"""Depth files store the depth in the map's unit times this number; nerfstudio multiplies the stored values by .001."""

MAX_DEPTH_SIDE_PX = 640
"""Longer side of the depth files, pixels; a network's depth shows no more detail."""

MIN_DEPTH_POINTS = 20
"""Fewest visible map points of a view for a measurement of its depth's scale."""


def to_lens(camera: MapCamera) -> LensCamera:
    """Convert the camera stored in a map's map.json (`MapCamera`) to a `LensCamera`, which can project points."""
    return LensCamera(camera.focal_px, camera.center_px, camera.distortion, camera.height, camera.width)


def write_colmap(
    folder: Path,
    sparse: SparseMap,
    cameras: Sequence[LensCamera],
    T_first: Array,
    names: Mapping[int, str],
    residuals_px: Array,
) -> None:
    """Write cameras, poses and points of a map as COLMAP's text and binary model files.

    folder: an existing folder for the files.
    sparse: poses, points and pixels in the images as filmed; `sparse.camera` is ignored.
    cameras: the camera of each keyframe, in the order of `sparse.frames`.
    T_first: (4, 4), from the world of `sparse` to the world of the files.
    names: image file name of each keyframe, by frame index.
    residuals_px: (M, 2) reprojection error of each observation of `sparse`, pixels.
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
    T = sparse.T_camera_world @ invert_pose(T_first)
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
    """Write the keyframes as undistorted images without black bars, COLMAP's model of them, and nerfstudio's
    transforms.json.

    folder: an existing folder for the files.
    stream: the frames that were mapped.
    filmed: the map, with poses and pixels of the frames as filmed.
    cameras_filmed: the camera of each keyframe as filmed, in the order of `filmed.frames`.
    T_first: (4, 4), from the world of `filmed` to the camera axes of the first frame with a pose.
    residuals_px: (M, 2) reprojection error of each observation, pixels.
    predict_depth: predicts depth of a view, which is written in the map's unit; None writes no depth.
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
    T = T_first @ invert_pose(filmed.T_camera_world)
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
    """Scale predicted depth (H, W) to the unit of the map, by the median ratio of the map points' depth to it.

    depth: (H, W), up to scale.
    points: (N, 3) map points in the axes of this view's camera.
    K: (3, 3) of `depth`, pixels.

    Returns the depth as stored in a file (times DEPTH_UNIT, at most MAX_DEPTH_SIDE_PX wide or high); None if fewer than
    MIN_DEPTH_POINTS points are inside the image.
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


COLMAP, VIEWS, IMAGES = "colmap", "views", "images"

ROTATING_DEG = 0.5
ROTATING_SHARE = 0.002
"""A video frame counts as rotating in place if its camera turns by more than ROTATING_DEG from the frame before, and
moves by less than this share of the median distance of the map points.
"""


@dataclass(frozen=True, slots=True, eq=False)
class VideoMap:
    """All that was found in a video.

    estimate: the camera.
    sparse: keyframes and points of the largest map.
    placed: every video frame in order, with its pose in `sparse` if it has one.
    keys: the keyframes and what was noticed when they were chosen.
    static: (h, w), true on pixels that show the same all along (hood, logo); None without such a mask.
    road: the road plane below the camera, in the map's unit of length; None if no road was found.
    readout: rolling-shutter readout time of a frame; None for very short videos, and for photos without order.
    parts: for each further part of the video that could not be joined, its frames, with poses in a world and scale of
        that part.
    verdict: whether the map can be relied on, with reasons; None if it was not judged.
    lenses: the camera of each image shape, for photos of several shapes; else empty. Poses and pixels of `sparse`
        belong to the first camera.
    """

    estimate: CameraEstimate
    sparse: SparseMap
    placed: Sequence[PlacedFrame]
    keys: KeyFrames
    static: NDArray[np.bool_] | None
    road: RoadPlane | None = None
    readout: RowReadout | None = None
    parts: Sequence[Sequence[PlacedFrame]] = ()
    verdict: MapVerdict | None = None
    lenses: Sequence[LensCamera] = ()


@dataclass(frozen=True, slots=True, eq=False)
class MapPoses:
    """Poses of all N frames, with the first frame that has a pose as world.

    T_world_camera: (N, 4, 4), camera to world; NaN if a frame is lost.
    T_first: (4, 4), from the world of the reconstruction to this world.
    """

    T_world_camera: Array
    T_first: Array

    def move_points(self, points: Array) -> Array:
        """Return points (P, 3) of the reconstruction in the world of the poses."""
        return np.asarray(points @ self.T_first[:3, :3].T + self.T_first[:3, 3])


def collect_poses(stream: FrameStream, found: VideoMap) -> MapPoses:
    """Return the camera poses of all frames as filmed, with the first frame that has a pose as world.

    stream: the frames that were mapped.
    found: the map.
    """
    T = stack_poses(restore_frames(stream, found.placed))
    T_first = T[np.isfinite(T).all((1, 2))][0]
    return MapPoses(T_first @ invert_pose(T), T_first)


def restore_frames(stream: FrameStream, frames: Sequence[PlacedFrame]) -> list[PlacedFrame]:
    """Convert poses from the images that were mapped to the photos as filmed: photos in portrait format are mapped
    turned.
    """
    poses = [
        None if (T := frame.T_camera_world) is None else stream.find_photo(frame.index)[1].T @ T for frame in frames
    ]
    return [replace(frame, T_camera_world=T) for frame, T in zip(frames, poses, strict=True)]


def restore_map(stream: FrameStream, found: VideoMap) -> SparseMap:
    """Return a map with poses and pixels of the frames as filmed, instead of the turned and resized images that were
    mapped.

    The `camera` of the result does not belong to these pixels; use the camera of each frame.
    """
    sparse = found.sparse
    photos, xy = [stream.find_photo(int(index)) for index in sparse.frames], sparse.xy.copy()
    for photo in set(photos):
        seen = np.array([other == photo for other in photos])[sparse.observed[:, 0]]
        row, fit = photo
        places = move_places(xy[seen], found.lenses[0], found.lenses[row]) if row else xy[seen]
        xy[seen] = fit.restore_xy(places + 0.5, *stream.small_sizes()[row]) - 0.5
    T = np.array([fit.T for _, fit in photos]).reshape(-1, 4, 4) @ sparse.T_camera_world
    return replace(sparse, T_camera_world=T, xy=xy)


def check_map_folder(folder: Path, source: Path, content: str) -> None:
    """Check that a folder may be overwritten: it is absent, empty, or an unchanged earlier map of the same source.

    folder: folder of the new map.
    source: the input that an error message names.
    content: hash of the input's content.

    Raises StadiaError if the folder holds anything else.
    """
    fix = ANOTHER_OUT_OR_REMOVE
    check_output_folder(folder, RECORD, "map", fix=fix)
    if not folder.is_symlink() and not (folder / RECORD).exists():
        return
    record = read_json(folder / RECORD, max_bytes=MAX_RECORD_BYTES)
    written = record.get("files") if isinstance(record, dict) else None
    digests = {RECORD: "", **(written if isinstance(written, dict) else {})}
    found = "a link" if folder.is_symlink() else ""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_own = name in digests and path.is_file() and digests[name] in ("", _digest(path))
        if not is_own and not (path.is_dir() and any(file.startswith(f"{name}/") for file in digests)):
            found = found or f"{name}, which is not of this map, or was changed"
    if not found and record.get("fingerprint") != content:
        found = f"the map of another video ({str(record.get('source'))[:40]})"
    if found:
        raise StadiaError(folder, found=found, expected=f"a new folder, or the map of {source.name}", fix=fix)


def digest_files(folder: Path) -> dict[str, str]:
    """Return the hash of each file in the folder of a new map, by name, for its map.json."""
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in written}


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return hashlib.sha256(read_bytes(path, expected="a file of a map", max_bytes=1 << 32)).hexdigest()


MOVABLE_SIDE_PX = 160
"""Longer side, pixels, of the stored masks of things that can move; at this size the records of 200,000 frames fit into
the 2 GiB of a zip archive.
"""


def write_map(
    folder: Path,
    stream: FrameStream,
    found: VideoMap,
    *,
    has_views: bool = False,
    predict_depth: PredictDepth | None = None,
) -> MapPoses:
    """Write all files of a map into a folder, and replace an earlier map in it; return the poses that were written.

    folder: the folder.
    stream: the frames that were mapped.
    found: the map.
    has_views: whether to write the keyframes as undistorted images, with COLMAP's model and transforms.json.
    predict_depth: predicts depth of these images, which is written in the map's unit; None writes no depth.
    """
    poses, filmed = collect_poses(stream, found), restore_map(stream, found)
    camera = found.estimate.camera.resized(stream.height, stream.width)
    about = _describe_camera(stream, found, camera)
    check_map_folder(folder, stream.source, stream.hash())
    with atomic_folder(folder, replace=True) as new:
        _write_points(new / POINTS, found.sparse, filmed.xy, poses)
        if stream.masks is not None and stream.photos is None:
            _write_movable(new / MOVABLE, stream, found, about)
        points, is_film = poses.move_points(found.sparse.points), not found.keys.are_photos(stream.source)
        write_trajectories(new, found.placed, poses.T_world_camera, points, is_film=is_film)
        (new / COLMAP).mkdir()
        files, keys = stream.find_files(), found.sparse.frames.tolist()
        names = {key: f"{found.placed[key].name}{files[key].suffix if files else '.png'}" for key in keys}
        cameras, residuals_px = [_fit_camera(about, stream, found, key) for key in keys], found.sparse.residuals_px()
        write_colmap(new / COLMAP, filmed, list(map(to_lens, cameras)), poses.T_first, names, residuals_px)
        if files:
            (new / IMAGES).mkdir()
            for index, name in names.items():
                (new / IMAGES / name).symlink_to(files[index].resolve())
        if has_views:
            write_views(new / VIEWS, stream, filmed, cameras, poses.T_first, residuals_px, predict_depth)
        if found.static is not None:
            write_image(new / MASK, _make_mask(stream, found.static, about))
        write_json(new / RECORD, {**_make_record(stream, found, poses, about), "files": digest_files(new)})
    return poses


def describe_intervals(found: VideoMap, scale: float) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval (low, high) of each camera parameter that was estimated, in pixels of the frames as
    filmed.

    found: the map.
    scale: width of the frames as filmed over the width of the small frames.

    Returns an empty mapping if the camera was given or assumed.
    """
    if found.estimate.intervals is None or found.estimate.origin == "assumed":
        return {}
    lens = found.estimate.camera
    values = dict(zip(PARAMETERS, (lens.focal_px, *lens.center_px, *lens.distortion), strict=True))
    intervals = {}
    for name, deviation in found.estimate.intervals.deviations.items():
        if deviation > 0 and math.isfinite(deviation):
            factor = scale if name.endswith("_px") else 1.0
            intervals[name] = (factor * (values[name] - 1.96 * deviation), factor * (values[name] + 1.96 * deviation))
    return intervals


def _describe_camera(stream: FrameStream, found: VideoMap, camera: LensCamera) -> MapCamera:
    intervals = describe_intervals(found, camera.focal_px / found.estimate.camera.focal_px)
    filmed = None if stream.lens is None else stream.lens.lens
    return MapCamera(
        origin=found.estimate.origin,
        focal_px=camera.focal_px,
        center_px=camera.center_px,
        distortion=camera.distortion,
        height=stream.height,
        width=stream.width,
        intervals_95=intervals,
        filmed=None
        if filmed is None
        else MapLens(K=filmed.K.tolist(), model=filmed.model, coefficients=tuple(filmed.coefficients.tolist())),
    )


def find_photo_lens(found: VideoMap, lens: LensCamera) -> LensCamera:
    """Return the final camera of photos of one further shape.

    lens: its camera from the first map. Its focal length is multiplied by the change of the first shape's focal length
        in the final map.
    """
    return replace(lens, focal_px=lens.focal_px * found.estimate.camera.focal_px / found.lenses[0].focal_px)


def _fit_camera(about: MapCamera, stream: FrameStream, found: VideoMap, index: int) -> MapCamera:
    if stream.photos is None:
        return about
    row, fit = stream.find_photo(index)
    if row and found.lenses:
        lens = find_photo_lens(found, found.lenses[row]).resized(*stream.photos.sizes[row])
        about = about.model_copy(update={**asdict(lens), "intervals_95": {}})
    return about.fit_to_photo(fit.height, fit.width) or about


def _make_mask(stream: FrameStream, static: NDArray[np.bool_], about: MapCamera) -> NDArray[np.uint8]:
    """Return (H, W), 255 on what never moves, in frames without distortion."""
    mask = cv2.resize(static.astype(np.uint8) * 255, (stream.width, stream.height), interpolation=cv2.INTER_NEAREST)
    straight = _make_straightener(about, stream.height, stream.width)(mask)
    return np.where(straight > 127, np.uint8(255), np.uint8(0))


def _make_straightener(about: MapCamera, height: int, width: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Return what removes the estimated distortion from masks of this size, as a training does from the frames."""
    if about.filmed is not None or (lens := about.lens) is None:
        return np.asarray
    known = make_undistortion(lens, MAP_CAMERA)
    return Undistortion(lens.resized(height, width), known.R_new_lens, known.intrinsics.resized(height, width).K)


def _make_record(stream: FrameStream, found: VideoMap, poses: MapPoses, about: MapCamera) -> dict[str, object]:
    turn = None if found.estimate.intervals is None else found.estimate.intervals.turn_deg
    return {
        "format": FORMAT,
        "source": stream.source.name,
        "fingerprint": stream.hash(),
        "camera": {**about.model_dump(mode="json"), "turn_deg": turn},
        "key_frames": len(found.sparse.frames),
        "points": len(found.sparse.points),
        "noise_px": found.sparse.point_deviations()[1],
        "row_readout": None
        if found.readout is None
        else {**asdict(found.readout), "is_corrected": found.sparse.readout != 0},
        "road": None
        if (road := found.road) is None
        else {
            "normal": road.normal.tolist(),
            "height": road.height,
            "height_deviation": road.deviation,
            "pitch_deg": road.pitch_deg,
            "pitch_deviation_deg": road.pitch_deviation_deg,
            "agreement": road.agreement,
        },
        "verdict": None if found.verdict is None else found.verdict.to_json(),
        "frames": [
            {**_describe_frame(frame, T), **_describe_photo(about, stream, found, frame.index)}
            for frame, T in zip(found.placed, poses.T_world_camera, strict=True)
        ],
        "parts": [
            [_describe_frame(frame, invert_pose(T)) for frame, T in zip(part, stack_poses(part), strict=True)]
            for part in (restore_frames(stream, part) for part in found.parts)
        ],
    }


def _describe_photo(about: MapCamera, stream: FrameStream, found: VideoMap, index: int) -> dict[str, object]:
    """Return the camera of a photo of a rarer size."""
    camera = _fit_camera(about, stream, found, index)
    kept = {"origin", "focal_px", "center_px", "distortion", "height", "width"}
    return {} if camera is about else {"camera": camera.model_dump(mode="json", include=kept)}


def _describe_frame(frame: PlacedFrame, T_world_camera: Array) -> dict[str, object]:
    return {
        "index": frame.index,
        "name": frame.name,
        "time_s": frame.time_s,
        "status": str(frame.status),
        "T_world_camera": None if frame.T_camera_world is None else T_world_camera[:3].tolist(),
    }


def find_rotating(found: VideoMap, poses: MapPoses) -> list[int]:
    """Return the indices of the video frames at which the camera turned without moving, against the frame before."""
    T, distance = poses.T_world_camera, float(np.median(found.sparse.in_camera()[:, 2]))
    step = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1)
    cosine = (np.einsum("nij,nij->n", T[1:, :3, :3], T[:-1, :3, :3]) - 1) / 2
    turn = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return (1 + np.flatnonzero((turn > ROTATING_DEG) & (step < ROTATING_SHARE * distance))).tolist()


def _write_points(path: Path, sparse: SparseMap, xy: Array, poses: MapPoses) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            points=poses.move_points(sparse.points).astype(np.float32),
            relative_deviation=sparse.relative_deviations().astype(np.float32),
            track_length=sparse.track_lengths().astype(np.int32),
            colors=sparse.colors,
            frames=sparse.frames,
            observed=sparse.observed.astype(np.int32),
            xy=xy.astype(np.float32),
        )


def _write_movable(path: Path, stream: FrameStream, found: VideoMap, about: MapCamera) -> None:
    """Write the masks of things that can move, one for each frame. A training on the video excludes these pixels."""
    scale = MOVABLE_SIDE_PX / max(stream.height, stream.width)
    height, columns = max(1, round(scale * stream.height)), max(1, round(scale * stream.width / 8))
    movable = np.zeros((len(found.placed), height, columns), np.uint8)
    straighten = _make_straightener(about, *stream.small_size)
    for row, frame in enumerate(found.placed):
        if (mask := stream.find_movable(frame.index)) is not None:
            straight = straighten(255 * mask.astype(np.uint8))
            small = cv2.resize(straight, (8 * columns, height), interpolation=cv2.INTER_AREA)
            movable[row] = np.packbits(small > 0, axis=1)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, movable=movable)


def write_trajectories(
    folder: Path, frames: Sequence[PlacedFrame], T_world_camera: Array, points: Array, *, is_film: bool
) -> None:
    """Write the poses of N frames as rows `frame r11 .. t3`, as TUM rows if all times are known, and as a drawing.

    Frames without a pose, whose rows are NaN, are left out.

    T_world_camera: (N, 4, 4) poses, camera to world.
    points: (P, 3) points of the map, for the drawing.
    is_film: whether the drawing joins the positions of neighboring frames.
    """
    from stadia.evaluation.plots.path_chart import draw_paths

    placed = np.flatnonzero(np.isfinite(T_world_camera).all((1, 2))).tolist()
    T = T_world_camera[placed]
    numbers = [frames[row].index for row in placed]
    rows = zip(numbers, T[:, :3].reshape(-1, 12), strict=True)
    write_lines(folder / TRAJECTORY, (f"{number} " + " ".join(f"{value:.9e}" for value in row) for number, row in rows))
    times = [frames[row].time_s for row in placed]
    known = [time_s for time_s in times if time_s is not None]
    if len(known) == len(times):
        write_tum_trajectory(folder / TRAJECTORY_TUM, Trajectory(T, np.array(known)))
    gaps = np.flatnonzero((np.diff(placed) > 1) | (not is_film)).tolist()
    draw_paths(folder / TRAJECTORY_DRAWING, {"camera": T}, DepthScale.UP_TO_SCALE, gaps=gaps, points=points)
