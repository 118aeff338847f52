"""Depth and mask of composite images: data, world, network, losses, metrics, recipe and scores."""

from stadia.core.registry import Registry

OVERLAY_NETWORKS = Registry(
    "overlay network",
    {"light": "stadia.overlay.network:LightTrunk", "full": "stadia.overlay.network:FullTrunk"},
    entry_points="stadia.overlay_networks",
)
"""Trunks of `overlay.network`: modules without arguments that map (B, 6, H, W) to (B, channels, H, W)."""

OVERLAY_LOSSES = Registry(
    "overlay loss",
    {
        "depth_mse": "stadia.overlay.losses:depth_mse",
        "depth_l1": "stadia.overlay.losses:depth_l1",
        "depth_smooth_l1": "stadia.overlay.losses:depth_smooth_l1",
        "depth_ssim": "stadia.overlay.losses:depth_ssim",
        "depth_gradient": "stadia.overlay.losses:depth_gradient",
        "mask_bce": "stadia.overlay.losses:mask_bce",
        "mask_mse": "stadia.overlay.losses:mask_mse",
        "mask_dice": "stadia.overlay.losses:mask_dice",
    },
)
"""Terms of the overlay loss by the key of their weight: (OverlayComparison, OverlayLossConfig) to a scalar.

A term is 0 without labels.
"""
