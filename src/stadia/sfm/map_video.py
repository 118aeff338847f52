"""Recover the camera, the camera trajectory and sparse points of a video: `stadia map`, `stadia.map_video`."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.progress import TrackProgress, no_progress
from stadia.data.config import CacheConfig, CameraConfig
from stadia.data.video.map_geometry import MAX_FOCAL_DIFFERENCE
from stadia.geometry.cameras import Intrinsics
from stadia.geometry.poses import invert_pose
from stadia.io.atomic_files import hold_folder
from stadia.io.input_files import expand_home, find_cache_folder, make_absolute
from stadia.judge.map_verdict import judge_map
from stadia.sfm.frame_stream import FrameStream, choose_key_frames, open_stream
from stadia.sfm.map_error import measure_evidence
from stadia.sfm.map_files import MapPoses, PredictDepth, VideoMap, check_map_folder, write_map
from stadia.sfm.map_parts import check_motion, correct_rows, map_key_frames
from stadia.sfm.movable_masks import MovableMasks
from stadia.sfm.pair_matching import collect_features, find_cuts, is_ordered
from stadia.sfm.photo_cameras import unify_photo_cameras
from stadia.sfm.reconstruction import Workers
from stadia.sfm.road_sweep import find_road
from stadia.sfm.sparse_map import LensCamera, import_pycolmap, place_all_frames, stack_measured_poses, stack_poses

MIN_FREE_BYTES = 4 << 20  # free space that a disk needs for the stages of a map

VERSION = 8
"""Version of the files of finished stages; stages of another version are not read."""


@dataclass(frozen=True)
class MappedVideo:
    """The map of a video, as returned by `map_video`: camera, camera trajectory and sparse points.

    folder: folder of the map. `stadia.data.video.video_map.read_map` reads its files again.
    stream: the mapped video frames.
    found: the estimated camera, keyframes and points, and the pose of every frame.
    poses: the poses of all frames. The world is the camera of the first frame that has a pose.
    """

    folder: Path
    stream: FrameStream
    found: VideoMap
    poses: MapPoses

    @property
    def K(self) -> NDArray[np.float64]:
        """Return the intrinsics (3, 3) of the frames once their lens distortion is removed, pixels."""
        return self.found.estimate.camera.resized(self.stream.height, self.stream.width).K

    @property
    def T_world_camera(self) -> NDArray[np.float64]:
        """Return the poses (N, 4, 4) of all frames, camera to world, with translations up to scale; NaN if a frame is
        lost.
        """
        return self.poses.T_world_camera

    @property
    def names(self) -> list[str]:
        """Return the names of all frames, in the order of `T_world_camera`."""
        return self.stream.stems()[: len(self.found.placed)]

    @property
    def points(self) -> NDArray[np.float64]:
        """Return the map points (P, 3) in the world of `T_world_camera` (the first frame with a pose), up to scale."""
        return self.poses.move_points(self.found.sparse.points)


def map_video(
    source: Path | str,
    *,
    camera: CameraConfig | None = None,
    format: str = "auto",
    options: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    masks: Path | str | None = None,
    has_views: bool = False,
    predict_depth: PredictDepth | None = None,
    cache: CacheConfig | None = None,
    threads: int | None = None,
    track: TrackProgress = no_progress,
) -> MappedVideo:
    """Estimate the camera, the camera trajectory and sparse points of a video by structure from motion.

    The results are written into a folder, the map of the video. Call the function again with the same arguments to
    resume after an interruption.

    source: a video, a folder of photos, a folder of videos of one place, a ROS bag, or a dataset.
    camera: the camera of the frames; None takes it from a file next to the source, or else estimates it. Datasets have
        their own camera.
    format: name of the dataset's format, or "auto" to detect it.
    options: further fields of `SourceOptions`, such as frames and recordings.
    out: folder of the map; None puts it next to the source.
    masks: folder of masks from `stadia masks`; features on movable things are left out.
    has_views: whether to write the keyframes as undistorted images, with COLMAP's model and transforms.json.
    predict_depth: a function that takes an image and its K and returns depth up to scale. With it, these images get
        depth maps in the map's unit.
    cache: folder of intermediate results; None takes the default.
    threads: number of threads; None takes one for each processor.
    track: wraps loops to show their progress.

    Returns the map. Raises DataError with the reason if the video cannot be mapped; nothing is written in this case.
    """
    import_pycolmap()
    source, camera, cache = expand_home(Path(source)), camera or CameraConfig(), cache or CacheConfig()
    options, workers = {**(options or {}), "cache": cache}, Workers(threads or os.cpu_count() or 1, track)

    for _ in track(range(1), 1, "reading"):
        stream, given = _open_frames(source, camera, options, format, masks)
    folder = stream.name_map() if out is None else make_absolute(out)
    check_map_folder(folder, source, stream.hash())

    with hold_stages(_name_stages(stream, given, cache)) as work:
        keys = choose_key_frames(stream, work, track)
        static = stream.find_static()
        check_motion(stream, keys.keys, work, static, given)
        features = collect_features(stream, keys.keys, work, track)
        lenses = list[LensCamera]()
        if stream.has_several_cameras:
            features, lenses = unify_photo_cameras(stream, features, work, workers)

        estimate, maps, pairs = map_key_frames(stream, features, work, given=given, static=static, workers=workers)
        ordered = not lenses and (source.is_file() or is_ordered(pairs, keys.keys))
        keys = replace(keys, cuts=find_cuts(pairs, keys.keys) if ordered else list(range(keys.frames)))
        readout = None
        for _ in track(range(1), 1, "rolling shutter") if ordered else ():
            maps[0], readout = correct_rows(maps[0], pairs, threads=workers.threads)
        placed, *parts = place_all_frames(stream, keys, maps, track, is_film=not keys.are_photos(source))

        for _ in track(range(1), 1, "judging"):
            T_camera_world = stack_poses(placed)
            T_world_camera = invert_pose(T_camera_world)
            road = find_road(stream, maps[0], estimate.camera, T_world_camera, static, track)
            evidence = measure_evidence(
                maps[0],
                pairs,
                invert_pose(stack_measured_poses(placed[stream.first :])),
                has_camera=given is not None,
                road_drift=1.0 if road is None else road.drift,
                is_camera_determined=estimate.origin in ("given", "estimated"),
                focal_deviation=estimate.find_focal_deviation(),
                in_other_parts=sum(int(np.isfinite(stack_poses(part)).all((1, 2)).sum()) for part in parts),
                threads=workers.threads,
            )
            verdict = judge_map(evidence)
        found = VideoMap(estimate, maps[0], placed, keys, static, road, readout, parts, verdict, lenses)

        for _ in track(range(1), 1, "writing"):
            poses = write_map(folder, stream, found, has_views=has_views, predict_depth=predict_depth)
    return MappedVideo(folder, stream, found, poses)


def _open_frames(
    source: Path, camera: CameraConfig, options: Mapping[str, Any], format: str, masks: Path | str | None
) -> tuple[FrameStream, LensCamera | None]:
    """Return the frames without distortion, with masks of what moves, and the given camera of the small frames."""
    if camera.estimate:
        fix = "leave it out: a map estimates the camera"
        raise ConfigError("data.camera", found="estimate", expected="a given camera", fix=fix)
    stream = open_stream(source, camera, options, format)
    user, given = stream.find_camera(camera), None
    if user is not None:
        if stream.has_several_cameras or (stream.photos is not None and user.undistortion is not None):
            expected, fix = "photos of one size for a given camera", "leave it out: a map estimates the camera"
            raise DataError(source, found="photos of several sizes", expected=expected, fix=fix)
        stream = replace(stream, lens=user.undistortion)
        given = _shrink_camera(user.intrinsics, stream)
    if masks is not None:
        found = MovableMasks.open(expand_home(Path(masks)), stream.stems(), stream.height, stream.width, stream.hash())
        stream = replace(stream, masks=found)
    return stream, given


def _name_stages(stream: FrameStream, given: LensCamera | None, cache: CacheConfig) -> Path:
    """Return the folder for the stages of a map: the same for the same frames and settings."""
    of_lens = "" if stream.lens is None else stream.lens.lens.fingerprint()
    of_masks = "" if stream.masks is None else stream.masks.fingerprint()
    settings = (
        f"{VERSION} {stream.small_size} {given} {of_lens} {of_masks} {(stream.height, stream.width)} {stream.span}"
    )
    digest = hashlib.blake2b(f"{stream.hash()} {settings}".encode(), digest_size=12).hexdigest()
    return find_cache_folder(cache.folder) / f"map-{digest}"


@contextmanager
def hold_stages(work: Path) -> Iterator[Path]:
    """Hold a folder for finished stages of a map while the map is made, and remove it at the end.

    An interruption or a full disk leaves the folder, so that the same call resumes; any other error removes it, since
    its files may be damaged.

    Raises StadiaError if the disk is full.
    """
    with hold_folder(work):
        try:
            yield work
        except Exception as error:
            if shutil.disk_usage(work).free < MIN_FREE_BYTES:
                fix = "free some space, or set STADIA_CACHE to a folder on another disk"
                raise StadiaError(work, found="a full disk", expected="space for stages", fix=fix) from error
            shutil.rmtree(work, ignore_errors=True)
            raise
    shutil.rmtree(work, ignore_errors=True)


def _shrink_camera(known: Intrinsics, stream: FrameStream) -> LensCamera:
    """Return the camera of the small frames. Raises DataError for one that changes or has no square pixels."""
    if known.K.ndim != 2:
        fix = "map the parts of the video that have one camera"
        raise DataError(stream.source, found="a K for each frame", expected="one camera", fix=fix)
    fx, fy = float(known.K[0, 0]), float(known.K[1, 1])
    if abs(math.sqrt(fy / fx) - 1) > MAX_FOCAL_DIFFERENCE:
        size = f"{stream.width}x{round(stream.height * fx / fy)}"
        fix = f"resize the frames to {size}: ffmpeg -i IN -vf scale={size.replace('x', ':')} OUT"
        raise DataError(stream.source, found=f"fy / fx of {fy / fx:.2f}", expected="square pixels", fix=fix)
    small = known.resized(*stream.small_size)
    K = small.K
    focal_px = math.sqrt(K[0, 0] * K[1, 1])
    return LensCamera(focal_px, (float(K[0, 2]), float(K[1, 2])), (0.0, 0.0, 0.0, 0.0), small.height, small.width)
