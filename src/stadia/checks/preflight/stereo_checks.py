"""Check the stereo rig: sides, sign, direction and length of the baseline."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stadia.checks.catalog import NotChecked, make_finding
from stadia.checks.finding import WRONG_BASELINE, Finding, Severity
from stadia.checks.preflight.intrinsics_checks import KITTI_BASELINES_M, describe_unequal_focals, is_kitti_camera
from stadia.checks.preflight.recording_survey import PairMatches, RecordingSurvey
from stadia.checks.preflight.scale_errors import (
    LengthSource,
    check_scale,
    compare_scales,
    has_comparison,
    list_agreements,
)
from stadia.checks.preflight.two_view_geometry import (
    Array,
    detect_features,
    epipolar_distance_px,
    gray,
    match_features,
    plane_sweep,
    rotation_deg,
)
from stadia.core.recording import RIGHT

MIN_SIDE_MATCHES = 60  # matches between left and right for the side
MIN_SIGN_SHARE = 0.8  # share of matches with one sign of disparity; clean KITTI .98
MIN_MIRRORED_RATIO = 3  # of matches after mirroring one camera, over matches as given: 4.7 to 8.2 if it is mirrored
MIN_MIRROR_STEPS = 2  # steps with rotation for swapped or mirrored images
MAX_MIRROR_RATIO = 0.5  # the smaller rotation error of these steps over the larger one
MIN_SWEEP_RATIO = 1.3  # residual of the plane sweep in the worse direction over the better one
MIN_SIDEWAYS = 0.95  # share of the baseline along x
EPIPOLAR_WARN_SHARE = 0.001  # median, of the width; clean data .0001 to .0003
EPIPOLAR_STOP_SHARE = 0.002  # broken rigs have .008 to .012
MIN_EPIPOLAR_PX = 0.6  # distance to the epipolar lines in small images
MIN_RIG_ROTATION_DEG = 0.1  # smaller rotations move pixels by less than 0.2 % of the focal length

INVERTED = "the other way round"
RECTIFIED = "no rotation, baseline along x"
TRANSPOSED = "the rotation transposed"
OTHER_ORDER = "the rotation's Euler angles in the other order"


@dataclass(frozen=True, slots=True)
class SideMeasurement:
    """The side to which the right image is displaced, by the share of matches with x_left > x_right.

    unrotated: without the rig's rotation. forward, backward: residuals of plane sweeps for a right and a left camera.
    """

    positive: float
    matches: int
    forward: float
    backward: float
    unrotated: float

    @property
    def sign(self) -> int:
        """+1: the right image is the right one, -1: the left one, 0: undecided."""
        if (self.positive - 0.5) * (self.unrotated - 0.5) < 0:
            return 0
        if self.matches >= MIN_SIDE_MATCHES and max(self.positive, 1 - self.positive) >= MIN_SIGN_SHARE:
            return 1 if self.positive > 0.5 else -1
        if self.is_decided:
            return 1 if self.forward < self.backward else -1
        return 0

    @property
    def is_decided(self) -> bool:
        """Whether the plane sweep confirms the sign; images of two moments have similar residuals."""
        return max(self.forward, self.backward) >= MIN_SWEEP_RATIO * min(self.forward, self.backward)

    def evidence(self, t_x: float) -> dict[str, Any]:
        """Return a table of the given sign of the baseline and the other one."""
        order = slice(None, None, -1 if t_x > 0 else 1)
        sides = {
            "hypothesis": ("as given", "the other way round"),
            "share of matches": (self.positive, 1 - self.positive)[order],
            "residual": (self.forward, self.backward)[order],
        }
        return {"t_x": t_x, "matches": self.matches, "sides": sides}


def measure_sides(survey: RecordingSurvey) -> SideMeasurement:
    """Measure the side of the right camera by the images alone."""
    disparity = np.concatenate([pair.disparity_px for pair in survey.pairs])
    unrotated = np.concatenate([_unrotated_disparity_px(survey, pair) for pair in survey.pairs])
    clear, clear_unrotated = (px[np.abs(px) > 1.0] for px in (disparity, unrotated))
    share, share_unrotated = (float((px > 0).mean()) if len(px) else 0.5 for px in (clear, clear_unrotated))
    middle = survey.anchors[len(survey.anchors) // 2]
    left, right = survey.image(middle), survey.image(middle, RIGHT)
    forward = backward = 0.0
    if left.shape == right.shape:
        forward, backward = (plane_sweep(gray(left), gray(right), sign).residual for sign in (1, -1))
    return SideMeasurement(share, len(clear), forward, backward, share_unrotated)


def _unrotated_disparity_px(survey: RecordingSurvey, pair: PairMatches) -> Array:
    """Return (M,) x of the left matches at infinity in the right camera, less x_right."""
    to_right = survey.K(pair.index, RIGHT) @ survey.T_right_left[:3, :3] @ np.linalg.inv(survey.K(pair.index))
    far = np.column_stack((pair.matches.first_px, np.ones(len(pair.matches)))) @ to_right.T
    x: Array = far[:, 0] / far[:, 2] - pair.matches.second_px[:, 0]
    return x


def _require_stereo(survey: RecordingSurvey) -> None:
    if RIGHT not in survey.recording.sides:
        raise NotChecked("one camera, no rig")
    if survey.recording.T_right_left is None:
        raise NotChecked("two cameras, but no T_right_left")


def check_sides(survey: RecordingSurvey) -> Iterator[Finding]:
    """E02: the images contradict the rig although t_x has the right sign. E12: they are mirrored."""
    _require_stereo(survey)
    t = survey.T_right_left[:3, 3]
    sides = measure_sides(survey)
    is_odd = sides.matches < MIN_SIDE_MATCHES or sides.sign == 0
    is_odd = is_odd or _epipolar_median_px(survey, survey.T_right_left) >= _max_epipolar_px(survey)[1]
    if is_odd and (mirrored := _check_right_mirrored(survey)):
        yield mirrored
        return
    if sides.sign == 0:
        raise NotChecked(f"{sides.matches} matches between left and right, and no clear sign of disparity")
    if sides.sign > 0 or abs(t[0]) < MIN_SIDEWAYS * np.linalg.norm(t):
        return
    if not sides.is_decided and _epipolar_median_px(survey, survey.T_right_left) >= _max_epipolar_px(survey)[1]:
        return  # images that no rectified rig explains: `baseline` reports it
    is_mirrored = _are_both_mirrored(survey)
    if is_mirrored:
        yield _report_both_mirrored(sides, is_mirrored)
        return
    case = "named_otherwise" if t[0] > 0 else "undecided" if is_mirrored is None else ""
    severity = Severity.WARN if t[0] > 0 else Severity.STOP
    evidence = sides.evidence(float(t[0]))
    measured = f"{1 - sides.positive:.0%} of {sides.matches} matches are further right in the right image"
    expected = "further left: x_left - x_right = fx baseline / z is above 0"
    yield make_finding("E02", severity, measured, expected, case=case, evidence=evidence)


def _check_right_mirrored(survey: RecordingSurvey) -> Finding | None:
    """E12 if left and right match only after one of them is mirrored."""
    as_given, mirrored = sum(len(pair.matches) for pair in survey.pairs), 0
    for i in survey.anchors:
        flipped = detect_features(np.ascontiguousarray(survey.image(i, RIGHT)[:, ::-1]))
        mirrored += len(match_features(survey.features(i), flipped))
    if mirrored < max(MIN_SIDE_MATCHES, MIN_MIRRORED_RATIO * as_given):
        return None
    measured = f"left and right have {as_given} matches, and {mirrored} after mirroring one of them"
    evidence = {"matches": as_given, "matches_mirrored": mirrored}
    expected = f"at least {MIN_SIDE_MATCHES} matches"
    return make_finding("E12", Severity.STOP, measured, expected, case="one_camera", evidence=evidence)


MAX_TURNED_RATIO = 0.75  # of the rotation errors of mirrored and turned, below which the better one is named


def _are_both_mirrored(survey: RecordingSurvey) -> str | None:
    """Return the case of E12 if the rotations fit only mirrored or turned; "" if they fit, None if unclear."""
    mirror, turn = np.diag([-1.0, 1.0, 1.0]), np.diag([-1.0, -1.0, 1.0])
    as_given, mirrored, turned = list[float](), list[float](), list[float]()
    for step in survey.steps:
        if step.by_matches is not None and step.T_second_first is not None and not step.by_matches.planar:
            R = step.T_second_first[:3, :3]
            for errors, change in ((as_given, np.eye(3)), (mirrored, mirror), (turned, turn)):
                errors.append(rotation_deg(step.by_matches.R.T @ change @ R @ change))
    if len(as_given) < MIN_MIRROR_STEPS:
        return None
    given_deg, mirrored_deg, turned_deg = (float(np.median(errors)) for errors in (as_given, mirrored, turned))
    changed_deg = min(mirrored_deg, turned_deg)
    if min(given_deg, changed_deg) > MAX_MIRROR_RATIO * max(given_deg, changed_deg):
        return None
    if given_deg < changed_deg:
        return ""
    if changed_deg > MAX_TURNED_RATIO * max(mirrored_deg, turned_deg):
        return "mirrored_or_turned"
    return "turned" if turned_deg < mirrored_deg else "all_images"


def _report_both_mirrored(sides: SideMeasurement, case: str) -> Finding:
    measured = f"{1 - sides.positive:.0%} of {sides.matches} matches are further right in the right image, "
    measured += "and the camera turns the other way than its poses"
    expected = "matches further to the left, and turns as by the poses"
    return make_finding("E12", Severity.STOP, measured, expected, case=case)


def check_baseline(survey: RecordingSurvey) -> Iterator[Finding]:
    """E01 sign, E04 direction and rotation, E03 length."""
    _require_stereo(survey)
    if wrong := _check_sign(survey) or _check_epipolar(survey):
        yield wrong
        if wrong.severity is Severity.STOP:
            return
    comparisons = compare_scales(survey)
    wrong_lengths = check_scale(survey, LengthSource.RIG, comparisons)
    note = describe_unequal_focals(survey.K(survey.anchors[0]))
    wrong_lengths = [replace(finding, cause=finding.cause + note) for finding in wrong_lengths]
    yield from wrong_lengths
    if not wrong_lengths:
        survey.agreements = list_agreements(float(np.linalg.norm(survey.T_right_left[:3, 3])), comparisons)
    if not has_comparison(comparisons, LengthSource.RIG):
        if not wrong_lengths and (unlike_kitti := _check_kitti_baseline(survey)):
            yield unlike_kitti
        length_m = np.linalg.norm(survey.T_right_left[:3, 3])
        reason = f"the baseline of {length_m:.4g} m: it needs poses or ground truth; "
        reason += "compare it with the calibration, in metres"
        raise NotChecked(reason, hides=WRONG_BASELINE)


def _check_sign(survey: RecordingSurvey) -> Finding | None:
    t = survey.T_right_left[:3, 3]
    if t[0] <= 0 or t[0] < MIN_SIDEWAYS * np.linalg.norm(t):
        return None
    sides = measure_sides(survey)
    if sides.sign < 0:
        return None  # consistent: `sides` reports it
    measured = f"t_x of T_right_left is {t[0]:+.4f} m, "
    measured += f"while {sides.positive:.0%} of {sides.matches} matches are further left in the right image"
    expected = f"t_x = -baseline = {-t[0]:.4f} m"
    case = "kitti" if is_kitti_camera(survey.recording.camera(survey.anchors[0])) else ""
    evidence = sides.evidence(float(t[0]))
    return make_finding("E01", Severity.STOP, measured, expected, case=case, evidence=evidence)


def _check_kitti_baseline(survey: RecordingSurvey) -> Finding | None:
    """E03 for images with KITTI's fields of view and another baseline."""
    camera, (low, high) = survey.recording.camera(survey.anchors[0]), KITTI_BASELINES_M
    baseline_m = float(np.linalg.norm(survey.T_right_left[:3, 3]))
    if not is_kitti_camera(camera) or low <= baseline_m <= high:
        return None
    measured = f"the baseline is {baseline_m:.4g} m, and the images have KITTI's fields of view"
    expected = f"{low:g} to {high:g} m"
    values = {"baseline": f"{baseline_m:.4g}", "expected": expected}
    evidence = {"baseline_m": baseline_m, "fx": float(camera.K[0, 0]), "size": [camera.width, camera.height]}
    return make_finding("E03", Severity.WARN, measured, expected, case="kitti", values=values, evidence=evidence)


def _check_epipolar(survey: RecordingSurvey) -> Finding | None:
    """E04: median distance to the epipolar lines; a rectified pair has its baseline along x."""
    T, matches = survey.T_right_left, sum(len(pair.matches) for pair in survey.pairs)
    if matches < MIN_SIDE_MATCHES:
        return None
    median = _epipolar_median_px(survey, T)
    warn_px, stop_px = _max_epipolar_px(survey)
    if median < warn_px:
        return None
    distances = {name: _epipolar_median_px(survey, rig) for name, rig in {"as given": T, **_other_forms(T)}.items()}
    distances |= _other_rectifications_px(survey)
    fitting = [name for name, distance in distances.items() if distance < min(warn_px, 0.5 * median)]
    case, values = _diagnose_rig(survey, fitting)
    along_x = abs(T[0, 3]) >= MIN_SIDEWAYS * np.linalg.norm(T[:3, 3])
    severity = Severity.stop_if(median >= stop_px or not along_x)
    measured = f"matches are {median:.2f} px from their epipolar lines (median of {matches})"
    expected = f"below {warn_px:.2f} px"
    evidence = {
        "median_y_left_minus_y_right_px": float(np.median(survey.row_offsets_px)),
        "rigs": {"hypothesis": list(distances), "distance to the line, px": list(distances.values())},
        "T_right_left": T[:3].tolist(),
    }
    return make_finding("E04", severity, measured, expected, case=case, values=values, evidence=evidence)


def _max_epipolar_px(survey: RecordingSurvey) -> tuple[float, float]:
    """Return the median distances to the epipolar lines from which E04 warns and stops."""
    width = survey.recording.camera(survey.anchors[0]).width
    warn_px, stop_px = (max(MIN_EPIPOLAR_PX, share * width) for share in (EPIPOLAR_WARN_SHARE, EPIPOLAR_STOP_SHARE))
    return warn_px, stop_px


def _epipolar_median_px(survey: RecordingSurvey, T_right_left: Array) -> float:
    """Return the median distance of all matches to a rig's epipolar lines."""
    distances = []
    for pair in survey.pairs:
        cameras = survey.K(pair.index), survey.K(pair.index, RIGHT)
        distances.append(epipolar_distance_px(pair.matches.first_px, pair.matches.second_px, *cameras, T_right_left))
    return float(np.median(np.concatenate(distances)))


def _other_forms(T_right_left: Array) -> dict[str, Array]:
    """Return the rig without a usual mistake, by its name."""
    from scipy.spatial.transform import Rotation  # slow to import

    rectified, transposed, reordered = np.eye(4), T_right_left.copy(), T_right_left.copy()
    rectified[0, 3] = -np.linalg.norm(T_right_left[:3, 3])
    forms = {INVERTED: np.asarray(np.linalg.inv(T_right_left)), RECTIFIED: rectified}
    if rotation_deg(T_right_left[:3, :3]) >= MIN_RIG_ROTATION_DEG:
        R = Rotation.from_matrix(T_right_left[:3, :3])
        transposed[:3, :3] = R.inv().as_matrix()
        reordered[:3, :3] = Rotation.from_euler("XYZ", R.as_euler("xyz")).as_matrix()
        forms |= {TRANSPOSED: transposed, OTHER_ORDER: reordered}
    return forms


def _diagnose_rig(survey: RecordingSurvey, fitting: list[str]) -> tuple[str, dict[str, object]]:
    """Return the case of E04 and its values, by the axis of the baseline and the forms that fit."""
    T = survey.T_right_left
    axis = "xyz"[int(np.abs(T[:3, 3]).argmax())]
    turned_deg = rotation_deg(T[:3, :3])
    values: dict[str, object] = {"axis": axis, "rotation": f"{turned_deg:.2f}"}
    values["rows"] = f"{survey.median_row_offset_px:.1f}"
    if axis != "x":
        formula = "t1 - t0, the difference of their positions"
        if turned_deg >= MIN_RIG_ROTATION_DEG:
            formula = "T_BS1 inv(T_BS0), or t1 - t0"
        case = "body_axes_rectified" if RECTIFIED in fitting else "body_axes"
        return case, {**values, "formula": formula}
    if RECTIFIED in fitting:
        return "raw_extrinsics", values
    if form := next((form for form in (TRANSPOSED, OTHER_ORDER) if form in fitting), ""):
        return "other_rotation", {**values, "form": form}
    if survey.recording.rectification is not None:
        others = _other_rectifications_px(survey)
        if form := next((form for form in others if form in fitting), ""):
            return "exchanged_calibration", {**values, "form": form, "rows": f"{others[form]:.1f}"}
        return "wrong_calibration", values
    return ("not_rectified" if turned_deg < MIN_RIG_ROTATION_DEG else ""), values


def _other_rectifications_px(survey: RecordingSurvey) -> dict[str, float]:
    """Return the median row distance of matches after correcting a usual mistake in the rectification."""
    rectification, offsets = survey.recording.rectification, dict[str, list[Array]]()
    for pair in survey.pairs if rectification is not None else ():
        assert rectification is not None
        for name, px in rectification.other_rows_px(pair.matches.first_px, pair.matches.second_px).items():
            offsets.setdefault(name, []).append(np.abs(px))
    return {name: float(np.median(np.concatenate(rows_px))) for name, rows_px in offsets.items()}
