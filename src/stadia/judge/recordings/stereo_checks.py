"""Check the stereo rig: sides, sign, direction and length of the baseline."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import LEFT, RIGHT
from stadia.evaluation.depth_hypotheses import find_truth_fault
from stadia.geometry.ground.road_plane import fit_plane_ransac, height_above_plane
from stadia.geometry.image_features import detect_features, gray, match_features
from stadia.geometry.poses import invert_pose
from stadia.geometry.two_views import epipolar_distance_px, rotation_deg
from stadia.judge.catalog import NotChecked, make_finding
from stadia.judge.finding import WRONG_BASELINE, Finding, Severity
from stadia.judge.limits import RECORDING_LIMITS
from stadia.judge.recordings.image_residuals import plane_sweep, warp_identity_ratio
from stadia.judge.recordings.intrinsics_checks import KITTI_BASELINES_M, describe_unequal_focals, is_kitti_camera
from stadia.judge.recordings.recording_survey import Array, PairMatches, RecordingSurvey, spread_order
from stadia.judge.recordings.scale_comparison import (
    MAX_BEND,
    MAX_SPREAD,
    MIN_RANK,
    LengthSource,
    compare_depth_with_rig,
    compare_scales,
    has_comparison,
    has_same_direction,
    is_inverse_by_poses,
    rank_depth_with_poses,
)
from stadia.judge.recordings.scale_errors import PLAUSIBLE, check_scale, find_scale_errors, list_agreements

MIN_SIDE_MATCHES = 60  # matches between left and right for the side
MIN_SIGN_SHARE = 0.8  # share of matches with one sign of disparity; clean KITTI .98
MIN_MIRRORED_RATIO = 3  # matches with one camera mirrored over matches as given; a mirrored one has 4.7 to 8.2
MIN_MIRROR_STEPS = 2  # steps with rotation for swapped or mirrored images
MAX_MIRROR_RATIO = 0.5  # the smaller rotation error of these steps over the larger one
MIN_SWEEP_RATIO = 1.3  # residual of the plane sweep in the worse direction over the better one
MIN_SIDEWAYS = 0.95  # share of the baseline along x
MIN_EPIPOLAR_PX = 0.6  # distance to the epipolar lines in small images
MIN_RIG_ROTATION_DEG = 0.1  # smaller rotations move pixels by less than 0.2 % of the focal length

INVERTED = "the other way round"
RECTIFIED = "no rotation, baseline along x"
TRANSPOSED = "the rotation transposed"
OTHER_ORDER = "the rotation's Euler angles in the other order"


@dataclass(frozen=True, slots=True)
class SideMeasurement:
    """The displacement of the right image, left or right, by the share of matches with x_left > x_right.

    unrotated: share of these matches without the rig's rotation.
    forward, backward: residuals of plane sweeps for a right and a left camera.
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
        """Return a table of the measurements for the sign of the baseline as given, and for the other sign."""
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
    """Report swapped sides (E02: the images contradict the rig although t_x has the right sign) or mirrored images
    (E12).
    """
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
    """Report left and right images that match only after one of them is mirrored (E12)."""
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


MAX_TURNED_RATIO = 0.75  # ratio of the rotation errors of mirrored and turned, below which the better one is named


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
    """Report a baseline of wrong sign (E01), wrong direction or rotation (E04), or wrong length (E03)."""
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
    """Report images with KITTI's fields of view and another baseline than KITTI's (E03)."""
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
    """Report matches far from their epipolar lines, by the median distance (E04). A rectified pair has its baseline
    along x.
    """
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
    """Return the median distances to the epipolar lines at which E04 warns and stops."""
    width = survey.recording.camera(survey.anchors[0]).width
    warn_px, stop_px = (
        max(MIN_EPIPOLAR_PX, share * width)
        for share in (RECORDING_LIMITS["epipolar"].doubtful, RECORDING_LIMITS["epipolar"].unusable)
    )
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
    forms = {INVERTED: invert_pose(T_right_left), RECTIFIED: rectified}
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


MIN_ROAD_POINTS = 200  # points in the lower middle of the image for a search of the road
MAX_TILT_DEG = 15.0  # angle of a road's normal from the vertical of the image
ROAD_TOLERANCE = 0.03  # a point is on the road within this share of the camera's height
MIN_ROAD_POINT_SHARE = 0.35  # share of points on the road; KITTI's LiDAR has .41
COUNTED_FRAMES = 24  # frames that are counted as with or without ground truth
FEW_SHARE = 0.5  # share of frames with ground truth
MAX_LEVELS = 256  # distinct values of an 8-bit image
LEVELS_PER_METRE = 256  # of KITTI's PNGs
MIN_USED_LEVELS = 0.6  # share of these levels, within its range, that a map of KITTI uses
MIN_LEVEL_PIXELS = 20_000  # pixels for which so few values are no coincidence
MAX_WHOLE_SHARE = 0.6  # share of whole metres
MIN_WHOLE_LEVELS = 8  # distinct whole metres: synthetic scenes have a few planes
CAMERA_HEIGHT_M = (0.6, 4.0)  # cars 1.2 to 2, lorries below 4; a wrong unit gives 6.4 or 0.42
NEIGHBOR_SHIFTS = (-3, -2, -1, 1, 2, 3)  # frames whose ground truth is tried
MAX_NEIGHBOR_SPREAD = 0.85  # spread by a neighbor's ground truth over the spread by its own; correct 1.3, wrong .75
MIN_WARPS = 2  # frames that are warped by their ground truth


def check_ground_truth(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report the first fault of the ground-truth depth that is found.

    In this order: few frames (D12), another size (D11), empty (D05), quantized (D08), equal, filled or interpolated
    (D21), of other images (D07), wrong scale (D06).
    """
    yield from _check_count(survey)
    maps = [survey.recording.depth_m(i, LEFT) for i in survey.anchors]
    if all(depth is None for depth in maps):
        raise NotChecked("no ground-truth depth")
    if (other_size := _check_size(survey)) is not None:
        yield other_size
        return
    empty = _check_empty([depth for depth in maps if depth is not None], survey)
    if empty is not None:
        yield empty
        if empty.severity is Severity.STOP:
            return
    yield from _check_levels(survey)
    fault = find_truth_fault([np.asarray(depth, np.float64) for depth in maps if depth is not None])
    if fault is not None:
        yield make_finding("D21", Severity.WARN, fault.measured, "depth of each image", case=fault.name)
    mismatch = (
        _compare_with_rig(survey)
        or _compare_with_poses(survey)
        or _compare_adjacent_frames(survey)
        or _compare_with_motion(survey)
    )
    comparisons = [] if mismatch is not None else compare_scales(survey)
    if mismatch is None and not find_scale_errors(survey, comparisons):
        mismatch = _compare_with_plane(survey)
    if mismatch is not None:
        yield mismatch
    else:
        wrong = check_scale(survey, LengthSource.DEPTH, comparisons)
        yield from wrong if wrong or has_comparison(comparisons, LengthSource.DEPTH) else _check_camera_height(survey)
    if compare_depth_with_rig(survey) is None and len(compare_warps_with_plane(survey)) < MIN_WARPS:
        raise NotChecked("whether the ground truth fits these frames: no rig, and no reliable motion")


def _check_count(survey: RecordingSurvey) -> Iterator[Finding]:
    checked = sorted(spread_order(survey.length)[:COUNTED_FRAMES])
    there = [i for i in checked if survey.recording.depth_m(i, LEFT) is not None]
    if 0 < len(there) < FEW_SHARE * len(checked):
        measured = f"{len(there)} of {len(checked)} frames have ground truth"
        yield make_finding("D12", Severity.WARN, measured, "most of them", evidence={"frames_with_ground_truth": there})


def _check_size(survey: RecordingSurvey) -> Finding | None:
    for i in survey.anchors:
        depth, size = survey.recording.depth_m(i, LEFT), survey.image(i).shape[:2]
        if depth is not None and depth.shape != size:
            measured = f"ground truth of {depth.shape[1]}x{depth.shape[0]} for an image of {size[1]}x{size[0]}"
            expected = "a value for each pixel of its image"
            return make_finding("D11", Severity.STOP, measured, expected, evidence={"frame": i})
    return None


def _check_empty(maps: list[NDArray[np.float32]], survey: RecordingSurvey) -> Finding | None:
    filled = [depth[np.isfinite(depth) & (depth > 0)] for depth in maps]
    useless = [values.size == 0 or (values.size > 1 and float(np.ptp(values)) == 0) for values in filled]
    if not any(useless):
        return None
    shares = [values.size / depth.size for values, depth in zip(filled, maps, strict=True)]
    severity = Severity.stop_if(sum(useless) >= RECORDING_LIMITS["empty_depth"].unusable * len(maps))
    measured = f"{sum(useless)} of {len(maps)} sampled maps have no depth, or one constant value"
    expected = "depth in every map (projected LiDAR: about 3 % of the pixels)"
    evidence = {"frame": list(survey.anchors), "share_of_pixels_with_depth": shares}
    return make_finding("D05", severity, measured, expected, evidence=evidence)


def _check_levels(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report the first sampled frame whose depth has whole metres or few distinct values (D08)."""
    for i in survey.anchors:
        depth = survey.depth(i)
        known = depth[depth > 0] if depth is not None else np.zeros(0, np.float32)
        if (whole := _share_of_whole_metres(known)) > MAX_WHOLE_SHARE:
            measured = f"{whole:.0%} of {known.size} pixels are whole metres"
            expected = f"at most {MAX_WHOLE_SHARE:.0%}"
            evidence = {"frame": i, "share": whole}
            yield make_finding("D08", Severity.STOP, measured, expected, case="whole_metres", evidence=evidence)
            return
        if known.size > MIN_LEVEL_PIXELS and _is_coarse(known):
            count = len(np.unique(known))
            measured, evidence = f"{count} distinct values among {known.size} pixels", {"frame": i, "values": count}
            yield make_finding("D08", Severity.WARN, measured, f"more than {MAX_LEVELS}", evidence=evidence)
            return


def _is_coarse(known: NDArray[np.float32]) -> bool:
    count = len(np.unique(known))
    return count <= MAX_LEVELS and count < MIN_USED_LEVELS * (float(np.ptp(known)) * LEVELS_PER_METRE + 1)


def _share_of_whole_metres(known: NDArray[np.float32]) -> float:
    """Return the share of depths that are whole metres; 0 for few distinct ones or another unit."""
    if known.size == 0 or np.median(known) > PLAUSIBLE[LengthSource.DEPTH][1]:
        return 0.0
    whole = known[known == np.rint(known)]
    return whole.size / known.size if len(np.unique(whole)) >= MIN_WHOLE_LEVELS else 0.0


def _check_camera_height(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report a wrong scale by the camera's height above the road (D06), if nothing else measures metres."""
    maps = {i: depth for i in survey.anchors if (depth := survey.depth(i)) is not None}
    fits = {i: fit_camera_height(depth, survey.K(i)) for i, depth in maps.items()}
    heights = {i: height for i, height in fits.items() if height is not None}
    if len(heights) < RECORDING_LIMITS["empty_depth"].unusable * len(fits) or not heights:
        return
    height_m = float(np.median(list(heights.values())))
    low, high = CAMERA_HEIGHT_M
    if not low <= height_m <= high:
        measured = f"by the ground truth, the camera is {height_m:.2f} m above the road"
        case = "camera_too_low" if height_m < low else "camera_too_high"
        evidence = {"frame": list(heights), "camera_height_m": list(heights.values())}
        yield make_finding("D06", Severity.WARN, measured, f"{low:g} to {high:g} m", case=case, evidence=evidence)


def fit_camera_height(depth: NDArray[np.float32], K: Array) -> float | None:
    """Return the camera's distance from the plane in the lower middle of depth (H, W), 0 = unknown, if any."""
    height, width = depth.shape
    top, left = int(0.6 * height), width // 4
    rows, columns = np.nonzero(depth[top:, left : width - left] > 0)
    if len(rows) < MIN_ROAD_POINTS:
        return None
    y, x = rows + top, columns + left
    z = depth[y, x].astype(np.float64)
    points = np.stack([(x - K[0, 2]) / K[0, 0] * z, (y - K[1, 2]) / K[1, 1] * z, z], 1)
    plane = fit_plane_ransac(points, tolerance=ROAD_TOLERANCE)
    share = float((abs(height_above_plane(plane, points)) < ROAD_TOLERANCE * plane[3]).mean())
    level = -float(plane[1]) > np.cos(np.radians(MAX_TILT_DEG))  # the normal points up, which is -y
    return float(plane[3]) if level and share >= MIN_ROAD_POINT_SHARE else None


def _compare_with_rig(survey: RecordingSurvey) -> Finding | None:
    """Report ground truth that contradicts the rig's depth at the matches (D07)."""
    proportion = compare_depth_with_rig(survey)
    if proportion is None or proportion.straight:
        return None
    measured = f"compared with the rig's depth, ground truth has a rank correlation of {proportion.rank:.2f}, a "
    measured += f"spread of {proportion.spread:.0%}, and near and far points differ by {abs(proportion.bend):.0%}"
    expected = f"at least {MIN_RANK}, at most {MAX_SPREAD:.0%}, and at most {MAX_BEND:.0%}"
    case = "inverse_depth" if proportion.rank < 0 else ""
    evidence = {"points": len(proportion.logs), "rank_correlation": proportion.rank}
    evidence |= {"spread": proportion.spread, "near_less_far": proportion.bend}
    return make_finding("D07", Severity.STOP, measured, expected, case=case, evidence=evidence)


def _compare_with_poses(survey: RecordingSurvey) -> Finding | None:
    """Report ground truth that is inverse to depth by the poses, such as disparity (D07)."""
    ranked = rank_depth_with_poses(survey)
    if ranked is None or not is_inverse_by_poses(survey):
        return None
    rank, count = ranked
    measured = f"compared with depth by the poses, ground truth has a rank correlation of {rank:.2f} ({count} points)"
    expected = f"at least {MIN_RANK} (the poses fit the images)"
    evidence = {"points": count, "rank_correlation": rank}
    return make_finding("D07", Severity.STOP, measured, expected, case="inverse_depth", evidence=evidence)


def _compare_adjacent_frames(survey: RecordingSurvey) -> Finding | None:
    """Report ground truth that fits the rig's depth of another frame clearly better (D07)."""
    own = compare_depth_with_rig(survey)
    others = {shift: fit for shift in NEIGHBOR_SHIFTS if (fit := compare_depth_with_rig(survey, shift)) is not None}
    if own is None or not others:
        return None
    best = min(others, key=lambda shift: others[shift].spread)
    if others[best].spread >= MAX_NEIGHBOR_SPREAD * own.spread:
        return None
    measured = f"the rig's depth fits the ground truth of {abs(best)} frame(s) {'later' if best > 0 else 'earlier'} "
    measured += f"better than its own: a spread of {others[best].spread:.1%} instead of {own.spread:.1%}"
    evidence = {"shift": [0, *others], "spread": [own.spread, *(fit.spread for fit in others.values())]}
    return make_finding("D07", Severity.WARN, measured, "its own fits best", case="other_frames", evidence=evidence)


def _compare_with_motion(survey: RecordingSurvey) -> Finding | None:
    """Report ground truth that no camera motion explains, although the matches agree (D07)."""
    explained = {f"{s.first} to {s.second}": s.depth_explains for s in survey.steps if s.depth_explains is not None}
    if (
        len(explained) < MIN_WARPS
        or (share := float(np.median(list(explained.values())))) >= RECORDING_LIMITS["depth_explained"].doubtful
    ):
        return None
    measured = f"one camera motion and the ground truth explain {share:.0%} of the matches that agree with each other"
    expected = f"at least {RECORDING_LIMITS['depth_explained'].doubtful:.0%}"
    evidence = {"step": list(explained), "share": list(explained.values())}
    return make_finding(
        "D07",
        Severity.stop_if(share < RECORDING_LIMITS["depth_explained"].unusable),
        measured,
        expected,
        evidence=evidence,
    )


def compare_warps_with_plane(survey: RecordingSurvey) -> list[tuple[int, float, float]]:
    """Return (frame, WIR with ground truth, WIR with a plane at its median) for poses that the images confirm."""
    warps = []
    for step in survey.steps:
        depth, T = survey.depth(step.first), step.T_second_first
        if depth is None or T is None or not any(has_same_direction(T, motion) for motion in step.motions):
            continue
        median = np.median(depth[depth > 0]) if (depth > 0).any() else 0
        flat = np.where(depth > 0, median, 0).astype(np.float32)
        images = gray(survey.image(step.first)), gray(survey.image(step.second))
        cameras = survey.K(step.first), survey.K(step.second)
        by_truth, by_plane = (warp_identity_ratio(*images, surface, *cameras, T) for surface in (depth, flat))
        if by_truth is not None and by_plane is not None:
            warps.append((step.first, by_truth, by_plane))
    return warps


def _compare_with_plane(survey: RecordingSurvey) -> Finding | None:
    warps = compare_warps_with_plane(survey)
    ratios = [truth / plane for _, truth, plane in warps]
    if len(ratios) < MIN_WARPS or (ratio := float(np.median(ratios))) <= RECORDING_LIMITS["depth_residual"].doubtful:
        return None
    measured = f"a neighbor warped by the ground truth fits {ratio:.2f} times worse than a flat plane"
    expected = f"at most {RECORDING_LIMITS['depth_residual'].doubtful} times"
    columns = (list(column) for column in zip(*warps, strict=True))
    evidence = dict(zip(("frame", "wir_ground_truth", "wir_flat"), columns, strict=True))
    return make_finding(
        "D07",
        Severity.stop_if(ratio > RECORDING_LIMITS["depth_residual"].unusable),
        measured,
        expected,
        evidence=evidence,
    )
