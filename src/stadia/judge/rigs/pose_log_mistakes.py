"""Search what is wrong with the log of a robot: readings, directions, axes and pairings of its poses compete.

Each mistake is undone, and the calibration is solved again. A mistake is named only if the residuals then fall by more
than those of any simpler explanation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import from_rotation_translation, invert_pose, so3_exp, so3_log
from stadia.io.records.robot_log import EULER_ORDERS, RobotLog, RotationReading
from stadia.judge.rigs.hand_eye import MEDIAN_OF_CHI3, Array, find_residuals, solve_rotations, solve_translations

MAX_SEARCHED_POSES = 120
"""Most poses that the search uses, drawn evenly."""

MAX_ROW_SHIFT = 5
"""Largest shift of the pairing that is searched, poses."""

MAX_OFFSET_S = 3.0
"""Largest offset of two clocks that is searched, if their times overlap."""

CLOCK_STEP_S = 0.02

MIN_LOG_GAIN = 10.0
"""Least gain of a mistake, in natural logarithms of the likelihood, over what it is compared with."""

MIN_FALL = 1.25
"""Least factor by which the product of both residuals falls if a mistake is undone."""

LOG_TIE = 2.0
"""Mistakes whose likelihoods differ by less, in natural logarithms, cannot be told apart."""

LEAST_ROTATION, LEAST_SHARE = 2e-4, 2e-4
"""Residuals below these, in radians and as a share of the extent of the path, count as equal."""

KEPT_MISTAKES = 24
"""Mistakes whose rotations fit best, of which the positions are compared too."""

SHUFFLE_TRIES = 60
SHUFFLE_DEG = 1.0
"""Largest difference of two rotation angles of a pair of poses in both files."""

INVERSE, TRANSPOSED_ROTATION, IN_HAND = "inverse", "transposed", "position in the hand"


@dataclass(frozen=True, slots=True)
class PoseMistake:
    """What may be wrong with the poses of a log; undone by `LogPairing.make_poses`.

    reading: the right reading of the rotations; None if the log's own is right.
    direction: INVERSE (poses of the base in the hand), TRANSPOSED_ROTATION (only rotations are inverse), IN_HAND
        (positions have the axes of the hand), or "".
    negated: the number of the rotation whose sign is wrong, 0 to 2; None if none is.
    mirrored: "x", "y" or "z" if only this coordinate of positions has the wrong sign; "all" if the coordinates are
        left-handed; "" otherwise.
    order: "shift" with `shift`, "text" if images are paired in the order of their names as text, "reversed", or "".
    shift: log row of the first image.
    rows: (N,) log row of each image as a tuple, if the pairing is shuffled.
    offset_s: seconds to add to the times of the images.
    """

    reading: RotationReading | None = None
    direction: str = ""
    negated: int | None = None
    mirrored: str = ""
    order: str = ""
    shift: int = 0
    rows: tuple[int, ...] = ()
    offset_s: float = 0.0

    def count(self) -> int:
        """Return the number of mistakes."""
        given = PoseMistake()
        changed = sum(getattr(self, one.name) != getattr(given, one.name) for one in fields(self))
        return changed - (self.order == "shift")

    @property
    def turns(self) -> tuple[object, ...]:
        """Return what the rotations depend on."""
        is_inverse = self.direction in (INVERSE, TRANSPOSED_ROTATION)
        return self.reading, is_inverse, self.negated, self.mirrored == "all", self.order, self.shift, self.offset_s


GIVEN = PoseMistake()


@dataclass(frozen=True, slots=True, eq=False)
class LogPairing:
    """Which pose of a log belongs to which pose of a camera.

    log: the log of the robot.
    T_world_camera: (N, 4, 4).
    names: N names of the images.
    times_s: (N,) times of the images on the clock of the log; None if rows are paired by `rows`.
    rows: (N,) log row of each image; unused with times.
    """

    log: RobotLog
    T_world_camera: Array
    names: tuple[str, ...]
    times_s: Array | None
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.T_world_camera)

    def turn(self, A: Array) -> Array:
        """Return poses of the robot (N, 4, 4) in the direction in which they are paired."""
        return A

    def pair(self, mistake: PoseMistake) -> tuple[Array, NDArray[np.intp]]:
        """Return poses of the robot (M, 4, 4) without a mistake, and the camera poses (M,) that they belong to."""
        log = self.log
        if self.times_s is None:
            rows, images = self._find_rows(mistake)
            return _make_poses(log, mistake, rows), images
        assert log.times_s is not None
        at = self.times_s + mistake.offset_s
        images = np.flatnonzero((at >= log.times_s[0]) & (at <= log.times_s[-1]))
        at = at[images]
        after = np.searchsorted(log.times_s, at).clip(1, len(log.times_s) - 1)
        before = after - 1
        share = (at - log.times_s[before]) / (log.times_s[after] - log.times_s[before])
        first, second = (_make_poses(log, mistake, rows) for rows in (before, after))
        return interpolate(first, second, share), images

    def _find_rows(self, mistake: PoseMistake) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        images, rows = np.arange(len(self)), self.rows
        if mistake.rows:
            rows = np.array(mistake.rows, np.intp)
        elif mistake.order == "text":
            by_text = np.argsort(np.argsort(np.array(self.names, dtype=str), kind="stable"))
            rows = np.sort(rows)[by_text] if len(set(self.names)) == len(self) else rows
        elif mistake.order == "reversed":
            rows = rows[::-1]
        elif mistake.order == "shift":
            rows = rows + mistake.shift
        inside = (rows >= 0) & (rows < len(self.log))
        return rows[inside], images[inside]

    def thin(self, most: int) -> LogPairing:
        """Return the pairing of at most `most` camera poses, drawn evenly."""
        if len(self) <= most:
            return self
        kept = np.linspace(0, len(self) - 1, most).astype(np.intp)
        times = None if self.times_s is None else self.times_s[kept]
        names = tuple(self.names[row] for row in kept)
        return LogPairing(self.log, self.T_world_camera[kept], names, times, self.rows[kept])


def interpolate(first: Array, second: Array, share: Array) -> Array:
    """Return poses (N, 4, 4) between two: along the line of positions, and about one axis.

    first, second: (N, 4, 4).
    share: (N,) 0 for the first, 1 for the second.
    """
    turn = so3_log(first[:, :3, :3].mT @ second[:, :3, :3])
    R = first[:, :3, :3] @ so3_exp(share[:, None] * turn)
    return from_rotation_translation(R, first[:, :3, 3] + share[:, None] * (second[:, :3, 3] - first[:, :3, 3]))


def _make_poses(log: RobotLog, mistake: PoseMistake, rows: NDArray[np.intp]) -> Array:
    """Return T_base_hand (M, 4, 4) of rows of the log without a mistake of the numbers."""
    numbers, t = log.rotations[rows], log.positions[rows]
    if mistake.negated is not None:
        numbers = numbers.copy()
        numbers[:, mistake.negated] *= -1
    R = (mistake.reading or log.reading).make_rotations(numbers)
    if mistake.mirrored == "all":
        mirror = np.diag([-1.0, 1, 1])
        R, t = mirror @ R @ mirror, t @ mirror
    elif mistake.mirrored:
        t = np.where(np.array(list("xyz")) == mistake.mirrored, -t, t)
    if mistake.direction == TRANSPOSED_ROTATION:
        R = R.mT
    if mistake.direction == IN_HAND:
        t = (R @ t[:, :, None])[:, :, 0]
    T = from_rotation_translation(R, t)
    return invert_pose(T) if mistake.direction == INVERSE else T


# -- the mistakes that are tried


def list_readings(log: RobotLog) -> list[RotationReading]:
    """Return the other readings of the numbers of the rotations of a log."""
    if log.rotations.shape[1] == 4:
        readings = [RotationReading("quaternion", order) for order in ("xyzw", "wxyz")]
    elif log.rotations.shape[1] == 3:
        units = (False, True) if np.abs(log.rotations).max() <= 4 * np.pi else (True,)
        readings = [
            RotationReading(kind, order, is_degrees)
            for is_degrees in units
            for kind, orders in (("rotation vector", ("",)), ("Euler angles", EULER_ORDERS))
            for order in orders
        ]
    else:
        readings = []
    return [reading for reading in readings if reading != log.reading]


def list_mistakes(pairing: LogPairing) -> list[PoseMistake]:
    """Return single mistakes, without offsets of clocks and shuffled pairings."""
    found = [PoseMistake(reading=reading) for reading in list_readings(pairing.log)]
    found += [PoseMistake(direction=direction) for direction in (INVERSE, TRANSPOSED_ROTATION, IN_HAND)]
    if pairing.log.reading.kind != "matrix":
        found += [PoseMistake(negated=place) for place in range(3)]
    found += [PoseMistake(mirrored=axis) for axis in ("x", "y", "z", "all")]
    if pairing.times_s is None:
        shifts = [shift for shift in range(-MAX_ROW_SHIFT, MAX_ROW_SHIFT + 1) if shift]
        found += [PoseMistake(order="shift", shift=shift) for shift in shifts]
        found += [PoseMistake(order="reversed")]
        if sorted(pairing.names) != list(pairing.names):
            found += [PoseMistake(order="text")]
    return found


def combine(first: PoseMistake, second: PoseMistake) -> PoseMistake | None:
    """Return two mistakes in one; None if both are of one kind."""
    changed = {
        one.name: getattr(second, one.name)
        for one in fields(second)
        if getattr(second, one.name) != getattr(GIVEN, one.name)
    }
    if any(getattr(first, name) != getattr(GIVEN, name) for name in changed):
        return None
    return replace(first, **changed)


# -- scores


def solve_quickly(A: Array, B: Array) -> tuple[Array, Array, float]:
    """Return the lengths of the residuals of A X = Z B, rotations (N,) in radians and positions (N,), and the factor.

    A, B: (N, 4, 4) poses.
    """
    weights = np.ones(len(A))
    rotations, positions, factor = np.zeros(len(A)), np.zeros(len(A)), 1.0
    for _ in range(4):
        X, Z = solve_rotations(A[:, :3, :3], B[:, :3, :3], weights)
        t_X, t_Z, factor = solve_translations(A, B, Z, weights, factor=None)
        found = from_rotation_translation(X, t_X), from_rotation_translation(Z, t_Z)
        rotations, positions = (np.linalg.norm(one, axis=1) for one in find_residuals(A, B, *found, factor))
        squared = sum((one / max(float(np.median(one)), 1e-12)) ** 2 for one in (rotations, positions))
        weights = 1 / (1 + squared / 8) ** 2
    return rotations, positions, factor


def find_extent(B: Array) -> float:
    """Return the root mean square distance of positions (N, 4, 4) from their middle."""
    return float(np.sqrt(B[:, :3, 3].var(axis=0).sum())) or 1.0


@dataclass(frozen=True, slots=True)
class MistakeScore:
    """How poses fit if a mistake is undone.

    rotation: robust deviation of a coordinate of the residual rotations, radians.
    share: the same of positions, as a share of the extent of the path.
    count: number of pairs of poses.
    """

    rotation: float
    share: float
    count: int

    @property
    def likelihood(self) -> float:
        """Return the logarithm of the likelihood, up to a constant."""
        logs = np.log(max(self.rotation, LEAST_ROTATION)) + np.log(max(self.share, LEAST_SHARE))
        return float(-3 * self.count * logs)


FEW = 5
"""Fewest pairs of poses that are scored."""


def score_mistake(pairing: LogPairing, mistake: PoseMistake) -> MistakeScore:
    """Solve the calibration without a mistake, and measure how it fits."""
    A, images = pairing.pair(mistake)
    B = pairing.T_world_camera[images]
    if len(A) < FEW:
        return MistakeScore(np.inf, np.inf, 0)
    rotations, positions, factor = solve_quickly(A, B)
    sigmas = (float(np.median(one)) / MEDIAN_OF_CHI3 for one in (rotations, positions))
    rotation, position = sigmas
    # A factor below 0 is a mirrored path, and one near 0 explains nothing.
    share = position / find_extent(B) if factor > 0 else np.inf
    return MistakeScore(rotation, min(share, 10.0), len(A))


def score_turns(pairing: LogPairing, mistakes: Sequence[PoseMistake]) -> list[float]:
    """Return the robust deviation in radians of the rotations alone, for each mistake."""
    found = []
    known: dict[tuple[object, ...], float] = {}
    for mistake in mistakes:
        if (key := mistake.turns) not in known:
            A, images = pairing.pair(mistake)
            B = pairing.T_world_camera[images]
            if len(A) < FEW:
                known[key] = np.inf
            else:
                X, Z = solve_rotations(A[:, :3, :3], B[:, :3, :3], np.ones(len(A)))
                missed = so3_log((A[:, :3, :3] @ X).mT @ Z @ B[:, :3, :3])
                known[key] = float(np.median(np.linalg.norm(missed, axis=1))) / MEDIAN_OF_CHI3
        found.append(known[key])
    return found


@dataclass(frozen=True, slots=True)
class MistakeSearch:
    """What `search_mistakes` finds.

    found: the mistake; GIVEN if the log as it is fits best.
    given: the score of the log as it is.
    best: the score without the mistake.
    others: mistakes that fit as well.
    """

    found: PoseMistake
    given: MistakeScore
    best: MistakeScore
    others: tuple[PoseMistake, ...] = ()


ENOUGH_ROTATION, ENOUGH_SHARE = 0.02, 0.02
"""Residuals of a log that fits, radians (1.1 degrees) and as a share of the extent: pairs of mistakes are not tried."""


def search_mistakes(pairing: LogPairing) -> MistakeSearch:
    """Search the mistake that explains how a log and the poses of a camera differ."""
    pairing = pairing.thin(MAX_SEARCHED_POSES)
    scores = {GIVEN: score_mistake(pairing, GIVEN)}
    singles = list_mistakes(pairing)
    _add_scores(scores, pairing, singles)
    if pairing.times_s is not None:
        _add_offsets(scores, pairing)
    if not _fits(scores[_choose(scores)]):
        pairs = (combine(first, second) for row, first in enumerate(singles) for second in singles[row + 1 :])
        _add_scores(scores, pairing, [pair for pair in pairs if pair is not None])
        if pairing.times_s is not None:
            _add_offsets(scores, pairing)
    if not _fits(scores[_choose(scores)]) and pairing.times_s is None:
        readings = [GIVEN, *(PoseMistake(reading=reading) for reading in list_readings(pairing.log))]
        for base in readings[:2]:
            rows = find_shuffle(pairing, base)
            if rows is not None:
                mistake = replace(base, rows=tuple(rows.tolist()))
                scores[mistake] = score_mistake(pairing, mistake)
    found = _choose(scores)
    best = scores[found]
    others = tuple(
        mistake
        for mistake, score in scores.items()
        if mistake not in (found, GIVEN)
        and found != GIVEN
        and mistake.count() == found.count()
        and score.likelihood > best.likelihood - LOG_TIE
    )
    return MistakeSearch(found, scores[GIVEN], best, others)


def _fits(score: MistakeScore) -> bool:
    return score.rotation < ENOUGH_ROTATION and score.share < ENOUGH_SHARE


def _add_scores(scores: dict[PoseMistake, MistakeScore], pairing: LogPairing, mistakes: Sequence[PoseMistake]) -> None:
    """Score the mistakes whose rotations fit best."""
    turns = score_turns(pairing, mistakes)
    ranked = sorted(range(len(mistakes)), key=lambda row: (turns[row], mistakes[row].count()))
    kept = [row for row in ranked if turns[row] <= 1.5 * turns[ranked[0]] + 0.01] if ranked else []
    for row in list(dict.fromkeys([*ranked[:KEPT_MISTAKES], *kept[: 4 * KEPT_MISTAKES]])):
        scores[mistakes[row]] = score_mistake(pairing, mistakes[row])


def _choose(scores: dict[PoseMistake, MistakeScore]) -> PoseMistake:
    """Return the simplest mistake that nothing with more mistakes explains far better."""
    chosen = GIVEN
    for count in range(1, 4):
        level = [mistake for mistake in scores if mistake.count() == count]
        if not level:
            continue
        best = max(level, key=lambda mistake: _rate(scores[mistake]))
        extra = count - chosen.count()
        gain, fall = _compare(scores[best], scores[chosen])
        if gain > MIN_LOG_GAIN * extra and fall > MIN_FALL**extra:
            chosen = best
    return chosen


def _rate(score: MistakeScore) -> float:
    return score.likelihood / max(score.count, 1)


def _compare(better: MistakeScore, worse: MistakeScore) -> tuple[float, float]:
    """Return the gain in likelihood and the factor by which the product of residuals falls; counts may differ."""
    per_pose = _rate(better) - _rate(worse)
    if not np.isfinite(per_pose):
        return (np.inf, np.inf) if better.count and not worse.count else (-np.inf, 0.0)
    return per_pose * min(better.count, worse.count), float(np.exp(min(per_pose / 3, 50.0)))


def _add_offsets(scores: dict[PoseMistake, MistakeScore], pairing: LogPairing) -> None:
    ranked = sorted(scores, key=lambda mistake: scores[mistake].rotation)
    for base in list(dict.fromkeys([GIVEN, *ranked[:3]])):
        if base.offset_s:
            continue
        offset_s = find_offset(pairing, base)
        if offset_s is not None:
            shifted = replace(base, offset_s=offset_s)
            scores[shifted] = score_mistake(pairing, shifted)


def list_offsets(pairing: LogPairing) -> Array:
    """Return the offsets (K,) in seconds that are tried: around 0, or those at which both begin or end together."""
    assert pairing.times_s is not None
    assert pairing.log.times_s is not None
    times, others = pairing.times_s, pairing.log.times_s
    steps = np.arange(-MAX_OFFSET_S, MAX_OFFSET_S + CLOCK_STEP_S / 2, CLOCK_STEP_S)
    overlap = min(times[-1], others[-1]) - max(times[0], others[0])
    if overlap > 0.5 * min(np.ptp(times), np.ptp(others)):
        return steps
    starts = np.array([others[0] - times[0], others[-1] - times[-1]])
    low, high = starts.min() - MAX_OFFSET_S, starts.max() + MAX_OFFSET_S
    return np.linspace(low, high, int(min(max((high - low) / CLOCK_STEP_S, 2), 2000)))


def find_offset(pairing: LogPairing, base: PoseMistake) -> float | None:
    """Return the offset of the clocks at which rotations between images are as large as those of the robot.

    The angles of rotations do not depend on the calibration. None if too few images are in the log.
    """
    B = pairing.T_world_camera

    def rate(offset_s: float) -> float:
        A, images = pairing.pair(replace(base, offset_s=base.offset_s + offset_s))
        if len(images) < max(FEW, len(B) // 2):
            return np.inf
        angles = []
        for lag in (1, 5):
            pairs = (A, B[images])
            if len(images) > lag:
                turned = [so3_log(T[:-lag, :3, :3].mT @ T[lag:, :3, :3]) for T in pairs]
                angles.append(np.abs(np.subtract(*[np.linalg.norm(turn, axis=1) for turn in turned])))
        return float(np.median(np.concatenate(angles)))

    offsets = list_offsets(pairing)
    rated = np.array([rate(float(offset_s)) for offset_s in offsets])
    if not np.isfinite(rated).any():
        return None
    best = float(offsets[int(rated.argmin())])
    step = float(offsets[1] - offsets[0])

    def miss(offset_s: float) -> float:
        return -_rate(score_mistake(pairing, replace(base, offset_s=base.offset_s + offset_s)))

    for _ in range(12):  # the calibration decides between neighbors
        tried = [best - step, best, best + step]
        best = min(tried, key=miss)
        step *= 0.6
    return best


# -- shuffled pairings


def find_shuffle(pairing: LogPairing, base: PoseMistake) -> NDArray[np.intp] | None:
    """Return the log row (N,) of each image, found without any pairing; None if there is none.

    Rotations between two poses have the same angle in both files, whatever the calibration is. Three poses of the log
    and three images whose angles agree give a calibration, which pairs the others.
    """
    A = pairing.turn(_make_poses(pairing.log, base, np.arange(len(pairing.log))))
    B = pairing.T_world_camera
    if not FEW <= len(A) <= MAX_SEARCHED_POSES or len(B) < FEW:
        return None
    angles_A, angles_B = (_find_angles(poses) for poses in (A, B))
    tolerance = np.radians(SHUFFLE_DEG)
    best, best_count = None, 0
    for triple in _draw_triples(angles_B):
        for rows in _match_triples(triple, angles_A, angles_B, tolerance):
            X, Z = solve_rotations(A[rows][:, :3, :3], B[triple][:, :3, :3], np.ones(3))
            predicted = Z @ B[:, :3, :3] @ X.T
            turned = np.einsum("nij,mij->nm", predicted, A[:, :3, :3])
            missed = np.arccos(((turned - 1) / 2).clip(-1, 1))
            nearest = missed.argmin(1)
            count = len(np.unique(nearest[missed.min(1) < 2 * tolerance]))
            if count > best_count:
                best, best_count = nearest, count
    if best is None or best_count < max(FEW, 0.7 * len(B)):
        return None
    return best


def _find_angles(T: Array) -> Array:
    turned = np.einsum("nij,mij->nm", T[:, :3, :3], T[:, :3, :3])
    return np.arccos(((turned - 1) / 2).clip(-1, 1))


def _draw_triples(angles: Array) -> Iterator[NDArray[np.intp]]:
    """Yield triples of images that turn much."""
    random = np.random.default_rng(0)
    for _ in range(SHUFFLE_TRIES):
        drawn = np.array([random.choice(len(angles), 3, replace=False) for _ in range(20)])
        least = np.min([angles[drawn[:, i], drawn[:, j]] for i, j in ((0, 1), (1, 2), (0, 2))], axis=0)
        yield drawn[int(least.argmax())]


MAX_TRIPLES = 200


def _match_triples(
    triple: NDArray[np.intp], angles_A: Array, angles_B: Array, tolerance: float
) -> Iterator[NDArray[np.intp]]:
    first, second, third = triple
    near = [
        np.abs(angles_A - angles_B[i, j]) < tolerance for i, j in ((first, second), (second, third), (first, third))
    ]
    count = 0
    for one, two in np.argwhere(near[0]):
        for three in np.flatnonzero(near[1][two] & near[2][one]):
            if len({one, two, three}) == 3:
                count += 1
                if count > MAX_TRIPLES:
                    return
                yield np.array([one, two, three])
