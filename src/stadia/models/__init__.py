"""Networks and their weights. Imports core and geometry."""

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
        "sdpa": "stadia.models.attention:SdpaAttention",
        "explicit": "stadia.models.attention:ExplicitAttention",
        "performer": "stadia.models.performer:PerformerAttention",
        "memory_compressed": "stadia.models.memory_compressed:MemoryCompressedAttention",
        "token_merging": "stadia.models.token_merging:TokenMergingAttention",
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
    "overlay network", {"light": "stadia.models.overlay_net:LightTrunk", "full": "stadia.models.overlay_net:FullTrunk"}
)
"""Trunks of `overlay_net`: modules without arguments that map (B, 6, H, W) to (B, channels, H, W)."""

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
        "pool": "stadia.models.pose_heads:PoolHead",
        "convolution": "stadia.models.pose_heads:ConvHead",
        "linear": "stadia.models.pose_heads:LinearHead",
    },
)

ROTATIONS = Table(
    "rotation", {"axis_angle": "stadia.geometry.se3:so3_exp", "euler": "stadia.models.pose_net:euler_to_matrix"}
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
