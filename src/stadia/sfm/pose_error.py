"""Measure the error of given poses and cameras: what an adjustment to independent matches changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import find_centers, so3_exp, so3_log
from stadia.judge.error import ImageError, Measured, MeasuredError
from stadia.sfm.held_out import HeldOutGain, compare_held_out
from stadia.sfm.match_triangulation import PosedImages, triangulate_tracks
from stadia.sfm.pose_refinement import AdjustedCamera, AdjustedPoses

Array = NDArray[np.float64]

RESAMPLES = 30
"""Resamples of the pairs of images that give the deviation of how far points miss their pixels."""

SPREAD, UNSURE = 1.0, 1.0
"""Factor on standard deviations for what residuals do not show, such as errors that matches share, and the relative
deviation of the variances themselves.
"""

ROUNDS, LEAST_SPREAD, SHARP = 16, 1e-5, 2.0
"""Rounds of the robust alignment of two paths, the least scatter of poses that it assumes, and the error, in medians,
beyond which a pose loses its weight in the last rounds.
"""

PIECES, MIN_PIECE = 4, 4
"""Number of pieces of a path from which it is aligned, and fewest poses of one."""

MIN_SPREAD_SHARE = 0.5
"""Scale of an alignment over the ratio of the spreads, below which the paths have other forms, and the spreads alone
give the scale.
"""

MANY_TIMES = 6.0
"""An image is wrong if its error is this many times the median error, and the images determine it."""

SURELY_WRONG = 6.0
"""Least error of a wrong image, in its standard deviations."""

MIN_WRONG_DEG, MIN_WRONG_SHARE = 1.0, 0.01
"""Least errors of a wrong image: degrees, and share of the extent of the path."""

MIN_GAIN_OF_WRONG, MIN_PARTNERS = 0.25, 3
"""Least relative reduction of the cost of a wrong image's held-out matches by the adjusted pose, and fewest images that
it has such matches with: fewer may all show another part of the scene that looks alike.
"""

MAX_UNEXPLAINED = 0.35
"""Share of held-out matches that no adjusted poses explain, above which the error cannot be measured."""

MIN_PART = 3
"""Fewest images whose error is measured."""


WIDE_PX = 30.0
"""Largest distance of a feature from a point that given poses triangulate, pixels of 640."""

MIN_TRACK, MIN_ENDS, LENGTHS, DRAWS = 3, 30, 2000, 3
"""Fewest images that see the ends of a length, fewest such points, and the numbers of lengths and poses that are drawn.
"""


@dataclass(frozen=True, slots=True, eq=False)
class PoseDifference:
    """Given poses against adjusted ones of N images of one part, after a robust alignment.

    rows: (N,) rows of the images among the posed ones.
    T_given, T_adjusted: (N, 4, 4) world-to-camera poses, both in the world of the given ones.
    turns: (N, 3) rotations from given to adjusted cameras about the axes of the camera, radians, with the sign of given
        minus adjusted.
    moves: (N, 3) given minus adjusted positions, as a share of the extent.
    of_turns, of_moves: (N, 3, K) roots of their covariances, as `PoseCovariance` has them.
    extent: length of the diagonal of the adjusted path.
    is_wrong: (N,) images whose pose is wrong.
    is_open: (N,) images whose error is far above that of the others, although held-out matches do not confirm it.
    """

    rows: NDArray[np.intp]
    T_given: Array
    T_adjusted: Array
    turns: Array
    moves: Array
    of_turns: Array
    of_moves: Array
    extent: float
    is_wrong: NDArray[np.bool_]
    is_open: NDArray[np.bool_]

    @property
    def is_kept(self) -> NDArray[np.bool_]:
        """Return the images (N,) whose errors count."""
        return ~(self.is_wrong | self.is_open)

    @property
    def degrees(self) -> Array:
        """Return the angles (N,), degrees."""
        return np.rad2deg(np.linalg.norm(self.turns, axis=1))

    @property
    def deviations_deg(self) -> Array:
        """Return the standard deviations (N,) of the angles, degrees."""
        return np.rad2deg(np.linalg.norm(self.of_turns, axis=(1, 2)))

    @property
    def deviations(self) -> Array:
        """Return the standard deviations (N,) of the distances, as shares of the extent."""
        return np.linalg.norm(self.of_moves, axis=(1, 2))

    @property
    def shares(self) -> Array:
        """Return the distances (N,), as shares of the extent."""
        return np.linalg.norm(self.moves, axis=1)


def align_robustly(T_source: Array, T_target: Array, known_to: tuple[float, float] = (0.0, 0.0)) -> Array:
    """Return the source poses in the world of the target ones, which may contain wrong poses.

    Rotations and positions count by their scatter, and each pose by its error (iteratively reweighted least squares, so
    that the sum of distances becomes smallest). It starts from rotations, from positions and from pieces of the path,
    and takes the best: where rotations drift, the positions hold the world, and where a part is wrong, another part.

    T_source, T_target: (N, 4, 4) world-to-camera poses.
    known_to: standard deviations of a rotation, radians, and of a position, in the unit of `T_source`. Errors below
        them do not count: else a few poses that fit by chance hold the world.
    """
    R, R_target = T_source[:, :3, :3], T_target[:, :3, :3]
    a, b = find_centers(T_source), find_centers(T_target)
    extent = max(float(np.linalg.norm(np.ptp(a, axis=0))), 1e-300)
    distances = np.linalg.norm(b - np.median(b, 0), axis=1)
    unit = max(float(np.median(distances)) or float(distances.max()), 1e-300)
    a, b = (a - a.mean(0)) / extent, (b - np.median(b, 0)) / unit
    every = np.ones(len(a))
    starts = [(every, 1e-2, 1.0), (every, 1.0, 1e-2)]
    if len(a) >= PIECES * MIN_PIECE:
        piece = np.arange(len(a)) * PIECES // len(a)
        starts += [(np.where(piece == number, 1.0, 1e-6), 1e-2, 1e-2) for number in range(PIECES)]
    least = max(known_to[0], LEAST_SPREAD), known_to[1] / extent
    found = [_align(R, R_target, a, b, *start, least) for start in starts]
    _, Q, scale, t = min(found, key=lambda one: one[0])
    moved = np.tile(np.eye(4), (len(a), 1, 1))
    moved[:, :3, :3] = R @ Q.T
    centers = (scale * a @ Q.T + t) * unit + np.median(find_centers(T_target), 0)
    moved[:, :3, 3] = -np.einsum("nij,nj->ni", moved[:, :3, :3], centers)
    return moved


def _align(
    R: Array,
    R_target: Array,
    a: Array,
    b: Array,
    weight: Array,
    spread_turn: float,
    spread_move: float,
    least: tuple[float, float],
) -> tuple[float, Array, float, Array]:
    """Return the cost, and rotation, scale and translation from a source to a target world.

    R, R_target: (N, 3, 3) rotations from the world to the camera.
    a, b: (N, 3) positions.
    weight: (N,) weights of the poses at the start.
    spread_turn, spread_move: scatter of rotations, radians, and of positions at the start.
    least: least scatter of rotations, and of positions in the unit of `a`.
    """
    of_turns = of_moves = weight
    Q, scale, t = np.eye(3), 1.0, np.zeros(3)
    for number in range(ROUNDS):
        w, v = of_turns / spread_turn**2, of_moves / spread_move**2
        middle_a, middle_b = (v @ a) / v.sum(), (v @ b) / v.sum()
        x, y = a - middle_a, b - middle_b
        # a rotation by an angle changes the squared chordal distance of rotations by 2 times its square
        M = 0.5 * np.einsum("n,nji,njk->ik", w, R_target, R) + max(scale, 1e-9) * np.einsum("n,ni,nj->ij", v, y, x)
        U, _, Vt = np.linalg.svd(M)
        Q = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
        squared = max(float(np.einsum("n,ni,ni->", v, x, x)), 1e-300)
        scale, spread = float(np.einsum("n,ni,ni->", v, y, x @ Q.T)) / squared, float(np.einsum("n,ni,ni->", v, y, y))
        spread = np.sqrt(spread / squared)
        scale = scale if scale > MIN_SPREAD_SHARE * spread else max(spread, 1e-9)
        t = middle_b - scale * Q @ middle_a
        turn = np.linalg.norm(so3_log(R @ Q.T @ R_target.swapaxes(1, 2)), axis=1)
        move = np.linalg.norm(scale * a @ Q.T + t - b, axis=1)
        spread_turn = max(float(np.median(turn)), least[0])
        spread_move = max(float(np.median(move)), least[1] * scale, LEAST_SPREAD)
        if number < ROUNDS // 2:
            of_turns, of_moves = (
                1 / np.maximum(error / spread, 1.0) for error, spread in ((turn, spread_turn), (move, spread_move))
            )
        else:  # the cost no longer grows with the distance, so a consistent part of wrong poses has no pull
            of_turns, of_moves = (
                1 / (1 + (error / (SHARP * spread)) ** 2) ** 2
                for error, spread in ((turn, spread_turn), (move, spread_move))
            )
    return float(np.log(spread_turn) + np.log(spread_move)), Q, scale, t


def compare_poses(
    T_given: Array,
    T_adjusted: Array,
    *,
    rows: NDArray[np.intp] | None = None,
    of_turns: Array | None = None,
    of_moves: Array | None = None,
) -> PoseDifference:
    """Compare given with adjusted poses after an alignment that wrong poses hardly change.

    T_given, T_adjusted: (N, 4, 4) world-to-camera poses.
    rows: (N,) rows of the images; None counts them.
    of_turns: (N, 3, K) root of the covariance of the adjusted rotations about the axes of the cameras, radians.
    of_moves: (N, 3, K) root of the covariance of the adjusted positions, in the unit of `T_adjusted`; None for exact
        poses.
    """
    count = len(T_given)
    exact = np.zeros((count, 3, 0))
    of_turns, of_moves = (exact if root is None else root for root in (of_turns, of_moves))
    of_turn, of_move = (float(np.median(np.linalg.norm(root, axis=(1, 2)))) for root in (of_turns, of_moves))
    T = align_robustly(T_adjusted, T_given, (of_turn, of_move))
    spans = [float(np.linalg.norm(np.ptp(find_centers(poses), axis=0))) for poses in (T, T_adjusted)]
    extent = max(spans[0], 1e-300)
    turns = so3_log(T_given[:, :3, :3] @ T[:, :3, :3].swapaxes(1, 2))
    moves = (find_centers(T_given) - find_centers(T)) / extent
    found = PoseDifference(
        rows=np.arange(count) if rows is None else rows,
        T_given=T_given,
        T_adjusted=T,
        turns=turns,
        moves=moves,
        of_turns=SPREAD * of_turns,
        of_moves=SPREAD * of_moves / max(spans[1], 1e-300),
        extent=extent,
        is_wrong=np.zeros(count, bool),
        is_open=np.zeros(count, bool),
    )
    return replace(found, is_wrong=_find_wrong(found))


def _find_wrong(found: PoseDifference) -> NDArray[np.bool_]:
    is_wrong = np.zeros(len(found.rows), bool)
    for errors, root, least in (
        (found.degrees, found.of_turns, MIN_WRONG_DEG),
        (found.shares, found.of_moves, MIN_WRONG_SHARE),
    ):
        deviations = np.linalg.norm(root, axis=(1, 2)) * (180 / np.pi if least is MIN_WRONG_DEG else 1)
        limit = np.maximum(np.maximum(MANY_TIMES * np.median(errors), SURELY_WRONG * deviations), least)
        is_wrong |= errors > limit
    return is_wrong


def measure_rms(errors: Array, root: Array) -> Measured:
    """Return the root mean square length of true errors, from measured ones and their covariance.

    The mean square of measured errors contains their variances, which are subtracted. They are known to a factor of
    about two (UNSURE), so they count as a deviation too.

    errors: (N, 3).
    root: (N, 3, K) root of their covariance.
    """
    count = max(len(errors), 1)
    total = float((errors**2).sum() / count)
    own = float((root**2).sum() / count)
    flat = root.reshape(errors.size, -1)
    squared = flat @ flat.T if flat.shape[0] < flat.shape[1] else flat.T @ flat  # of the same norm
    along = errors.ravel() @ flat
    variance = float(2 * (squared**2).sum() + 4 * along @ along) / count**2 + (UNSURE * own) ** 2
    value = float(np.sqrt(max(total - own, 0.0)))
    return Measured(value, float(np.sqrt(value**2 + np.sqrt(max(variance, 0.0))) - value))


def measure_change(errors: Array, root: Array, along: Array) -> Measured:
    """Return the length of the linear change of errors (N, 3) from one end of the path to the other.

    root: (N, 3, K) root of the covariance of the errors.
    along: (N,) places on the path, 0 to 1.
    """
    s = along - along.mean()
    weight = s / max(float(s @ s), 1e-300)
    slope, of_slope = weight @ errors, np.tensordot(weight, root, 1)
    own = of_slope @ of_slope.T
    value = float(np.sqrt(max(float(slope @ slope) - float(np.trace(own)), 0.0)))
    return Measured(value, float(np.sqrt(max(np.linalg.eigvalsh(own)[-1], 0.0))))


def find_differences(adjusted: AdjustedPoses) -> list[PoseDifference]:
    """Return how the given poses of each part differ from the adjusted ones."""
    found = []
    for part in adjusted.covariances:
        if len(part.rows) < MIN_PART:
            continue
        T_given, T = adjusted.given.T_camera_world[part.rows], adjusted.posed.T_camera_world[part.rows]
        found.append(compare_poses(T_given, T, rows=part.rows, of_turns=part.of_rotations, of_moves=part.of_positions))
    return found


def open_images(
    differences: Sequence[PoseDifference], images: NDArray[np.intp], confirmed: Collection[int]
) -> list[PoseDifference]:
    """Return differences in which only the confirmed images are wrong; the other wrong ones are open.

    differences: from `find_differences`.
    images: (F,) indices of the posed images.
    confirmed: indices of images.
    """
    found = []
    for part in differences:
        is_wrong = part.is_wrong & np.isin(images[part.rows], list(confirmed))
        found.append(replace(part, is_wrong=is_wrong, is_open=part.is_open | (part.is_wrong & ~is_wrong)))
    return found


def measure_error(
    adjusted: AdjustedPoses, differences: Sequence[PoseDifference], names: Sequence[str]
) -> MeasuredError:
    """Measure the error of the poses and cameras that were adjusted.

    adjusted: the poses before and after.
    differences: of its parts, from `find_differences`.
    names: names of all images.
    """
    if not differences:
        return MeasuredError(reason="too few images with poses match each other")
    if adjusted.unexplained > MAX_UNEXPLAINED:
        share = f"{adjusted.unexplained:.0%} of the held-out matches fit no poses"
        return MeasuredError(parts=len(differences), reason=share)
    sizes = np.array([int(part.is_kept.sum()) for part in differences])
    turns, moves, steps = [], [], []
    for part in differences:
        kept = part.is_kept
        turns.append(measure_rms(part.turns[kept], part.of_turns[kept]))
        moves.append(measure_rms(part.moves[kept], part.of_moves[kept]))
        steps.append(_measure_neighbors(part, kept))
    largest = differences[0]
    kept = largest.is_kept
    along = np.linspace(0, 1, len(kept))[kept]
    R = largest.T_adjusted[kept, :3, :3]
    in_world = np.einsum("nji,nj->ni", R, largest.turns[kept])
    drift = measure_change(in_world, R.swapaxes(1, 2) @ largest.of_turns[kept], along)
    position = _average(moves, sizes)
    return MeasuredError(
        rotation_deg=_scale(_average(turns, sizes), 180 / np.pi),
        neighbor_rotation_deg=_scale(_average(steps, sizes), 180 / np.pi),
        position_share=position,
        drift_deg=_scale(drift, 180 / np.pi),
        length_share=_measure_lengths(adjusted, largest),
        inconsistent_px=_measure_inconsistency(adjusted),
        images=tuple(_list_images(adjusted, differences, names)),
        parts=len(differences),
        posed=len(adjusted.given.images),
        extent=largest.extent,
        **measure_camera(adjusted, max(adjusted.cameras, key=lambda camera: len(camera.rows))),
    )


def _measure_inconsistency(adjusted: AdjustedPoses) -> Measured | None:
    """Return how far poses and cameras move points, pixels of 640, with the deviation of resampled pairs of images."""
    before, after = adjusted.held_before, adjusted.held_after
    if not adjusted.gain.count:
        return None
    random, count = np.random.default_rng(0), len(before)
    found = []
    for _ in range(RESAMPLES):
        drawn = random.integers(count, size=count)
        gain = compare_held_out([before[at] for at in drawn], [after[at] for at in drawn], resamples=1)
        found.append(_find_inconsistency(gain))
    return Measured(_find_inconsistency(adjusted.gain), float(np.std(found)))


def _find_inconsistency(gain: HeldOutGain) -> float:
    return float(np.sqrt(max(gain.before_px**2 - gain.after_px**2, 0.0)))


def _scale(measured: Measured, factor: float) -> Measured:
    return Measured(factor * measured.value, factor * measured.deviation)


def _average(measured: Sequence[Measured], sizes: NDArray[np.intp]) -> Measured:
    """Return the root mean square of several parts with the given numbers of images."""
    share = sizes / max(sizes.sum(), 1)
    value = float(np.sqrt(sum(w * m.value**2 for w, m in zip(share, measured, strict=True))))
    return Measured(value, float(np.sqrt(sum((w * m.deviation) ** 2 for w, m in zip(share, measured, strict=True)))))


def _measure_neighbors(part: PoseDifference, kept: NDArray[np.bool_]) -> Measured:
    rows = np.flatnonzero(kept)
    if len(rows) < 2:
        return Measured(0.0, 0.0)
    R = part.T_adjusted[rows, :3, :3]
    between = R[1:] @ R[:-1].swapaxes(1, 2)
    steps = part.turns[rows[1:]] - np.einsum("nij,nj->ni", between, part.turns[rows[:-1]])
    return measure_rms(steps, part.of_turns[rows[1:]] - between @ part.of_turns[rows[:-1]])


def measure_camera(adjusted: AdjustedPoses, camera: AdjustedCamera) -> dict[str, Any]:
    """Return the fields of the error that belong to one of the adjusted cameras.

    If held-out matches do not confirm a change of a parameter, the change is within its deviation.
    """
    row = camera.rows[0]
    (K, bend), (K_after, bend_after) = (
        (one.K[row], one.distortion[row, 0]) for one in (adjusted.given, adjusted.posed)
    )
    of_file = np.ones(2) if adjusted.given.px_of_file is None else adjusted.given.px_of_file[row]

    def measure(value: float, deviation: float, *, is_changed: bool) -> Measured | None:
        deviation = SPREAD * deviation
        if not np.isfinite(deviation):
            return None
        return Measured(float(value), float(deviation if is_changed else max(deviation, abs(value))))

    longer, aspect = 1 / camera.focal_factor, 1 / camera.aspect_factor
    x, y = (
        measure(
            -camera.shift_px[axis] * of_file[axis],
            camera.shift_deviation_px[axis] * of_file[axis],
            is_changed=(K[:2, 2] != K_after[:2, 2]).any(),
        )
        for axis in (0, 1)
    )
    # a lens of the coefficient k moves a point at the middle of the longer edge, at the radius r, by f k r^3
    edge = adjusted.given.sizes[row].max() / 2
    moved = edge**3 / K_after[0, 0] ** 2 * float(of_file.mean())
    is_square = K[1, 1] / K[0, 0] == K_after[1, 1] / K_after[0, 0]
    return {
        "focal_share": measure(
            longer - 1, camera.focal_deviation * longer, is_changed=(K[(0, 1), (0, 1)] != K_after[(0, 1), (0, 1)]).any()
        ),
        "principal_point_px": None if x is None or y is None else (x, y),
        "aspect_share": measure(aspect - 1, camera.aspect_deviation * aspect, is_changed=not is_square),
        "distortion_px": measure(-camera.bend * moved, camera.bend_deviation * moved, is_changed=bend != bend_after),
    }


def _measure_lengths(adjusted: AdjustedPoses, part: PoseDifference) -> Measured | None:
    """Compare lengths between points as given and adjusted poses and cameras triangulate them from the same features.

    Lengths differ by the deviations of the poses too: poses that are drawn from their covariance show by how much.
    """
    sparse, given, posed = adjusted.sparse, adjusted.given, adjusted.posed
    right = np.zeros(len(posed.images), bool)
    right[part.rows[part.is_kept]] = True
    kept = right[sparse.observed[:, 0]]
    frame, track = sparse.observed[kept].T
    camera = sparse.camera
    rays = (sparse.xy[kept] - camera.center_px) / camera.focal_px
    pixels = np.empty_like(rays)
    for row in np.unique(frame):
        pixels[frame == row] = posed.project(int(row), rays[frame == row])
    xy = camera.focal_px * given.normalize(frame, pixels) + camera.center_px
    seen = np.isfinite(xy).all(1)
    at, frame, track, xy = np.flatnonzero(kept)[seen], frame[seen], track[seen], xy[seen]

    def triangulate(images: PosedImages, xy: Array) -> tuple[Array, NDArray[np.bool_]]:
        points, is_seen = triangulate_tracks(images.T_camera_world, camera, frame, xy, track, WIDE_PX)
        return points, np.bincount(track[is_seen], minlength=len(points)) >= MIN_TRACK

    points, is_known = triangulate(given, xy)
    rows = np.flatnonzero(is_known)
    if len(rows) < MIN_ENDS:
        return None
    random = np.random.default_rng(0)
    ends = random.choice(rows, (2, LENGTHS))
    ends = ends[:, ends[0] != ends[1]]
    right_lengths = np.linalg.norm(sparse.points[ends[0]] - sparse.points[ends[1]], axis=1)
    usable = (right_lengths > np.quantile(right_lengths, 0.25)) & (right_lengths < np.quantile(right_lengths, 0.9))

    def compare(points: Array) -> float:
        ratios = (np.linalg.norm(points[ends[0]] - points[ends[1]], axis=1) / right_lengths)[usable]
        return float(np.quantile(np.abs(ratios / np.median(ratios) - 1), 0.95))

    root = next(one for one in adjusted.covariances if one.rows is part.rows).root
    own = []
    for _ in range(DRAWS):
        drawn = SPREAD * root @ random.standard_normal(root.shape[2])
        T = posed.T_camera_world.copy()
        centers = find_centers(T[part.rows]) + drawn[:, 3:]
        T[part.rows, :3, :3] = so3_exp(drawn[:, :3]) @ T[part.rows, :3, :3]
        T[part.rows, :3, 3] = -np.einsum("nij,nj->ni", T[part.rows, :3, :3], centers)
        own.append(compare(triangulate(replace(posed, T_camera_world=T), sparse.xy[at])[0]))
    deviation = float(np.mean(own))
    return Measured(float(np.sqrt(max(compare(points) ** 2 - deviation**2, 0.0))), deviation)


def _list_images(
    adjusted: AdjustedPoses, differences: Sequence[PoseDifference], names: Sequence[str]
) -> list[ImageError]:
    found = []
    for number, part in enumerate(differences):
        of_turns, of_moves = part.deviations_deg, part.deviations
        for at, row in enumerate(part.rows.tolist()):
            index = int(adjusted.given.images[row])
            errors = float(part.degrees[at]), float(part.shares[at])
            deviations = float(of_turns[at]), float(of_moves[at])
            if part.is_open[at]:
                deviations = max(errors[0], deviations[0]), max(errors[1], deviations[1])
            found.append(
                ImageError(
                    index,
                    names[index],
                    Measured(errors[0], deviations[0]),
                    Measured(errors[1], deviations[1]),
                    number,
                    bool(part.is_wrong[at]),
                )
            )
    return sorted(found, key=lambda image: image.index)
