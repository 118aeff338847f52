"""Map matched keyframes and find their camera; if the keyframes cannot be joined into one map, make several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stadia.core.errors import DataError
from stadia.core.progress import no_progress
from stadia.geometry.cameras import ASSUMED_HORIZONTAL_FOV_DEG
from stadia.geometry.image_features import match_sift_features
from stadia.judge.error import Measured
from stadia.judge.limits import MAP_LIMITS
from stadia.judge.map_verdict import FOCAL_DEVIATION
from stadia.sfm.camera_intervals import (
    MIN_FOCAL_DEVIATION,
    PARAMETERS,
    LensIntervals,
    RowReadout,
    measure_lens,
    measure_readout,
)
from stadia.sfm.camera_search import FoundCamera, calibrate_pairs, find_camera, find_rotation_focal
from stadia.sfm.frame_stream import MIN_FRAMES, FrameStream
from stadia.sfm.held_out import compare_held_out
from stadia.sfm.learned_matching import MATCHERS, add_learned_matches, has_matcher, list_broken_pairs
from stadia.sfm.map_evidence import (
    MAX_CONTRADICTING,
    MIN_CROSSING,
    group_frames,
    measure_agreement,
    measure_aside,
    measure_errors,
    measure_standing,
    measure_zoom,
    select_frames,
    select_pairs,
)
from stadia.sfm.pair_matching import (
    MATCHES,
    OVERLAP,
    FramePair,
    collect_features,
    hold_out,
    match_key_frames,
    read_features,
    read_matches,
)
from stadia.sfm.reconstruction import (
    MIN_POINTS,
    Workers,
    adjust,
    adjust_camera,
    adjust_map,
    keep_frames,
    map_frames,
    map_globally,
    mirror_if_better,
)
from stadia.sfm.sparse_map import LensCamera, SparseMap, from_reconstruction, join_maps

STANDING_SCENE = "a moving camera and a static scene (--masks leaves out cars and people)"

CHUNK_FRAMES, CHUNK_OVERLAP = 120, 20
"""Number of keyframes that are mapped together ("chunk"); successive chunks share CHUNK_OVERLAP of them.

So time and memory grow linearly with the video's length.
"""

MAX_ASIDE = 0.25
"""Share of the pairs of expanding images that show another direction of motion than a part of a map, above which the
part is left out: right parts of drives have 0 to .08; a part of a drive that slides sideways has .37, a cartoon .52.
"""

COST_SHARE = 0.5
"""The focal length is estimated with a wide and with a narrow robust cost; this share of the difference between both
results is added to its standard deviation.
"""

MIN_CONTINUED = 0.5
"""Share of a chunk's new keyframes that must get a pose from the keyframes shared with the chunk before; with less, a
new part begins.
"""


@dataclass(frozen=True, slots=True, eq=False)
class CameraEstimate:
    """The camera of a map.

    camera: intrinsics and distortion that fit the small frames.
    origin: "given" by the user; "estimated"; "uncertain" if it was estimated but its interval is too wide to report it;
        "assumed" (a usual field of view) if the images do not determine it.
    intervals: standard deviations of the parameters; None for a given camera.
    """

    camera: LensCamera
    origin: str
    intervals: LensIntervals | None

    def find_focal_deviation(self) -> float:
        """Return the standard deviation of the focal length as its share, at most 1; 0 for a given camera.

        An assumed focal length has 1, since the images leave it open.
        """
        deviation_px = 0.0 if self.intervals is None else self.intervals.deviations["focal_px"]
        return min(deviation_px / self.camera.focal_px, 1.0)


MAPPING = "mapping.db"
"""Name of the database, in the folder of stages, without the held-out matches."""

STANDING_PAIRS = 6
"""Number of pairs of keyframes that reveal a stationary camera before all features are computed."""

TURNING_PAIRS = 24
"""Number of pairs of keyframes along the video that reveal a camera that only turns or zooms."""

COMPLETE = 0.95
"""No further way of matching or mapping is tried if this share of the keyframes has a pose."""

MIN_PART, MAX_PARTS = 4, 8
"""Fewest keyframes of a further part of a video (MAX_PARTS: most parts)."""


@dataclass(frozen=True, slots=True, eq=False)
class MappedParts:
    """Maps of the parts of a video, all with one camera; each part has its own world and scale.

    estimate: the camera.
    parts: the maps, the largest first.
    along: number of the parts whose path goes along the motion that the images show: all, or none.
    search: the search of the camera that produced `estimate`; None if it failed.
    """

    estimate: CameraEstimate
    parts: list[SparseMap]
    along: int
    search: FoundCamera | None = None

    @classmethod
    def sort(
        cls,
        estimate: CameraEstimate,
        parts: Sequence[SparseMap],
        pairs: Sequence[FramePair],
        search: FoundCamera | None,
    ) -> MappedParts:
        """Sort the parts, and leave out parts that contradict the motion in the images by the matches `pairs`, unless
        all do.
        """
        largest = sorted(parts, key=lambda part: -len(part.frames))
        aside = [measure_aside(part, pairs) > MAX_ASIDE for part in largest]
        along = [part for part, is_aside in zip(largest, aside, strict=True) if not is_aside]
        return cls(estimate, along or largest, len(along), search)

    def count(self) -> int:
        """Return the number of keyframes with a pose in any part."""
        return sum(len(part.frames) for part in self.parts)

    def is_complete(self, count: int) -> bool:
        """Return whether there is one part only, along the motion in the images, and nearly all of the `count`
        keyframes have a pose in it.
        """
        return len(self.parts) == self.along == 1 and self.count() >= COMPLETE * count

    def rank(self) -> tuple[int, int]:
        """Return the numbers of pairs of keyframes whose relative pose is known, in parts along the motion and in all
        parts; larger for fewer and larger parts.
        """
        of_parts = sum(len(part.frames) ** 2 for part in self.parts)
        return of_parts * (self.along > 0), of_parts


def map_key_frames(
    stream: FrameStream,
    files: Mapping[int, Path],
    work: Path,
    *,
    given: LensCamera | None,
    static: NDArray[np.bool_] | None,
    workers: Workers,
) -> tuple[CameraEstimate, list[SparseMap], list[FramePair]]:
    """Match the keyframes, find the camera, and reconstruct poses and points.

    Each keyframe is matched with the keyframes after it. If poses are missing then, it is matched with more of them
    and with keyframes of similar appearance; and finally by learned features where the best map breaks, if they are
    installed.

    stream: the frames.
    files: feature file of each keyframe, by frame index.
    work: folder for finished stages; a call with the same folder resumes after an interruption.
    given: the camera of the small frames, if the user gave it; else None.
    static: (h, w), true on pixels that show the same all along in the small frames, whose features are left out; or
        None.
    workers: number of threads, and how progress is shown.

    Returns the camera; the maps of the parts of the video, the largest first; and the matches of all pairs of
    keyframes.

    Raises DataError with the reason if the matches show no motion, or no two frames can be mapped.
    """
    keys, database, reduced = sorted(files), work / MATCHES, work / MAPPING
    lens = (given or LensCamera.from_fov(ASSUMED_HORIZONTAL_FOV_DEG, *stream.small_size)).to_pycolmap()
    lens.has_prior_focal_length = given is not None
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
        pairs = match_key_frames(work, files, lens, static, workers, is_wide=attempt > 0)
        if attempt == 0:
            _check_matches(stream, pairs, given)
        hold_out(database, reduced)
        map_matches(is_last=attempt > 0)
        if found[-1].is_complete(len(keys)):
            break
    best = max(found, key=MappedParts.rank)
    if not stream.has_several_cameras and not best.is_complete(len(keys)) and has_matcher():
        extended, wanted = work / "learned.db", list_broken_pairs(keys, best.parts)
        ends = {index for pair in wanted for index in pair}
        shown = workers.track(stream.select(ends), len(ends), "matching by learned features")
        frames = ((frame, stream.find_hidden(frame.index, static)) for frame in shown)
        files = add_learned_matches(MATCHERS.load("disk")(), database, extended, files, wanted, frames)
        pairs = read_matches(extended)
        hold_out(extended, reduced)
        map_matches(is_last=True)
        best = max(found, key=MappedParts.rank)
    if not best.parts:
        why = "no two frames of one scene from two places (the camera only turns, or everything moves)"
        if any(mapped.search is not None for mapped in found) and given is None:
            why = "a path that its own matches contradict (traffic, or an unknown camera that is assumed wrongly)"
        raise stream.make_no_map_error(why, STANDING_SCENE)
    if len(best.parts[0].points) < MIN_POINTS:
        count = len(best.parts[0].points)
        why = f"only {count} points from two places (the camera only turns, or everything moves)"
        raise stream.make_no_map_error(why, STANDING_SCENE)
    return best.estimate, best.parts, pairs


def check_motion(
    stream: FrameStream,
    keys: Sequence[int],
    work: Path,
    static: NDArray[np.bool_] | None,
    given: LensCamera | None = None,
) -> None:
    """Raise DataError for a camera that stands, only turns or only zooms, from a few pairs of keyframes.

    If STANDING_PAIRS pairs show a turn or a zoom, TURNING_PAIRS pairs along the whole video must show it too. The
    features are kept in `work`; the arguments are the same as for `map_key_frames`.
    """
    if stream.has_several_cameras:
        return
    few = _match_spread_pairs(stream, keys, work, static, STANDING_PAIRS)
    _refuse_standing(stream, few)
    if _name_fixed_place(stream, few, given):
        _check_matches(stream, _match_spread_pairs(stream, keys, work, static, TURNING_PAIRS), given)


def _match_spread_pairs(
    stream: FrameStream, keys: Sequence[int], work: Path, static: NDArray[np.bool_] | None, count: int
) -> list[FramePair]:
    """Return the matches of pairs of keyframes, OVERLAP keyframes apart, that are spread over the video."""
    first = np.unique(np.linspace(0, max(len(keys) - 1 - OVERLAP, 0), count).round().astype(int))
    pairs = [(keys[row], keys[min(row + OVERLAP, len(keys) - 1)]) for row in first.tolist()]
    files = collect_features(stream, sorted({key for pair in pairs for key in pair}), work, no_progress)
    matched = list[FramePair]()
    for pair in pairs:
        one, two = (read_features(files[key]) for key in pair)
        one, two = (found if static is None else found.outside(static) for found in (one, two))
        rows = match_sift_features(one, two)
        seen, moved = (found.xy[row].astype(np.float64) for found, row in zip((one, two), rows.T, strict=True))
        matched.append(FramePair(*pair, seen, moved, np.zeros(len(rows), bool)))
    return matched


ROW_ROUNDS = 3
"""Number of times that the readout time is measured and the map is adjusted for it, until both hardly change."""


def correct_rows(sparse: SparseMap, pairs: Sequence[FramePair], *, threads: int) -> tuple[SparseMap, RowReadout | None]:
    """Correct a map for a rolling shutter, if held-out matches then fit better by more than their scatter.

    sparse: the map of a video.
    pairs: matches of pairs of keyframes, with the held-out ones.
    threads: number of threads.

    Returns the corrected map, or else the given one, and the readout time; None for a very short map.
    """
    readout = measure_readout(sparse)
    if readout is None or not readout.is_rolling:
        return sparse, readout
    corrected, found = sparse, readout
    for _ in range(ROW_ROUNDS):
        corrected = adjust_map(replace(corrected, readout=found.frames), threads=threads)
        found = measure_readout(corrected) or found
    before, after = ([(held, held) for held in _list_held_errors(part, pairs)] for part in (sparse, corrected))
    return (corrected, found) if compare_held_out(before, after).is_sure() else (sparse, readout)


def _list_held_errors(sparse: SparseMap, pairs: Sequence[FramePair]) -> list[NDArray[np.float64]]:
    """Return for each pair of keyframes the errors, pixels, of its held-out matches that have a point."""
    errors = [measure_errors(sparse, pair)[pair.is_held] for pair in select_pairs(sparse, pairs)]
    return [held[np.isfinite(held)] for held in errors]


class StandingCameraError(DataError):
    """Raised for a video whose camera stands, so that its motion shows neither a path nor depth."""


def _refuse_standing(stream: FrameStream, pairs: Sequence[FramePair]) -> None:
    standing = measure_standing(pairs, stream.small_size[1])
    if standing > MAP_LIMITS["standing"].unusable:
        found = f"a camera that stands ({standing:.0%} of the matches do not move)"
        fix = "film as docs/start/film.md says"
        raise StandingCameraError(stream.source, found=found, expected="a moving camera", fix=fix)


def _check_matches(stream: FrameStream, pairs: Sequence[FramePair], given: LensCamera | None) -> None:
    """Raise DataError for a camera that stands, only turns or only zooms."""
    _refuse_standing(stream, pairs)
    if why := _name_fixed_place(stream, pairs, given):
        raise stream.make_no_map_error(why, STANDING_SCENE)


def _name_fixed_place(stream: FrameStream, pairs: Sequence[FramePair], given: LensCamera | None) -> str:
    """Return how matches show that a camera without a given lens stays in one place; "" if they do not."""
    if given is not None:
        return ""
    focal_px = find_rotation_focal([(pair.xy_first, pair.xy_second) for pair in pairs], *stream.small_size)
    if focal_px is not None:
        fov_deg = math.degrees(2 * math.atan(stream.small_size[1] / 2 / focal_px))
        return f"a camera that only turns (by its matches, with a field of view of {fov_deg:.0f} degrees)"
    zoomed = measure_zoom(pairs)
    if not stream.has_several_cameras and zoomed > MAP_LIMITS["zoomed"].unusable:
        return f"a camera that only zooms (a change of focal length explains {zoomed:.0%} of its matches)"
    return ""


def map_parts(
    database: Path,
    files: Mapping[int, Path],
    pairs: Sequence[FramePair],
    *,
    given: LensCamera | None,
    size: tuple[int, int],
    workers: Workers,
    is_last: bool,
    before: FoundCamera | None = None,
) -> MappedParts:
    """Map a matched video, and split each map where matches contradict that its keyframes belong together.

    database: COLMAP database without the held-out matches.
    files: feature file of each keyframe, by frame index.
    pairs: all matches, with the held-out ones.
    given: the camera if the user gave it; else None.
    size: (height, width) of the small frames, pixels.
    workers: number of threads, and how progress is shown.
    is_last: whether this is the last attempt, so that a global mapping is tried too if poses are missing.
    before: the camera found in an earlier attempt with fewer matches, or None.
    """
    frames = sorted(files)
    searched = find_connected(frames, pairs)[:CHUNK_FRAMES]
    estimate, parts, search = _map_in_chunks(database, files, searched, given, size, workers, before)
    found = [MappedParts.sort(estimate, _split_wrong_joins(parts, pairs), pairs, search)]
    if (is_last and not found[0].is_complete(len(frames))) or len(found[0].parts) > 1:
        models = map_globally(database, estimate.camera.to_pycolmap(), threads=workers.threads)
        maps = [_read_model(model, files) for model in models if model.num_reg_images() >= MIN_FRAMES]
        found.append(MappedParts.sort(estimate, _split_wrong_joins(maps, pairs), pairs, search))
    return max(found, key=MappedParts.rank)


def find_connected(frames: Sequence[int], pairs: Sequence[FramePair]) -> list[int]:
    """Return the largest set of keyframes that matches connect, rising: frames of another scene cannot join its map.

    frames: indices of all keyframes.
    pairs: the verified matches; a pair connects with at least MIN_CROSSING of them.
    """
    rows = {frame: row for row, frame in enumerate(frames)}
    ends = [(rows[pair.first], rows[pair.second]) for pair in pairs if len(pair.xy_first) >= MIN_CROSSING]
    first, second = np.array(ends, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(ends)), (first, second)), shape=(len(frames), len(frames)))
    _, labels = connected_components(graph, directed=False)
    return [frame for frame, label in zip(frames, labels, strict=True) if label == np.bincount(labels).argmax()]


def _split_wrong_joins(parts: Sequence[SparseMap], pairs: Sequence[FramePair]) -> list[SparseMap]:
    """Return the parts, split where most matches across contradict, or hardly any connects them; largest first."""
    pending, sound = list(parts), list[SparseMap]()
    while pending:
        part = pending.pop()
        agreement = measure_agreement(part, pairs)
        groups = group_frames(agreement, MAX_CONTRADICTING)
        shares = np.nan_to_num(agreement.shares(), nan=1.0)
        if len(groups) == 1 and len(shares) and shares.max() > MAX_CONTRADICTING:
            groups = np.split(np.arange(len(part.frames)), [int(shares.argmax()) + 1])
        if len(groups) == 1:
            sound.append(part)
            continue
        pending += [select_frames(part, rows) for rows in groups if len(rows) >= MIN_FRAMES]
    sound.sort(key=lambda part: -len(part.frames))
    return [part for row, part in enumerate(sound[:MAX_PARTS]) if row == 0 or len(part.frames) >= MIN_PART]


def _map_in_chunks(
    database: Path,
    files: Mapping[int, Path],
    searched: Sequence[int],
    given: LensCamera | None,
    size: tuple[int, int],
    workers: Workers,
    before: FoundCamera | None,
) -> tuple[CameraEstimate, list[SparseMap], FoundCamera | None]:
    """Return the camera, found with the keyframes `searched`, the maps of the parts, and the search of the camera."""
    found = find_camera(database, searched, *size, given=given, workers=workers, before=before)
    chunks = list(_split_chunks(sorted(files)))
    assumed, first = LensCamera.from_fov(ASSUMED_HORIZONTAL_FOV_DEG, *size), None
    is_usable = given is not None or (found is not None and found.intervals.is_focal_usable(found.camera))
    started = found
    if not is_usable:
        assumed = calibrate_pairs(database, *size) or assumed
        started = find_camera(database, searched, *size, given=assumed, workers=workers)
    camera = given or assumed
    if started is not None:
        is_refined = given is None and is_usable
        first = _extend_model(started.model, database, chunks.pop(0), refine=is_refined, workers=workers)
        camera = LensCamera.from_pycolmap(next(iter(first.cameras.values()))) if is_refined else camera
    maps = [_read_model(model, files) for model in _map_chunks(database, chunks, camera, first, workers)]
    if not maps:
        return CameraEstimate(given, "given", None) if given else assume_camera(camera), [], found
    parts = join_maps(maps)
    if found is not None and is_usable and given is None:
        estimate = _judge_camera(found, maps[0], camera)
    else:
        estimate = CameraEstimate(given, "given", None) if given else assume_camera(camera, maps[0])
    return estimate, parts + list(_map_rest(database, files, parts, camera, workers)), found


def assume_camera(camera: LensCamera, first: SparseMap | None = None) -> CameraEstimate:
    """Return an assumed camera, of which the images determine only how far the view turns."""
    turn_deg = 0.0 if first is None else first.measure_turn_deg()
    return CameraEstimate(camera, "assumed", LensIntervals(dict.fromkeys(PARAMETERS, math.inf), turn_deg))


def confirm_camera(estimate: CameraEstimate, focal: Measured) -> CameraEstimate:
    """Return an uncertain or assumed camera as an estimated one, with the deviation that held-out matches measured.

    focal: the measured error of the focal length, as its share.
    """
    assert estimate.intervals is not None
    deviation_px = math.hypot(focal.value, focal.deviation, FOCAL_DEVIATION) * estimate.camera.focal_px
    deviations = {**estimate.intervals.deviations, "focal_px": deviation_px}
    return CameraEstimate(estimate.camera, "estimated", replace(estimate.intervals, deviations=deviations))


def _judge_camera(found: FoundCamera, first: SparseMap, camera: LensCamera) -> CameraEstimate:
    shift = COST_SHARE * abs(camera.focal_px / found.camera.focal_px - 1)
    deviation = math.hypot(found.start_spread, MIN_FOCAL_DEVIATION, shift)
    intervals = measure_lens(first).widen_focal(deviation * camera.focal_px)
    is_claimed = found.starts_agree and intervals.is_focal_determined(camera)
    return CameraEstimate(camera, "estimated" if is_claimed else "uncertain", intervals)


def _map_rest(
    database: Path, files: Mapping[int, Path], parts: Sequence[SparseMap], camera: LensCamera, workers: Workers
) -> Iterator[SparseMap]:
    """Yield parts of the keyframes that `parts` leave out, the largest first."""
    left = set(files) - {int(frame) for part in parts for frame in part.frames}
    for _ in range(MAX_PARTS):
        if len(left) < MIN_PART:
            return
        model = _start_model(database, [f"{index:08d}" for index in sorted(left)], camera, workers)
        if model is None or model.num_reg_images() < MIN_PART:
            return
        part = _read_model(model, files)
        yield part
        left -= {int(frame) for frame in part.frames}


def _extend_model(start: Any, database: Path, names: Sequence[str], *, refine: bool, workers: Workers) -> Any:
    """Return the model of the first chunk, started from some of its frames."""
    camera = next(iter(start.cameras.values()))
    model = map_frames(database, names, camera, refine=False, workers=workers, start=start)
    if model is None or model.num_reg_images() < start.num_reg_images():
        model = start
    if refine:
        adjust_camera(model, threads=workers.threads)
    else:
        adjust(model, refine_focal=False, refine_lens=False, threads=workers.threads)
    return model


def _map_chunks(
    database: Path, chunks: Sequence[Sequence[str]], camera: LensCamera, first: Any | None, workers: Workers
) -> Iterator[Any]:
    """Yield `first`, and the model of each chunk, which continues from the frames shared with the one before."""
    before = first
    if first is not None:
        yield first
    for names in chunks:
        model = None if before is None else _continue_model(before, database, names, workers)
        before = model or _start_model(database, names, camera, workers)
        if before is not None:
            yield before


def _start_model(database: Path, names: Sequence[str], camera: LensCamera, workers: Workers) -> Any | None:
    model = map_frames(database, names, camera.to_pycolmap(), refine=False, workers=workers)
    if model is None or model.num_reg_images() < MIN_FRAMES:
        return None
    model = mirror_if_better(model, threads=workers.threads)
    adjust(model, refine_focal=False, refine_lens=False, threads=workers.threads)
    return model


def _continue_model(before: Any, database: Path, names: Sequence[str], workers: Workers) -> Any | None:
    start = keep_frames(before, names)
    shared = start.num_reg_images()
    if shared < MIN_FRAMES:
        return None
    camera = next(iter(start.cameras.values()))
    model = map_frames(database, names, camera, refine=False, workers=workers, start=start)
    if model is None or model.num_reg_images() - shared < MIN_CONTINUED * (len(names) - shared):
        return None
    adjust(model, refine_focal=False, refine_lens=False, threads=workers.threads)
    return model


def _read_model(model: Any, files: Mapping[int, Path]) -> SparseMap:
    frames = [int(image.name) for image in model.images.values() if image.has_pose]
    return from_reconstruction(model, {frame: read_features(files[frame]).colors for frame in frames})


def _split_chunks(frames: Sequence[int]) -> Iterator[list[str]]:
    names = [f"{index:08d}" for index in frames]
    step = CHUNK_FRAMES - CHUNK_OVERLAP
    for start in range(0, max(1, len(names) - CHUNK_OVERLAP), step):
        yield names[start : start + CHUNK_FRAMES]
