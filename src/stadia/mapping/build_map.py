"""Build the map of a video: key frames, features, matches, camera, path. Each stage is stored, so that it resumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import TrackProgress
from stadia.files.array_files import read_npz
from stadia.files.atomic_files import atomic_write, write_json
from stadia.files.json_files import read_json
from stadia.geometry.image_features import find_features
from stadia.mapping.camera_search import ASSUMED_FOV_DEG, FoundCamera, find_camera
from stadia.mapping.features import (
    count_features,
    import_pycolmap,
    match_key_frames,
    read_features,
    verify_matches,
    write_features,
)
from stadia.mapping.frame_poses import PlacedFrame, place_frames
from stadia.mapping.frame_stream import FrameStream
from stadia.mapping.key_frames import KeyFrames, KeyFrameSelector, thin_keys
from stadia.mapping.lens_intervals import LensIntervals, measure_lens
from stadia.mapping.reconstruction import adjust, change_model, focal_px_of, map_frames, mirror_if_better
from stadia.mapping.road_sweep import RoadPlane, choose_pairs, find_road_plane, find_travel_direction
from stadia.mapping.sparse_map import LensCamera, SparseMap, from_reconstruction, join_maps
from stadia.mapping.static_parts import StaticParts

MIN_FRAMES = 3
MIN_FEATURES = 60
"""Median number of features below which nothing can be matched."""

CHUNK_FRAMES, CHUNK_OVERLAP = 120, 20
"""Key frames that are mapped together, and those that two of these chunks share: time and memory grow linearly."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraEstimate:
    """The camera of a map, of the small frames.

    origin: "given", "estimated", "uncertain" where it is not claimed, or "assumed" where the motion determines none.
    intervals: None where the camera was given.
    """

    camera: LensCamera
    origin: str
    intervals: LensIntervals | None


@dataclass(frozen=True, slots=True, eq=False)
class VideoMap:
    """All that was found in a video.

    placed: every frame, in order of their indices from 0.
    static: (h, w), true on what never moves; None where nothing was found.
    road: below the camera, in the unit of the path; None where it follows no road that can be measured.
    """

    estimate: CameraEstimate
    sparse: SparseMap
    placed: Sequence[PlacedFrame]
    keys: KeyFrames
    static: NDArray[np.bool_] | None
    road: RoadPlane | None = None


def build_map(
    stream: FrameStream, given: LensCamera | None, work: Path, track: TrackProgress, *, threads: int
) -> VideoMap:
    """Return the map of a video; raise DataError with the reason where it has none.

    given: the camera of the small frames, if it is known.
    work: a folder for finished stages; the same folder resumes after an interruption.
    """
    keys = _survey(stream, work, track)
    _check_motion(stream, keys)
    files, static = _collect_features(stream, keys.keys, work, track)
    if (count := count_features(list(files.values()))) < MIN_FEATURES:
        raise _no_map(
            stream, f"{count} features in a frame: blur, darkness or a surface without detail", "sharp frames"
        )
    height, width = stream.small_size
    database, pycolmap = work / "matches.db", import_pycolmap()
    start = LensCamera(
        focal_px_of(ASSUMED_FOV_DEG, width), ((width - 1) / 2, (height - 1) / 2), (0, 0, 0, 0), height, width
    )
    lens = (given or start).to_pycolmap(pycolmap)
    for _ in track(range(1), 1, "matching"):
        if not (work / "matched.json").is_file():
            match_key_frames(database, files, lens, static, threads=threads)
            write_json(work / "matched.json", {"frames": len(files)})
    for _ in track(range(1), 1, "mapping"):
        estimate, sparse = _map_all(stream, database, sorted(files), given, work, files, threads)
    standing, cuts = frozenset(keys.standing), frozenset(keys.cuts)
    frames = track(stream, keys.frames, "placing frames")
    placed = list(place_frames(frames, sparse, standing, cuts))
    road = _find_road(stream, estimate, sparse, placed, static, track)
    return VideoMap(estimate, sparse, placed, keys, static, road)


def _find_road(
    stream: FrameStream,
    estimate: CameraEstimate,
    sparse: SparseMap,
    placed: Sequence[PlacedFrame],
    static: NDArray[np.bool_] | None,
    track: TrackProgress,
) -> RoadPlane | None:
    """Return the road below the camera, in the axes of a key frame's camera and the unit of the map."""
    poses = np.array(
        [
            np.full((4, 4), np.nan) if frame.T_camera_world is None else np.linalg.inv(frame.T_camera_world)
            for frame in placed
        ]
    )
    if find_travel_direction(poses) is None:
        return None
    pairs = choose_pairs(poses, sparse.frames.tolist())
    wanted = {index for pair in pairs for index in pair}
    frames = dict[int, NDArray[np.uint8]]()
    for frame in track(stream, len(placed), "measuring the road"):
        if frame.index in wanted:
            frames[frame.index] = frame.gray
    return find_road_plane(frames, pairs, poses, estimate.camera, static)


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
    """Raise DataError where no map can be made, before the features are searched."""
    if keys.frames < MIN_FRAMES:
        raise _no_map(stream, f"{keys.frames} frames", f"{MIN_FRAMES} or more")
    if len(keys.blank) > 0.8 * keys.frames:
        raise _no_map(
            stream, f"{len(keys.blank)} of {keys.frames} frames without detail (sky, blur, darkness)", "detail"
        )
    if len(keys.keys) < MIN_FRAMES:
        raise _no_map(stream, f"a camera that hardly moves: {len(keys.keys)} different views", "a moving camera")


def _no_map(stream: FrameStream, found: str, expected: str) -> DataError:
    fix = "use another part of the video; without a map stadia trains and predicts as before, with a given camera"
    return DataError(stream.source, found=found, expected=expected, fix=fix)


def _collect_features(
    stream: FrameStream, keys: Sequence[int], work: Path, track: TrackProgress
) -> tuple[dict[int, Path], NDArray[np.bool_] | None]:
    """Return the file of each key frame's features, and the mask of what never moves; None without any."""
    files, parts = {index: work / f"features-{index:08d}.npz" for index in keys}, work / "static.npz"
    if not parts.is_file():
        wanted, statistics = set(keys), StaticParts(*stream.small_size)
        for frame in track(stream, stream.count(), "features"):
            if frame.index in wanted:
                statistics.add(frame.gray)
                if not files[frame.index].is_file():
                    write_features(files[frame.index], find_features(frame.image, frame.gray))
        with atomic_write(parts) as temporary, temporary.open("wb") as file:
            np.savez(file, mask=statistics.find())
    mask = np.asarray(read_npz(parts, only=("mask",))["mask"], bool)
    return files, mask if mask.any() else None


def _map_all(
    stream: FrameStream,
    database: Path,
    frames: Sequence[int],
    given: LensCamera | None,
    work: Path,
    files: dict[int, Path],
    threads: int,
) -> tuple[CameraEstimate, SparseMap]:
    """Find the camera, then map all key frames in chunks and join them."""
    height, width = stream.small_size
    found = find_camera(database, frames[:CHUNK_FRAMES], height, width, given=given, threads=threads)
    if found is None:
        why = "no two frames that see one scene from two places: it turns on the spot, is cut, or all moves"
        raise _no_map(stream, why, "a camera that moves through a scene that stands")
    is_usable = given is not None or found.intervals.is_focal_usable(found.camera)
    start = given or _choose_camera(found, height, width)
    refine, begun, lens_given = given is None and is_usable, None, start.to_pycolmap(import_pycolmap())
    if is_usable:
        begun, lens_given = found.model, next(iter(found.model.cameras.values()))
    if refine:
        verify_matches(database, lens_given)
    chunks = list[SparseMap]()
    lens = start
    for names in _split_chunks(frames):
        model = map_frames(database, names, lens_given, refine=False, threads=threads, start=begun)
        if begun is not None and (model is None or model.num_reg_images() < begun.num_reg_images()):
            model = begun
        if model is None or model.num_reg_images() < MIN_FRAMES:
            continue
        if begun is None:
            model = mirror_if_better(model, threads=threads)
        change_model(model, "RADIAL" if refine else "OPENCV")
        adjust(model, refine_focal=refine, refine_lens=refine, threads=threads)
        if refine:
            lens, refine = LensCamera.from_pycolmap(next(iter(model.cameras.values()))), False
            lens_given = lens.to_pycolmap(import_pycolmap())
        begun = None
        chunks.append(
            from_reconstruction(model, {index: read_features(files[index]).colors for index in map(int, names)})
        )
    if not chunks:
        raise _no_map(
            stream, "key frames of which no three fit together", "a camera that moves through a scene that stands"
        )
    sparse = join_maps(chunks)
    if given is not None:
        return CameraEstimate(given, "given", None), sparse
    if not is_usable:
        return CameraEstimate(start, "assumed", found.intervals), sparse
    intervals = measure_lens(chunks[0])
    is_claimed = found.starts_agree and intervals.is_focal_determined(lens)
    return CameraEstimate(lens, "estimated" if is_claimed else "uncertain", intervals), sparse


def _choose_camera(found: FoundCamera, height: int, width: int) -> LensCamera:
    if found.intervals.is_focal_usable(found.camera):
        return found.camera
    return LensCamera(
        focal_px_of(ASSUMED_FOV_DEG, width), ((width - 1) / 2, (height - 1) / 2), (0, 0, 0, 0), height, width
    )


def _split_chunks(frames: Sequence[int]) -> Iterator[list[str]]:
    names = [f"{index:08d}" for index in frames]
    step = CHUNK_FRAMES - CHUNK_OVERLAP
    for start in range(0, max(1, len(names) - CHUNK_OVERLAP), step):
        yield names[start : start + CHUNK_FRAMES]


def remove_work(work: Path) -> None:
    """Remove the stored stages of a map."""
    shutil.rmtree(work, ignore_errors=True)
