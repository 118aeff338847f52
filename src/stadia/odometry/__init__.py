"""Estimate the path of a camera with a trained network."""

from __future__ import annotations

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

ODOMETRY_METHODS = Registry(
    "odometry method",
    {
        "refined": "stadia.odometry.visual_odometry:SlidingWindowOdometry",
        "aligned": "stadia.odometry.visual_odometry:create_aligned",
        "network": "stadia.odometry.visual_odometry:create_network",
    },
)
