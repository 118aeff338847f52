"""Predict to disk, score from disk: protocols, baselines, files and plots."""

from __future__ import annotations

from stadia.core.registry import Registry
from stadia.odometry import ODOMETRY_METHODS

MOTIONS = Registry(
    "motion",
    {
        "aligned": "stadia.odometry.frame_to_frame:align_motion",
        "network": "stadia.odometry.frame_to_frame:predict_motion",
    },
)
