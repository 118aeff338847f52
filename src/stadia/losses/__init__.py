"""Differentiable per-pixel losses, reduced in one explicit last step. Imports core and geometry."""

from __future__ import annotations

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

LOSSES = Registry(
    "loss",
    {
        "selfsup": "stadia.losses.selfsup_loss:SelfSupervisedLoss",
        "metric_scale": "stadia.losses.metric_scale:MetricScaleLoss",
        "sparse_depth": "stadia.losses.sparse_depth:SparseDepthLoss",
        "object_pose": "stadia.losses.object_pose_loss:ObjectPoseLoss",
        "overlay": "stadia.losses.overlay_loss:OverlayLoss",
    },
    entry_points="stadia.losses",
)
"""Losses that `loss.name` chooses: a recipe takes its own, and classes that derive from it."""

_METRIC_DEPTH = "slopes in metres are largest for far, uncertain depth and grow with the unit; use 'slope_over_mean'"
_SUMMED = "a sum over pixels outweighs the residual a hundred times and flattens depth; use the mean 'slope_over_mean'"

RESIDUALS = Registry(
    "residual",
    {
        "ssim_l1": "stadia.losses.photometric:photometric_residual",
        "mse": "stadia.losses.photometric:squared_residual",
        "patch": "stadia.losses.photometric:patch_residual",
    },
    refused=dict.fromkeys(("sum", "summed"), _SUMMED),
)
"""Photometric residuals: images a and b (B, 3, H, W), the weight of SSIM, statistics of b or None, to (B, 1, H, W)."""

SMOOTHNESS = Registry(
    "smoothness",
    {
        "slope_over_mean": "stadia.losses.smoothness:edge_aware_smoothness",
        "slope": "stadia.losses.smoothness:edge_aware_slope",
        "log_slope": "stadia.losses.smoothness:edge_aware_log_slope",
        "bend": "stadia.losses.smoothness:edge_aware_curvature",
    },
    refused={
        **dict.fromkeys(("depth", "metric_depth", "depth_m"), _METRIC_DEPTH),
        **dict.fromkeys(("sum", "summed"), _SUMMED),
    },
)
"""Smoothness losses: (inverse depth (B, 1, H, W), image (B, 3, H, W)) to a scalar."""

SPARSE_DEPTH_LOSSES = Registry(
    "part of sparse depth",
    {
        "silog_per_image": "stadia.losses.sparse_depth:silog_per_image",
        "silog_pooled": "stadia.losses.sparse_depth:silog_pooled",
        "affine_invariant": "stadia.losses.sparse_depth:affine_invariant",
        "gradient_matching": "stadia.losses.sparse_depth:gradient_matching",
        "log_l1": "stadia.losses.sparse_depth:log_l1",
    },
)
"""Terms of sparse depth by the key of their weight: (Labeled, SparseDepthConfig) to a scalar, 0 without labels."""

OVERLAY_LOSSES = Registry(
    "overlay loss",
    {
        "depth_mse": "stadia.losses.overlay_loss:depth_mse",
        "depth_l1": "stadia.losses.overlay_loss:depth_l1",
        "depth_smooth_l1": "stadia.losses.overlay_loss:depth_smooth_l1",
        "depth_ssim": "stadia.losses.overlay_loss:depth_ssim",
        "depth_gradient": "stadia.losses.overlay_loss:depth_gradient",
        "mask_bce": "stadia.losses.overlay_loss:mask_bce",
        "mask_mse": "stadia.losses.overlay_loss:mask_mse",
        "mask_dice": "stadia.losses.overlay_loss:mask_dice",
    },
)
"""Terms of the overlay loss by the key of their weight: (Compared, OverlayLossConfig) to a scalar, 0 without labels."""

_NEG_LOG = (
    "-log(eps + 1 - a) with a = |q . q_true| is minimal at 180 degrees and turns rotations away from the truth; use "
    "'bounded_log', 'log_dot' (the same without the minus) or 'minus_log_dot', -log(a), which is minimal at the truth"
)

ROTATION_LOSSES = Registry(
    "rotation loss",
    {
        "geodesic": "stadia.losses.object_pose_loss:geodesic",
        "bounded_log": "stadia.losses.object_pose_loss:bounded_log",
        "log_dot": "stadia.losses.object_pose_loss:log_dot",
        "minus_log_dot": "stadia.losses.object_pose_loss:minus_log_dot",
        "one_minus_dot_squared": "stadia.losses.object_pose_loss:one_minus_dot_squared",
        "squared_error": "stadia.losses.object_pose_loss:squared_error",
    },
    refused=dict.fromkeys(("-log", "neg_log", "negative_log", "minus_log"), _NEG_LOG),
)
"""Rotation losses: (quaternions w, x, y, z (M, 4), true (M, 4), Symmetry of M objects or None) to (M,)."""
