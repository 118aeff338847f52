"""Owns weights. Imports core and geometry."""

from stadia.core.tables import Table

MODELS = Table(
    "model",
    {
        "depth_and_motion": "stadia.models.depth_and_motion:DepthAndMotion",
        "dpt": "stadia.models.dpt:Dpt",
        "objectpose_net": "stadia.models.object_pose_net:ObjectPoseNet",
        "overlay_net": "stadia.models.overlay_net:OverlayNet",
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

OVERLAY_NETWORKS = Table(
    "overlay network", {"light": "stadia.models.overlay_net:Light", "full": "stadia.models.overlay_net:Full"}
)
"""Trunks of `overlay_net`: a module without arguments, (B, 6, H, W) to (B, channels, H, W)."""

POSE_NETS = Table(
    "pose network",
    {
        "resnet": "stadia.models.pose_net:resnet",
        "d3vo": "stadia.models.pose_net:d3vo",
        "shared": "stadia.models.pose_net:shared",
        "correlation": "stadia.models.pose_net:correlation",
    },
)

POSE_HEADS = Table(
    "pose head",
    {
        "pool": "stadia.models.pose_heads:Pool",
        "convolution": "stadia.models.pose_heads:Convolution",
        "linear": "stadia.models.pose_heads:Linear",
    },
)

ROTATIONS = Table(
    "rotation", {"axis_angle": "stadia.geometry.se3:so3_exp", "euler": "stadia.models.pose_net:euler_xyz"}
)

ACTIVATIONS = Table(
    "activation",
    {
        "relu": "stadia.models.activations:relu",
        "leaky_relu": "stadia.models.activations:leaky_relu",
        "elu": "stadia.models.activations:elu",
        "rrelu": "stadia.models.activations:rrelu",
        "snake": "stadia.models.activations:Snake",
    },
)
