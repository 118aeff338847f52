"""Metrics: comparisons that are only reported and never trained on. They import only core and geometry."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

METRICS = Registry(
    "metric",
    {
        "abs_rel": "stadia.metrics.depth_metrics:abs_rel",
        "sq_rel": "stadia.metrics.depth_metrics:sq_rel",
        "rmse": "stadia.metrics.depth_metrics:rmse",
        "rmse_log": "stadia.metrics.depth_metrics:rmse_log",
        "silog": "stadia.metrics.depth_metrics:silog",
        "log10": "stadia.metrics.depth_metrics:log10",
        "mae": "stadia.metrics.depth_metrics:mae",
        "d1": "stadia.metrics.depth_metrics:d1",
        "d2": "stadia.metrics.depth_metrics:d2",
        "d3": "stadia.metrics.depth_metrics:d3",
        "abs_error_rel_percent": "stadia.metrics.depth_metrics:abs_error_rel_percent",
        "sq_error_rel_percent": "stadia.metrics.depth_metrics:sq_error_rel_percent",
        "irmse_per_km": "stadia.metrics.depth_metrics:irmse_per_km",
    },
)
"""A depth metric maps (predicted_m, true_m, mask), each (..., H, W), to one value per image (...)."""

TRAJECTORY_METRICS = Registry(
    "trajectory metric",
    {
        "ate_rmse_m": "stadia.metrics.trajectory_metrics:ate_rmse_m",
        "t_err_percent": "stadia.metrics.trajectory_metrics:t_err_percent",
        "r_err_deg_per_100m": "stadia.metrics.trajectory_metrics:r_err_deg_per_100m",
        "rpe_trans_m": "stadia.metrics.trajectory_metrics:rpe_trans_m",
        "rpe_rot_deg": "stadia.metrics.trajectory_metrics:rpe_rot_deg",
    },
)
"""A trajectory metric maps (estimated, reference) poses (N, 4, 4) to a number, or to None if the path is too short."""
