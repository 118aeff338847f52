"""Compare poses and cameras by matches that took no part in their adjustment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stadia.sfm.image_matches import MAX_SIDE_PX, ImageMatches
from stadia.sfm.match_triangulation import PosedImages, VirtualView, measure_matches, triangulate_features, view_matches
from stadia.sfm.sparse_map import Array, SparseMap

HELD_PX = 1.0
"""Error of a held-out match, pixels of 640, beyond which its cost grows slower than a square."""

RESAMPLES = 1000

SURE = 0.025
"""A refined result may fail to be better in at most this share of the resamples of the pairs of images."""

MIN_GAIN = 0.01
"""Least relative reduction of the cost of held-out matches."""

EXPLAINED_PX = 2.0

MAX_LEFT_PX = 5.0
"""Error of held-out matches after a fix, pixels of 640, up to which it is a fix: 10 times what splats allow."""


@dataclass(frozen=True, slots=True)
class HeldOutGain:
    """How the errors of held-out matches changed.

    before_px, after_px: median errors, pixels of images whose longer side is 640.
    gain: relative reduction of the robust cost.
    low: the reduction that SURE of the resamples do not reach.
    count: number of matches.
    """

    before_px: float
    after_px: float
    gain: float
    low: float
    count: int

    @property
    def is_far_off(self) -> bool:
        """Return whether the matches still miss by far, and by more than half as much: most of the error has another
        cause.
        """
        return self.after_px > max(MAX_LEFT_PX, self.before_px / 2)

    def is_sure(self, min_gain: float = MIN_GAIN) -> bool:
        """Return whether the matches fit better by more than their scatter, and by at least `min_gain`."""
        return self.low > 0 and self.gain >= min_gain


@dataclass(slots=True, eq=False)
class Candidate:
    """Poses and cameras that are compared by held-out matches.

    posed: the images.
    view: the matches in the virtual camera of `posed`.
    sparse: points triangulated from the poses.
    held: errors of held-out matches of each pair: epipolar distances, and distances from points, NaN without a point.
    """

    posed: PosedImages
    view: VirtualView
    sparse: SparseMap
    held: list[tuple[Array, Array]] = field(default_factory=list)


def judge_candidate(posed: PosedImages, matches: ImageMatches) -> Candidate:
    """Triangulate matches from the poses of images, and measure the errors of those that are held out."""
    view = view_matches(posed, matches)
    sparse, of_feature = triangulate_features(view)
    at, starts = _find_held(view)
    of_640 = MAX_SIDE_PX / max(view.camera.width, view.camera.height)
    measured = [of_640 * errors for errors in measure_matches(view, sparse.points, of_feature, at)]
    held = [(line, point) for line, point in zip(*(np.split(errors, starts) for errors in measured), strict=True)]
    return Candidate(posed, view, sparse, held if len(at) else [])


def replace_poses(candidate: Candidate, T: Array) -> Candidate:
    """Return a candidate with other world-to-camera poses (F, 4, 4), whose errors are not measured yet."""
    posed = replace(candidate.posed, T_camera_world=T)
    return Candidate(posed, replace(candidate.view, posed=posed), candidate.sparse)


def _find_held(view: VirtualView) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the held-out matches (K,), and where those of another pair of images start."""
    at = np.flatnonzero(view.features.is_held)
    return at, np.flatnonzero(np.diff(view.features.pairs[at])) + 1


def list_ends(view: VirtualView) -> NDArray[np.intp]:
    """Return the rows (P, 2) of the images of the pairs with held-out matches."""
    return view.features.images[np.unique(view.features.pairs[_find_held(view)[0]])]


def find_pairs(ends: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return which pairs (P, 2) of images have one of these rows."""
    return np.flatnonzero(np.isin(ends, rows).any(1))


def compare_held_out(
    before: Sequence[tuple[Array, Array]], after: Sequence[tuple[Array, Array]], resamples: int = RESAMPLES
) -> HeldOutGain:
    """Compare the errors of held-out matches, and measure their scatter by resampling the pairs of images.

    A match is compared by its distance from a triangulated point if it has one before and after, else by its distance
    from the epipolar line. Matches that a lens leaves out, before or after, do not count.

    before, after: for each pair of images, epipolar distances (N,) and distances from points (N,), pixels.
    resamples: number of resamples of the pairs.
    """
    medians, costs = list[tuple[Array, Array]](), list[tuple[float, float]]()
    for (line, point), (line_after, point_after) in zip(before, after, strict=True):
        is_known = np.isfinite(point) & np.isfinite(point_after)
        seen = np.isfinite(line) & np.isfinite(line_after)
        errors = np.where(is_known, point, line)[seen], np.where(is_known, point_after, line_after)[seen]
        medians.append(errors)
        first, second = (float(np.log1p((error / HELD_PX) ** 2).sum()) for error in errors)
        costs.append((first, second))
    count = sum(len(first) for first, _ in medians)
    if not count:
        return HeldOutGain(float("nan"), float("nan"), 0.0, 0.0, 0)
    before_px, after_px = (float(np.median(np.concatenate(side))) for side in zip(*medians, strict=True))
    sums = np.array(costs)
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), resamples) @ sums
    gains = 1 - drawn[:, 1] / np.maximum(drawn[:, 0], 1e-12)
    total = sums.sum(0)
    return HeldOutGain(
        before_px, after_px, float(1 - total[1] / max(total[0], 1e-12)), float(np.quantile(gains, SURE)), count
    )


def measure_gain(
    before: PosedImages, after: PosedImages, matches: ImageMatches, rows: NDArray[np.intp] | None = None
) -> HeldOutGain:
    """Return how held-out matches fit two sets of poses and cameras of the same images.

    rows: rows of the images whose matches count; None for all.
    """
    first, second = judge_candidate(before, matches), judge_candidate(after, matches)
    ends = list_ends(first.view)
    at = range(len(ends)) if rows is None else find_pairs(ends, rows)
    return compare_held_out([first.held[k] for k in at], [second.held[k] for k in at])


def measure_unexplained(candidate: Candidate) -> float:
    """Return the share of the held-out matches that are farther than EXPLAINED_PX from where the poses expect them."""
    errors = np.concatenate(
        [np.fmax(line, point)[np.isfinite(line)] for line, point in candidate.held] or [np.empty(0)]
    )
    return float((errors > EXPLAINED_PX).mean()) if len(errors) else 0.0
