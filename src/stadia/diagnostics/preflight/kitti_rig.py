"""Recognize images of KITTI's rectified cameras, and check what is known of their rig."""

from __future__ import annotations

import numpy as np

from stadia.core.recording import LEFT, RIGHT
from stadia.core.types import Camera
from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey

KITTI_SIZES = ((1242, 375), (1241, 376), (1226, 370), (1224, 370), (1238, 374))
KITTI_FOCAL_PX = (705.0, 723.0)
"""(width, height) of KITTI's rectified images, and the range of fx over its recordings."""

KITTI_FX_SHARES, KITTI_FY_SHARES = (0.575, 0.5825), (1.905, 1.93)
"""fx / width and fy / height of these images, 0.5765 to 0.5812 and 1.909 to 1.926, which resizing does not change."""

KITTI_BASELINES_M = 0.52, 0.55
"""The rectified stereo rigs of KITTI: 0.5323 to 0.5379 m."""


def is_kitti_camera(camera: Camera) -> bool:
    """Return whether the fields of view are those of KITTI's rectified images, at any size; a crop has others."""
    fx, fy = float(camera.K[0, 0]) / camera.width, float(camera.K[1, 1]) / camera.height
    return KITTI_FX_SHARES[0] <= fx <= KITTI_FX_SHARES[1] and KITTI_FY_SHARES[0] <= fy <= KITTI_FY_SHARES[1]


def has_kitti_focal_length(camera: Camera) -> bool:
    """Return whether fx is one that K04 finds normal: in px at the sizes of KITTI, as fields of view at any other."""
    low, high = KITTI_FOCAL_PX
    is_normal = (camera.width, camera.height) in KITTI_SIZES and low <= float(camera.K[0, 0]) <= high
    return is_normal or is_kitti_camera(camera)


def is_baseline_alone_wrong(survey: RecordingSurvey) -> bool:
    """Return whether fx of both cameras is that of KITTI's images, and the baseline is not that of its rig."""
    if not survey.stereo:
        return False
    cameras = [survey.recording.camera(survey.anchors[0], side) for side in (LEFT, RIGHT)]
    low, high = KITTI_BASELINES_M
    is_normal = low <= float(np.linalg.norm(survey.T_right_left[:3, 3])) <= high
    return not is_normal and all(has_kitti_focal_length(camera) for camera in cameras)


def check_kitti_baseline(survey: RecordingSurvey) -> Finding | None:
    """E03 by plausibility alone: images with the field of view of KITTI's rectified ones have its baseline."""
    camera, (low, high) = survey.recording.camera(survey.anchors[0]), KITTI_BASELINES_M
    baseline_m = float(np.linalg.norm(survey.T_right_left[:3, 3]))
    if not is_kitti_camera(camera) or low <= baseline_m <= high:
        return None
    measured = f"the baseline is {baseline_m:.4g} m, and the fields of view of the images are those of KITTI"
    cause = "another unit or baseline than that of KITTI's rig, whose rectified cameras are 0.53 to 0.54 m apart"
    fix = f"compare the baseline with the calibration, in metres: it is {low:g} to {high:g} m in KITTI, not"
    fix += f" {baseline_m:.4g} m: (P0[0,3] - P1[0,3]) / fx of calib.txt, (P2[0,3] - P3[0,3]) / fx for the color cameras"
    fix += "; change nothing where another rig took these images"
    evidence = {"baseline_m": baseline_m, "fx": float(camera.K[0, 0]), "size": [camera.width, camera.height]}
    expected = f"{low:g} to {high:g} m"
    return make_finding("E03", Severity.WARN, measured, expected, cause=cause, fix=fix, evidence=evidence)


def explain_kitti_sign(survey: RecordingSurvey) -> tuple[str, str] | None:
    """Return (cause, fix) of a baseline with the wrong sign in images of KITTI; None for other images."""
    if not is_kitti_camera(survey.recording.camera(survey.anchors[0])):
        return None
    cause = "P0 and P1 of calib.txt are exchanged (P2 and P3 for the color cameras), or T_left_right was given"
    fix = "exchange them: P1[0,3] is P0[0,3] - fx times the baseline, and P3[0,3] is P2[0,3] less the same; "
    return cause, f"{fix}where T_right_left was given, invert it"
