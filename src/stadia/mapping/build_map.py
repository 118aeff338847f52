"""Build the map of a video in stages, which are stored so that it resumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import TrackProgress
from stadia.files.atomic_files import write_json
from stadia.files.json_files import read_json
from stadia.geometry.image_features import find_features
from stadia.mapping.camera_search import ASSUMED_FOV_DEG, find_rotation_focal
from stadia.mapping.frame_poses import FrameStatus, PlacedFrame, place_frames
from stadia.mapping.frame_stream import FrameStream
from stadia.mapping.key_frames import (
    LOST_MOTION,
    KeyFrames,
    KeyFrameSelector,
    import_pycolmap,
    read_features,
    thin_keys,
    write_features,
)
from stadia.mapping.learned_matching import add_learned_matches, list_broken_pairs, open_matcher
from stadia.mapping.lens_intervals import RowReadout, measure_readout
from stadia.mapping.map_evidence import measure_standing
from stadia.mapping.map_parts import MIN_FRAMES, CameraEstimate, MappedParts, map_parts
from stadia.mapping.map_verdict import MAX_STANDING, MapVerdict, judge_map, measure_evidence
from stadia.mapping.pair_matching import (
    OVERLAP,
    SIMILAR,
    WIDE_OVERLAP,
    FramePair,
    find_cuts,
    hold_out,
    is_ordered,
    list_neighbors,
    list_photo_pairs,
    list_similar,
    match_pairs,
    read_matches,
    write_database,
)
from stadia.mapping.photo_cameras import find_photo_cameras, move_features
from stadia.mapping.reconstruction import MIN_POINTS, Workers
from stadia.mapping.road_sweep import RoadPlane, choose_pairs, find_road_plane, find_travel_direction
from stadia.mapping.sparse_map import Array, LensCamera, SparseMap

MIN_FEATURES = 60
"""Fewer features in the median frame cannot be matched."""

STANDING_SCENE = "a moving camera and a static scene (--masks leaves out cars and people)"


@dataclass(frozen=True, slots=True, eq=False)
class VideoMap:
    """All that was found in a video.

    placed: every frame, in order.
    static: (h, w), true on what never moves, or None.
    road: below the camera, in the unit of the path, or None.
    readout: of the rows of a frame; None for very short videos.
    parts: frames of further parts that could not be joined, each with poses and a scale of its own.
    lenses: of the small images of photos of several shapes; the map is in the images of the first.
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


def build_map(stream: FrameStream, given: LensCamera | None, work: Path, workers: Workers) -> VideoMap:
    """Return the map of a video. Raises DataError with the reason if it has none.

    given: the camera of the small frames, if known.
    work: a folder for finished stages; the same folder resumes after an interruption.
    """
    track = workers.track
    keys = _survey(stream, work, track)
    _check_motion(stream, keys)
    files, static = _collect_features(stream, keys.keys, work, track), stream.find_static()
    count = int(np.median([len(read_features(file).xy) for file in files.values()]))
    if count < MIN_FEATURES:
        raise _no_map(stream, f"only {count} features in a frame (blur, darkness, no detail)", "sharp frames")
    lenses = list[LensCamera]()
    if stream.photos is not None and stream.has_several_cameras:
        cameras, sizes = stream.photos.cameras, stream.small_sizes()
        known = find_photo_cameras(files, cameras, sizes, stream.find_files(), work, workers)
        files = {index: file for index, file in files.items() if known[cameras[index]] is not None}
        if len(files) < MIN_FRAMES:
            raise _no_map(stream, "photos of several shapes without enough matches", "photos of one scene")
        lenses = [lens or LensCamera.from_fov(ASSUMED_FOV_DEG, *size) for lens, size in zip(known, sizes, strict=True)]
        files = move_features(files, cameras, lenses, work)
    start = given or LensCamera.from_fov(ASSUMED_FOV_DEG, *stream.small_size)
    lens = start.to_pycolmap(import_pycolmap())
    lens.has_prior_focal_length = given is not None
    found, pairs = _map_all(stream, work, files, lens, static, given, workers)
    estimate, (sparse, *others) = found.estimate, found.parts
    if estimate is None or len(sparse.points) < MIN_POINTS:
        points = f"only {len(sparse.points)} points from two places (the camera only turns, or everything moves)"
        raise _no_map(stream, points, STANDING_SCENE)
    ordered = not lenses and is_ordered(pairs, keys.keys)
    keys = replace(keys, cuts=find_cuts(pairs, keys.keys) if ordered else list(range(keys.frames)))
    standing, cuts = frozenset(keys.standing), frozenset(keys.cuts)
    apart = [cuts | _list_other_frames(part, found.parts) for part in found.parts]
    shown = track(stream, keys.frames - stream.first, "placing frames")
    placed = list(place_frames(shown, sparse, standing, apart[0], stream.stems()))
    parts = [_place_part(stream, part, placed, standing, ends) for part, ends in zip(others, apart[1:], strict=True)]
    T = np.asarray(np.linalg.inv(stack_poses(placed)), np.float64)
    for _ in track(range(1), 1, "judging"):
        road = _find_road(stream, estimate, sparse, T, static, track)
        drift = 1.0 if road is None else road.drift
        has_camera = given is not None
        evidence = measure_evidence(sparse, pairs, T[stream.first :], has_camera=has_camera, road_drift=drift)
        verdict = judge_map(evidence)
        readout = measure_readout(sparse, stack_poses(placed))
    return VideoMap(estimate, sparse, placed, keys, static, road, readout, parts, verdict, lenses)


def stack_poses(placed: Sequence[PlacedFrame]) -> Array:
    """Return T_camera_world (N, 4, 4) of frames, NaN for lost ones."""
    unknown = np.full((4, 4), np.nan)
    return np.array([unknown if frame.T_camera_world is None else frame.T_camera_world for frame in placed])


def _list_other_frames(part: SparseMap, parts: Sequence[SparseMap]) -> frozenset[int]:
    """Return the key frames of all other parts, which end a part as a cut does."""
    return frozenset(int(frame) for other in parts if other is not part for frame in other.frames)


def _place_part(
    stream: FrameStream, part: SparseMap, placed: Sequence[PlacedFrame], standing: frozenset[int], cuts: frozenset[int]
) -> list[PlacedFrame]:
    """Return the frames of a further part that have no pose in the largest one."""
    span = range(int(part.frames[0]), int(part.frames[-1]) + 1)
    found = place_frames(stream.select(span), part, standing, cuts, stream.stems())
    is_lost = [frame.status is FrameStatus.LOST for frame in placed]
    return [frame for frame in found if frame.T_camera_world is not None and is_lost[frame.index]]


def _map_all(
    stream: FrameStream,
    work: Path,
    files: dict[int, Path],
    lens: Any,
    static: NDArray[np.bool_] | None,
    given: LensCamera | None,
    workers: Workers,
) -> tuple[MappedParts, list[FramePair]]:
    """Return the parts, and all matches.

    Each key frame is matched with neighbors. If frames are missing, it is matched wider and with similar ones, and last
    by learned features where the best map breaks, if they are installed.
    """
    keys, database, reduced = sorted(files), work / "matches.db", work / "mapping.db"
    found = list[MappedParts]()

    def map_matches(*, is_last: bool) -> None:
        size = stream.small_size
        for _ in workers.track(range(1), 1, "mapping"):
            before = found[-1].search if found else None
            mapped = map_parts(
                reduced, files, pairs, given=given, size=size, workers=workers, is_last=is_last, before=before
            )
            found.append(mapped)

    for attempt in range(2):
        pairs = _match(work, files, lens, static, workers, is_wide=attempt > 0)
        if attempt == 0:
            _check_matches(stream, pairs, given)
        hold_out(database, reduced)
        map_matches(is_last=attempt > 0)
        if found[-1].is_complete(len(keys)):
            break
    best = max(found, key=MappedParts.rank)
    matcher = None if stream.has_several_cameras or best.is_complete(len(keys)) else open_matcher()
    if matcher is not None:
        extended, wanted = work / "learned.db", list_broken_pairs(keys, best.parts)
        ends = {index for pair in wanted for index in pair}
        shown = workers.track(stream.select(ends), len(ends), "matching by learned features")
        frames = ((frame, _join_masks(static, stream.find_movable(frame.index))) for frame in shown)
        files = add_learned_matches(matcher, database, extended, files, wanted, frames)
        pairs = read_matches(extended)
        hold_out(extended, reduced)
        map_matches(is_last=True)
        best = max(found, key=MappedParts.rank)
    if not best.parts:
        why = "no two frames of one scene from two places (the camera only turns, or everything moves)"
        if best.estimate is not None and given is None:
            why = "a path that its own matches contradict (traffic, or an unknown camera that is assumed wrongly)"
        raise _no_map(stream, why, STANDING_SCENE)
    return best, pairs


def _match(
    work: Path, files: dict[int, Path], lens: Any, static: NDArray[np.bool_] | None, workers: Workers, *, is_wide: bool
) -> list[FramePair]:
    keys, database, done = sorted(files), work / "matches.db", work / f"matched-{int(is_wide)}.json"
    if not done.is_file():
        if not is_wide:
            write_database(database, files, [lens] * len(files), static)
        wanted = list_neighbors(keys, WIDE_OVERLAP if is_wide else OVERLAP)
        match_pairs(database, wanted + (list_similar(files, SIMILAR) if is_wide else []), workers)
        if not is_wide and not is_ordered(read_matches(database), keys):
            match_pairs(database, list_photo_pairs(files), workers)
        write_json(done, {"frames": len(files)})
    return read_matches(database)


def _check_matches(stream: FrameStream, pairs: Sequence[FramePair], given: LensCamera | None) -> None:
    """Raise DataError for a camera that stands or only turns."""
    standing = measure_standing(pairs, stream.small_size[1])
    if standing > MAX_STANDING:
        raise _no_map(stream, f"a camera that stands ({standing:.0%} of the matches do not move)", "a moving camera")
    focal_px = None
    if given is None:
        focal_px = find_rotation_focal([(pair.xy_first, pair.xy_second) for pair in pairs], *stream.small_size)
    if focal_px is not None:
        fov_deg = math.degrees(2 * math.atan(stream.small_size[1] / 2 / focal_px))
        why = f"a camera that only turns (by its matches, with a field of view of {fov_deg:.0f} degrees)"
        raise _no_map(stream, why, STANDING_SCENE)


def _join_masks(*masks: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    known = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(known) if known else None


def _find_road(
    stream: FrameStream,
    estimate: CameraEstimate,
    sparse: SparseMap,
    T_world_camera: Array,
    static: NDArray[np.bool_] | None,
    track: TrackProgress,
) -> RoadPlane | None:
    if stream.photos is not None or find_travel_direction(T_world_camera) is None:
        return None
    pairs = choose_pairs(T_world_camera, sparse.frames.tolist())
    wanted = {index for pair in pairs for index in pair}
    frames, hidden = dict[int, NDArray[np.uint8]](), dict[int, NDArray[np.bool_]]()
    for frame in track(stream.select(wanted), len(wanted), "measuring the road"):
        frames[frame.index] = frame.gray
        mask = _join_masks(static, stream.find_movable(frame.index))
        if mask is not None:
            hidden[frame.index] = mask
    return find_road_plane(frames, pairs, T_world_camera, estimate.camera, hidden)


def _survey(stream: FrameStream, work: Path, track: TrackProgress) -> KeyFrames:
    stored = work / "keys.json"
    if stored.is_file():
        return KeyFrames(**read_json(stored))
    selector = KeyFrameSelector()
    count = stream.count()
    if count is not None and stream.has_several_cameras:  # images of several sizes have no flow between them
        keys = list(range(stream.first, count))
        return KeyFrames(keys, [LOST_MOTION] * len(keys), [1.0] * len(keys), frames=count)
    for frame in track(stream, None if count is None else count - stream.first, "choosing key frames"):
        selector.add(frame.gray, frame.index)
    found = selector.found
    found = thin_keys(found)
    write_json(stored, asdict(found))
    return found


def _check_motion(stream: FrameStream, keys: KeyFrames) -> None:
    if (frames := keys.frames - stream.first) < MIN_FRAMES:
        raise _no_map(stream, f"{frames} frames", f"{MIN_FRAMES} or more")
    if len(keys.blank) > 0.8 * frames:
        found = f"{len(keys.blank)} of {frames} frames without detail (sky, blur, darkness)"
        raise _no_map(stream, found, "detail")
    if len(keys.keys) < MIN_FRAMES:
        raise _no_map(stream, f"a camera that hardly moves ({len(keys.keys)} different views)", "a moving camera")


def _no_map(stream: FrameStream, found: str, expected: str) -> DataError:
    fix = "use another part of the video, or go without a map and set the camera"
    return DataError(stream.source, found=found, expected=expected, fix=fix)


def _collect_features(stream: FrameStream, keys: Sequence[int], work: Path, track: TrackProgress) -> dict[int, Path]:
    """Return the file of each key frame's features."""
    files = {index: work / f"features-{index:08d}.npz" for index in keys}
    missing = {index for index, file in files.items() if not file.is_file()}
    for frame in track(stream.select(missing), len(missing), "features") if missing else ():
        found, movable = find_features(frame.image, frame.gray), stream.find_movable(frame.index)
        write_features(files[frame.index], found if movable is None else found.outside(movable))
    return files
