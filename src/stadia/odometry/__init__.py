"""Estimate the path of a camera with a trained network."""

from stadia.core.registry import Registry

ODOMETRY_METHODS = Registry(
    "odometry method",
    {
        "refined": "stadia.odometry.visual_odometry:SlidingWindowOdometry",
        "graph": "stadia.odometry.graph_odometry:GraphOdometry",
        "aligned": "stadia.odometry.visual_odometry:create_aligned",
        "network": "stadia.odometry.visual_odometry:create_network",
    },
)
