"""Estimate the trajectory of a camera with a trained network."""

from stadia.core.registry import Registry

ODOMETRY_METHODS = Registry(
    "odometry method",
    {
        "refined": "stadia.sfm.odometry.visual_odometry:SlidingWindowOdometry",
        "graph": "stadia.sfm.odometry.graph_odometry:GraphOdometry",
        "aligned": "stadia.sfm.odometry.visual_odometry:create_aligned",
        "network": "stadia.sfm.odometry.visual_odometry:create_network",
    },
)
