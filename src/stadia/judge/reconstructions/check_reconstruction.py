"""Judge the result of another program by independent matches of its images: measured error, causes, purposes, depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.verdict import Verdict, find_worst
from stadia.geometry.poses import find_centers
from stadia.io.records.calibration import read_given_camera
from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction, check_numbers
from stadia.judge.error import Measured, MeasuredError
from stadia.judge.purposes import PURPOSES, Purpose, PurposeVerdict, grade_purposes, judge_purpose
from stadia.judge.questions import QuestionVerdict
from stadia.judge.reconstructions.causes import Cause, find_causes
from stadia.judge.reconstructions.convention_search import ConventionSearch, search_conventions
from stadia.judge.reconstructions.depth_meaning import (
    DEPTH_MEANINGS,
    DepthMeaning,
    changes_depth,
    judge_depth,
    measure_depth,
    measure_rays,
)
from stadia.judge.reconstructions.look_alikes import LookAlikes, find_look_alikes, measure_overlaps
from stadia.judge.reconstructions.model_points import add_model_note
from stadia.judge.reconstructions.result_convention import GIVEN, Convention, apply_convention
from stadia.sfm.image_matches import ImageMatches, check_images, match_images
from stadia.sfm.map_evidence import MAX_CONTRADICTING, MAX_ERROR, MatchAgreement, group_frames
from stadia.sfm.match_triangulation import (
    PosedImages,
    VirtualView,
    measure_matches,
    pose_images,
    triangulate_features,
    view_matches,
)
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.pose_error import PoseDifference, find_differences, measure_error, open_images
from stadia.sfm.pose_refinement import AdjustedPoses, adjust_poses
from stadia.sfm.sparse_map import SparseMap

OWN_SCALE = ("colmap", "photogrammetry")
"""Formats of programs whose positions have no unit."""

MAX_MISSING = 0.7
"""Share of the matches of two images that contradict the poses, from which they show places that look alike."""

COARSEST = "navigation"
"""The purpose with the widest limits."""

SCATTER = ("rotation-noise", "position-noise")
"""Causes that are no fault of all images, but the accuracy of single poses."""

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
    """The verdict of `check_reconstruction`, and the measurements behind it.

    error: the measured error of poses and cameras as given. With a wrong convention it is not measured.
    error_after_fix: the same without the convention that the search found; equal to `error` if it found none.
    causes: the causes of the error, each of them undone and better by held-out matches.
    purposes: whether the result is good for each purpose.
    are_asked: whether the user asked for these purposes.
    depth: verdict on the depth maps; None without them.
    search: the conventions that fit the matches.
    meaning: the quantity in the depth maps, such as z or distance, and its unit; None without them.
    images: agreement of each image that has a pose with its matches.
    pairs: agreement of each pair of images.
    adjusted: poses and cameras before and after the adjustment to matches; None if it could not run.
    fixed: the result without the causes; None if nothing can be undone.
    count: number of all images.
    notes: sentences for the user.
    """

    error: MeasuredError
    error_after_fix: MeasuredError
    causes: tuple[Cause, ...]
    purposes: tuple[PurposeVerdict, ...]
    are_asked: bool
    depth: QuestionVerdict | None
    search: ConventionSearch
    meaning: DepthMeaning | None
    images: tuple[ImageAgreement, ...]
    pairs: tuple[PairAgreement, ...]
    adjusted: AdjustedPoses | None
    fixed: Reconstruction | None
    count: int
    notes: tuple[str, ...]

    @property
    def grade(self) -> Verdict:
        """Return the grade of the purposes and of the depth maps.

        If the user asked for no purpose, a result is doubtful if some images have poses of others, if it has a fault
        and a purpose does not hold, or if it is not good for COARSEST. Scatter of single poses is no fault: the
        purposes say what it allows.
        """
        grade = grade_purposes(self.purposes, are_asked=self.are_asked)
        if any(cause.name == "look-alikes" for cause in self.causes):
            grade = Verdict.DOUBTFUL
        elif not self.are_asked and grade in (Verdict.USABLE, Verdict.DOUBTFUL):
            holds = {verdict.purpose.name: verdict.holds for verdict in self.purposes}
            faults = [cause for cause in self.causes if cause.name not in SCATTER]
            is_doubtful = holds[COARSEST] is False or any(cause.images or not all(holds.values()) for cause in faults)
            grade = Verdict.DOUBTFUL if is_doubtful else Verdict.USABLE
        grades = [grade if self.search.found is None else Verdict.UNUSABLE]
        if self.depth is not None:
            grades.append(self.depth.verdict)
        return find_worst(grades)


def check_reconstruction(
    path: Path | str,
    images: Path | str,
    *,
    camera: str | None = None,
    purposes: Sequence[Purpose] = (),
    work: Path | None = None,
    track: TrackProgress = no_progress,
) -> ReconstructionVerdict:
    """Measure the error of the camera poses of any program by matches between its images.

    The images are matched again from their pixels alone. The points and matches of the reconstruction are not used as
    evidence.

    path: the reconstruction: a COLMAP model, transforms.json, an .npz with cameras, a trajectory, or another format of
        `stadia.io.records.read.FORMATS`.
    images: the folder of images, or the video.
    camera: a camera file, or numbers such as fx=700,fy=700,cx=640,cy=360 (pixels), for formats without a camera.
    purposes: what the result is to be good for; empty for all of PURPOSES.
    work: folder for the cached matches; None takes a folder in the user's cache.
    track: wraps loops to show their progress.

    Returns the error, its causes, and what the result is good for. Raises DataError for an unknown file, for images
    that do not match, and for fewer than 3 images with a pose.
    """
    reconstruction = read_reconstruction(Path(path))  # a wrong file is found before the images are matched
    check_images(reconstruction, images)
    reconstruction = add_model_note(reconstruction)
    matches = match_images(images, work, track)
    return judge_reconstruction(replace_camera(reconstruction, matches, camera), matches, purposes)


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


def judge_reconstruction(
    reconstruction: Reconstruction,
    matches: ImageMatches,
    purposes: Sequence[Purpose] = (),
    track: TrackProgress = no_progress,
    *,
    threads: int | None = None,
) -> ReconstructionVerdict:
    """Judge a reconstruction by matches between its images.

    reconstruction: cameras and poses.
    matches: independent matches.
    purposes: what it is to be good for; empty for all of PURPOSES.
    track: shows progress.
    threads: number of threads; None takes one for each processor.

    Raises DataError if fewer than 3 images have a pose, or the reconstruction has no camera.
    """
    measured = measure_reconstruction(reconstruction, matches, track, threads=threads)
    notes = list(reconstruction.notes)
    if (left_out := len(matches.pairs) - len(measured.matches.pairs)) > 0:
        notes.append(f"matches of {left_out} pairs of images are left out: their places look alike, but differ")
    matches = measured.matches
    search, base, based, after_fix = measured.search, measured.base, measured.adjusted.given, measured.error
    posed = pose_images(reconstruction, matches)
    view = view_matches(posed, matches)
    sparse, of_feature = triangulate_features(view)
    agreement = _measure_agreement(view, sparse, of_feature)
    causes = [] if search.found is None else [describe_cause(search, posed)]
    if measured.look_alikes is not None:
        causes.append(describe_places(measured.look_alikes, measured.adjusted.given, matches.names))
    explained = find_causes(measured.adjusted, measured.differences, after_fix, matches)
    named = {name for cause in explained.causes for name in cause.images}
    if any(image.name not in named for image in after_fix.wrong_images):
        confirmed = {image.index for image in after_fix.wrong_images if image.name in named}
        differences = open_images(measured.differences, measured.adjusted.given.images, confirmed)
        after_fix = measure_error(measured.adjusted, differences, matches.names)
    fixed = replace_posed(base, based, explained.posed) if explained.causes else base
    error = after_fix if search.found is None else MeasuredError(reason="a convention is wrong")
    meaning, depth = None, None
    if reconstruction.depth is not None:
        meaning = measure_depth(reconstruction, view, sparse)
        path = Verdict.USABLE if error.is_measured else Verdict.NOT_JUDGED
        depth = judge_depth(meaning, QuestionVerdict(path, error.reason or "measured"))
        if meaning is not None:
            fixed = _fix_depth(fixed, meaning)
            error = replace(error, depth_share=Measured(meaning.error_given, meaning.error_given / meaning.points**0.5))
    return ReconstructionVerdict(
        error=error,
        error_after_fix=after_fix,
        causes=(*causes, *explained.causes),
        purposes=tuple(_judge_purpose(purpose, error, measured) for purpose in purposes or PURPOSES.values()),
        are_asked=bool(purposes),
        depth=depth,
        search=search,
        meaning=meaning,
        images=_list_images(agreement, posed, matches),
        pairs=_list_pairs(agreement, posed),
        adjusted=measured.adjusted,
        fixed=None if fixed is reconstruction else fixed,
        count=len(matches.names),
        notes=(*notes, *view.posed.notes),
    )


def _judge_purpose(purpose: Purpose, error: MeasuredError, measured: MeasuredReconstruction) -> PurposeVerdict:
    if measured.search.found is not None:
        return PurposeVerdict(purpose, False, error.reason)
    if measured.look_alikes is not None:
        return PurposeVerdict(purpose, None, "two places may be one")
    if measured.base.format in OWN_SCALE and any(limit.field == "position_m" for limit in purpose.limits):
        return PurposeVerdict(purpose, None, "the result is in its own scale, not in metres")
    return judge_purpose(purpose, error)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredReconstruction:
    """What `measure_reconstruction` finds.

    search: the conventions; `found` is one that is more than a focal length.
    base: the reconstruction without the convention that the search found.
    adjusted: its poses and cameras before and after the adjustment to matches.
    differences: between both, for each part that matches join.
    error: the error of `base`.
    matches: the matches without those that join two places that look alike, if only the adjusted poses make them one.
    look_alikes: places that the given poses make one; None without them.
    """

    search: ConventionSearch
    base: Reconstruction
    adjusted: AdjustedPoses
    differences: tuple[PoseDifference, ...]
    error: MeasuredError
    matches: ImageMatches
    look_alikes: LookAlikes | None


def measure_reconstruction(
    reconstruction: Reconstruction,
    matches: ImageMatches,
    track: TrackProgress = no_progress,
    *,
    threads: int | None = None,
) -> MeasuredReconstruction:
    """Search the convention of a reconstruction, and measure the error that is left.

    `check` judges by it, and `refine` writes the adjusted poses.

    reconstruction: cameras and poses.
    matches: independent matches.
    track: shows progress.
    threads: number of threads; None takes one for each processor.

    Raises DataError if fewer than 3 images have a pose, or the reconstruction has no camera.
    """
    check_numbers(reconstruction)
    check_path(reconstruction, pose_images(reconstruction, matches))
    search, base = search_conventions(reconstruction, matches), reconstruction
    posed = pose_images(reconstruction, matches)
    if posed.how == "number" and search.found is not None and search.found.convention.order != GIVEN.order:
        found = f"names of other images ({reconstruction.names[0]}; the folder has {matches.names[0]})"
        fix = "give the images the names that the result has"
        raise DataError(reconstruction.path, found=found, expected="the images of the result", fix=fix)
    best, low, high = search.focal_factors
    factor = 1.0 if low <= 1 <= high else best
    if search.found is not None and is_focal_alone(search.found.convention):
        factor = search.found.convention.focal_factor * best
        search = replace(search, found=None)
    elif search.found is not None:
        base = apply_convention(reconstruction, matches, search.found.convention)
    posed = pose_images(base, matches)
    adjusted = adjust_poses(posed, matches, focal_factor=factor, track=track, threads=threads)
    alike = _find_places(posed, matches)
    if alike is None and (folded := _find_places(adjusted.posed, matches)) is not None:
        # the given poses part what matches alone would make one place
        matches = _part_places(folded, posed, matches)
        adjusted = adjust_poses(posed, matches, focal_factor=factor, track=track, threads=threads)
    differences = tuple(find_differences(adjusted))
    error = measure_error(adjusted, differences, matches.names)
    if not error.is_measured:  # matches that fit no poses show no place
        alike = None
    return MeasuredReconstruction(search, base, adjusted, differences, error, matches, alike)


def _find_places(posed: PosedImages, matches: ImageMatches) -> LookAlikes | None:
    view = view_matches(posed, matches)
    sparse, of_feature = triangulate_features(view)
    return find_look_alikes(measure_overlaps(view, sparse.points, of_feature), len(posed.images))


def _part_places(alike: LookAlikes, posed: PosedImages, matches: ImageMatches) -> ImageMatches:
    """Return matches without those between two places, and without pairs that contradict the poses which part them."""
    view = view_matches(posed, matches)
    sparse, of_feature = triangulate_features(view)
    agreement = _measure_agreement(view, sparse, of_feature)
    is_wrong = agreement.misses > MAX_MISSING * (agreement.fits + agreement.misses)
    place = np.zeros(len(posed.images), int)
    place[list(alike.first)], place[list(alike.second)] = 1, 2
    row_of_image = {int(image): row for row, image in enumerate(posed.images)}

    def is_kept(pair: FramePair) -> bool:
        rows = [row_of_image.get(image) for image in (pair.first, pair.second)]
        if rows[0] is None or rows[1] is None:
            return False
        return bool(place[rows[0]] * place[rows[1]] != 2 and not is_wrong[rows[0], rows[1]])

    return replace(matches, pairs=[pair for pair in matches.pairs if is_kept(pair)])


def describe_places(alike: LookAlikes, posed: PosedImages, names: Sequence[str]) -> Cause:
    """Return the cause that two places that look alike are.

    alike: the places.
    posed: the images.
    names: names of all images.
    """
    first, second = ([names[posed.images[row]] for row in place] for place in (alike.first, alike.second))
    one, other = (names[posed.images[row]] for row in alike.pairs[0])
    fewer = min(first, second, key=len)
    return Cause(
        "look-alikes",
        f"two places that look alike may be one: {len(alike.pairs)} pairs of images such as {one} and {other} have the "
        "same view, but each shows things that the other lacks",
        f"look at {one} and {other}; if the places differ, reconstruct without matches between them",
        tuple(fewer),
    )


def check_path(reconstruction: Reconstruction, posed: PosedImages) -> None:
    """Raise DataError if all images have one position.

    reconstruction: cameras and poses as read.
    posed: its images.
    """
    centers = find_centers(posed.T_camera_world)
    if np.ptp(centers, axis=0).max() <= 1e-12 * max(np.abs(centers).max(), 1e-12):
        fix = "write the positions; a camera that only turns gives no depth"
        raise DataError(reconstruction.path, found="one position for all images", expected="a path", fix=fix)


def is_focal_alone(convention: Convention) -> bool:
    """Return whether a convention changes the focal length and nothing else."""
    return replace(convention, focal_factor=1.0) == GIVEN


def describe_cause(search: ConventionSearch, posed: PosedImages) -> Cause:
    """Return the cause that a found convention is.

    search: the search that found it.
    posed: the images with the cameras of the file.
    """
    assert search.found is not None
    found = search.found.convention
    name, size, unit = "convention", None, ""
    if found == replace(GIVEN, shift=found.shift, order=found.order) and found.order == "shifted":
        name, size, unit = "shifted-list", Measured(float(found.shift), 0.0), "images"
    elif found == replace(GIVEN, offset_s=found.offset_s):
        name, size, unit = "time-offset", Measured(found.offset_s, 0.0), "s"
    elif found == replace(GIVEN, camera=found.camera, size_factor=found.size_factor):
        name = {"swapped": "swapped-sides", "sides": "swapped-sides", "center": "principal-point"}.get(
            found.camera, "size-of-k"
        )
        if name == "size-of-k":
            implied = float(np.median((2 * posed.K[:, :2, 2] + 1) / posed.sizes))
            size, unit = Measured(1 / found.size_factor if found.size_factor != 1 else implied, 0.0), "times"
    return Cause(name, search.found.what, search.found.fix, size=size, unit=unit)


def replace_posed(reconstruction: Reconstruction, before: PosedImages, after: PosedImages) -> Reconstruction:
    """Return a reconstruction with changed poses and cameras of its images.

    Images without matches whose camera equals a changed one get its change. A trajectory whose poses were interpolated
    at the times of the images becomes one with these times.

    reconstruction: cameras and poses as read.
    before, after: its images (`pose_images`), before and after the change.
    """
    rows, changed = after.rows, reconstruction
    if after.how == "time":
        changed = replace(reconstruction.rows(rows), times_s=after.times_s, times_ns=None)
        rows = np.arange(len(rows))
    T, K, distortion = changed.T_camera_world.copy(), changed.K.copy(), changed.distortion.copy()
    T[rows] = after.T_camera_world
    scale = np.ones((len(rows), 2)) if after.px_of_file is None else after.px_of_file
    for row, at in enumerate(rows):
        if (before.K[row] == after.K[row]).all() and (before.distortion[row] == after.distortion[row]).all():
            continue
        own = np.isclose(changed.K, changed.K[at], equal_nan=True).all((1, 2))
        distortion[own] = after.distortion[row]
        factors = after.K[row, (0, 1), (0, 1)] / before.K[row, (0, 1), (0, 1)]
        K[own, 0, 0], K[own, 1, 1] = changed.K[at, 0, 0] * factors[0], changed.K[at, 1, 1] * factors[1]
        K[own, :2, 2] = changed.K[at, :2, 2] + (after.K[row, :2, 2] - before.K[row, :2, 2]) * scale[row]
    return replace(changed, T_camera_world=T, K=K, distortion=distortion)


def _measure_agreement(view: VirtualView, sparse: SparseMap, of_feature: NDArray[np.intp]) -> MatchAgreement:
    """Count the matches of each pair of images that agree with the result, and those that contradict it."""
    features, count = view.features, len(view.posed.images)
    line, distance = measure_matches(view, sparse.points, of_feature, np.arange(len(features.pairs)))
    errors = np.where(np.isnan(distance), line, distance)
    fits, misses = np.zeros((2, count, count))
    limit = MAX_ERROR * max(view.camera.height, view.camera.width)
    ends = features.images[features.pairs]
    for counts, at in ((fits, errors <= limit), (misses, errors > limit)):
        np.add.at(counts, tuple(ends[at].T), 1)
    return MatchAgreement(fits, misses)


def _list_images(agreement: MatchAgreement, posed: PosedImages, matches: ImageMatches) -> tuple[ImageAgreement, ...]:
    part = np.zeros(len(posed.images), int)
    for number, rows in enumerate(group_frames(agreement, MAX_CONTRADICTING)):
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


def _fix_depth(fixed: Reconstruction, meaning: DepthMeaning) -> Reconstruction:
    """Return the result with depth maps that contain depth along the view in the unit of the poses."""
    read = fixed.depth
    if read is None or not changes_depth(meaning):
        return fixed
    measure_length = measure_rays(fixed)

    def read_fixed(row: int) -> NDArray[np.float32]:
        values = read(row).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = meaning.scale * DEPTH_MEANINGS[meaning.name][1](values, measure_length(row, values.shape))
        return np.where(np.isfinite(depth) & (values > 0), depth, np.nan).astype(np.float32)

    return replace(fixed, depth=read_fixed)
