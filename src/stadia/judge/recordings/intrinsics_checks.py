"""Check the intrinsics K, alone and against poses."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stadia.core.types import Camera
from stadia.core.verdict import Verdict, find_worst
from stadia.geometry.cameras import resize_K
from stadia.geometry.two_views import epipolar_distance_px, rotation_deg, rotation_vector_deg
from stadia.judge.catalog import NotChecked, make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import RECORDING_LIMITS
from stadia.judge.recordings.recording_survey import Array, RecordingSurvey

MIN_EPIPOLAR_STEPS = 2  # steps with poses that compare K with another one
MIN_WRONG_RATIO = 2.0  # distance to epipolar lines by the given K over that by the best other K; a wrong K has 2 to 28
MAX_CORRECT_RATIO = 0.9  # the same ratio for crops, where the correct K has at most .8
MAX_DECIDING_PX = 3.0  # unit: `grain_px`. If both distances are larger, the poses are wrong.
MAX_NORMALIZED = 8.0  # largest value of a K that was divided by the image size
MAX_SKEW = 0.01  # skew over fx
CENTER = (0.35, 0.65)  # principal point over width and height; KITTI and 7-Scenes have .46 to .50
MAX_CENTER_OUTSIDE = 0.1  # share of width or height by which a crop's principal point may be outside
MAX_FOCAL_FACTOR = 6.0  # fx of a wrong camera or image size is wrong by less
MIN_SIZE_FACTOR = 1.3  # size that K fits over the image size along both axes, or the inverse
MIN_ALIKE_SIZE_FACTOR = 1.12  # the same if both factors agree within MAX_SIZE_GAP
MAX_SIZE_GAP = 0.1  # difference of the logs of two factors that agree
MAX_SIZE_FACTOR = 8.0  # larger factors mean a wrong principal point
MAX_SIDES_SHARE = 0.001  # difference of fx, fy or cy between rectified sides, over the width
MAX_RECTIFIED_DEG = 0.05  # rotation of a rectified rig

SIMPLE_FACTORS = {
    0.25: "a quarter",
    1 / 3: "a third",
    0.5: "half",
    2 / 3: "2/3",
    1.5: "3/2",
    2.0: "2",
    3.0: "3",
    4.0: "4",
}
SIMPLE_TOLERANCE = 0.06  # tolerance of the log of a factor by cx and cy, which are up to 5 % off KITTI's centers
MIN_TURN_DEG = 0.5  # least pitch and yaw of a step that measures fx
MIN_TOTAL_TURN_DEG = 1.2  # pitch and yaw of all these steps
MIN_TURN_LIKENESS = 0.9  # least cosine between rotations by matches and by poses: below it, the poses have other axes
STANDARD_ERRORS = 1.5  # standard errors by which the factor must exceed a limit, since small images measure badly
MAX_FOCAL_RATIO = 1.25  # fx over fy, or the inverse: beyond it images were stretched, or one is wrong
KITTI_SIZES = ((1242, 375), (1241, 376), (1226, 370), (1224, 370), (1238, 374))  # (width, height), rectified
KITTI_FOCAL_PX = (705.0, 723.0)  # fx over the recordings of KITTI
KITTI_RAW_FOCAL_PX = (950.0, 995.0)  # fx before rectification
KITTI_FX_SHARES = (0.575, 0.5825)  # fx / width, which resizing does not change
KITTI_FY_SHARES = (1.905, 1.93)  # fy / height
KITTI_BASELINES_M = (0.52, 0.55)  # rectified stereo rigs


@dataclass(frozen=True, slots=True)
class EpipolarComparison:
    """Median distances of matches to epipolar lines, in grains; `others` with candidates for K, by name."""

    given: float
    others: Mapping[str, float]

    @property
    def severity(self) -> Severity | None:
        """STOP if another K fits, None if the given one does, WARN if the poses do not decide."""
        least = min(self.others.values(), default=math.inf)
        if min(self.given, least) >= MAX_DECIDING_PX:
            return Severity.WARN
        if self.given >= MIN_WRONG_RATIO * least:
            return Severity.STOP
        return None if self.given <= MAX_CORRECT_RATIO * least else Severity.WARN

    @property
    def gain(self) -> str:
        """How much nearer matches are with the best candidate, as the end of a fix; empty unless it fits better."""
        if self.severity is not Severity.STOP:
            return ""
        return f"; then matches are {self.given / min(self.others.values()):.1f} times nearer to the lines of the poses"

    @property
    def evidence(self) -> dict[str, Any]:
        """All distances as a table; empty without candidates."""
        distances = {"K as given": self.given, **self.others}
        table = {"hypothesis": list(distances), "grains from the lines of the poses": list(distances.values())}
        return table if self.others else {}


def compare_epipolar_lines(survey: RecordingSurvey, given: Array, others: Mapping[str, Array]) -> EpipolarComparison:
    """Compare K with candidates, on the steps whose frames have the given K.

    given: (3, 3) intrinsics.
    others: candidates (3, 3) by name.
    """
    steps = [s for s in survey.steps if all(np.array_equal(survey.K(i), given) for i in (s.first, s.second))]
    known = [(s.matches, T) for s in steps if (T := s.T_second_first) is not None and np.linalg.norm(T[:3, 3]) > 0]
    if len(known) < MIN_EPIPOLAR_STEPS:
        return EpipolarComparison(math.inf, {})

    def distance(K: Array) -> float:
        # median over steps: long steps get no more weight
        medians = [np.median(epipolar_distance_px(pairs.first_px, pairs.second_px, K, K, T)) for pairs, T in known]
        return float(np.median(medians)) / survey.grain_px

    return EpipolarComparison(distance(given), {name: distance(K) for name, K in others.items()})


def _distinct_cameras(survey: RecordingSurvey) -> Iterator[tuple[str, Camera, Array, Camera]]:
    """Yield each distinct camera at the sampled frames: side, camera, K, and the camera as filmed."""
    seen: list[tuple[str, Array]] = []
    for side in survey.recording.sides:
        for i in survey.anchors:
            camera = survey.recording.camera(i, side)
            K = np.asarray(camera.K, dtype=np.float64)
            if not any(side == s and np.array_equal(K, known, equal_nan=True) for s, known in seen):
                seen.append((side, K))
                yield side, camera, K, survey.recording.filmed_camera(i, side)


def _as_array(camera: Camera) -> Array:
    return np.asarray(camera.K, dtype=np.float64)


def check_intrinsics(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report intrinsics K that are invalid (K01), normalized (K02), off center (K03), or of an implausible field of
    view (K05).

    Otherwise report a left and a right camera with different K (K07).
    """
    findings: list[Finding] = []
    for side in survey.recording.sides:
        given: object = survey.recording.camera(survey.anchors[0], side)
        if not isinstance(given, Camera):
            measured = f"camera({survey.anchors[0]}, '{side}') is {given!r:.80}"
            yield make_finding("K01", Severity.STOP, measured, "a Camera with K", case="no_camera")
            return
    for side, camera, K, filmed in _distinct_cameras(survey):
        wrong = _check_form(K) or _check_normalized(K, camera)
        wrong = wrong or _check_center(survey, K, camera) or _check_field_of_view(filmed)
        if wrong is not None and wrong.code not in [finding.code for finding in findings]:
            findings.append(replace(wrong, evidence={"side": side, **wrong.evidence}))
    yield from findings or _check_sides(survey)


def _check_form(K: Array) -> Finding | None:
    problems = {
        f"last row {np.round(K[2], 4).tolist()}": not np.allclose(K[2], (0, 0, 1)),
        f"fx {K[0, 0]:g}, fy {K[1, 1]:g}": K[0, 0] <= 0 or K[1, 1] <= 0,
        f"skew {K[0, 1]:g}, {K[1, 0]:g}": abs(K[0, 1]) > MAX_SKEW * abs(K[0, 0]) or K[1, 0] != 0,
    }
    wrong = [problem for problem, there in problems.items() if there] if np.isfinite(K).all() else ["not finite"]
    if not wrong:
        return None
    transposed = np.isfinite(K).all() and np.allclose(K[:2, 2], 0) and np.any(K[2, :2] != 0)
    expected = "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]], finite, fx and fy above 0"
    case = "transposed" if transposed else ""
    evidence = {"K": [[float(v) if np.isfinite(v) else str(v) for v in row] for row in K]}
    return make_finding("K01", Severity.STOP, "; ".join(wrong), expected, case=case, evidence=evidence)


def _check_normalized(K: Array, camera: Camera) -> Finding | None:
    values = (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    if max(map(abs, values)) >= MAX_NORMALIZED:
        return None
    measured = "fx {:.3f}, fy {:.3f}, cx {:.3f}, cy {:.3f}".format(*values)
    expected = f"pixels of a {camera.width}x{camera.height} image"
    evidence = {"fx_times_width": float(K[0, 0] * camera.width), "fy_times_height": float(K[1, 1] * camera.height)}
    return make_finding("K02", Severity.STOP, measured, expected, evidence=evidence)


def _is_outside(value: float, limits: tuple[float, float]) -> bool:
    return not limits[0] <= value <= limits[1]


def size_factors(K: Array, camera: Camera) -> tuple[float, float]:
    """Return for x and y the size of an image centered on the principal point, divided by the size of this image.

    K: (3, 3) intrinsics.
    """
    return float(2 * K[0, 2] + 1) / camera.width, float(2 * K[1, 2] + 1) / camera.height


def _is_resized(factors: tuple[float, float]) -> bool:
    """Return whether the principal point is off along both axes like a resized image's."""
    if any(_is_outside(f, (1 / MAX_SIZE_FACTOR, MAX_SIZE_FACTOR)) for f in factors):
        return False
    x, y = (math.log(f) for f in factors)
    least = min(abs(x), abs(y))
    return x * y > 0 and (
        least >= math.log(MIN_SIZE_FACTOR) or (least >= math.log(MIN_ALIKE_SIZE_FACTOR) and abs(x - y) < MAX_SIZE_GAP)
    )


def _check_center(survey: RecordingSurvey, K: Array, camera: Camera) -> Finding | None:
    """Report a principal point far from the image center (K03), unless the poses confirm K, as for a crop."""
    x, y = K[0, 2] / camera.width, K[1, 2] / camera.height
    if not (_is_outside(x, CENTER) or _is_outside(y, CENTER)) or _is_resized(size_factors(K, camera)):
        return None  # another size is reported by `resize`
    swapped = not (_is_outside(K[1, 2] / camera.width, CENTER) or _is_outside(K[0, 2] / camera.height, CENTER))
    middle = np.array(((camera.width - 1) / 2, (camera.height - 1) / 2))
    centers = {"a crop in the middle": middle, "a crop at the right and bottom": 2 * middle - K[:2, 2]}
    if swapped:
        centers = {"cx and cy exchanged": K[[1, 0], 2]}
    others = {name: np.column_stack((K[:, :2], [*center, K[2, 2]])) for name, center in centers.items()}
    lines = compare_epipolar_lines(survey, K, others)
    if lines.severity is None:
        return None
    impossible = swapped or any(_is_outside(share, (-MAX_CENTER_OUTSIDE, 1 + MAX_CENTER_OUTSIDE)) for share in (x, y))
    case = "exchanged" if swapped else "undecided" if lines.severity is Severity.WARN else ""
    values = {"cx": f"{K[1, 2]:g}", "cy": f"{K[0, 2]:g}", "gain": lines.gain}
    severity = Severity.STOP if impossible else lines.severity
    measured = f"cx / W {x:.3f}, cy / H {y:.3f}"
    expected = f"both in {CENTER[0]} to {CENTER[1]}, or poses that confirm them"
    evidence: dict[str, Any] = {"cx": float(K[0, 2]), "cy": float(K[1, 2]), "width": camera.width}
    evidence |= {"height": camera.height, "lines": lines.evidence}
    return make_finding("K03", severity, measured, expected, case=case, values=values, evidence=evidence)


def _check_field_of_view(camera: Camera) -> Finding | None:
    K = _as_array(camera)
    share = float(K[0, 0] / camera.width)
    short, long = RECORDING_LIMITS["short_focal"], RECORDING_LIMITS["long_focal"]
    verdict = find_worst([short.judge(share), long.judge(share)])
    if verdict is Verdict.USABLE or _is_resized(size_factors(K, camera)):
        return None
    measured = f"fx / W {share:.3f}: a horizontal field of view of {2 * np.degrees(np.arctan(0.5 / share)):.1f} degrees"
    expected = f"fx / W in {short.doubtful} to {long.doubtful} (118 to 35 degrees)"
    measured += describe_unequal_focals(K)
    evidence = {"fx": float(K[0, 0]), "width": camera.width}
    severity = Severity.stop_if(verdict is Verdict.UNUSABLE)
    return make_finding("K05", severity, measured, expected, evidence=evidence)


def _check_sides(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report different K of left and right (K07). A pair without rotation is rectified, so both need one K (cx may
    differ).
    """
    if not survey.stereo or rotation_deg(survey.T_right_left[:3, :3]) > MAX_RECTIFIED_DEG:
        return
    left, right = (survey.K(survey.anchors[0], side) for side in ("left", "right"))
    width = survey.recording.camera(survey.anchors[0]).width
    differences = [abs(float(left[r, c] - right[r, c])) for r, c in ((0, 0), (1, 1), (1, 2))]
    if max(differences) <= MAX_SIDES_SHARE * width:
        return
    rows = survey.median_row_offset_px
    measured = f"left fx {left[0, 0]:.2f}, fy {left[1, 1]:.2f}, cy {left[1, 2]:.2f}; "
    measured += f"right fx {right[0, 0]:.2f}, fy {right[1, 1]:.2f}, cy {right[1, 2]:.2f}"
    case = ""
    if rows > MAX_SIDES_SHARE * width:
        case = "not_rectified"
        measured += f"; matches are {rows:.1f} px apart in y"
    expected = f"the same within {MAX_SIDES_SHARE * width:.2f} px: the rig has no rotation, so the pair is rectified"
    evidence = {"left_K": left.tolist(), "right_K": right.tolist()}
    yield make_finding("K07", Severity.STOP, measured, expected, case=case, evidence=evidence)


def check_intrinsics_size(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report K of another image size (K04), or a focal length that contradicts the camera rotation (K06)."""
    for side, camera, K, filmed in _distinct_cameras(survey):
        if wrong := _check_resized(survey, K, camera, filmed) or _check_kitti_focal_length(_as_array(filmed), filmed):
            yield replace(wrong, evidence={"side": side, **wrong.evidence})
            return
    yield from _check_rotations(survey)


def _check_resized(survey: RecordingSurvey, K: Array, camera: Camera, filmed: Camera) -> Finding | None:
    x, y = size_factors(K, camera)
    if not _is_resized((x, y)):
        return None
    width, height = round(x * camera.width), round(y * camera.height)
    lines = compare_epipolar_lines(survey, K, {"K rescaled": resize_K(K, (height, width), camera.height, camera.width)})
    if lines.severity is None:
        return None
    K, camera = _as_array(filmed), filmed  # report the sizes of the user's file
    width, height = round(x * camera.width), round(y * camera.height)
    measured = f"K is for an image of about {width}x{height}, {x:.2f} times as wide and {y:.2f} times as high"
    expected = f"K of the {camera.width}x{camera.height} image: cx / W and cy / H near 0.5, or poses that confirm them"
    case = "rescale" if lines.severity is Severity.STOP else "rescale_undecided"
    size = f"{camera.width}x{camera.height}"
    values = {
        "size_of_K": f"{width}x{height}",
        "size": size,
        "scaling": _describe_rescaling(1 / x, 1 / y),
        "gain": lines.gain,
    }
    evidence = {
        "focal_factor": float(x),
        "image": size,
        "size_of_K": [width, height],
        "sizes": {
            "hypothesis": ["K as given", "K rescaled"],
            "fx": [float(K[0, 0]), float(K[0, 0] / x)],
            "cx / W": [float(K[0, 2] / camera.width), float(((K[0, 2] + 0.5) / x - 0.5) / camera.width)],
            "cy / H": [float(K[1, 2] / camera.height), float(((K[1, 2] + 0.5) / y - 0.5) / camera.height)],
            "field of view, degrees": [
                float(2 * np.degrees(np.arctan(camera.width * s / (2 * K[0, 0])))) for s in (1, x)
            ],
        },
        "lines": lines.evidence,
    }
    return make_finding("K04", lines.severity, measured, expected, case=case, values=values, evidence=evidence)


def _describe_rescaling(x: float, y: float) -> str:
    """Return both factors, or one simple factor that is near both."""
    for factor, name in SIMPLE_FACTORS.items():
        if all(abs(math.log(given / factor)) <= SIMPLE_TOLERANCE for given in (x, y)):
            return f"by about {name} (the exact sizes of the original image decide)"
    return f"x by {x:.4f} and y by {y:.4f}"


def _check_kitti_focal_length(K: Array, camera: Camera) -> Finding | None:
    if (camera.width, camera.height) not in KITTI_SIZES or not _is_outside(float(K[0, 0]), KITTI_FOCAL_PX):
        return None
    measured = f"fx {K[0, 0]:.1f} for an image of {camera.width}x{camera.height}"
    expected = f"{KITTI_FOCAL_PX[0]:g} to {KITTI_FOCAL_PX[1]:g}, as in rectified KITTI images of this size"
    factor = float(K[0, 0]) / (sum(KITTI_FOCAL_PX) / 2)
    case = "kitti_focal" if _is_outside(float(K[0, 0]), KITTI_RAW_FOCAL_PX) else "kitti_raw"
    values = {"factor": f"{factor:.2f}", "note": describe_unequal_focals(K)}
    evidence = {"focal_factor": factor, "fx": float(K[0, 0]), "width": camera.width, "height": camera.height}
    return make_finding("K04", Severity.WARN, measured, expected, case=case, values=values, evidence=evidence)


def is_kitti_camera(camera: Camera) -> bool:
    """Return whether the fields of view are those in KITTI's rectified images, at any size; a crop has others."""
    fx, fy = float(camera.K[0, 0]) / camera.width, float(camera.K[1, 1]) / camera.height
    return KITTI_FX_SHARES[0] <= fx <= KITTI_FX_SHARES[1] and KITTI_FY_SHARES[0] <= fy <= KITTI_FY_SHARES[1]


def has_kitti_focal_length(camera: Camera) -> bool:
    """Return whether K04 accepts fx."""
    low, high = KITTI_FOCAL_PX
    is_normal = (camera.width, camera.height) in KITTI_SIZES and low <= float(camera.K[0, 0]) <= high
    return is_normal or is_kitti_camera(camera)


def describe_unequal_focals(K: Array) -> str:
    """Return a clause if fx and fy of K (3, 3) differ too much for one lens; "" if they agree."""
    ratio = float(K[0, 0] / K[1, 1])
    if 1 / MAX_FOCAL_RATIO <= ratio <= MAX_FOCAL_RATIO:
        return ""
    return f"; fx ({K[0, 0]:.1f}) and fy ({K[1, 1]:.1f}) differ: one is wrong, or the images were stretched"


@dataclass(frozen=True, slots=True)
class RotationComparison:
    """Pitch and yaw in degrees, (N, 2), through K and by the poses; too long a focal length shrinks them."""

    matches_deg: Array
    poses_deg: Array

    @property
    def likeness(self) -> float:
        """Cosine between the two; low if the poses have other axes."""
        lengths = np.linalg.norm(self.poses_deg) * np.linalg.norm(self.matches_deg)
        return float((self.poses_deg * self.matches_deg).sum() / lengths)

    @property
    def focal_factor(self) -> float:
        """How many times too long fx is."""
        return float(np.linalg.norm(self.poses_deg) ** 2 / (self.poses_deg * self.matches_deg).sum())

    @property
    def log_error(self) -> float:
        """Standard error of log(focal_factor)."""
        return math.tan(math.acos(min(self.likeness, 1.0))) / math.sqrt(self.poses_deg.size - 1)


def compare_rotations(survey: RecordingSurvey) -> RotationComparison | None:
    """Compare rotations; None if the camera turns too little or has no poses."""
    measured, given = [], []
    for step in survey.steps:
        if step.measured is not None and step.T_second_first is not None:
            turn = rotation_vector_deg(step.T_second_first[:3, :3])[:2]
            if np.linalg.norm(turn) > MIN_TURN_DEG:
                measured.append(rotation_vector_deg(step.measured.R)[:2])
                given.append(turn)
    rotates = np.linalg.norm(given) > MIN_TOTAL_TURN_DEG
    return RotationComparison(np.array(measured), np.array(given)) if rotates else None


def _check_rotations(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report a focal length that contradicts the camera rotation (K06)."""
    rotations = compare_rotations(survey)
    if rotations is None:
        reason = "the camera rotates too little, has no poses, or views one plane"
        raise NotChecked(f"fx by the camera rotation: {reason}", hides="a wrong angle of view")
    if rotations.likeness < MIN_TURN_LIKENESS:
        return
    factor, log_error = rotations.focal_factor, STANDARD_ERRORS * rotations.log_error
    least = abs(math.log(factor)) - log_error
    if least < math.log(RECORDING_LIMITS["focal_by_rotation"].doubtful):
        return
    if not 1 / MAX_FOCAL_FACTOR <= factor <= MAX_FOCAL_FACTOR:
        reason = f"matches turn {1 / factor:.2f} times the angle of the poses, which no focal length explains"
        raise NotChecked(f"fx by the camera rotation: {reason}", hides="a wrong angle of view")
    severity = Severity.stop_if(least >= math.log(RECORDING_LIMITS["focal_by_rotation"].unusable))
    measured = f"rotations through K are {1 / factor:.2f} times the poses' rotations, within "
    measured += f"{log_error:.0%}, over {len(rotations.matches_deg)} steps"
    expected = f"1 within a factor of {RECORDING_LIMITS['focal_by_rotation'].doubtful}"
    note = describe_unequal_focals(_as_array(survey.recording.filmed_camera(survey.anchors[0])))
    values = {"factor": f"{factor:.2f}", "note": note}
    columns = {"matches_deg": rotations.matches_deg, "poses_deg": rotations.poses_deg}
    evidence: dict[str, Any] = {name: np.linalg.norm(turns, axis=1).tolist() for name, turns in columns.items()}
    evidence |= {"focal_factor": factor, "log_error": log_error}
    yield make_finding("K06", severity, measured, expected, case="factor", values=values, evidence=evidence)
