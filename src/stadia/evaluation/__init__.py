"""Predict to disk and score from disk, with the crops, caps and alignments of the benchmarks.

Imports core, geometry, metrics and training.
"""

from stadia.core.tables import Table

MOTIONS = Table(
    "motion",
    {"aligned": "stadia.evaluation.motion:aligned_motion", "network": "stadia.evaluation.motion:network_motion"},
)

FOLLOWERS = Table(
    "odometry method",
    {
        "refined": "stadia.evaluation.follow:refined",
        "aligned": "stadia.evaluation.follow:aligned",
        "network": "stadia.evaluation.follow:network",
    },
)
