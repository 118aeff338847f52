"""Owns weights. Imports core and geometry."""

from stadia.core.tables import Table

MODELS = Table(
    "model",
    {
        "depth_and_motion": "stadia.models.depth_and_motion:DepthAndMotion",
    },
)

ATTENTIONS = Table(
    "attention",
    {
        "sdpa": "stadia.models.attention:Sdpa",
        "explicit": "stadia.models.attention:Explicit",
    },
)
