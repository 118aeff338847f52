"""Differentiable losses, computed per pixel and reduced in one explicit last step. Imports core and geometry."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

LOSSES = Registry(
    "loss",
    {
        "selfsup": "stadia.losses.selfsup_loss:SelfSupervisedLoss",
        "metric_scale": "stadia.losses.metric_scale:MetricScaleLoss",
        "sparse_depth": "stadia.losses.sparse_depth:SparseDepthLoss",
        "object_pose": "stadia.objectpose.losses:ObjectPoseLoss",
        "overlay": "stadia.overlay.losses:OverlayLoss",
    },
    entry_points="stadia.losses",
)
"""Losses by name. A recipe accepts its own loss and classes that derive from it."""

_METRIC_DEPTH = "slopes in metres are largest for far, uncertain depth and grow with the unit; use 'slope_over_mean'"
_SUMMED = "a sum over pixels outweighs the residual a hundred times and flattens depth; use the mean 'slope_over_mean'"

RESIDUALS = Registry(
    "residual",
    {
        "ssim_l1": "stadia.losses.reprojection:photometric_residual",
        "mse": "stadia.losses.reprojection:squared_residual",
        "patch": "stadia.losses.reprojection:patch_residual",
    },
    entry_points="stadia.residuals",
    refused=dict.fromkeys(("sum", "summed"), _SUMMED),
)
"""A residual maps images a and b (B, 3, H, W), the SSIM weight, and the statistics of b or None to (B, 1, H, W)."""

SMOOTHNESS = Registry(
    "smoothness",
    {
        "slope_over_mean": "stadia.losses.selfsup_loss:edge_aware_smoothness",
        "slope": "stadia.losses.selfsup_loss:edge_aware_slope",
        "bend": "stadia.losses.selfsup_loss:edge_aware_curvature",
    },
    entry_points="stadia.smoothness",
    refused={
        **dict.fromkeys(("depth", "metric_depth", "depth_m"), _METRIC_DEPTH),
        **dict.fromkeys(("sum", "summed"), _SUMMED),
    },
)
"""A smoothness term maps inverse depth (B, 1, H, W) and an image (B, 3, H, W) to a scalar."""

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
"""A term maps (LabeledDepth, SparseDepthConfig) to a scalar, 0 without labels. Its name is the key of its weight."""
