"""Build the map of a video in stages, which are stored so that it resumes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import TrackProgress
from stadia.files.array_files import read_npz
from stadia.files.atomic_files import atomic_write, write_json
from stadia.files.json_files import read_json
from stadia.geometry.image_features import find_features
from stadia.mapping.camera_search import ASSUMED_FOV_DEG, find_camera, find_rotation_focal, read_matches
from stadia.mapping.frame_poses import PlacedFrame, place_frames
from stadia.mapping.frame_stream import FrameStream
from stadia.mapping.key_frames import (
    KeyFrames,
    KeyFrameSelector,
    import_pycolmap,
    match_key_frames,
    read_features,
    thin_keys,
    write_features,
)
from stadia.mapping.lens_intervals import MIN_FOCAL_DEVIATION, LensIntervals, RowReadout, measure_lens, measure_readout
from stadia.mapping.reconstruction import MIN_POINTS, adjust, adjust_camera, keep_frames, map_frames, mirror_if_better
from stadia.mapping.road_sweep import RoadPlane, choose_pairs, find_road_plane, find_travel_direction
from stadia.mapping.sparse_map import Array, LensCamera, SparseMap, from_reconstruction, join_maps
from stadia.mapping.static_parts import StaticParts

MIN_FRAMES = 3
MIN_FEATURES = 60
"""Fewer features in the median frame cannot be matched."""

CHUNK_FRAMES, CHUNK_OVERLAP = 120, 20
"""Key frames mapped together, and shared by two chunks: time and memory grow linearly."""

COST_SHARE = 0.5
"""Share of the difference between focal lengths by the wide and the narrow cost that counts as a deviation."""

STANDING_SCENE = "a moving camera and a static scene (--masks leaves out cars and people)"

MIN_CONTINUED = 0.5
"""Share of a chunk's new key frames that must be placed from the shared ones; below, a new scene begins."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraEstimate:
    """The camera of a map, of the small frames.

    origin: "given", "estimated", "uncertain" if it is not claimed, or "assumed" if the motion does not determine it.
    intervals: None for a given camera.
    """

    camera: LensCamera
    origin: str
    intervals: LensIntervals | None


@dataclass(frozen=True, slots=True, eq=False)
class VideoMap:
    """All that was found in a video.

    placed: every frame, in order.
    static: (h, w), true on what never moves, or None.
    road: below the camera, in the unit of the path, or None.
    readout: of the rows of a frame; None for very short videos.
    """

    estimate: CameraEstimate
    sparse: SparseMap
    placed: Sequence[PlacedFrame]
    keys: KeyFrames
    static: NDArray[np.bool_] | None
    road: RoadPlane | None = None
    readout: RowReadout | None = None


def build_map(
    stream: FrameStream, given: LensCamera | None, work: Path, track: TrackProgress, *, threads: int
) -> VideoMap:
    """Return the map of a video. Raises DataError with the reason if it has none.

    given: the camera of the small frames, if known.
    work: a folder for finished stages; the same folder resumes after an interruption.
    """
    keys = _survey(stream, work, track)
    _check_motion(stream, keys)
    files, static = _collect_features(stream, keys.keys, work, track)
    count = int(np.median([len(read_features(file).xy) for file in files.values()]))
    if count < MIN_FEATURES:
        raise _no_map(stream, f"only {count} features in a frame (blur, darkness, no detail)", "sharp frames")
    database, start = work / "matches.db", given or LensCamera.from_fov(ASSUMED_FOV_DEG, *stream.small_size)
    lens = start.to_pycolmap(import_pycolmap())
    lens.has_prior_focal_length = given is not None
    for _ in track(range(1), 1, "matching"):
        if not (work / "matched.json").is_file():
            match_key_frames(database, files, lens, static, threads=threads)
            write_json(work / "matched.json", {"frames": len(files)})
    for _ in track(range(1), 1, "mapping"):
        estimate, sparse = _map_all(stream, database, files, given, threads)
    standing, cuts = frozenset(keys.standing), frozenset(keys.cuts)
    frames = track(stream, keys.frames, "placing frames")
    placed = list(place_frames(frames, sparse, standing, cuts))
    unknown = np.full((4, 4), np.nan)
    T = np.array([unknown if frame.T_camera_world is None else frame.T_camera_world for frame in placed])
    road = _find_road(stream, estimate, sparse, np.linalg.inv(T), static, track)
    return VideoMap(estimate, sparse, placed, keys, static, road, measure_readout(sparse, T))


def _find_road(
    stream: FrameStream,
    estimate: CameraEstimate,
    sparse: SparseMap,
    T_world_camera: Array,
    static: NDArray[np.bool_] | None,
    track: TrackProgress,
) -> RoadPlane | None:
    if find_travel_direction(T_world_camera) is None:
        return None
    pairs = choose_pairs(T_world_camera, sparse.frames.tolist())
    wanted = {index for pair in pairs for index in pair}
    frames, hidden = dict[int, NDArray[np.uint8]](), dict[int, NDArray[np.bool_]]()
    for frame in track(stream.select(wanted), len(wanted), "measuring the road"):
        frames[frame.index] = frame.gray
        masks = [mask for mask in (static, stream.find_movable(frame.index)) if mask is not None]
        if masks:
            hidden[frame.index] = np.logical_or.reduce(masks)
    return find_road_plane(frames, pairs, T_world_camera, estimate.camera, hidden)


def _survey(stream: FrameStream, work: Path, track: TrackProgress) -> KeyFrames:
    stored = work / "keys.json"
    if stored.is_file():
        return KeyFrames(**read_json(stored))
    selector = KeyFrameSelector()
    for frame in track(stream, stream.count(), "choosing key frames"):
        selector.add(frame.gray, frame.index)
    found = selector.found
    found = replace(found, keys=thin_keys(found.keys, found.frames))
    write_json(stored, asdict(found))
    return found


def _check_motion(stream: FrameStream, keys: KeyFrames) -> None:
    if keys.frames < MIN_FRAMES:
        raise _no_map(stream, f"{keys.frames} frames", f"{MIN_FRAMES} or more")
    if len(keys.blank) > 0.8 * keys.frames:
        found = f"{len(keys.blank)} of {keys.frames} frames without detail (sky, blur, darkness)"
        raise _no_map(stream, found, "detail")
    if len(keys.keys) < MIN_FRAMES:
        raise _no_map(stream, f"a camera that hardly moves ({len(keys.keys)} different views)", "a moving camera")


def _no_map(stream: FrameStream, found: str, expected: str) -> DataError:
    fix = "use another part of the video, or go without a map and set the camera"
    return DataError(stream.source, found=found, expected=expected, fix=fix)


def _collect_features(
    stream: FrameStream, keys: Sequence[int], work: Path, track: TrackProgress
) -> tuple[dict[int, Path], NDArray[np.bool_] | None]:
    """Return the file of each key frame's features, and the mask (h, w) of what never moves, or None."""
    files, parts = {index: work / f"features-{index:08d}.npz" for index in keys}, work / "static.npz"
    if not parts.is_file():
        statistics = StaticParts(*stream.small_size)
        for frame in track(stream.select(set(keys)), len(keys), "features"):
            statistics.add(frame.gray)
            if not files[frame.index].is_file():
                found, movable = find_features(frame.image, frame.gray), stream.find_movable(frame.index)
                write_features(files[frame.index], found if movable is None else found.outside(movable))
        with atomic_write(parts) as temporary, temporary.open("wb") as file:
            np.savez(file, mask=statistics.find())
    mask = np.asarray(read_npz(parts, only=("mask",))["mask"], bool)
    return files, mask if mask.any() else None


def _map_all(
    stream: FrameStream, database: Path, files: dict[int, Path], given: LensCamera | None, threads: int
) -> tuple[CameraEstimate, SparseMap]:
    frames = sorted(files)
    if given is None and (focal_px := find_rotation_focal(read_matches(database), *stream.small_size)) is not None:
        fov_deg = math.degrees(2 * math.atan(stream.small_size[1] / 2 / focal_px))
        why = f"a camera that only turns (by its matches, with a field of view of {fov_deg:.0f} degrees)"
        raise _no_map(stream, why, STANDING_SCENE)
    found = find_camera(database, frames[:CHUNK_FRAMES], *stream.small_size, given=given, threads=threads)
    if found is None:
        raise _no_map(
            stream,
            "no two frames of one scene from two places (the camera only turns, or everything moves)",
            STANDING_SCENE,
        )
    chunks = list(_split_chunks(frames))
    camera, first = LensCamera.from_fov(ASSUMED_FOV_DEG, *stream.small_size), None
    is_usable = given is not None or found.intervals.is_focal_usable(found.camera)
    if is_usable:
        first = _extend_model(found.model, database, chunks.pop(0), refine=given is None, threads=threads)
        camera = given or LensCamera.from_pycolmap(next(iter(first.cameras.values())))
    models = _map_chunks(database, chunks, camera, first, threads)
    maps = [_read_model(model, files) for model in models]
    if not maps:
        raise _no_map(stream, "no three key frames that fit together", STANDING_SCENE)
    sparse = join_maps(maps)
    if len(sparse.points) < MIN_POINTS:
        found_points = f"only {len(sparse.points)} points from two places (the camera only turns, or everything moves)"
        raise _no_map(stream, found_points, STANDING_SCENE)
    if given is not None:
        return CameraEstimate(given, "given", None), sparse
    if not is_usable:
        return CameraEstimate(camera, "assumed", found.intervals), sparse
    shift = COST_SHARE * abs(camera.focal_px / found.camera.focal_px - 1)
    deviation = math.hypot(found.start_spread, MIN_FOCAL_DEVIATION, shift)
    intervals = measure_lens(maps[0]).widen_focal(deviation * camera.focal_px)
    is_claimed = found.starts_agree and intervals.is_focal_determined(camera)
    return CameraEstimate(camera, "estimated" if is_claimed else "uncertain", intervals), sparse


def _extend_model(start: Any, database: Path, names: Sequence[str], *, refine: bool, threads: int) -> Any:
    """Return the model of the first chunk, started from some of its frames."""
    camera = next(iter(start.cameras.values()))
    model = map_frames(database, names, camera, refine=False, threads=threads, start=start)
    if model is None or model.num_reg_images() < start.num_reg_images():
        model = start
    if refine:
        adjust_camera(model, threads=threads)
    else:
        adjust(model, refine_focal=False, refine_lens=False, threads=threads)
    return model


def _map_chunks(
    database: Path, chunks: Sequence[Sequence[str]], camera: LensCamera, first: Any | None, threads: int
) -> Iterator[Any]:
    """Yield `first`, and the model of each chunk, which continues from the frames shared with the one before."""
    before = first
    if first is not None:
        yield first
    for names in chunks:
        model = None if before is None else _continue_model(before, database, names, threads)
        before = model or _start_model(database, names, camera, threads)
        if before is not None:
            yield before


def _start_model(database: Path, names: Sequence[str], camera: LensCamera, threads: int) -> Any | None:
    model = map_frames(database, names, camera.to_pycolmap(import_pycolmap()), refine=False, threads=threads)
    if model is None or model.num_reg_images() < MIN_FRAMES:
        return None
    model = mirror_if_better(model, threads=threads)
    adjust(model, refine_focal=False, refine_lens=False, threads=threads)
    return model


def _continue_model(before: Any, database: Path, names: Sequence[str], threads: int) -> Any | None:
    start = keep_frames(before, names)
    shared = start.num_reg_images()
    if shared < MIN_FRAMES:
        return None
    camera = next(iter(start.cameras.values()))
    model = map_frames(database, names, camera, refine=False, threads=threads, start=start)
    if model is None or model.num_reg_images() - shared < MIN_CONTINUED * (len(names) - shared):
        return None
    adjust(model, refine_focal=False, refine_lens=False, threads=threads)
    return model


def _read_model(model: Any, files: dict[int, Path]) -> SparseMap:
    frames = [int(image.name) for image in model.images.values() if image.has_pose]
    return from_reconstruction(model, {frame: read_features(files[frame]).colors for frame in frames})


def _split_chunks(frames: Sequence[int]) -> Iterator[list[str]]:
    names = [f"{index:08d}" for index in frames]
    step = CHUNK_FRAMES - CHUNK_OVERLAP
    for start in range(0, max(1, len(names) - CHUNK_OVERLAP), step):
        yield names[start : start + CHUNK_FRAMES]
