"""Owns weights. Imports core and geometry."""

from stadia.core.tables import Table

MODELS = Table(
    "model",
    {
        "depth_and_motion": "stadia.models.depth_and_motion:DepthAndMotion",
    },
)
