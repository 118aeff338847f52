"""Find the convention of the poses or the camera of a reconstruction, by matches between its images.

A match fits if it is near its epipolar line and in front of both cameras. Conventions are tried until one explains the
matches that the reconstruction as given does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stadia.geometry.conventions import Axes
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.convention_scores import ConventionScorer, average_shares
from stadia.judge.reconstructions.result_convention import (
    CAMERA_CHANGES,
    GIVEN,
    MIRROR,
    POSE_CHANGES,
    QUARTER_TURNS,
    Convention,
    describe_convention,
    list_flat_axes,
    list_half_turned,
    list_named_turns,
    name_camera,
    order_rows,
)
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.match_triangulation import find_image_times

MIN_PAIRS = 5
"""Fewest scored pairs of images with which conventions are searched."""

MIN_EXPLAINED = 0.5
"""Share of matches that a convention must explain to be named."""

MAX_GIVEN = 0.85
"""Largest share of matches that fit as given, over the share that fit after the fix, if a convention is named."""

MAX_GIVEN_OF_RARE = 0.7
"""The same for a focal length, for rare mistakes, and for several mistakes at once."""

MIN_SIGMA = 3.2
"""A convention is named if its gain over pairs of images is at least this many standard deviations of the mean."""

CORRELATED = 3
"""Number of scored pairs of images that count as one in that deviation, since pairs share images."""

ENOUGH = 0.7
"""Combinations of two mistakes are tried only below this share of fitting matches."""

SCORED_EVERY = 3
"""Combinations are scored on each SCORED_EVERY-th match first."""

KEPT = 40
"""Number of the best combinations that are then scored on all matches."""

NEARLY = 0.2
"""Conventions whose share of fitting matches is less than this below the best one's are compared by distances."""

SOFTNESSES_PX = (0.3, 0.5, 0.8, 1.2, 2.0)
"""Distances from the epipolar line, pixels of an image of PIXELS, at which a match counts half; the sharpest first."""

MIN_SHARP = 0.6
"""Distances are compared at the smallest of SOFTNESSES_PX at which the best convention fits this share of matches."""

SAME_DEG = 0.5
"""Two conventions are the same for these images if their camera motions agree within this angle."""

TIE = 0.03
"""Two conventions explain equally if their shares of fitting matches differ by less."""

MAX_LIST_SHIFT = 30
"""Largest shift of a list in images that is searched."""

MAX_OFFSET_S = 3.0
"""Largest offset of clocks that is searched, seconds."""

OFFSET_STEPS = 60
"""Offsets of clocks that are tried in each direction."""

FOCAL_FACTORS = np.exp(np.linspace(np.log(0.3), np.log(3.4), 33))
"""Factors of the focal length that are tried."""

BETWEEN_FACTORS = np.exp(np.linspace(-0.06, 0.06, 9)).tolist()
"""Factors around the best focal length of FOCAL_FACTORS, which are 8 % apart: other causes fit between them."""

MIN_FOCAL_FAULT = 0.1
"""Smallest difference of a focal length, as a natural logarithm, that is named as a mistake."""

FOCAL_COST = 0.06
"""A free focal length must improve a convention by this share of matches."""

FOCAL_RANGE = 2.0
"""Factor, up and down, within which the focal length that fits most matches is searched."""

FOCAL_STEPS = 57
"""Focal lengths that are tried in this range, 2.5 % apart."""

MIN_OFF_CENTER = 0.2
"""Least distance of a principal point from the middle of the image, as a share of its side, with which it may be no
principal point at all. A smaller one is measured.
"""

MIN_OTHER_SIZE = 0.1
"""Least difference of the size that a principal point implies, as a natural logarithm, with which K may belong to
another size; a smaller one is a principal point that is off.
"""

SAME_SIDES = 0.01
"""Two images have the same shape if the ratios of their sides differ by at most this share."""

MAX_OFF_CENTER = 0.15
"""Largest distance of a principal point from the middle, as a natural logarithm, with which K may belong to another
size.
"""


@dataclass(frozen=True, slots=True)
class ExplainedConvention:
    """A convention that explains the matches.

    convention: the convention.
    what: what the file has.
    fix: what to do.
    fits_given: share of matches that fit as given, 0 to 1.
    fits: share of matches that fit with this convention.
    others: what the file may have instead, because the images cannot distinguish these conventions.
    """

    convention: Convention
    what: str
    fix: str
    fits_given: float
    fits: float
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ConventionSearch:
    """The result of `search_conventions`.

    fits_given: share of the matches that fit the reconstruction as given, 0 to 1; NaN if too few matches can be scored.
    pairs: number of scored pairs of images.
    found: the convention that explains the matches; None if the reconstruction as given is as good, or none explains.
    undecided: what the file may have, since conventions explain the matches as well as the reconstruction as given.
    focal_factors: factor of the focal length with which most matches fit, and the smallest and the largest one with
        which nearly as many do; in addition to `found`.
    fits_focal: share of the matches that fit with the first of these factors.
    """

    fits_given: float
    pairs: int
    found: ExplainedConvention | None
    undecided: tuple[str, ...]
    focal_factors: tuple[float, float, float]
    fits_focal: float


def list_singles(scorer: ConventionScorer) -> list[Convention]:
    """List the conventions of one change, or of poses and axes together."""
    found = [Convention(poses=poses, axes=axes) for poses in POSE_CHANGES for axes in list_flat_axes()]
    found += list_half_turned()
    found += list_orders(scorer)
    return found + list_cameras(scorer)


def list_cameras(scorer: ConventionScorer) -> list[Convention]:
    """List the conventions that change only K, without a change of the focal length alone."""
    off = np.median(np.abs(scorer.posed.K[:, :2, 2] + 0.5 - scorer.sizes / 2) / scorer.sizes, axis=0)
    left_out = {"given", "center"} if (off < MIN_OFF_CENTER).all() else {"given"}
    implied = np.log(np.median((2 * scorer.posed.K[:, :2, 2] + 1) / scorer.sizes, axis=0).clip(1e-6))
    if np.abs(implied).max() < MIN_OTHER_SIZE:
        left_out.add("size")
    given = scorer.reconstruction.sizes[scorer.posed.rows]
    shape, shape_given = (float(np.median(sides[:, 0] / np.maximum(sides[:, 1], 1))) for sides in (scorer.sizes, given))
    if abs(shape * shape_given - 1) > SAME_SIDES or abs(shape - 1) < SAME_SIDES:
        left_out |= {"sides", *QUARTER_TURNS}
    else:
        left_out.add("size")  # the sizes in the file say what is wrong with K
    if abs(shape - 1) < SAME_SIDES:
        left_out.add("swapped")
    found = [
        Convention(camera=camera, axes=QUARTER_TURNS.get(camera, GIVEN.axes))
        for camera in CAMERA_CHANGES
        if camera not in left_out
    ]
    implied = np.median(scorer.sizes / np.maximum(2 * scorer.posed.K[:, :2, 2] + 1, 1e-3), axis=0)
    middle = float(np.sqrt(implied.prod()))
    factors = {1 / 4, 1 / 3, 3 / 8, 2 / 5, 1 / 2, 5 / 8, 2 / 3, 3 / 4, 4 / 5, float(implied[0]), float(implied[1])}
    factors |= {1 / factor for factor in factors}
    near = [
        factor for factor in factors if abs(np.log(factor / middle)) < MAX_OFF_CENTER and abs(np.log(factor)) > 0.05
    ]
    return found + [Convention(size_factor=factor) for factor in sorted(near)]


def list_orders(scorer: ConventionScorer) -> list[Convention]:
    """List the conventions that change only the order or the times of poses."""
    posed = scorer.posed
    found = [Convention(order="reversed")]
    if posed.how == "time":
        times_s = find_image_times(scorer.matches)
        gap = float(np.median(np.diff(times_s))) if times_s is not None else 0.1
        most = min(MAX_OFFSET_S, len(posed.images) * gap / 2)
        steps = np.linspace(-most, most, 2 * OFFSET_STEPS + 1)
        found += [Convention(offset_s=round(float(step), 4)) for step in steps if abs(step) > 1e-9]
    else:
        most = min(MAX_LIST_SHIFT, len(posed.images) // 2)
        found += [Convention(order="shifted", shift=shift) for shift in range(-most, most + 1) if shift]
    names = [scorer.matches.names[index] for index in posed.images]
    sorted_otherwise = Convention(order="by number" if scorer.reconstruction.is_text_order else "by name")
    if not np.array_equal(order_rows(len(names), sorted_otherwise, names), np.arange(len(names))):
        found.append(sorted_otherwise)
    return found


def list_doubles(scorer: ConventionScorer) -> list[Convention]:
    """List the conventions of two changes: poses and axes with another camera, or with another order."""
    turned = [Convention(poses=poses, axes=axes) for poses in POSE_CHANGES for axes in list_flat_axes()]
    found = [
        replace(base, camera=other.camera, size_factor=other.size_factor)
        for base in turned
        for other in list_cameras(scorer)
        if other.camera not in QUARTER_TURNS
    ]
    known = [np.eye(3), MIRROR, *list_named_turns(scorer.reconstruction.pose_format.axes)]
    few = [base for base in turned if any(np.array_equal(base.R, axes) for axes in known)]
    for order in list_orders(scorer):
        found += [replace(order, poses=base.poses, axes=base.axes) for base in few if base != GIVEN]
    return found


def search_conventions(reconstruction: Reconstruction, matches: ImageMatches) -> ConventionSearch:
    """Search the convention that explains the matches, if the reconstruction as given does not.

    A convention is named only if it explains at least MIN_EXPLAINED of the matches, and the reconstruction as given
    explains at most MAX_GIVEN of these. The difference must also exceed the scatter over pairs of images.

    reconstruction: cameras and poses as read.
    matches: matches between the images.

    Raises DataError if fewer than 3 images have a pose, or the camera is unknown.
    """
    scorer = ConventionScorer(reconstruction, matches)
    pairs = len(scorer.sample.ends)
    if pairs < MIN_PAIRS:
        return ConventionSearch(float("nan"), pairs, None, (), (1.0, 1.0, 1.0), float("nan"))
    shares = _Shares(scorer)
    shares.add(list_singles(scorer))
    if shares.find_best()[1] < ENOUGH:
        shares.add_by_sample(list_doubles(scorer))
    wrong = FOCAL_FACTORS[np.abs(np.log(FOCAL_FACTORS)) > MIN_FOCAL_FAULT].tolist()
    shares.add([replace(base, focal_factor=factor) for base in shares.list_best(4) for factor in wrong])
    alone = max((replace(GIVEN, focal_factor=factor) for factor in wrong), key=lambda one: shares.means[one])
    shares.add([replace(alone, focal_factor=alone.focal_factor * factor) for factor in BETWEEN_FACTORS])
    found, others, given, best = shares.choose()
    factors, fits_focal = find_focal(scorer, found)
    explained = None
    if found != GIVEN:
        what, fix = describe_convention(found, reconstruction, scorer.posed)
        explained = ExplainedConvention(found, what, fix, given, best, others)
    return ConventionSearch(given, pairs, explained, () if explained else others, factors, fits_focal)


def find_focal(scorer: ConventionScorer, convention: Convention) -> tuple[tuple[float, float, float], float]:
    """Return the factor of the focal length that fits most matches, the smallest and the largest factor that fit nearly
    as many, and the share of matches that fit the first.
    """
    factors = convention.focal_factor * np.exp(np.linspace(-np.log(FOCAL_RANGE), np.log(FOCAL_RANGE), FOCAL_STEPS))
    mean = average_shares(scorer.score([replace(convention, focal_factor=float(factor)) for factor in factors]))
    row = int(mean.argmax())
    near = np.flatnonzero(mean >= mean[row] - 0.5 * TIE)
    relative = factors / convention.focal_factor
    return (float(relative[row]), float(relative[near[0]]), float(relative[near[-1]])), float(mean[row])


class _Shares:
    """The shares of fitting matches of all conventions that were tried."""

    def __init__(self, scorer: ConventionScorer) -> None:
        self.scorer = scorer
        self.means: dict[Convention, float] = {}

    def add(self, conventions: Sequence[Convention]) -> None:
        new = [convention for convention in dict.fromkeys(conventions) if convention not in self.means]
        if new:
            self.means.update(zip(new, average_shares(self.scorer.score(new)).tolist(), strict=True))

    def add_by_sample(self, conventions: Sequence[Convention]) -> None:
        """Score part of the matches, and add those conventions that fit most of them."""
        mean = average_shares(self.scorer.score(conventions, every=SCORED_EVERY))
        self.add([conventions[row] for row in np.argsort(-mean, kind="stable")[:KEPT]])

    def list_best(self, count: int) -> list[Convention]:
        """Return the conventions that fit most matches, the reconstruction as given among them."""
        ranked = sorted(self.means, key=lambda convention: -self.means[convention])
        return list(dict.fromkeys([GIVEN, *ranked[:count]]))

    def find_best(self) -> tuple[Convention, float]:
        return max(self.means.items(), key=lambda entry: entry[1])

    def choose(self) -> tuple[Convention, tuple[str, ...], float, float]:
        """Return the convention, what the file may have instead, and the shares that fit as given and with it.

        Distances are compared at the softness at which the best convention still fits most matches.
        """
        scorer, best = self.scorer, self.find_best()[1]
        listed = [convention for convention in self.list_best(KEPT) if self.means[convention] >= best - NEARLY]
        listed = list(dict.fromkeys([GIVEN, *listed]))
        shares, mean = scorer.score(listed), np.zeros(0)
        for soft_px in SOFTNESSES_PX:
            shares = scorer.score(listed, soft_px)
            mean = average_shares(shares) - [FOCAL_COST * (convention.focal_factor != 1) for convention in listed]
            if mean.max() >= MIN_SHARP:
                break
        tied = [row for row in range(len(listed)) if mean[row] >= mean.max() - TIE]
        axes = scorer.reconstruction.pose_format.axes
        chosen = min(tied, key=lambda row: (listed[row].count_changes(axes), -mean[row]))
        gain = shares[chosen] - shares[0]
        gain = gain[np.isfinite(gain)]
        deviation = float(gain.std() / np.sqrt(max(len(gain) / CORRELATED, 1))) if len(gain) else np.inf
        coarse = self.means[listed[chosen]], self.means[GIVEN]
        is_clear = (
            coarse[0] >= MIN_EXPLAINED
            and mean[0] <= _find_limit(listed[chosen], axes) * mean[chosen]
            and gain.mean() > MIN_SIGMA * deviation
        )
        if not is_clear:
            chosen = 0
        others = [
            describe_convention(listed[row], scorer.reconstruction, scorer.posed)[0]
            for row in tied
            if row != chosen and self._is_other(listed[row], listed[chosen])
        ]
        return listed[chosen], tuple(dict.fromkeys(others)), coarse[1], self.means[listed[chosen]]

    def _is_other(self, convention: Convention, chosen: Convention) -> bool:
        """Return whether a convention is as simple as the chosen one, but moves the camera otherwise."""
        axes = self.scorer.reconstruction.pose_format.axes
        if convention.count_changes(axes) > max(chosen.count_changes(axes), 1) + 0.5 or convention == GIVEN:
            return False
        if name_camera(convention)[:3] != name_camera(chosen)[:3]:
            return False  # another camera, whose focal length has a line of its own
        if abs(convention.shift - chosen.shift) + abs(convention.offset_s - chosen.offset_s) > 0:
            return False  # neighbors in time
        R, t, known = self.scorer.find_motion(convention, {})
        R_chosen, t_chosen, known_chosen = self.scorer.find_motion(chosen, {})
        both = known & known_chosen
        turn = np.degrees(np.arccos(np.clip((np.einsum("pij,pij->p", R, R_chosen) - 1) / 2, -1, 1)))[both]
        product_of_t = (t * t_chosen).sum(1) / np.maximum(
            np.linalg.norm(t, axis=1) * np.linalg.norm(t_chosen, axis=1), 1e-12
        )
        return bool(
            np.median(turn) > SAME_DEG
            or np.median(np.degrees(np.arccos(np.clip(product_of_t[both], -1, 1)))) > SAME_DEG
        )


def _find_limit(convention: Convention, axes: Axes) -> float:
    return MAX_GIVEN if convention.count_changes(axes) < 1.15 and convention.focal_factor == 1 else MAX_GIVEN_OF_RARE
