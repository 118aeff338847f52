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
from stadia.core.verdict import Verdict
from stadia.data.config import CacheConfig, CameraConfig
from stadia.data.frame_selection import KeyFrames
from stadia.data.video.map_geometry import MAX_FOCAL_DIFFERENCE
from stadia.geometry.cameras import Intrinsics
from stadia.geometry.poses import invert_pose
from stadia.io.atomic_files import hold_folder
from stadia.io.input_files import expand_home, find_cache_folder, make_absolute
from stadia.judge.map_verdict import judge_map
from stadia.sfm.camera_search import calibrate_pairs
from stadia.sfm.frame_stream import FrameStream, choose_key_frames, open_stream
from stadia.sfm.map_error import measure_evidence
from stadia.sfm.map_files import MapPoses, PredictDepth, VideoMap, check_map_folder, write_map
from stadia.sfm.map_parts import MAPPING, assume_camera, check_motion, confirm_camera, correct_rows, map_key_frames
from stadia.sfm.movable_masks import MovableMasks
from stadia.sfm.pair_matching import collect_features, find_cuts, is_ordered
from stadia.sfm.photo_cameras import unify_photo_cameras
from stadia.sfm.reconstruction import Workers
from stadia.sfm.road_sweep import find_road
from stadia.sfm.sparse_map import LensCamera, import_pycolmap, place_all_frames, stack_measured_poses, stack_poses

MIN_FREE_BYTES = 4 << 20  # free space that a disk needs for the stages of a map

LEAST_FOCAL_SHARE = -0.8
"""Least error of a focal length, as its share, that a further map corrects: five times as long."""

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

        frames = _MatchedFrames(stream, keys, features, work, static, lenses, not keys.are_photos(source))
        found = _map_frames(frames, given, workers)
        if given is None:
            found = _try_other_camera(frames, found, workers)

        for _ in track(range(1), 1, "writing"):
            poses = write_map(folder, stream, found, has_views=has_views, predict_depth=predict_depth)
    return MappedVideo(folder, stream, found, poses)


@dataclass(frozen=True)
class _MatchedFrames:
    """What a map is made of: keyframes with feature files in `work`, fixed pixels, and the cameras of photos."""

    stream: FrameStream
    keys: KeyFrames
    features: Mapping[int, Path]
    work: Path
    static: NDArray[np.bool_] | None
    lenses: list[LensCamera]
    is_film: bool


def _map_frames(
    frames: _MatchedFrames, camera: LensCamera | None, workers: Workers, *, is_given: bool = True
) -> VideoMap:
    """Return the map of all frames, with its verdict.

    camera: the camera that is kept; None estimates it.
    is_given: whether the user gave the camera; otherwise it is assumed.
    """
    stream, keys, static, track = frames.stream, frames.keys, frames.static, workers.track
    estimate, maps, pairs = map_key_frames(
        stream, frames.features, frames.work, given=camera, static=static, workers=workers
    )
    if camera is not None and not is_given:
        estimate = assume_camera(camera, maps[0])
    ordered = not frames.lenses and (stream.source.is_file() or is_ordered(pairs, keys.keys))
    keys = replace(keys, cuts=find_cuts(pairs, keys.keys) if ordered else list(range(keys.frames)))
    readout = None
    for _ in track(range(1), 1, "rolling shutter") if ordered else ():
        maps[0], readout = correct_rows(maps[0], pairs, threads=workers.threads)
    placed, *parts = place_all_frames(stream, keys, maps, track, is_film=frames.is_film)

    for _ in track(range(1), 1, "judging"):
        road = find_road(stream, maps[0], estimate.camera, invert_pose(stack_poses(placed)), static, track)
        evidence = measure_evidence(
            maps[0],
            pairs,
            invert_pose(stack_measured_poses(placed[stream.first :])),
            has_camera=estimate.origin == "given",
            road_drift=1.0 if road is None else road.drift,
            is_camera_determined=estimate.origin in ("given", "estimated"),
            focal_deviation=estimate.find_focal_deviation(),
            in_other_parts=sum(int(np.isfinite(stack_poses(part)).all((1, 2)).sum()) for part in parts),
            threads=workers.threads,
        )
        focal = evidence.error.focal_share
        if estimate.origin in ("uncertain", "assumed") and focal is not None and evidence.is_focal_confirmed:
            estimate, evidence = confirm_camera(estimate, focal), replace(evidence, is_camera_determined=True)
        verdict = judge_map(evidence)
    return VideoMap(estimate, maps[0], placed, keys, static, road, readout, parts, verdict, frames.lenses)


def _try_other_camera(frames: _MatchedFrames, found: VideoMap, workers: Workers) -> VideoMap:
    """Map a doubted path again with a camera that its own matches propose, and return the better map.

    A third map made no path better.
    """
    other = _choose_other_camera(frames, found)
    if other is None:
        return found
    try:
        again = _map_frames(frames, other, workers, is_given=False)
    except DataError:
        return found
    is_confirmed = _rank_map(again)[1] > 0
    return again if is_confirmed and _rank_map(again) > _rank_map(found) else found


def _choose_other_camera(frames: _MatchedFrames, found: VideoMap) -> LensCamera | None:
    """Return the camera of another map, if the path is doubted: with the focal length that held-out matches show, or
    else the one of image pairs; None if the map has it already.
    """
    camera, verdict = found.estimate.camera, found.verdict
    if verdict is None or verdict.path is Verdict.USABLE:
        return None
    share = verdict.evidence.error.focal_share
    if share is not None and share.is_above(MAX_FOCAL_DIFFERENCE) and share.value > LEAST_FOCAL_SHARE:
        return replace(camera, focal_px=camera.focal_px / (1 + share.value), distortion=(0.0, 0.0, 0.0, 0.0))
    other = calibrate_pairs(frames.work / MAPPING, *frames.stream.small_size)
    is_same = other is None or abs(other.focal_px / camera.focal_px - 1) <= MAX_FOCAL_DIFFERENCE
    return None if is_same else other


def _rank_map(found: VideoMap) -> tuple[int, float]:
    """Return the grade of the path, then the share of the frames that a map places and matches confirm."""
    assert found.verdict is not None
    evidence = found.verdict.evidence
    confirmed = 0.0 if math.isnan(evidence.unexplained) else 1 - evidence.unexplained
    return -found.verdict.path.rank, evidence.placed * confirmed


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
