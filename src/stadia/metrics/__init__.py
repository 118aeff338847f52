"""Metrics: comparisons that are only reported, never trained on. Imports core and geometry."""

from stadia.core.tables import Table

METRICS = Table(
    "metric",
    {
        "abs_rel": "stadia.metrics.depth:abs_rel",
        "sq_rel": "stadia.metrics.depth:sq_rel",
        "rmse": "stadia.metrics.depth:rmse",
        "rmse_log": "stadia.metrics.depth:rmse_log",
        "silog": "stadia.metrics.depth:silog",
        "log10": "stadia.metrics.depth:log10",
        "mae": "stadia.metrics.depth:mae",
        "d1": "stadia.metrics.depth:d1",
        "d2": "stadia.metrics.depth:d2",
        "d3": "stadia.metrics.depth:d3",
        "abs_error_rel_percent": "stadia.metrics.depth:abs_error_rel_percent",
        "sq_error_rel_percent": "stadia.metrics.depth:sq_error_rel_percent",
        "irmse_per_km": "stadia.metrics.depth:irmse_per_km",
    },
)
"""Depth metrics: (predicted_m, true_m, mask), each (..., H, W), to one value per image, (...)."""

TRAJECTORY_METRICS = Table(
    "trajectory metric",
    {
        "ate_rmse_m": "stadia.metrics.trajectory:ate_rmse_m",
        "t_err_percent": "stadia.metrics.trajectory:t_err_percent",
        "r_err_deg_per_100m": "stadia.metrics.trajectory:r_err_deg_per_100m",
        "rpe_trans_m": "stadia.metrics.trajectory:rpe_trans_m",
        "rpe_rot_deg": "stadia.metrics.trajectory:rpe_rot_deg",
    },
)
"""Trajectory metrics: (estimated, reference) camera-to-world, each (N, 4, 4), to a number, or None for too short a
path.
"""

OBJECT_METRICS = Table(
    "object metric",
    {
        "rotation_error_deg": "stadia.metrics.object_pose:rotation_error_deg",
        "translation_error_cm": "stadia.metrics.object_pose:translation_error_cm",
        "iou_3d": "stadia.metrics.object_pose:iou_3d",
        "iou_3d_hull": "stadia.metrics.object_pose:iou_3d_hull",
    },
)
"""Object metrics: (predicted, true), `object_pose.Objects` of M rows each, matched row by row, to one value per object,
(M,).
"""
