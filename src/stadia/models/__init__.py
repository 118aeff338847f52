"""Owns weights. Imports core and geometry."""

from stadia.core.tables import Table

MODELS = Table(
    "model",
    {
        "depth_and_motion": "stadia.models.depth_and_motion:DepthAndMotion",
        "dpt": "stadia.models.dpt:Dpt",
        "objectpose_net": "stadia.models.object_pose_net:ObjectPoseNet",
    },
)

ATTENTIONS = Table(
    "attention",
    {
        "sdpa": "stadia.models.attention:Sdpa",
        "explicit": "stadia.models.attention:Explicit",
        "performer": "stadia.models.performer:Performer",
        "memory_compressed": "stadia.models.memory_compressed:MemoryCompressed",
        "token_merging": "stadia.models.token_merging:TokenMerging",
    },
)

NETWORKS = Table(
    "network",
    {
        "dpt-tiny": "stadia.models.dpt_networks:dpt_tiny",
        "dpt-small": "stadia.models.dpt_networks:dpt_small",
        "dpt-hybrid": "stadia.models.dpt_networks:dpt_hybrid",
        "dpt-large": "stadia.models.dpt_networks:dpt_large",
        "depth-anything-small": "stadia.models.dpt_networks:depth_anything_small",
        "depth-anything-base": "stadia.models.dpt_networks:depth_anything_base",
        "depth-anything-large": "stadia.models.dpt_networks:depth_anything_large",
    },
)
