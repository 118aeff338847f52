"""Check how much of the image motion is parallax."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stadia.datasets.video.frame_selection import FLOW_WIDTH
from stadia.diagnostics.catalog import NotChecked, make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey, Step
from stadia.diagnostics.preflight.two_view_geometry import Array, parallax_px, pixel_rays, rotation_residuals_px

MIN_NEIGHBOR_PARALLAX_PX = 0.9  # median, at FLOW_WIDTH; drives have 1.1 to 4.3
MIN_MOVING_SHARE = 0.4  # parallax over displacement: a turning camera has .01
MAX_SHARE_OF_PLANE = 0.5  # of the parallax of a motion along a facing plane
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
    """D18, for one camera: a note if ground truth could supervise instead. Maps have pairs with measured parallax.

    A translation over a plane looks like a turn: the poses then give the rotation.
    """
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
