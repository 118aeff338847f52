"""Name the causes of an error of poses and cameras: explanations compete, and held-out matches decide.

A cause is named only if undoing it lets matches fit better that took no part, by more than their scatter. So each named
cause has a cure that was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stadia.core.errors import GeometryError
from stadia.geometry.align import umeyama
from stadia.geometry.poses import find_centers, so3_exp, so3_log
from stadia.judge.error import Measured, MeasuredError
from stadia.sfm.held_out import HeldOutGain, measure_gain
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.match_triangulation import PosedImages
from stadia.sfm.pose_error import (
    Array,
    PoseDifference,
    align_robustly,
    compare_poses,
    measure_camera,
    measure_change,
    measure_rms,
)
from stadia.sfm.pose_refinement import AdjustedPoses

MIN_FOCAL = 0.003
"""Least error of a focal length, as a share, that is named."""

MIN_CENTER_PX = 2.0
"""Least error of a principal point that is named, pixels of images of 640."""

MIN_LENS_PX = 1.0
"""Least shift of the middle of the longer edge by a lens that is named, pixels of images of 640."""

MIN_NOISE_DEG, MIN_NOISE_SHARE = 0.03, 0.0005
"""Least scatter of rotations, degrees, and of positions, as a share of the extent, that is named."""

SURELY_NAMED = 3.0
"""A size is named if it is this many standard deviations above its least value."""

MIN_GAIN = 0.05
"""Least relative reduction of the cost of held-out matches by new cameras, or by new poses of all images."""

LIKE_ANOTHER = 0.35
"""A pose belongs to another image if its distance from this image's pose is at most this share of the distance from its
own.
"""

LINE = 2
"""Points that determine a line, which takes their scatter away."""

DEG_PER_SHARE = 60.0
"""Degrees of rotation that count as much as the extent of the path, when poses are compared."""

MIN_PATH = 6
"""Fewest images of a path whose shape is explained."""

MIN_SHIFTED = 4
"""Fewest images whose poses are shifted together."""

MAX_PART_SHIFT = 10
"""Largest shift that is searched, images."""

MIN_PERMUTED_SHARE = 0.5
"""Least share of the images that have the pose of another one, from which the whole list is searched for its order;
fewer are exchanged one by one.
"""

MAX_PERMUTED = 0.35
"""Largest median distance of poses in the found order, over that from their nearest other pose."""

ANCHORS = 4
"""Adjusted poses that are placed on every given pose in the search of an order."""

MIN_EXPLAINED = 0.5
"""Share of the squared errors that an explanation must take away."""

MIN_BLOCK = 3
"""Fewest wrong images that match each other, which are tried at their given position too."""

PRICE = 2.0
"""Price of each parameter of an explanation, in logarithms of the number of errors."""

MIN_SPAN = 0.03
"""Least length of an axis of the path, over that of the longest, along which a stretch shows."""


@dataclass(frozen=True, slots=True, eq=False)
class Cause:
    """A cause of an error.

    name: a name from CAUSES.
    what: what the file has, as a clause.
    fix: what to do, as a clause; it was tried.
    images: names of the images that it concerns; empty for all.
    size: how large it is; None without a size.
    unit: unit of the size: "degrees", "share" or "px".
    gain: how held-out matches fit before and after the fix.
    """

    name: str
    what: str
    fix: str
    images: tuple[str, ...] = ()
    size: Measured | None = None
    unit: str = ""
    gain: HeldOutGain | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Causes and what undoes them.

    causes: the causes.
    undo: returns images without it.
    min_gain: least relative reduction of the cost of held-out matches.
    is_refined: whether adjusted poses are tried as well if undoing it is not surely better: where all poses are off
        too, a right change of the camera alone does not show.
    rows: rows of the images whose matches decide; None for all.
    rival: returns images with a smaller change, than which the explanation must surely fit better.
    """

    causes: tuple[Cause, ...]
    undo: Callable[[PosedImages], PosedImages]
    min_gain: float = 0.01
    is_refined: bool = False
    rows: NDArray[np.intp] | None = None
    rival: Callable[[PosedImages], PosedImages] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """The causes that held-out matches confirm, and the images without them."""

    causes: tuple[Cause, ...]
    posed: PosedImages


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """What explanations are made from.

    adjusted: poses and cameras before and after the adjustment.
    differences: of its parts, the largest first.
    error: what was measured of them.
    matches: independent matches.
    """

    adjusted: AdjustedPoses
    differences: Sequence[PoseDifference]
    error: MeasuredError
    matches: ImageMatches

    def take_poses(self, posed: PosedImages) -> PosedImages:
        """Return images with the adjusted poses where they have one; wrong images keep theirs."""
        T = posed.T_camera_world.copy()
        for part in self.differences:
            T[part.rows[~part.is_wrong]] = part.T_adjusted[~part.is_wrong]
        return replace(posed, T_camera_world=T)

    def take_rotations(self, posed: PosedImages) -> PosedImages:
        """Return images with the adjusted rotations, at their own positions."""
        refined = self.take_poses(posed)
        every = np.arange(len(posed.T_camera_world))
        return _place(posed, every, refined.T_camera_world[:, :3, :3], find_centers(posed.T_camera_world))


def find_causes(
    adjusted: AdjustedPoses, differences: Sequence[PoseDifference], error: MeasuredError, matches: ImageMatches
) -> Explained:
    """Name the causes of an error, and undo them.

    adjusted: poses and cameras before and after the adjustment.
    differences: of its parts.
    error: what was measured of them.
    matches: independent matches; those that were held out decide.
    """
    posed, causes = adjusted.given, list[Cause]()
    if not error.is_measured:
        return Explained((), posed)
    measured = Measurements(adjusted, differences, error, matches)
    for explain in _EXPLAIN:
        for explanation in explain(posed, measured):
            without = explanation.undo(posed)
            if explanation.rival is not None:
                rival = explanation.rival(posed)
                if not measure_gain(rival, without, matches, explanation.rows).is_sure(explanation.min_gain):
                    continue
            tried = [(without, "")]
            if explanation.is_refined:
                tried.append((measured.take_poses(without), ", and take the poses of stadia refine"))
            for after, more in tried:
                gain = measure_gain(posed, after, matches, explanation.rows)
                if gain.is_sure(explanation.min_gain):
                    posed = after
                    if explain is _explain_order:
                        part = compare_again(measured.differences[0], posed.T_camera_world)
                        measured = replace(measured, differences=[part, *measured.differences[1:]])
                    causes += [replace(cause, fix=cause.fix + more, gain=gain) for cause in explanation.causes]
                    break
    return Explained(tuple(causes), posed)


# -- cameras


def _explain_cameras(posed: PosedImages, measured: Measurements) -> Iterator[Explanation]:
    """All parameters of a camera that differ are undone at once, because they were measured together."""
    adjusted = measured.adjusted
    for camera in sorted(adjusted.cameras, key=lambda camera: -len(camera.rows)):
        causes, undo = _explain_camera(posed, adjusted.posed, camera.rows, measure_camera(adjusted, camera))
        if len(adjusted.cameras) > 1:
            names = tuple(measured.matches.names[posed.images[row]] for row in camera.rows)
            of = f", of the camera of {len(names)} images such as {names[0]}"
            causes = [replace(cause, what=cause.what + of, images=names) for cause in causes]
        if causes:
            # new poses alone may explain what new poses and cameras explain
            is_refined = adjusted.compare_cameras(camera.rows).is_sure(MIN_GAIN)
            yield Explanation(tuple(causes), undo, MIN_GAIN, is_refined=is_refined, rows=camera.rows)


def _explain_camera(
    posed: PosedImages, after: PosedImages, rows: NDArray[np.intp], error: Mapping[str, Any]
) -> tuple[list[Cause], Callable[[PosedImages], PosedImages]]:
    """Return the causes that the parameters of a camera are, and a change that undoes them.

    posed, after: the images with the given and the adjusted cameras.
    rows: rows of the images of the camera.
    error: from `measure_camera`.
    """
    of_file = np.ones(2) if posed.px_of_file is None else posed.px_of_file[rows[0]]
    px = float(posed.sizes[rows[0]].max()) / 640 * float(of_file.mean())
    causes, entries, is_bent = list[Cause](), list[tuple[tuple[int, int], tuple[int, int]]](), False
    focals = tuple(of_file * one.K[rows[0], (0, 1), (0, 1)] for one in (posed, after))
    focal, aspect = error["focal_share"], error["aspect_share"]
    if aspect is not None and aspect.is_above(MIN_FOCAL, SURELY_NAMED):
        causes.append(_describe_aspect(aspect, *focals))
    elif focal is not None and focal.is_above(MIN_FOCAL, SURELY_NAMED):
        causes.append(_describe_focal(focal, *(float(one[0]) for one in focals)))
    if causes:
        entries.append(((0, 1), (0, 1)))
    lens, center = error["distortion_px"], error["principal_point_px"]
    if lens is not None and lens.is_above(MIN_LENS_PX * px, SURELY_NAMED):
        causes.append(_describe_lens(lens, *(float(one.distortion[rows[0], 0]) for one in (posed, after))))
        is_bent = True
    if center is not None and any(axis.is_above(MIN_CENTER_PX * px, SURELY_NAMED) for axis in center):
        causes.append(_describe_center(*center))
        entries.append(((0, 1), (2, 2)))

    def undo(now: PosedImages) -> PosedImages:
        K, distortion = now.K.copy(), now.distortion.astype(np.float64)
        for first, second in entries:
            K[rows[:, None], first, second] = after.K[rows[:, None], first, second]
        if is_bent:
            distortion[rows] = after.distortion[rows]
        return replace(now, K=K, distortion=distortion)

    return causes, undo


def _describe_focal(focal: Measured, given_px: float, measured_px: float) -> Cause:
    longer = "long" if focal.value > 0 else "short"
    return Cause(
        "focal-length",
        f"the focal length is {abs(focal.value):.1%} too {longer} ({given_px:.5g} px, measured {measured_px:.5g})",
        f"multiply it by {measured_px / given_px:.4f}",
        size=focal,
        unit="share",
    )


def _describe_aspect(aspect: Measured, given_px: Array, measured_px: Array) -> Cause:
    (fx, fy), (fx_after, fy_after) = given_px, measured_px
    return Cause(
        "aspect",
        f"fy over fx is {1 + aspect.value:.3f} times the measured ratio (fx {fx:.5g}, fy {fy:.5g} px)",
        f"write fx {fx_after:.5g}, fy {fy_after:.5g} px",
        size=aspect,
        unit="share",
    )


def _describe_lens(lens: Measured, given: float, measured: float) -> Cause:
    amount = "too far outward" if lens.value > 0 else "too far inward"
    return Cause(
        "lens",
        f"the lens moves the edge of the images {abs(lens.value):.1f} px {amount} (k1 {given:.4g}, measured "
        f"{measured:.4g})",
        f"write k1 {measured:.4g}",
        size=lens,
        unit="px",
    )


def _describe_center(x: Measured, y: Measured) -> Cause:
    return Cause(
        "principal-point",
        f"the principal point is off by ({x.value:+.1f}, {y.value:+.1f}) px",
        f"subtract ({x.value:.1f}, {y.value:.1f}) px from cx, cy",
        size=x if abs(x.value) > abs(y.value) else y,
        unit="px",
    )


# -- images


def find_order(T_given: Array, T_adjusted: Array) -> NDArray[np.intp] | None:
    """Return the row (N,) of the given poses that each adjusted pose has; None if they are not the same poses.

    The two lists may be in different worlds and in any order. An adjusted pose is placed on each given one. The
    placement with which most poses are near others is then fitted to all of them.

    T_given: (M, 4, 4) world-to-camera poses, M at least N.
    T_adjusted: (N, 4, 4) world-to-camera poses.

    Examples:
        >>> T = np.tile(np.eye(4), (8, 1, 1))
        >>> T[:, :3, 3] = np.random.default_rng(0).normal(size=(8, 3))
        >>> find_order(T[[3, 1, 0, 2, 7, 6, 5, 4]], T).tolist()
        [2, 1, 3, 0, 7, 6, 5, 4]
    """
    if len(T_given) > MAX_ORDERED:
        return None
    given, adjusted = find_centers(T_given), find_centers(T_adjusted)
    extents = [float(np.linalg.norm(np.ptp(one, axis=0))) for one in (given, adjusted)]
    if min(extents) <= 0:
        return None
    best, moved = np.inf, T_adjusted
    some = np.unique(np.linspace(0, len(adjusted) - 1, COMPARED).astype(int))
    for anchor in np.unique(np.linspace(0, len(adjusted) - 1, ANCHORS).astype(int)):
        for row in range(len(given)):
            Q = T_adjusted[anchor, :3, :3].T @ T_given[row, :3, :3]  # from the given world to the adjusted one
            scale = extents[0] / extents[1]
            placed = _place_poses(T_adjusted, Q, scale * (adjusted - adjusted[anchor]) @ Q + given[row])
            median = float(np.median(_measure_distances(placed[some], T_given, extents[0]).min(1)))
            if median < best:
                best, moved = median, placed
    for _ in range(FITTED):
        distances = _measure_distances(moved, T_given, extents[0])
        order, near = distances.argmin(1), distances.min(1) <= np.median(distances.min(1))
        fitted = umeyama(adjusted[near], given[order[near]], "sim3")
        placed = _place_poses(T_adjusted, fitted.R.T, fitted.apply(adjusted))
        median = float(np.median(_measure_distances(placed, T_given, extents[0]).min(1)))
        if median >= best:
            break  # positions on a line leave the turn about it open
        best, moved = median, placed
    distances = _measure_distances(moved, T_given, extents[0])
    order = np.asarray(linear_sum_assignment(distances)[1])
    apart = _measure_distances(T_given, T_given, extents[0]) + np.diag(np.full(len(given), np.inf))
    return order if np.median(distances.min(1)) <= MAX_PERMUTED * np.median(apart.min(1)) else None


MAX_ORDERED, COMPARED = 200, 24
"""Most poses whose order is searched, and how many of them each placement is judged by."""

FITTED = 5
"""Rounds in which a placement is fitted to the nearer half of the poses."""


def _place_poses(T: Array, Q: Array, centers: Array) -> Array:
    """Return world-to-camera poses (N, 4, 4) that are turned by Q (3, 3) and have these positions (N, 3)."""
    moved = T.copy()
    moved[:, :3, :3] = T[:, :3, :3] @ Q
    moved[:, :3, 3] = -np.einsum("nij,nj->ni", moved[:, :3, :3], centers)
    return moved


def _explain_order(posed: PosedImages, measured: Measurements) -> Iterator[Explanation]:
    part = measured.differences[0]
    count = len(part.rows)
    if count < 2 * MIN_SHIFTED:
        return
    near = _measure_distances(part.T_given, part.T_adjusted, part.extent)
    if np.median(np.diag(near)) <= np.median(_step_lengths(part)):
        return  # poses are nearer to their own image than to the next one
    with suppress(GeometryError):
        order = find_order(posed.T_camera_world, part.T_adjusted)
        if order is None or (order != part.rows).mean() < MIN_PERMUTED_SHARE:
            return
        names = [measured.matches.names[image] for image in posed.images]
        moved = np.flatnonzero(order != part.rows)
        first, other = part.rows[moved[0]], order[moved[0]]
        cause = Cause(
            "permuted-list",
            f"the poses of {len(moved)} of {count} images are in another order: that of {names[first]} has the name "
            f"{names[other]}",
            "give each image its own pose",
            tuple(names[part.rows[row]] for row in moved),
        )
        yield Explanation((cause,), _take_rows(posed.T_camera_world[order], part.rows))


def compare_again(part: PoseDifference, T_camera_world: Array) -> PoseDifference:
    """Return the difference of a part after its given poses were changed, aligned by the same deviations.

    T_camera_world: (F, 4, 4) given poses of all images.
    """
    of_moves = part.extent * part.of_moves
    T_given = T_camera_world[part.rows]
    return compare_poses(T_given, part.T_adjusted, rows=part.rows, of_turns=part.of_turns, of_moves=of_moves)


def _take_rows(T: Array, rows: NDArray[np.intp]) -> Callable[[PosedImages], PosedImages]:
    """Return a change of images: the poses (N, 4, 4) at these rows."""

    def change(posed: PosedImages) -> PosedImages:
        changed = posed.T_camera_world.copy()
        changed[rows] = T
        return replace(posed, T_camera_world=changed)

    return change


def _explain_images(posed: PosedImages, measured: Measurements) -> Iterator[Explanation]:
    names = [measured.matches.names[index] for index in posed.images]
    for part in measured.differences:
        shifted = np.zeros(len(part.rows), bool)
        found = _find_shift(part)
        if found is not None:
            start, stop, shift = found
            shifted[start:stop] = True
            rows = part.rows[start:stop]
            cause = Cause(
                "shifted-list",
                f"the poses of {names[rows[0]]} to {names[rows[-1]]} belong to images {abs(shift)} "
                + ("later" if shift > 0 else "earlier"),
                f"shift these poses by {abs(shift)}",
                tuple(names[row] for row in rows),
                Measured(float(shift), 0.0),
                "images",
            )
            yield Explanation((cause,), _take_rows(part.T_adjusted[start:stop], rows))
        left = part.is_wrong & ~shifted
        for cycle in _find_cycles(part, left):
            rows = part.rows[cycle]
            left[cycle] = False
            wrong = tuple(names[row] for row in rows)
            what = f"{wrong[0]} and {wrong[1]} are exchanged" if len(wrong) == 2 else f"{', '.join(wrong)} are permuted"
            cause = Cause("swapped-images", what, "exchange their poses", wrong)
            yield Explanation((cause,), _take_rows(posed.T_camera_world[np.roll(rows, 1)], rows))
        for block in _split_wrong(part, left, posed.images, measured.matches):
            yield _explain_wrong(part, block, names)


def _split_wrong(
    part: PoseDifference, is_wrong: NDArray[np.bool_], images: NDArray[np.intp], matches: ImageMatches
) -> Iterator[NDArray[np.bool_]]:
    """Yield blocks (N,) of wrong images: those that matches join to at least MIN_BLOCK, and all others at once.

    is_wrong: (N,) wrong images of the part.
    images: (F,) indices of the posed images.
    """
    place = {int(images[part.rows[at]]): at for at in np.flatnonzero(is_wrong)}
    ends = [(place[p.first], place[p.second]) for p in matches.pairs if p.first in place and p.second in place]
    rows, columns = np.array(ends, int).reshape(-1, 2).T
    joined = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(is_wrong), len(is_wrong)))
    label = connected_components(joined, directed=False)[1]
    size = np.bincount(label)[label]
    rest = is_wrong & (size < MIN_BLOCK)
    for number in np.unique(label[is_wrong & ~rest]):
        yield label == number
    if rest.any():
        yield rest


LISTED = 4
"""Most wrong images that a cause names; all are in its `images`."""


def _explain_wrong(part: PoseDifference, block: NDArray[np.bool_], names: Sequence[str]) -> Explanation:
    """Explain an error by the wrong poses of some images.

    Images that match each other fit better as soon as they are right among themselves. That says nothing of the
    position of the whole block, which few matches with the other images may hold. So a block with its adjusted shape
    at its given position competes with the adjusted poses.

    block: (N,) the images.
    names: names of the posed images.
    """
    rows, T_given, T_adjusted = part.rows[block], part.T_given[block], part.T_adjusted[block]
    degrees, share = float(np.median(part.degrees[block])), float(np.median(part.shares[block]))
    images = tuple(names[row] for row in rows)
    listed = ", ".join(images[:LISTED]) + f" and {len(images) - LISTED} more" * (len(images) > LISTED)
    cause = Cause(
        "wrong-images",
        f"{len(rows)} of {len(part.rows)} images have a wrong pose, by {degrees:.2g} degrees and {share:.2g} "
        f"of the extent: {listed}",
        "take the poses that their matches give",
        images,
        *((Measured(share, 0.0), "share") if share * DEG_PER_SHARE > degrees else (Measured(degrees, 0.0), "degrees")),
    )
    rival = None
    if len(rows) >= MIN_BLOCK:
        rival = _take_rows(align_robustly(T_adjusted, T_given), rows)
    return Explanation((cause,), _take_rows(T_adjusted, rows), rival=rival)


def _measure_distances(T: Array, T_other: Array, extent: float) -> Array:
    """Return distances (N, M) of poses (N, 4, 4) from others (M, 4, 4), degrees; an extent counts DEG_PER_SHARE."""
    turn = np.linalg.norm(so3_log(T[:, None, :3, :3] @ T_other[None, :, :3, :3].swapaxes(-1, -2)), axis=-1)
    move = np.linalg.norm(find_centers(T)[:, None] - find_centers(T_other)[None], axis=-1) / extent
    return np.asarray(np.hypot(np.rad2deg(turn), DEG_PER_SHARE * move))


def _find_cycles(part: PoseDifference, is_wrong: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    """Yield groups of wrong images whose poses belong to each other: pose k of a group belongs to its image k - 1.

    So image k of a group takes the pose of image k - 1 of the rolled one.
    """
    wrong = np.flatnonzero(is_wrong)
    if len(wrong) < 2:
        return
    distances = _measure_distances(part.T_given[wrong], part.T_adjusted, part.extent)
    own = distances[np.arange(len(wrong)), wrong]
    nearest = distances[:, wrong].argmin(1)
    is_like = distances[np.arange(len(wrong)), wrong[nearest]] <= LIKE_ANOTHER * own
    seen = np.zeros(len(wrong), bool)
    for start in range(len(wrong)):
        cycle = [start]
        while is_like[cycle[-1]] and (after := int(nearest[cycle[-1]])) not in cycle and not seen[after]:
            cycle.append(after)
        if len(cycle) > 1 and is_like[cycle[-1]] and nearest[cycle[-1]] == start:
            seen[cycle] = True
            yield wrong[cycle]


def _find_shift(part: PoseDifference) -> tuple[int, int, int] | None:
    """Return the images (start, stop) whose poses belong to the images that follow by a shift; None without them."""
    count, best = len(part.rows), None
    if count < 2 * MIN_SHIFTED:
        return None
    distances = _measure_distances(part.T_given, part.T_adjusted, part.extent)
    own = np.diag(distances)
    soft = max(float(np.median(own)), 1e-6) if float(np.median(own)) < float(np.median(_step_lengths(part))) else None
    soft = float(np.median(_step_lengths(part))) * 0.1 if soft is None else max(soft, 1e-6)
    for shift in [s for s in range(-MAX_PART_SHIFT, MAX_PART_SHIFT + 1) if s]:
        rows = np.arange(max(0, -shift), min(count, count - shift))
        gain = np.log1p((own[rows] / soft) ** 2) - np.log1p((distances[rows, rows + shift] / soft) ** 2)
        start, stop, total = _find_best_run(gain)
        if stop - start >= MIN_SHIFTED and (best is None or total > best[3]):
            best = int(rows[start]), int(rows[stop - 1]) + 1, shift, total
    if best is None or best[3] < 2 * (best[1] - best[0]) or best[3] < 3 * PRICE * np.log(count):
        return None
    return best[:3]


def _step_lengths(part: PoseDifference) -> Array:
    distances = _measure_distances(part.T_adjusted, part.T_adjusted, part.extent)
    return np.diag(distances, 1)


def _find_best_run(values: Array) -> tuple[int, int, float]:
    """Return start, stop and sum of the run of values with the largest sum (Kadane's algorithm).

    Examples:
        >>> _find_best_run(np.array([-1.0, 2, 3, -9, 4]))
        (1, 3, 5.0)
    """
    sums = np.concatenate(([0.0], np.cumsum(values)))
    lowest = np.minimum.accumulate(sums)
    stop = int((sums - lowest).argmax())
    start = int(np.flatnonzero(sums[: stop + 1] == lowest[stop])[-1])
    return start, stop, float(sums[stop] - sums[start])


# -- shape of the path


def _explain_drift(posed: PosedImages, measured: Measurements) -> Iterator[Explanation]:
    part = measured.differences[0]
    kept = part.is_kept
    if kept.sum() < MIN_PATH:
        return
    along = np.linspace(0, 1, len(kept))
    R = part.T_adjusted[:, :3, :3]
    turns = np.einsum("nji,nj->ni", R, part.turns)
    of_turns = R.swapaxes(1, 2) @ part.of_turns
    change = measure_change(turns[kept], of_turns[kept], along[kept])
    line = _fit_line(turns, along, kept)
    if not change.value > SURELY_NAMED * change.deviation or not _is_explained(
        turns[kept], (turns - line)[kept], 6, 3, constant=True
    ):
        return
    degrees = Measured(float(np.rad2deg(change.value)), float(np.rad2deg(change.deviation)))
    cause = Cause(
        "drift",
        f"the rotation drifts by {degrees.value:.2g} degrees along the path",
        "turn each pose back by its share",
        size=degrees,
        unit="degrees",
    )

    def undo(now: PosedImages) -> PosedImages:
        # given = adjusted turned by the error in the world, so the error is taken away on the right
        R = now.T_camera_world[part.rows, :3, :3] @ so3_exp(-line)
        return _place(now, part.rows, R, find_centers(now.T_camera_world[part.rows]))

    yield Explanation((cause,), undo)


def _place(posed: PosedImages, rows: NDArray[np.intp], R: Array, centers: Array) -> PosedImages:
    """Return images with these rotations (N, 3, 3) and positions (N, 3) at these rows."""
    T = posed.T_camera_world.copy()
    T[rows, :3, :3], T[rows, :3, 3] = R, -np.einsum("nij,nj->ni", R, centers)
    return replace(posed, T_camera_world=T)


def _explain_positions(posed: PosedImages, measured: Measurements) -> Iterator[Explanation]:
    part = measured.differences[0]
    found = _fit_positions(part, part.is_kept) if part.is_kept.sum() >= MIN_PATH else None
    if found is None:
        return
    name, size, centers = found
    what = {
        "stretched-axis": f"the positions are stretched by {1 + size.value:.3f} along one axis",
        "scale-drift": f"the scale drifts by a factor of {1 + size.value:.3f} along the path",
        "bent-path": f"the path bends by {size.value:.2g} degrees",
    }[name]
    cause = Cause(name, what, "undo it in the positions", size=size, unit="degrees" if name == "bent-path" else "share")

    def undo(now: PosedImages) -> PosedImages:
        return _place(now, part.rows, now.T_camera_world[part.rows, :3, :3], centers)

    # adjusted poses fit whatever the shape is, so the shape must show at given positions, with right rotations
    turned = measured.take_rotations(posed)
    is_refined = measure_gain(turned, undo(turned), measured.matches).is_sure(MIN_GAIN)
    yield Explanation((cause,), undo, MIN_GAIN, is_refined=is_refined)


def _is_explained(before: Array, after: Array, parameters: int, least: int, *, constant: bool = False) -> bool:
    """Return whether errors (N, 3) after an explanation are so much smaller that its parameters pay."""
    if constant:
        before = before - before.mean(0)
    total, rest, count = float((before**2).sum()), float((after**2).sum()), before.size
    if total <= 0 or rest > (1 - MIN_EXPLAINED) * total:
        return False
    return count * np.log(total / max(rest, 1e-300)) > PRICE * (parameters - least) * np.log(count)


def _fit_line(errors: Array, along: Array, kept: NDArray[np.bool_]) -> Array:
    """Return the line (N, 3) through the kept errors (N, 3)."""
    basis = np.column_stack((np.ones(len(along)), along))
    return np.asarray(basis @ np.linalg.lstsq(basis[kept], errors[kept], rcond=None)[0])


def _fit_positions(part: PoseDifference, kept: NDArray[np.bool_]) -> tuple[str, Measured, Array] | None:
    """Return the explanation of the errors of positions, its size, and the positions (N, 3) without it; else None."""
    given, right = find_centers(part.T_given), find_centers(part.T_adjusted)
    rms = measure_rms(part.moves[kept], part.of_moves[kept])
    if not rms.is_above(MIN_NOISE_SHARE / 2, SURELY_NAMED):
        return None
    tried = [_fit_stretch(given, right, kept), _fit_growth(given, right, kept), _fit_bend(given, right, kept)]
    scored, moves = list[tuple[float, str, Measured, Array]](), part.extent * part.moves[kept]
    for (name, size, centers), rest, parameters in (entry for entry in tried if entry is not None):
        measured = Measured(size, abs(size) * _measure_deviation(moves - rest, part.extent * part.of_moves[kept]))
        if _is_explained(moves, rest, parameters, 0) and abs(size) > SURELY_NAMED * measured.deviation:
            cost = 3 * kept.sum() * np.log(max((rest**2).sum(), 1e-300))
            scored.append((cost + PRICE * parameters * np.log(3 * kept.sum()), name, measured, centers))
    return min(scored, key=lambda entry: entry[0])[1:] if scored else None


def _measure_deviation(explained: Array, root: Array) -> float:
    """Return the standard deviation of the size of an explanation, over its size.

    A few matches may leave open how the scale or the direction of a path changes, and then adjusted poses differ from
    right ones in just this way.

    explained: (N, 3) the errors that the explanation takes away.
    root: (N, 3, K) root of the covariance of the errors.
    """
    along = np.linalg.norm(np.tensordot(explained, root, 2))
    return float(along / max((explained**2).sum(), 1e-300))


Fitted = tuple[tuple[str, float, Array], Array, int]


def _fit_stretch(given: Array, right: Array, kept: NDArray[np.bool_]) -> Fitted | None:
    middle, middle_given = right[kept].mean(0), given[kept].mean(0)
    _, spans, axes = np.linalg.svd(right[kept] - middle, full_matrices=False)
    shown = int((spans > MIN_SPAN * spans[0]).sum())
    if shown < 2:
        return None
    B = axes[:shown].T
    y = (right - middle) @ B
    A = np.linalg.lstsq(y[kept], given[kept] - middle_given, rcond=None)[0].T  # given = A y
    values, V = np.linalg.svd(A, full_matrices=False)[1:]
    others = [float(np.exp(np.mean(np.log(np.delete(values, row))))) for row in range(shown)]
    ratios = np.log(values / others)
    ratio = float(np.exp(np.abs(ratios).max())) if shown == 2 else float(np.exp(ratios[np.abs(ratios).argmax()]))
    scale = float(np.exp(np.log(values).mean()))
    U = A @ V.T / values  # (3, shown)
    # along the axes of the stretch, divide by its factor, and keep the mean scale
    local = (given - middle_given) @ U
    straight = given - local @ U.T + (local / values * scale) @ U.T
    rest = (given - middle_given - y @ A.T)[kept]
    return ("stretched-axis", ratio - 1, straight), rest, 5 if shown == 3 else 2


UNSEEN_BEND = 0.003
"""Price of a radian of bend, in extents of the path: a straight path that turns around itself stays the same."""


def _bend_path(right: Array, growth: float, bend: Array) -> Array:
    """Return positions (N, 3) whose steps grow to exp(growth) and turn to `bend` (radians) along the path."""
    steps = np.diff(right, axis=0)
    along = np.linspace(-0.5, 0.5, len(steps))[:, None]
    changed = np.einsum("nij,nj->ni", so3_exp(along * bend), np.exp(growth * along) * steps)
    return np.concatenate((np.zeros((1, 3)), np.cumsum(changed, axis=0)))


def _fit_steps(given: Array, right: Array, kept: NDArray[np.bool_], *, is_bend: bool) -> tuple[Array, Array]:
    """Return the parameters (growth, bend (3,)) with which bent positions are nearest to the given ones, and what is
    left (K, 3) of the kept ones.
    """
    unit = max(float(np.linalg.norm(np.ptp(right[kept], axis=0))), 1e-300)

    def measure(values: Array) -> Array:
        path = _bend_path(right, 0.0 if is_bend else values[0], values if is_bend else np.zeros(3))
        x, y = path[kept] - path[kept].mean(0), given[kept] - given[kept].mean(0)
        U, _, Vt = np.linalg.svd(y.T @ x)
        Q = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
        turned = x @ Q.T
        return np.asarray((y - float((turned * y).sum() / max((turned**2).sum(), 1e-300)) * turned) / unit)

    def price(values: Array) -> Array:
        return np.concatenate((measure(values).ravel(), UNSEEN_BEND * values))

    fitted = least_squares(price, np.zeros(3 if is_bend else 1), x_scale=0.1)
    return fitted.x, unit * measure(fitted.x)


def _fit_growth(given: Array, right: Array, kept: NDArray[np.bool_]) -> Fitted:
    (growth,), rest = _fit_steps(given, right, kept, is_bend=False)
    straight = _bend_path(given, -float(growth), np.zeros(3)) + given[0]
    return ("scale-drift", float(np.exp(growth)) - 1, straight), rest, 1


def _fit_bend(given: Array, right: Array, kept: NDArray[np.bool_]) -> Fitted:
    bend, rest = _fit_steps(given, right, kept, is_bend=True)
    straight = _bend_path(given, 0.0, -bend) + given[0]
    return ("bent-path", float(np.rad2deg(np.linalg.norm(bend))), straight), rest, 3


# -- noise


def _explain_noise(posed: PosedImages, measured: Measurements) -> Iterator[Explanation]:
    part, causes = measured.differences[0], list[Cause]()
    kept = part.is_kept
    part = compare_again(part, posed.T_camera_world)
    R = part.T_adjusted[:, :3, :3]
    turns, of_turns = np.einsum("nji,nj->ni", R, part.turns), R.swapaxes(1, 2) @ part.of_turns
    turn = _measure_scatter(turns[kept], of_turns[kept], np.flatnonzero(kept))
    degrees = Measured(float(np.rad2deg(turn.value)), float(np.rad2deg(turn.deviation)))
    if degrees.is_above(MIN_NOISE_DEG, SURELY_NAMED):
        what = f"the rotations of single images are off by {degrees.value:.2g} degrees"
        causes.append(Cause("rotation-noise", what, "stadia refine", size=degrees, unit="degrees"))
    move = _measure_scatter(part.moves[kept], part.of_moves[kept], np.flatnonzero(kept))
    if move.is_above(MIN_NOISE_SHARE, SURELY_NAMED):
        what = f"the positions of single images are off by {move.value:.2g} of the extent"
        causes.append(Cause("position-noise", what, "stadia refine", size=move, unit="share"))
    if turn.value * move.deviation < move.value * turn.deviation:
        causes.reverse()  # the surer one comes first
    if causes:
        yield Explanation(tuple(causes), measured.take_poses, MIN_GAIN)


def _measure_scatter(errors: Array, root: Array, along: NDArray[np.intp]) -> Measured:
    """Return the root mean square of errors (N, 3) about their line along the path, whose places (N,) are given.

    What changes evenly along the path, in errors and in the root (N, 3, K) of their covariance, is no scatter.
    """
    basis = np.linalg.qr(np.column_stack((np.ones(len(along)), along)))[0]
    rest, of_rest = (values - np.tensordot(basis, np.tensordot(basis.T, values, 1), 1) for values in (errors, root))
    measured = measure_rms(rest, of_rest)
    factor = float(np.sqrt(len(along) / max(len(along) - LINE, 1)))
    return Measured(factor * measured.value, factor * measured.deviation)


_EXPLAIN = (_explain_order, _explain_cameras, _explain_images, _explain_drift, _explain_positions, _explain_noise)
"""Explanations in the order in which they are tried, each on the images without the causes named before."""
