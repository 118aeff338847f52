"""Estimate the trajectory of a camera with a trained network."""

from stadia.core.registry import Registry

ODOMETRY_METHODS = Registry(
    "odometry method",
    {
        "refined": "stadia.training.odometry.sliding_window_odometry:SlidingWindowOdometry",
        "graph": "stadia.training.odometry.graph_odometry:GraphOdometry",
        "aligned": "stadia.predict.track_camera:create_aligned",
        "network": "stadia.predict.track_camera:create_network",
    },
)
