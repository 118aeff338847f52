"""Check poses against the motion in the images: direction, axes, unit, and frames that are late or early."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stadia.core.types import LEFT, RIGHT
from stadia.data.frame_selection import FLOW_WIDTH
from stadia.geometry.conventions import MISTAKEN_AXES, describe_axes, list_axes
from stadia.geometry.poses import invert_pose
from stadia.geometry.two_views import (
    TwoViewMotion,
    angle_deg,
    epipolar_distance_px,
    parallax_px,
    pixel_rays,
    rotation_deg,
    rotation_residuals_px,
)
from stadia.judge.catalog import NotChecked, make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import RECORDING_LIMITS
from stadia.judge.recordings.recording_survey import Array, PairMatches, RecordingSurvey, Step
from stadia.judge.recordings.scale_comparison import LengthSource, compare_scales, has_comparison, is_inverse_by_poses
from stadia.judge.recordings.scale_errors import check_scale

MIN_COMPARED_ROTATION_DEG = 0.7  # the error of a smaller rotation is as large as the rotation
MAX_SCORE_GAP_DEG = 2.0  # conventions this close are named together: straight drives fit both
MAX_SHOWN_CONVENTIONS = 3  # conventions in the evidence
MAX_RIGID_GAP = 0.001  # difference of R^T R from the identity by rounding


@dataclass(frozen=True, slots=True)
class Convention:
    """A way to write poses.

    penalty_deg: by how many degrees it must fit better than the expected convention.
    motion: maps two poses (4, 4) to T_second_first (4, 4).
    """

    code: str
    name: str
    fix: str
    penalty_deg: float
    motion: Callable[[Array, Array], Array]


def relative_pose(T_world_first: Array, T_world_second: Array) -> Array:
    """Return (4, 4) T_second_first from two camera-to-world poses."""
    return np.asarray(np.linalg.solve(T_world_second, T_world_first), dtype=np.float64)


def _rotate_axes(axes: Array) -> Callable[[Array, Array], Array]:
    """Return a function that computes motions as if the poses had other axes: p_poses = axes p_camera."""
    change = np.eye(4)
    change[:3, :3] = axes

    def motion(T_world_first: Array, T_world_second: Array) -> Array:
        return change.T @ relative_pose(T_world_first, T_world_second) @ change

    return motion


def _rotate_translations(axes: Array) -> Callable[[Array, Array], Array]:
    """Translations alone have other axes: t_poses = axes t_world."""

    def motion(T_world_first: Array, T_world_second: Array) -> Array:
        first, second = T_world_first.copy(), T_world_second.copy()
        first[:3, 3], second[:3, 3] = axes.T @ first[:3, 3], axes.T @ second[:3, 3]
        return relative_pose(first, second)

    return motion


def _penalty_deg(axes: Array) -> float:
    """Return degrees: 0 for common axes, 3 for other rotations, 10 for mirrored ones."""
    if any(np.array_equal(axes, usual.R_axes_camera) for usual in MISTAKEN_AXES):
        return 0.0
    return 3.0 if np.linalg.det(axes) > 0 else 10.0


def make_conventions() -> list[Convention]:
    """Return the known ways to write poses."""
    name = "world-to-camera matrices given as camera-to-world"
    fix = "invert each pose: T_world_camera = inverse(T_camera_world)"
    conventions = [Convention("E06", name, fix, 0.0, lambda first, second: second @ invert_pose(first))]
    for axes in list_axes()[1:]:
        words, penalty_deg = describe_axes(axes), _penalty_deg(axes)
        fix = f"T_world_camera = T_world_poses @ A with the rotation A = {axes.astype(int).tolist()}"
        conventions.append(Convention("E07", f"axes of the poses: {words}", fix, penalty_deg, _rotate_axes(axes)))
        name = f"axes of the translations alone: {words}"
        fix = f"multiply the translations by {axes.T.astype(int).tolist()}"
        conventions.append(Convention("E07", name, fix, penalty_deg + 5.0, _rotate_translations(axes)))
    return conventions


REVERSED = Convention("E11", "poses in reverse order", "reverse their order: the last pose first", 0.0, relative_pose)
"""Its motion is between the poses at the same distances from the end."""


@dataclass(frozen=True, slots=True)
class PoseFit:
    """Median differences of given and matched motions over steps; rotation_error is relative to the rotation."""

    direction_deg: float
    rotation_error: float

    @property
    def score(self) -> float:
        """Degrees; a rotation error as large as the rotation counts 60."""
        return self.direction_deg + 60 * self.rotation_error

    @property
    def is_good(self) -> bool:
        """Whether direction and rotation fit the matches."""
        return (
            self.direction_deg < RECORDING_LIMITS["pose_direction_deg"].doubtful
            and self.rotation_error < RECORDING_LIMITS["pose_rotation_error"].unusable
        )


def fit_poses(given: list[Array], measured: list[TwoViewMotion]) -> PoseFit:
    """Compare given motions T_second_first, (4, 4) each, with the motions that matches show."""
    pairs = list(zip(given, measured, strict=True))
    directions = [angle_deg(T[:3, 3], motion.t) for T, motion in pairs]
    sizes = [rotation_deg(motion.R) for _, motion in pairs]
    errors = [rotation_deg(motion.R.T @ T[:3, :3]) for T, motion in pairs]
    rotation_error = np.median(np.array(errors) / np.maximum(sizes, MIN_COMPARED_ROTATION_DEG))
    return PoseFit(float(np.median(directions)), float(rotation_error))


def check_poses(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report the first fault of the poses that is found.

    In this order: not rigid (E05), shifted or reversed in time (E11), inverted (E06), other axes (E07), contradicted by
    the images (E09), wrong unit (E08).
    """
    given = {i: T for i in range(survey.length) if (T := survey.recording.T_world_camera(i, LEFT)) is not None}
    if not given:
        raise NotChecked("no poses")
    if broken := _check_rigid(given):
        yield broken
        return
    if survey.recording.map_points(0) is not None:
        raise NotChecked("the poses come from a map, which uses more matches than this check")
    steps = [step for step in survey.steps if step.measured is not None and step.T_second_first is not None]
    if len(steps) < 2:
        planar = sum(step.by_matches is not None and step.by_matches.planar for step in survey.steps)
        flat = f" ({planar} of {len(survey.steps)} show one plane, which two motions explain)" if planar else ""
        reason = f"fewer than two steps with poses and enough motion in the images{flat}"
        raise NotChecked(reason, hides="wrong axes of the poses")
    if is_inverse_by_poses(survey):
        raise NotChecked("poses against images: the ground truth is inverse depth (D07)")
    if wrong := _check_time_shift(survey, steps) or _check_direction(survey, steps):
        yield wrong
        return
    comparisons = compare_scales(survey)
    yield from check_scale(survey, LengthSource.POSES, comparisons)
    if not has_comparison(comparisons, LengthSource.POSES):
        raise NotChecked("the unit of the poses: no rig and no ground truth to compare with")


def _check_rigid(given: Mapping[int, Array]) -> Finding | None:
    broken = {frame: reason for frame, T in given.items() if (reason := _why_not_rigid(T))}
    if not broken:
        return None
    frame, reason = next(iter(broken.items()))
    measured = f"{len(broken)} of {len(given)} poses, such as frame {frame}: {reason}"
    evidence = {"T_world_camera": [[float(v) if np.isfinite(v) else str(v) for v in row] for row in given[frame]]}
    return make_finding("E05", Severity.STOP, measured, "a rotation and a translation", evidence=evidence)


def _why_not_rigid(T: Array) -> str:
    """Describe the problem; empty for a rigid transform."""
    if T.shape != (4, 4):
        return f"an array of shape {T.shape}"
    if not np.isfinite(T).all():
        return f"{int((~np.isfinite(T)).sum())} of its numbers are not finite"
    R = T[:3, :3]
    if np.allclose(R.T @ R, np.eye(3), atol=MAX_RIGID_GAP) and np.linalg.det(R) > 0 and np.allclose(T[3], (0, 0, 0, 1)):
        return ""
    size = float(np.abs(R.T @ R - np.eye(3)).max())
    return f"|R^T R - I| up to {size:.3g}, determinant {np.linalg.det(R):.3g}, last row {T[3].tolist()}"


def _check_time_shift(survey: RecordingSurvey, steps: list[Step]) -> Finding | None:
    """Report poses that belong to other frames (E11): shifted poses explain the rotations between images better."""
    late = find_pose_shift(survey, steps)
    if late is None:
        return None
    shift, alike, errors_deg = late
    if _is_reversed(survey, steps, errors_deg[shift]):
        return None  # a symmetric turn also fits a shift; `_check_direction` names the order
    measured = f"rotations by the poses differ from the images by {errors_deg[0]:.2f} degrees, "
    measured += f"and by {errors_deg[shift]:.2f} degrees if image i has pose i{shift:+d}"
    case = "undecided" if alike else "shifted"
    values = {"frames": describe_shifts(shift, alike), "shift": f"{shift:+d}"}
    evidence = {
        "shift_frames": shift,
        "shifts": {
            "hypothesis": ["as given" if frames == 0 else describe_shift(frames) for frames in errors_deg],
            "rotation error, degrees": list(errors_deg.values()),
        },
    }
    expected = "the smallest error with the pose of the same frame"
    return make_finding("E11", Severity.WARN, measured, expected, case=case, values=values, evidence=evidence)


def _is_reversed(survey: RecordingSurvey, steps: list[Step], shifted_deg: float) -> bool:
    """Return whether the poses in reverse order fit better than a shift does."""
    if not steps:
        return False
    last = survey.length - 1
    motions, backwards = list[TwoViewMotion](), list[Array]()
    for step in steps:
        T = survey.given_motion(last - step.first, last - step.second)
        if step.measured is not None and T is not None:
            motions.append(step.measured)
            backwards.append(T)
    if len(backwards) < len(steps) or not fit_poses(backwards, motions).is_good:
        return False
    errors_deg = [rotation_deg(motion.R.T @ T[:3, :3]) for T, motion in zip(backwards, motions, strict=True)]
    return float(np.median(errors_deg)) <= shifted_deg


def _check_direction(survey: RecordingSurvey, steps: list[Step]) -> Finding | None:
    """Report E06, E07 or E09: the poses fit neither the most reliable motions nor those by the matches alone."""
    motions = [step.measured for step in steps if step.measured is not None]
    ends = [(survey.recording.T_world_camera(s.first), survey.recording.T_world_camera(s.second)) for s in steps]
    poses = [(first, second) for first, second in ends if first is not None and second is not None]
    given = [relative_pose(*pair) for pair in poses]
    as_given = fit_poses(given, motions)
    unique = [
        (T, s.by_matches) for T, s in zip(given, steps, strict=True) if s.by_matches and s.by_matches in s.motions
    ]
    if as_given.is_good or (len(unique) > 1 and fit_poses([T for T, _ in unique], [m for _, m in unique]).is_good):
        return None
    fits = [
        (convention, fit_poses([convention.motion(*pair) for pair in poses], motions))
        for convention in make_conventions()
    ]
    last = survey.length - 1
    backwards = [T for s in steps if (T := survey.given_motion(last - s.first, last - s.second)) is not None]
    if len(backwards) == len(motions):
        fits.append((REVERSED, fit_poses(backwards, motions)))
    fitting = [(convention, fit) for convention, fit in fits if fit.is_good and fit.score < 0.5 * as_given.score]
    code, cause, fix = "E09", None, None
    ranked = sorted(fitting or fits, key=lambda pair: pair[1].score + pair[0].penalty_deg)
    if fitting:
        best, fit = ranked[0]
        most = fit.score + best.penalty_deg + MAX_SCORE_GAP_DEG
        alike = [convention for convention, fit in ranked[1:3] if fit.score + convention.penalty_deg <= most]
        code, fix, cause = best.code, best.fix, best.name
        if alike:
            cause += f" (it could also be: {', or '.join(convention.name for convention in alike)})"
        if any(convention.code != best.code for convention in alike):
            fixes = " or ".join(convention.fix for convention in (best, *alike))
            fix = f"undecided: view the path of the poses first, then {fixes}"
    shown = [("as given", as_given), *((convention.name, fit) for convention, fit in ranked[:MAX_SHOWN_CONVENTIONS])]
    evidence = {
        "steps": [f"{step.first} to {step.second}" for step in steps],
        "angle_deg": [angle_deg(T[:3, 3], motion.t) for T, motion in zip(given, motions, strict=True)],
        "conventions": {
            "hypothesis": [name for name, _ in shown],
            "direction off, degrees": [fit.direction_deg for _, fit in shown],
            "rotation error, relative": [fit.rotation_error for _, fit in shown],
        },
    }
    is_rotation_off = as_given.rotation_error > RECORDING_LIMITS["pose_rotation_error"].unusable
    severity = Severity.stop_if(
        as_given.direction_deg > RECORDING_LIMITS["pose_direction_deg"].unusable or is_rotation_off
    )
    measured = f"motion by the poses is {as_given.direction_deg:.0f} degrees off the motion in the images"
    if is_rotation_off:
        measured += f", and rotations are off by {as_given.rotation_error:.1f} times their size"
    expected = f"below {RECORDING_LIMITS['pose_direction_deg'].doubtful:.0f} degrees (median of {len(motions)} steps)"
    return make_finding(code, severity, measured, expected, cause=cause, fix=fix, evidence=evidence)


MIN_NEIGHBOR_PARALLAX_PX = 0.9  # median, at FLOW_WIDTH; drives have 1.1 to 4.3
MIN_MOVING_SHARE = 0.4  # parallax over displacement: a turning camera has .01
MAX_SHARE_OF_PLANE = 0.5  # share of the parallax that a motion along a facing plane gives
MIN_PARALLAX_STEPS = 2  # steps between frames that are measured
ROTATION_ITERATIONS = 20  # reweighted solutions until the rotation no longer changes
MIN_RESIDUAL_PX = 0.3  # noise of matches


def estimate_rotation(first_px: Array, second_px: Array, K: Array) -> Array:
    """Return the (3, 3) rotation that explains most of the matches (M, 2): Kabsch's with weights 1 / distance."""
    rays = [pixel_rays(pixels, K) for pixels in (first_px, second_px)]
    first, second = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays)
    weights = np.ones(len(first))
    R = np.eye(3)
    for _ in range(ROTATION_ITERATIONS):
        left, _, right = np.linalg.svd((second * weights[:, None]).T @ first)
        R = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
        weights = 1 / np.maximum(rotation_residuals_px(first_px, second_px, K, R), MIN_RESIDUAL_PX)
    return np.asarray(R, dtype=np.float64)


def find_rotation(step: Step, K: Array) -> Array:
    """Return the (3, 3) rotation of the essential matrix, or of most matches if one plane explains them all."""
    if step.by_matches is not None and not step.by_matches.planar:
        return step.by_matches.R
    return estimate_rotation(step.matches.first_px, step.matches.second_px, K)


def facing_plane_share(first_px: Array, second_px: Array, K: Array) -> float:
    """Return parallax over displacement of matches (M, 2) as a motion along a facing plane would displace them."""
    displaced = second_px - first_px
    length, along = float(np.median(np.linalg.norm(displaced, axis=1))), np.median(displaced, axis=0)
    shifted = first_px + along * (length / max(float(np.linalg.norm(along)), 1e-9))
    return parallax_px(first_px, shifted, K, estimate_rotation(first_px, shifted, K)) / max(length, MIN_RESIDUAL_PX)


def square_pixels(first_px: Array, second_px: Array, K: Array) -> tuple[Array, Array, Array]:
    """Return matches (M, 2) and K (3, 3) of the image with square pixels and the same width.

    Examples:
        >>> squeezed = np.array([[100.0, 0, 50], [0, 50, 20], [0, 0, 1]])
        >>> _, second, K = square_pixels(np.zeros((1, 2)), np.array([[3.0, 4.0]]), squeezed)
        >>> second.tolist(), K[1].tolist()
        ([[3.0, 8.0]], [0.0, 100.0, 40.0])
    """
    ratio = float(K[0, 0] / K[1, 1])
    return first_px * (1, ratio), second_px * (1, ratio), np.diag([1, ratio, 1]) @ K


def check_parallax(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report too little parallax between frames of one camera (D18); a note if ground truth could supervise instead."""
    if survey.stereo and not survey.one_camera:
        return
    if survey.recording.map_points(0) is not None:
        return
    if len(survey.steps) < MIN_PARALLAX_STEPS:
        raise NotChecked("parallax between neighboring frames: too few frames with motion and matches")
    parallaxes_px, shares, measured_steps = [], [], []
    for step in survey.steps:
        K = survey.K(step.first)
        second_px = survey.see_by_first(step.matches.second_px, K, survey.K(step.second))
        first_px, second_px, K = square_pixels(step.matches.first_px, second_px, K)
        pixels = first_px, second_px
        is_planar = step.by_matches is not None and step.by_matches.planar
        posed = step.T_second_first if is_planar else None
        R = find_rotation(step, survey.K(step.first)) if posed is None else posed[:3, :3]
        residual = parallax_px(*pixels, K, R)
        displacement_px = float(np.median(np.linalg.norm(second_px - first_px, axis=1)))
        share = residual / max(displacement_px, MIN_RESIDUAL_PX)
        if is_planar and posed is None and share > MAX_SHARE_OF_PLANE * facing_plane_share(*pixels, K):
            continue
        scale = FLOW_WIDTH / survey.recording.camera(step.first).width
        parallaxes_px.append(residual * scale / abs(step.second - step.first))
        shares.append(share)
        measured_steps.append(step)
    if len(measured_steps) < MIN_PARALLAX_STEPS:
        raise NotChecked("parallax between neighboring frames: one plane, where turning and moving look the same")
    found_px, share = float(np.median(parallaxes_px)), float(np.median(shares))
    if found_px >= MIN_NEIGHBOR_PARALLAX_PX:
        return
    numbers = np.array([[survey.recording.number(index) for index in (s.first, s.second)] for s in measured_steps])
    source_frames = np.diff(numbers)[:, 0] / [step.second - step.first for step in measured_steps]
    frame_distance = float(np.median(source_frames))
    case = _choose_case(survey, is_turning=share < MIN_MOVING_SHARE)
    measured = f"points move by {found_px:.2f} px beyond rotation at {FLOW_WIDTH} px width, from frame to frame"
    measured += f" ({len(numbers)} pairs between frames {numbers.min()} and {numbers.max()})"
    has_truth = any(survey.depth(step.first) is not None for step in measured_steps)
    pairs = {"first": [s.first for s in measured_steps], "second": [s.second for s in measured_steps]}
    frames_apart = [abs(step.second - step.first) for step in measured_steps]
    table = {**pairs, "frames_apart": frames_apart, "parallax_px_per_frame": parallaxes_px}
    evidence = {"frame_distance": round(frame_distance), "rotation_share": 1 - share, "pairs": table}
    severity = Severity.NOTE if has_truth else Severity.WARN
    expected = f"at least {MIN_NEIGHBOR_PARALLAX_PX} px"
    values = {"rotation": f"{1 - share:.0%}"}
    yield make_finding("D18", severity, measured, expected, case=case, values=values, evidence=evidence)


def _choose_case(survey: RecordingSurvey, *, is_turning: bool) -> str:
    if survey.stereo:
        return "turning_pairs" if is_turning else "slow_pairs"
    if is_turning:
        return "turning"
    return "slow_video" if survey.recording.has_stride else "slow_images"


MAX_SHIFT = 3  # frames, late and early, that are searched
MIN_SHIFTED_PX = 0.15  # distance from the epipolar lines; one frame late has .25 to 3
MIN_SHIFTED_SHARE = 0.0003  # the same, over the width
MAX_SHIFTED_RATIO = 0.4  # distance at the best shift over the distance as given; late pairs have .03 to .15
MAX_ALIKE = 1.5  # error of a shift over the best error, below which both are named
MIN_SHIFTED_PAIRS = 2  # pairs that a shift needs
MIN_SHIFTED_MATCHES = 30  # matches of each of these pairs
MIN_SHIFT_AGREEMENT = 0.75  # share of the pairs, or steps, that fit better at a shift
MIN_SHIFTED_STEPS = 3  # steps that a shift of poses needs
MAX_SHIFTED_ROTATION = 0.4  # error at the best shift over the error as given; late poses have .02 to .28
MIN_ROTATION_GAIN_DEG = 0.06  # rotation error as given, less the error at the best shift


def describe_shift(frames: int) -> str:
    """Describe a shift in words: above 0 is late."""
    return f"{abs(frames)} frame{'s' * (abs(frames) != 1)} {'late' if frames > 0 else 'early'}"


def describe_shifts(best: int, alike: Sequence[int]) -> str:
    """Describe the best shift, and the shifts that fit equally well."""
    also = f" (undecided: it could also be {', or '.join(map(describe_shift, alike))})" if alike else ""
    return describe_shift(best) + also


def choose_shift(errors: Mapping[int, float]) -> tuple[int, list[int]]:
    """Return the shift with the smallest error, and others whose errors are about the same."""
    best = min(errors, key=lambda shift: errors[shift])
    return best, [shift for shift in errors if shift != best and errors[shift] < MAX_ALIKE * errors[best]]


@dataclass(frozen=True, slots=True)
class ShiftedDistances:
    """(P,) median distance to the epipolar lines for each pair, as given and at `shift`, pixels."""

    shift: int
    as_given: Array
    shifted: Array

    @property
    def distance_px(self) -> float:
        """Median distance at `shift` over the pairs."""
        return float(np.median(self.shifted))

    @property
    def fits(self) -> bool:
        """Whether the shift explains the distances as given."""
        is_nearer = self.shifted < self.as_given
        ratio = float(np.median(self.shifted)) / float(np.median(self.as_given))
        return ratio <= MAX_SHIFTED_RATIO and float(is_nearer.mean()) >= MIN_SHIFT_AGREEMENT


def check_synchronization(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report left and right images of different times (E10): right images of other frames are on the epipolar lines."""
    if not survey.stereo:
        return  # `sides` reports what is missing
    as_given = _measure_distances(survey, survey.pairs)
    width = survey.recording.camera(survey.anchors[0]).width
    if len(as_given) < MIN_SHIFTED_PAIRS or survey.length < 2:
        return
    given_px = float(np.median(list(as_given.values())))
    limit_px = max(MIN_SHIFTED_PX, MIN_SHIFTED_SHARE * width)
    if (later := _find_later_shift(survey, as_given, limit_px)) is not None:
        yield later
        return
    if given_px < limit_px:
        return
    shifted = []
    for shift in (s for s in range(-MAX_SHIFT, MAX_SHIFT + 1) if s != 0):
        there = _measure_distances(survey, survey.match_shifted(shift))
        common = sorted(there.keys() & as_given.keys())
        if len(common) >= MIN_SHIFTED_PAIRS:
            before, after = (np.array([distances[i] for i in common]) for distances in (as_given, there))
            shifted.append(ShiftedDistances(shift, before, after))
    fitting = {distances.shift: distances for distances in shifted if distances.fits}
    if not fitting:
        return
    shift, alike = choose_shift({shift: distances.distance_px for shift, distances in fitting.items()})
    best = fitting[shift]
    measured = f"matches are {given_px:.2f} px from their epipolar lines, and {best.distance_px:.2f} px if left "
    measured += f"image i is paired with right image i{best.shift:+d} (medians of {len(best.shifted)} pairs)"
    case = "undecided" if alike else "shifted"
    values = {"frames": describe_shifts(best.shift, alike), "shift": f"{best.shift:+d}"}
    table = {0: given_px, **{distances.shift: distances.distance_px for distances in shifted}}
    evidence = {
        "shift_frames": best.shift,
        "shifts": {
            "hypothesis": ["as given" if shift == 0 else describe_shift(shift) for shift in sorted(table)],
            "distance to the line, px": [table[shift] for shift in sorted(table)],
        },
    }
    expected = "the smallest distance at the same frame"
    yield make_finding("E10", Severity.STOP, measured, expected, case=case, values=values, evidence=evidence)


MIN_LATER_RATIO = 4.0  # distance after a lost frame over the distance before it


def _find_later_shift(survey: RecordingSurvey, as_given: Mapping[int, float], limit_px: float) -> Finding | None:
    """Report that one camera lost a frame (E10): pairs fit up to a frame, and then fit at another shift."""
    indices = sorted(as_given)
    fits = [as_given[i] < max(limit_px, MIN_LATER_RATIO * min(as_given.values())) for i in indices]
    start = next((k for k in range(len(fits)) if not any(fits[k:])), len(fits))
    before, after = indices[:start], indices[start:]
    if not before or len(after) < MIN_SHIFTED_PAIRS or not all(fits[:start]):
        return None
    found: dict[int, float] = {}
    for shift in (s for s in range(-MAX_SHIFT, MAX_SHIFT + 1) if s != 0):
        pairs = [survey.match_pair(i, shift) for i in after if 0 <= i + shift < survey.length]
        there = _measure_distances(survey, pairs)
        is_enough = len(there) >= MIN_SHIFTED_PAIRS
        if is_enough and all(there[i] <= MAX_SHIFTED_RATIO * as_given[i] for i in there):
            found[shift] = float(np.median(list(there.values())))
    if not found:
        return None
    shift, alike = choose_shift(found)
    first = _find_first_shifted(survey, before[-1], after[0], shift)
    given_px = float(np.median([as_given[i] for i in after]))
    measured = f"up to frame {before[-1]} matches are {max(as_given[i] for i in before):.2f} px from their epipolar "
    measured += f"lines; from frame {first} on {given_px:.2f} px, and {found[shift]:.2f} px if left image i is "
    measured += f"paired with right image i{shift:+d}"
    values = {"frames": describe_shifts(shift, alike), "shift": f"{shift:+d}", "start": first}
    pixels = {"frame": indices, "distance to the line, px": [as_given[i] for i in indices]}
    evidence = {"shift_frames": shift, "first_frame": first, "pairs": pixels}
    expected = "the smallest distance at the same frame, in the whole recording"
    return make_finding("E10", Severity.STOP, measured, expected, case="later", values=values, evidence=evidence)


def _find_first_shifted(survey: RecordingSurvey, good: int, late: int, shift: int) -> int:
    """Return the first frame whose shifted pair is nearer than the given one, by bisection."""
    while late - good > 1:
        middle = (good + late) // 2
        pairs = {0: survey.match_pair(middle)}
        if 0 <= middle + shift < survey.length:
            pairs[shift] = survey.match_pair(middle, shift)
        px = {s: _measure_distances(survey, [pair]).get(middle, np.inf) for s, pair in pairs.items()}
        if px.get(shift, np.inf) < px[0]:
            late = middle
        else:
            good = middle
    return late


def _measure_distances(survey: RecordingSurvey, pairs: list[PairMatches]) -> dict[int, float]:
    """Return the median distance to the epipolar lines by left index, for pairs with enough matches."""
    medians = {}
    for pair in pairs:
        if len(pair.matches) >= MIN_SHIFTED_MATCHES:
            rig = survey.K(pair.index), survey.K(pair.index, RIGHT), survey.T_right_left
            distances = epipolar_distance_px(pair.matches.first_px, pair.matches.second_px, *rig)
            medians[pair.index] = float(np.median(distances))
    return medians


def find_pose_shift(survey: RecordingSurvey, steps: list[Step]) -> tuple[int, list[int], dict[int, float]] | None:
    """Return the shift of the poses in frames, others that fit equally, and errors by shift; None if unclear."""
    errors = {shift: _rotation_errors_deg(survey, steps, shift) for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)}
    as_given, fitting = errors[0], {}
    for shift, there in errors.items():
        common = sorted(there.keys() & as_given.keys())
        if shift == 0 or len(common) < MIN_SHIFTED_STEPS:
            continue
        before, after = (np.array([errors_deg[i] for i in common]) for errors_deg in (as_given, there))
        least = min(MAX_SHIFTED_ROTATION * np.median(before), np.median(before) - MIN_ROTATION_GAIN_DEG)
        if np.median(after) <= least and float((after < before).mean()) >= MIN_SHIFT_AGREEMENT:
            fitting[shift] = float(np.median(after))
    if not fitting:
        return None
    table = {
        shift: float(np.median(list(errors_deg.values())))
        for shift, errors_deg in errors.items()
        if len(errors_deg) >= MIN_SHIFTED_STEPS
    }
    return *choose_shift(fitting), table


def _rotation_errors_deg(survey: RecordingSurvey, steps: list[Step], shift: int) -> dict[int, float]:
    """Return the rotation errors by the first frame of each step, with the poses of `shift` frames later."""
    errors_deg = {}
    for step in steps:
        first, second = step.first + shift, step.second + shift
        if step.measured is None or min(first, second) < 0 or max(first, second) >= survey.length:
            continue
        T = survey.given_motion(first, second)
        if T is not None:
            errors_deg[step.first] = rotation_deg(step.measured.R.T @ T[:3, :3])
    return errors_deg
