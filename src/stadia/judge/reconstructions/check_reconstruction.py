"""Judge the result of another program by independent matches of its images: path, camera, conventions and depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import TrackProgress, no_progress
from stadia.core.verdict import Verdict, find_worst
from stadia.io.records.calibration import read_given_camera
from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.limits import MAP_LIMITS, RESULT_LIMITS
from stadia.judge.map_verdict import PATH, MapEvidence, MapReason, judge_map
from stadia.judge.questions import QuestionVerdict
from stadia.judge.reconstructions.convention_search import ConventionSearch, apply_convention, search_conventions
from stadia.sfm.image_matches import ImageMatches, match_images
from stadia.sfm.map_evidence import (
    MAX_ERROR,
    MIN_CROSSING,
    MOTION_PX,
    MatchAgreement,
    find_worst_place,
    group_frames,
    measure_agreement,
    measure_epipolar,
    measure_errors,
    measure_evidence,
    measure_unexplained,
)
from stadia.sfm.match_triangulation import PosedImages, VirtualView, pose_images, triangulate_view, view_matches
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.sparse_map import Array, SparseMap

MIN_SEEN = 15
"""Fewest matches of an image with others that judge it."""

DEPTH_IMAGES = 40
MIN_DEPTH_POINTS = 100
MAX_POINT_DEVIATION = 0.1
"""Largest relative deviation of a triangulated depth that depth maps are compared with."""

MIN_MEANING_GAIN = 2.0
"""Another meaning is named if it reduces the median error of depth maps at least by this factor."""


@dataclass(frozen=True, slots=True)
class ImageAgreement:
    """How the matches of an image agree with a reconstruction.

    index: index of the image.
    name: its name.
    agree: number of matches that agree.
    contradict: number of those that contradict.
    part: number of the part that the image belongs to, from 0, the largest; matches hold a part together.
    """

    index: int
    name: str
    agree: int
    contradict: int
    part: int

    @property
    def share(self) -> float:
        """Return the share of matches that contradict, 0 to 1; NaN with fewer than MIN_SEEN matches."""
        count = self.agree + self.contradict
        return self.contradict / count if count >= MIN_SEEN else float("nan")


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """How the matches of a pair of images, given by their indices, agree with a reconstruction."""

    first: int
    second: int
    agree: int
    contradict: int


@dataclass(frozen=True, slots=True)
class DepthMeaning:
    """What values of depth maps mean.

    name: key in DEPTH_MEANINGS.
    scale: factor to the unit of the poses.
    error: median relative error at triangulated points.
    error_given: the same for depth in the unit of the poses, up to one factor.
    points: number of compared points.
    images: number of compared depth maps.
    """

    name: str
    scale: float
    error: float
    error_given: float
    points: int
    images: int


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructionVerdict:
    """The verdicts of `check_reconstruction`, and the measurements behind them.

    path: verdict on the poses.
    camera: verdict on the focal lengths.
    conventions: verdict on the conventions of the file, such as its axes and the order of poses.
    depth: verdict on the depth maps; None without them.
    search: the conventions that fit the matches.
    evidence: measurements on the poses as given.
    reasons: measurements beyond their limit.
    images: agreement of each image that has a pose.
    pairs: agreement of each pair of images.
    meaning: the quantity in the depth maps, such as z or distance, and its unit; None without them.
    count: number of all images.
    notes: sentences for the user.
    """

    path: QuestionVerdict
    camera: QuestionVerdict
    conventions: QuestionVerdict
    depth: QuestionVerdict | None
    search: ConventionSearch
    evidence: MapEvidence | None
    reasons: tuple[MapReason, ...]
    images: tuple[ImageAgreement, ...]
    pairs: tuple[PairAgreement, ...]
    meaning: DepthMeaning | None
    count: int
    notes: tuple[str, ...]

    @property
    def grade(self) -> Verdict:
        """Return the worst verdict of all questions."""
        questions = [self.path, self.camera, self.conventions, *([self.depth] if self.depth else [])]
        return find_worst(question.verdict for question in questions)

    @property
    def contradicting(self) -> tuple[ImageAgreement, ...]:
        """Return the images whose share of contradicting matches exceeds the usual one by the limit of a map, worst
        first.
        """
        known = [image for image in self.images if np.isfinite(image.share)]
        usual = float(np.median([image.share for image in known])) if known else 0.0
        most = MAP_LIMITS["contradicted"].unusable
        limit = most + min(usual, 1 - 2 * most)
        return tuple(sorted((image for image in known if image.share > limit), key=lambda image: -image.share))


def check_reconstruction(
    path: Path | str,
    images: Path | str,
    *,
    camera: str | None = None,
    work: Path | None = None,
    track: TrackProgress = no_progress,
) -> ReconstructionVerdict:
    """Check the camera poses of any program against matches between its images.

    The images are matched again from their pixels alone. The points and matches of the reconstruction are not used as
    evidence.

    path: the reconstruction: a COLMAP model, transforms.json, an .npz with cameras, a trajectory, or another format of
        `stadia.io.records.read.FORMATS`.
    images: the folder of images, or the video.
    camera: a camera file, or numbers such as fx=700,fy=700,cx=640,cy=360 (pixels), for formats without a camera.
    work: folder for the cached matches; None takes a folder in the user's cache.
    track: wraps loops to show their progress.

    Returns the verdicts on poses, camera, conventions and depth maps. Raises DataError for an unknown file, for images
    that do not match, and for fewer than 3 images with a pose.
    """
    reconstruction = read_reconstruction(Path(path))  # a wrong file is found before the images are matched
    matches = match_images(images, work, track)
    return judge_reconstruction(replace_camera(reconstruction, matches, camera), matches)


def replace_camera(reconstruction: Reconstruction, matches: ImageMatches, camera: str | None) -> Reconstruction:
    """Return a result with the camera that the user gives in place of its own; unchanged if `camera` is None.

    reconstruction: the result.
    matches: the images; their median size replaces the missing size of a camera.
    camera: a camera file, or numbers such as fx=700,fy=700,cx=640,cy=360.

    Raises DataError for a wrong camera file, ConfigError for wrong numbers.
    """
    if camera is None:
        return reconstruction
    width, height = (int(side) for side in np.median(matches.sizes, axis=0))
    K, distortion, size = read_given_camera(camera, (width, height))
    return reconstruction.with_camera(K, distortion.tolist(), size)


def judge_reconstruction(reconstruction: Reconstruction, matches: ImageMatches) -> ReconstructionVerdict:
    """Judge a reconstruction by matches between its images.

    reconstruction: cameras and poses.
    matches: independent matches.

    Raises DataError if fewer than 3 images have a pose, or the reconstruction has no camera.
    """
    posed = pose_images(reconstruction, matches)
    view = view_matches(posed, matches)
    sparse = triangulate_view(view)
    search = search_conventions(reconstruction, matches)
    agreement = measure_agreement(sparse, view.pairs)
    evidence, reasons, path = _judge_path(view, sparse, search, matches)
    meaning = measure_depth(reconstruction, view, sparse)
    return ReconstructionVerdict(
        path=path,
        camera=_judge_camera(search, posed),
        conventions=_judge_conventions(search),
        depth=None if reconstruction.depth is None else _judge_depth(meaning, path),
        search=search,
        evidence=evidence,
        reasons=reasons,
        images=_list_images(agreement, posed, matches),
        pairs=_list_pairs(agreement, posed),
        meaning=meaning,
        count=len(matches.names),
        notes=(*reconstruction.notes, *posed.notes),
    )


def _list_images(agreement: MatchAgreement, posed: PosedImages, matches: ImageMatches) -> tuple[ImageAgreement, ...]:
    part = np.zeros(len(posed.images), int)
    for number, rows in enumerate(group_frames(agreement, MAP_LIMITS["contradicted"].unusable)):
        part[rows] = number
    fits, misses = (counts.sum(0) + counts.sum(1) for counts in (agreement.fits, agreement.misses))
    return tuple(
        ImageAgreement(int(index), matches.names[index], int(fits[row]), int(misses[row]), int(part[row]))
        for row, index in enumerate(posed.images)
    )


def _list_pairs(agreement: MatchAgreement, posed: PosedImages) -> tuple[PairAgreement, ...]:
    first, second = np.nonzero(agreement.fits + agreement.misses)
    return tuple(
        PairAgreement(
            int(posed.images[a]), int(posed.images[b]), int(agreement.fits[a, b]), int(agreement.misses[a, b])
        )
        for a, b in zip(first, second, strict=True)
    )


_IGNORED = frozenset({"placed", "near"})
"""Reasons of `judge_map` that say nothing about given poses: images without a pose are counted elsewhere, and poses of
other sensors leave more signs.
"""


def _judge_path(
    view: VirtualView, sparse: SparseMap, search: ConventionSearch, matches: ImageMatches
) -> tuple[MapEvidence | None, tuple[MapReason, ...], QuestionVerdict]:
    count = sum(len(pair.is_held) for pair in view.pairs)
    basis = f"{count} matches of {len(view.pairs)} pairs of {len(view.posed.images)} images"
    if len(view.pairs) < 2 or count < MIN_CROSSING:
        return None, (), QuestionVerdict(Verdict.NOT_JUDGED, "too few images with poses match each other", basis)
    T_world_camera = np.asarray(np.linalg.inv(view.posed.T_camera_world))
    evidence = measure_evidence(sparse, view.pairs, T_world_camera, has_camera=False, is_ordered=matches.is_ordered)
    if evidence.unexplained > MAP_LIMITS["unexplained"].unusable:  # other sensors' poses may miss MOTION_PX of 640
        coarse = view_matches(view.posed, matches, MOTION_PX / MAX_ERROR)
        shares = measure_unexplained(triangulate_view(coarse), coarse.pairs)
        evidence = replace(evidence, unexplained=find_worst_place(shares))
    found = judge_map(evidence).list_reasons(PATH)
    reasons = tuple(reason for reason in found if reason.field not in _IGNORED)
    if search.found is not None:
        fits = f"{search.found.fits_given:.0%} of the matches fit as given, {search.found.fits:.0%} after the fix"
        return evidence, reasons, QuestionVerdict(Verdict.UNUSABLE, f"a convention is wrong: {fits}", basis)
    if not reasons:
        within = f"{evidence.held_out_within:.0%} of the held-out matches are within {_format_limit(view)} px"
        return evidence, reasons, QuestionVerdict(Verdict.USABLE, within, basis)
    worst = reasons[0]
    return evidence, reasons, QuestionVerdict(worst.grade, PATH_REASONS[worst.field](evidence, matches.names), basis)


def _format_limit(view: VirtualView) -> str:
    return f"{MAX_ERROR * max(view.camera.height, view.camera.width):.1f}"


PATH_REASONS: Mapping[str, Callable[[MapEvidence, Sequence[str]], str]] = {
    "standing": lambda e, names: f"{e.standing:.0%} of the matches of distant images do not move: the camera stands",
    "contradicted": lambda e, names: (
        f"{e.contradicted:.0%} of the matches after {names[e.contradicted_frame]} contradict it"
    ),
    "held_out_within": lambda e, names: f"only {e.held_out_within:.0%} of the held-out matches are near their points",
    "turn_deg": lambda e, names: f"rotations between images are {e.turn_deg:.1f} degrees off their matches",
    "unexplained": lambda e, names: f"{e.unexplained:.0%} of the matches of distant images fit another motion",
    "zoomed": lambda e, names: f"a zoom alone explains {e.zoomed:.0%} of the matches",
    "held_out_px": lambda e, names: "no held-out match has a point",
    "reversing": lambda e, names: f"{e.reversing:.0%} of the steps of a drive go back",
    "speed_jump": lambda e, names: f"the speed changes {e.speed_jump:.0f} times within a few images",
    "aside": lambda e, names: f"{e.aside:.0%} of the pairs of expanding images show another direction of motion",
    "kink_deg": lambda e, names: (
        f"after {names[e.kink_frame]}, a step turns {e.kink_deg:.0f} degrees off the direction of travel"
    ),
    "road_drift": lambda e, names: f"the height over the road changes {e.road_drift:.2f} times",
}
"""Functions of evidence and image names that describe a field of `MapEvidence` beyond its limit, by that field."""


def _judge_camera(search: ConventionSearch, posed: PosedImages) -> QuestionVerdict:
    _, low, high = search.focal_factors
    focal_px = float(np.median(posed.K[:, 0, 0]))
    basis = f"{search.pairs} pairs of images"
    if not np.isfinite(search.fits_focal) or search.fits_focal < RESULT_LIMITS["fits_focal"].not_judged:
        return QuestionVerdict(Verdict.NOT_JUDGED, "no focal length explains the matches with these poses", basis)
    if search.found is not None and search.found.convention.changes_camera:
        return QuestionVerdict(Verdict.UNUSABLE, search.found.what, basis)
    if high / low > RESULT_LIMITS["focal_range"].not_judged:
        span = f"{low * focal_px:.0f} to {high * focal_px:.0f} px"
        return QuestionVerdict(Verdict.NOT_JUDGED, f"focal lengths from {span} fit equally in these images", basis)
    off = max(low - 1, 1 - high, 0.0)
    ends = " to ".join(dict.fromkeys(f"{share * focal_px:.0f}" for share in (low, high)))
    fits = f"matches fit a focal length of {ends} px; given {focal_px:.0f}"
    return QuestionVerdict(RESULT_LIMITS["focal_error"].judge(off), fits, basis)


def _judge_conventions(search: ConventionSearch) -> QuestionVerdict:
    basis = f"{search.pairs} pairs of images"
    if not np.isfinite(search.fits_given):
        return QuestionVerdict(Verdict.NOT_JUDGED, "too few images move enough", basis)
    if search.found is not None:
        return QuestionVerdict(Verdict.UNUSABLE, search.found.what, basis)
    if search.undecided:
        reason = f"{search.fits_given:.0%} of the matches fit; as many if {search.undecided[0]}"
        return QuestionVerdict(Verdict.USABLE, reason, basis)
    if search.fits_given < RESULT_LIMITS["fits_focal"].not_judged:
        return QuestionVerdict(
            Verdict.NOT_JUDGED, f"no convention explains the matches ({search.fits_given:.0%} fit)", basis
        )
    return QuestionVerdict(
        Verdict.USABLE, f"{search.fits_given:.0%} of the matches fit as given, and no change fits more", basis
    )


# -- depth maps

DEPTH_MEANINGS: Mapping[str, tuple[str, Callable[[Array, Array], Array]]] = {
    "depth": ("depth along the view", lambda values, length: values),
    "disparity": ("disparity or inverse depth", lambda values, length: 1 / values),
    "distance": ("distance from the camera (length of the ray)", lambda values, length: values / length),
}
"""What values of depth maps may mean: description, and function of the values (N,) and the lengths (N,) of the rays
with z = 1 that returns depth up to one factor.
"""


def measure_depth(reconstruction: Reconstruction, view: VirtualView, sparse: SparseMap) -> DepthMeaning | None:
    """Find what the values of depth maps mean, by the depth of triangulated points; None without enough of them.

    reconstruction: a reconstruction with depth maps.
    view: matches in one virtual camera.
    sparse: points triangulated from them.
    """
    if reconstruction.depth is None or not len(sparse.points):
        return None
    precise = sparse.relative_deviations() < MAX_POINT_DEVIATION
    z = sparse.in_camera()[:, 2]
    found = list[Array]()
    for row in np.unique(np.linspace(0, len(view.posed.images) - 1, DEPTH_IMAGES).astype(int)):
        observed = np.flatnonzero((sparse.observed[:, 0] == row) & precise[sparse.observed[:, 1]] & (z > 0))
        values = reconstruction.depth(int(view.posed.rows[row]))
        ray = (sparse.xy[observed] - view.camera.center_px) / view.camera.focal_px
        at = _find_pixels(ray, view.posed.K[row], view.posed.distortion[row])
        height, width = values.shape
        scale = np.array([width, height]) / view.posed.sizes[row]
        x, y = np.rint((at + 0.5) * scale - 0.5).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        sampled = np.full(len(at), np.nan)
        sampled[inside] = values[y[inside], x[inside]]
        found.append(np.column_stack((sampled, z[observed], np.sqrt(1 + (ray**2).sum(1)))))
    stacked = np.concatenate(found) if found else np.empty((0, 3))
    stacked = stacked[np.isfinite(stacked).all(1) & (stacked[:, 0] > 0)]
    if len(stacked) < MIN_DEPTH_POINTS:
        return None
    values, depth, length = stacked.T
    errors, scales = {}, {}
    for name, (_, convert) in DEPTH_MEANINGS.items():
        log_ratio = np.log(depth) - np.log(convert(values, length))
        scales[name] = float(np.exp(np.median(log_ratio)))
        errors[name] = float(np.median(np.abs(log_ratio - np.median(log_ratio))))
    best = min(errors, key=lambda name: errors[name])
    if errors["depth"] < MIN_MEANING_GAIN * errors[best] or errors[best] > RESULT_LIMITS["depth_error"].unusable:
        best = "depth"
    return DepthMeaning(best, scales[best], errors[best], errors["depth"], len(stacked), len(found))


def _find_pixels(ray: Array, K: Array, distortion: Array) -> Array:
    """Return the pixels (N, 2) of rays (N, 2) with z = 1 in an image with distortion."""
    k1, k2, p1, p2 = distortion
    x, y = ray.T
    squared = x**2 + y**2
    radial = 1 + k1 * squared + k2 * squared**2
    bent = np.column_stack(
        (
            x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x**2),
            y * radial + p1 * (squared + 2 * y**2) + 2 * p2 * x * y,
        )
    )
    return bent * K[(0, 1), (0, 1)] + K[:2, 2]


def _judge_depth(meaning: DepthMeaning | None, path: QuestionVerdict) -> QuestionVerdict:
    if meaning is None:
        return QuestionVerdict(Verdict.NOT_JUDGED, "too few triangulated points are inside depth maps", "0 points")
    basis = f"{meaning.points} points in {meaning.images} depth maps"
    if path.verdict is Verdict.UNUSABLE:
        return QuestionVerdict(Verdict.NOT_JUDGED, "the points rest on poses that are wrong", basis)
    error = f"median error {meaning.error:.0%} up to one factor"
    if meaning.name != "depth":
        what = f"the values are {DEPTH_MEANINGS[meaning.name][0]}: {error}, {meaning.error_given:.0%} as depth"
        return QuestionVerdict(Verdict.UNUSABLE, what, basis)
    verdict = RESULT_LIMITS["depth_error"].judge(meaning.error)
    of_unit = RESULT_LIMITS["depth_unit"].judge(meaning.scale)
    if of_unit.is_worse_than(verdict):
        return QuestionVerdict(of_unit, f"depth times {meaning.scale:.4g} is in the unit of the poses; {error}", basis)
    return QuestionVerdict(verdict, error, basis)


def fix_reconstruction(
    reconstruction: Reconstruction, matches: ImageMatches, verdict: ReconstructionVerdict
) -> Reconstruction | None:
    """Return the reconstruction without the mistakes that the verdict names; None if no named mistake can be undone.

    reconstruction: cameras and poses as read.
    matches: the images.
    verdict: the result of `judge_reconstruction`.
    """
    fixed = reconstruction
    if verdict.search.found is not None:
        fixed = apply_convention(fixed, matches, verdict.search.found.convention)
    meaning, read = verdict.meaning, fixed.depth
    if meaning is not None and read is not None and _changes_depth(meaning):
        measure_length = _measure_rays(fixed)

        def read_fixed(row: int) -> NDArray[np.float32]:
            values = read(row).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = meaning.scale * DEPTH_MEANINGS[meaning.name][1](values, measure_length(row, values.shape))
            return np.where(np.isfinite(depth) & (values > 0), depth, np.nan).astype(np.float32)

        fixed = replace(fixed, depth=read_fixed)
    return None if fixed is reconstruction else fixed


def _changes_depth(meaning: DepthMeaning) -> bool:
    return meaning.name != "depth" or RESULT_LIMITS["depth_unit"].judge(meaning.scale) is not Verdict.USABLE


def _measure_rays(reconstruction: Reconstruction) -> Callable[[int, tuple[int, ...]], Array]:
    """Return a function of a row and the shape of its depth map that returns the lengths (h, w) of rays with z = 1."""

    def measure(row: int, shape: tuple[int, ...]) -> Array:
        height, width = shape
        K = reconstruction.K[row]
        size = reconstruction.sizes[row] if reconstruction.sizes[row].all() else np.array([width, height])
        scale = np.array([width, height]) / size
        x = (np.arange(width) + 0.5) / scale[0] - 0.5 - K[0, 2]
        y = (np.arange(height) + 0.5) / scale[1] - 0.5 - K[1, 2]
        return np.sqrt(1 + (x[None] / K[0, 0]) ** 2 + (y[:, None] / K[1, 1]) ** 2)

    return measure


# -- pictures


@dataclass(frozen=True, slots=True, eq=False)
class ShownPair:
    """The matches of two images, to be drawn.

    first, second: indices of the images.
    xy_first, xy_second: (N, 2) pixels of the matches in the images as they are.
    agrees: (N,), whether each match agrees with the reconstruction.
    shown: indices of the matches whose epipolar lines are given.
    lines: for each of them the pixels (K, 2) of its epipolar line in the second image.
    """

    first: int
    second: int
    xy_first: Array
    xy_second: Array
    agrees: NDArray[np.bool_]
    shown: tuple[int, ...]
    lines: tuple[Array, ...]


MAX_LINES = 6
_LINE_STEPS = np.linspace(-4, 4, 200)


def show_worst_pairs(reconstruction: Reconstruction, matches: ImageMatches, count: int = 4) -> list[ShownPair]:
    """Return the pairs of images with the most contradicting matches, worst first; an image is in at most one pair.

    reconstruction: cameras and poses.
    matches: matches between the images.
    count: most pairs.
    """
    posed = pose_images(reconstruction, matches)
    view = view_matches(posed, matches)
    sparse = triangulate_view(view)
    limit = MAX_ERROR * max(view.camera.height, view.camera.width)
    ranked = []
    for pair in view.pairs:
        if len(pair.is_held) >= MIN_SEEN:
            by_point = measure_errors(sparse, pair)
            errors = np.where(np.isnan(by_point), measure_epipolar(sparse, pair), by_point)
            ranked.append((float((errors > limit).mean()), pair, errors <= limit))
    of_images = {(pair.first, pair.second): pair for pair in matches.pairs}
    found, used = list[ShownPair](), set[int]()
    for _, pair, agrees in sorted(ranked, key=lambda entry: -entry[0]):
        if len(found) < count and not {pair.first, pair.second} & used:
            used |= {pair.first, pair.second}
            original = of_images[pair.first, pair.second]
            order = np.argsort(agrees, kind="stable")[:: max(len(agrees) // MAX_LINES, 1)][:MAX_LINES]
            lines = tuple(_find_epipolar_line(view, pair, int(row)) for row in order)
            found.append(
                ShownPair(
                    pair.first, pair.second, original.xy_first, original.xy_second, agrees, tuple(order.tolist()), lines
                )
            )
    return found


def _find_epipolar_line(view: VirtualView, pair: FramePair, row: int) -> Array:
    """Return pixels (K, 2) of the second image on the epipolar line of a match, in front of the camera."""
    first, second = view.find_rows(pair)
    T = view.posed.T_camera_world[second] @ np.linalg.inv(view.posed.T_camera_world[first])
    ray = np.append((pair.xy_first[row] - view.camera.center_px) / view.camera.focal_px, 1.0)
    a, b, c = np.cross(T[:3, 3], T[:3, :3] @ ray)
    along = _LINE_STEPS
    is_steep = abs(b) < abs(a)
    points = np.column_stack(
        (-(b * along + c) / (a or 1e-12), along) if is_steep else (along, -(a * along + c) / (b or 1e-12))
    )
    return _find_pixels(points, view.posed.K[second], view.posed.distortion[second])
