"""Predict to disk, score from disk; crops, caps and scalings of benchmarks. Imports core, geometry, metrics, training."""

from stadia.core.tables import Table

MOTIONS = Table(
    "motion",
    {"aligned": "stadia.evaluation.motion:aligned_motion", "network": "stadia.evaluation.motion:network_motion"},
)

FOLLOWERS = Table(
    "way to follow a path",
    {
        "refined": "stadia.evaluation.follow:refined",
        "aligned": "stadia.evaluation.follow:aligned",
        "network": "stadia.evaluation.follow:network",
    },
)
