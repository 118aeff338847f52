"""Build, write and describe the map of a video: `stadia map`, `stadia.map_video`."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.types import TrackProgress, no_progress
from stadia.datasets.config import CacheConfig, CameraConfig
from stadia.datasets.frame_store import find_cache_folder
from stadia.datasets.video.map_geometry import MAX_FOCAL_DIFFERENCE
from stadia.datasets.video.video_camera import CAMERA_ADVICE
from stadia.datasets.video.video_map import MASK, find_map_folder
from stadia.files.atomic_files import LOCK_FILE, hold_folder, is_empty
from stadia.files.paths import expand_home, make_absolute
from stadia.geometry.numpy_camera import Intrinsics
from stadia.mapping.build_map import VideoMap, build_map
from stadia.mapping.frame_poses import FrameStatus
from stadia.mapping.frame_stream import FrameStream, MovableMasks, open_stream
from stadia.mapping.key_frames import import_pycolmap
from stadia.mapping.learned_matching import has_matcher
from stadia.mapping.lens_intervals import MAX_FOCAL_DEVIATION, MIN_TURN_DEG
from stadia.mapping.map_files import (
    MapPoses,
    PredictDepth,
    check_map_folder,
    count_status,
    describe_intervals,
    find_photo_lens,
    find_rotating,
    write_map,
)
from stadia.mapping.map_verdict import describe_verdict
from stadia.mapping.reconstruction import Workers
from stadia.mapping.road_sweep import find_travel_direction
from stadia.mapping.sparse_map import LensCamera

MIN_FREE_BYTES = 4 << 20  # of a disk for the stages of a map

VERSION = 4
"""Of the stored stages; a new version discards earlier ones."""


@dataclass(frozen=True)
class MappedVideo:
    """The map of a video, from `map_video`.

    folder: with its files; `datasets.video.video_map.read_map` reads them again.
    stream: the frames that were mapped.
    found: camera, key frames, points, and every frame's place.
    """

    folder: Path
    stream: FrameStream
    found: VideoMap
    poses: MapPoses

    @property
    def K(self) -> NDArray[np.float64]:
        """Return the intrinsics (3, 3) of the frames without their distortion, pixels."""
        return self.found.estimate.camera.resized(self.stream.height, self.stream.width).K

    @property
    def T_world_camera(self) -> NDArray[np.float64]:
        """Return the poses (N, 4, 4) of all frames, up to scale; NaN if a frame is lost."""
        return self.poses.T_world_camera

    @property
    def names(self) -> list[str]:
        """Return the names of all frames."""
        return self.stream.stems()[: len(self.found.placed)]

    @property
    def points(self) -> NDArray[np.float64]:
        """Return the points (P, 3) in the axes of the first placed frame, up to scale."""
        points, T = self.found.sparse.points, self.poses.T_first
        return np.asarray(points @ T[:3, :3].T + T[:3, 3])


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
    track: TrackProgress = no_progress,
) -> MappedVideo:
    """Recover the camera, the path and sparse points of a video, and write them. The same call resumes.

    source: a video, photos, a folder of videos of one place, a bag, or a data set.
    camera: of the frames; None takes the file next to them, or estimates it. Data sets have their own.
    format: of the data set.
    options: further fields of `SourceOptions`, such as frames and recordings.
    out: the folder of the map; None puts it next to the source.
    masks: a folder of `stadia prepare`, to leave out what moves.
    has_views: whether to write undistorted key frames with COLMAP's model and transforms.json.
    predict_depth: returns depth up to scale of an image and its K; the views then get depth maps in the map's unit.
    cache: where finished stages are kept.

    Raises DataError with the reason if a video has no map; nothing is written then.
    """
    import_pycolmap()
    source, camera, cache = expand_home(Path(source)), camera or CameraConfig(), cache or CacheConfig()
    if camera.estimate:
        fix = "leave it out: a map estimates the camera"
        raise ConfigError("data.camera", found="estimate", expected="a given camera", fix=fix)
    for _ in track(range(1), 1, "reading"):
        stream = open_stream(source, camera, {**(options or {}), "cache": cache}, format)
        user = stream.find_camera(camera)
    folder = stream.name_map() if out is None else make_absolute(out)
    content = stream.hash()
    check_map_folder(folder, source, content)
    if user is not None:
        if stream.has_several_cameras or (stream.photos is not None and user.undistortion is not None):
            expected, fix = "photos of one size for a given camera", "leave it out: a map estimates the camera"
            raise DataError(source, found="photos of several sizes", expected=expected, fix=fix)
        stream = replace(stream, lens=user.undistortion)
    given = None if user is None else _shrink_camera(user.intrinsics, stream)
    if masks is not None:
        movable = MovableMasks.open(expand_home(Path(masks)), stream.stems(), stream.height, stream.width, content)
        stream = replace(stream, masks=movable)
    of_lens = "" if stream.lens is None else stream.lens.lens.fingerprint()
    of_masks = "" if stream.masks is None else stream.masks.fingerprint()
    settings = (
        f"{VERSION} {stream.small_size} {given} {of_lens} {of_masks} {(stream.height, stream.width)} {stream.span}"
    )
    digest = hashlib.blake2b(f"{content} {settings}".encode(), digest_size=12).hexdigest()
    work = find_cache_folder(cache) / f"map-{digest}"
    try:
        with hold_folder(work):
            found = _resume(work, lambda: build_map(stream, given, work, Workers(os.cpu_count() or 1, track)))
            for _ in track(range(1), 1, "writing"):
                poses = write_map(folder, stream, found, has_views=has_views, predict_depth=predict_depth)
    except DataError:  # the same call would fail again
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return MappedVideo(folder, stream, found, poses)


def _resume(work: Path, build: Callable[[], VideoMap]) -> VideoMap:
    """Return the map that `build` makes of the stages in `work`, or of none if these cannot be used.

    Raises StadiaError for a full disk.
    """
    for is_last in (is_empty(work), True):
        try:
            return build()
        except Exception as error:
            if shutil.disk_usage(work).free < MIN_FREE_BYTES:
                fix = "free some space, or set STADIA_CACHE to a folder on another disk"
                raise StadiaError(work, found="a full disk", expected="space for stages", fix=fix) from error
            if is_last:
                raise
        for stage in work.iterdir():
            if stage.name != LOCK_FILE:
                stage.unlink()
    raise AssertionError


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


def describe_map(mapped: MappedVideo) -> Iterator[str]:
    """Yield what was mapped, for people; notes start with "note: "."""
    folder, stream, found, poses = mapped.folder, mapped.stream, mapped.found, mapped.poses
    sparse, frames = found.sparse, found.placed[stream.first :]
    status = count_status(frames)
    placed = len(frames) - status.get(FrameStatus.LOST, 0)
    yield (
        f"{folder}: {placed} of {len(frames)} frames placed, {len(sparse.frames)} key frames,"
        f" {len(sparse.points)} points, {sparse.point_deviations()[1]:.2f} px"
    )
    yield f"  {describe_camera(found, stream)}"
    if found.lenses and stream.photos is not None:
        for (height, width), lens in zip(stream.photos.sizes[1:], found.lenses[1:], strict=True):
            focal_px = find_photo_lens(found, lens).resized(height, width).focal_px
            yield f"  photos of {width}x{height} have another camera: focal length {focal_px:.6g} px"
    yield f"  frames: {', '.join(f'{count} {name}' for name, count in status.items())}"
    if rotating := find_rotating(found, poses):
        yield f"  {len(rotating)} frames turn without moving"
    if (road := found.road) is not None:
        way = "up" if road.pitch_deg >= 0 else "down"
        yield (
            f"  road: {road.height:.4g} +- {1.96 * road.deviation:.2g} (95 %) below the camera, in units of the path;"
            f" the camera points {way} {abs(road.pitch_deg):.1f} degrees"
        )
        if folder == find_map_folder(stream.source):
            yield f"  metres: stadia predict {stream.source} --scale-from map=HEIGHT (of the camera over the road)"
    elif find_travel_direction(poses.T_world_camera) is not None:
        yield (
            "note: no road was found below the camera, so its height gives no metres."
            " On a drive: stadia predict VIDEO --scale-from object=car:1.5@yolox_nano.onnx, or speed=SPEED"
        )
    if stream.masks is not None:
        bare = sum(not stream.masks.has_near(int(index), stream.mask_distance) for index in sparse.frames)
        yield f"  masks: left cars and people out of {len(sparse.frames) - bare} key frames"
        near = f" within {stream.mask_distance} frames" if stream.mask_distance else ""
        if bare:
            yield f"note: {bare} key frames have no mask{near}, so moving things were used there"
    if found.static is not None:
        yield f"  {MASK}: left out {found.static.mean():.1%} of the image, which never moves"
    if found.readout is not None and found.readout.is_rolling:
        share, interval = found.readout.frames, 1.96 * found.readout.deviation
        yield (
            f"note: rolling shutter: the rows are read over {abs(share):.2f} +- {interval:.2g} (95 %) of a frame."
            " Path and points bend if the camera turns fast"
        )
    lost = status.get(FrameStatus.LOST, 0)
    for part in found.parts:
        yield f"note: {len(part)} frames from {part[0].index} to {part[-1].index} form a part of their own (map.json)"
        lost -= len(part)
    if found.parts and not has_matcher():
        yield "note: learned features can join parts: pip install 'stadia[matching]'"
    if lost:
        advice = ". Try --masks if cars or people hide the scene" if stream.masks is None else ""
        names = [frame.name for frame in frames if frame.status is FrameStatus.LOST]
        shown = f" ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})" if stream.photos is not None else ""
        yield f"note: {lost} frames have no pose{shown}: they are damaged or show too few points{advice}"
    if found.verdict is not None:
        yield from describe_verdict(found.verdict)


def describe_camera(found: VideoMap, stream: FrameStream) -> str:
    """Return the line about the camera: given, estimated with its interval, or undetermined and why."""
    estimate = found.estimate
    focal_px = estimate.camera.resized(stream.height, stream.width).focal_px
    scale = focal_px / estimate.camera.focal_px
    fov_deg = math.degrees(2 * math.atan(stream.width / 2 / focal_px))
    if estimate.intervals is None:
        return f"camera: focal length {focal_px:.6g} px, given"
    if estimate.origin != "estimated":
        turn, deviation = estimate.intervals.turn_deg, estimate.intervals.deviations["focal_px"]
        relative = 1.96 * deviation / estimate.camera.focal_px
        why = f"the camera turns by only {turn:.1f} of {MIN_TURN_DEG:g} degrees"
        if turn >= MIN_TURN_DEG:
            spread = f"{relative:.0%}" if relative < 2 else "any factor"
            why = f"it may be off by {spread}; at most {1.96 * MAX_FOCAL_DEVIATION:.0%} is accepted"
        return (
            f"camera: {estimate.origin}, {fov_deg:.0f} degrees from left to right,"
            f" because the video does not show it ({why}). {CAMERA_ADVICE}"
        )
    low, high = describe_intervals(found, scale)["focal_px"]
    k1, k2, *_ = estimate.camera.distortion
    corner = np.array([[stream.width / 2 / focal_px, stream.height / 2 / focal_px, 1.0]])
    straight = LensCamera(1.0, (0.0, 0.0), (0.0, 0.0, 0.0, 0.0), 1, 1).project(corner)
    bent = LensCamera(1.0, (0.0, 0.0), estimate.camera.distortion, 1, 1).project(corner)
    shift_px = focal_px * float(np.linalg.norm(bent - straight))
    return (
        f"camera: focal length {focal_px:.1f} px (95 %: {low:.0f} to {high:.0f}), {fov_deg:.1f} degrees;"
        f" distortion k1 {k1:.3f}, k2 {k2:.3f}, {shift_px:.1f} px in the corners"
    )
