"""Judge the result of another program by independent matches of its images: path, camera, conventions and depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.progress import TrackProgress, no_progress
from stadia.core.verdict import Verdict, find_worst
from stadia.geometry.poses import invert_pose
from stadia.io.records.calibration import read_given_camera
from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.limits import MAP_LIMITS, RESULT_LIMITS
from stadia.judge.map_verdict import PATH, MapEvidence, MapReason, judge_map
from stadia.judge.questions import QuestionVerdict
from stadia.judge.reconstructions.convention_search import ConventionSearch, search_conventions
from stadia.judge.reconstructions.depth_meaning import (
    DEPTH_MEANINGS,
    DepthMeaning,
    changes_depth,
    judge_depth,
    measure_depth,
    measure_rays,
)
from stadia.judge.reconstructions.result_convention import apply_convention
from stadia.sfm.image_matches import ImageMatches, check_images, match_images
from stadia.sfm.map_evidence import (
    MAX_ERROR,
    MIN_CROSSING,
    MOTION_PX,
    MatchAgreement,
    find_worst_place,
    group_frames,
    measure_agreement,
    measure_evidence,
    measure_unexplained,
)
from stadia.sfm.match_triangulation import PosedImages, VirtualView, pose_images, triangulate_view, view_matches
from stadia.sfm.sparse_map import SparseMap

MIN_SEEN = 15
"""Fewest matches of an image with others that judge it."""


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
    check_images(reconstruction, images)
    matches = match_images(images, work, track)
    return judge_reconstruction(replace_camera(reconstruction, matches, camera), matches)


def replace_camera(reconstruction: Reconstruction, matches: ImageMatches, camera: str | None) -> Reconstruction:
    """Return a result with the camera that the user gives in place of its own; with its own if `camera` is None.

    reconstruction: the result.
    matches: the images, whose sizes replace the missing ones of cameras.
    camera: a camera file, or numbers such as fx=700,fy=700,cx=640,cy=360.

    Raises DataError for a wrong camera file, ConfigError for wrong numbers.
    """
    if camera is None:
        return reconstruction.with_image_sizes(matches.names, matches.sizes)
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
    meaning, depth = None, None
    if reconstruction.depth is not None:
        meaning = measure_depth(reconstruction, view, sparse)
        depth = judge_depth(meaning, path)
    return ReconstructionVerdict(
        path=path,
        camera=_judge_camera(search, posed),
        conventions=_judge_conventions(search),
        depth=depth,
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
    T_world_camera = invert_pose(view.posed.T_camera_world)
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
        limit_px = MAX_ERROR * max(view.camera.height, view.camera.width)
        within = f"{evidence.held_out_within:.0%} of the held-out matches are within {limit_px:.1f} px"
        return evidence, reasons, QuestionVerdict(Verdict.USABLE, within, basis)
    worst = reasons[0]
    return evidence, reasons, QuestionVerdict(worst.grade, PATH_REASONS[worst.field](evidence, matches.names), basis)


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
    if meaning is not None and read is not None and changes_depth(meaning):
        measure_length = measure_rays(fixed)

        def read_fixed(row: int) -> NDArray[np.float32]:
            values = read(row).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = meaning.scale * DEPTH_MEANINGS[meaning.name][1](values, measure_length(row, values.shape))
            return np.where(np.isfinite(depth) & (values > 0), depth, np.nan).astype(np.float32)

        fixed = replace(fixed, depth=read_fixed)
    return None if fixed is reconstruction else fixed
