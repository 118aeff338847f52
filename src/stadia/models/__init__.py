"""Networks and their weights. Imports core and geometry."""

from __future__ import annotations

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

MODELS = Registry(
    "model",
    {
        "depth_and_motion": "stadia.models.depth_pose_net:DepthPoseNet",
        "dpt": "stadia.models.dpt_net:DptNet",
        "objectpose_net": "stadia.models.object_pose_net:ObjectPoseNet",
        "overlay_net": "stadia.models.overlay_net:OverlayNet",
    },
)

ATTENTIONS = Registry(
    "attention",
    {
        "sdpa": "stadia.models.attention:SdpaAttention",
        "explicit": "stadia.models.attention:ExplicitAttention",
        "performer": "stadia.models.attention:PerformerAttention",
        "memory_compressed": "stadia.models.attention:MemoryCompressedAttention",
        "token_merging": "stadia.models.attention:TokenMergingAttention",
    },
)

DPT_NETWORKS = Registry(
    "network",
    {
        "dpt-tiny": "stadia.models.dpt_architectures:dpt_tiny",
        "dpt-small": "stadia.models.dpt_architectures:dpt_small",
        "dpt-hybrid": "stadia.models.dpt_architectures:dpt_hybrid",
        "dpt-large": "stadia.models.dpt_architectures:dpt_large",
        "depth-anything-small": "stadia.models.dpt_architectures:depth_anything_small",
        "depth-anything-base": "stadia.models.dpt_architectures:depth_anything_base",
        "depth-anything-large": "stadia.models.dpt_architectures:depth_anything_large",
    },
)

OVERLAY_NETWORKS = Registry(
    "overlay network", {"light": "stadia.models.overlay_net:LightTrunk", "full": "stadia.models.overlay_net:FullTrunk"}
)
"""Trunks of `overlay_net`: modules without arguments that map (B, 6, H, W) to (B, channels, H, W)."""

POSE_NETS = Registry(
    "pose network",
    {
        "resnet": "stadia.models.pose_net:make_resnet_encoder",
        "d3vo": "stadia.models.pose_net:make_d3vo_encoder",
        "shared": "stadia.models.pose_net:make_shared_encoder",
        "correlation": "stadia.models.pose_net:make_correlation_encoder",
    },
)

POSE_HEADS = Registry(
    "pose head",
    {
        "pool": "stadia.models.pose_net:PoolHead",
        "convolution": "stadia.models.pose_net:ConvHead",
        "linear": "stadia.models.pose_net:LinearHead",
    },
)

ROTATIONS = Registry(
    "rotation", {"axis_angle": "stadia.geometry.se3:so3_exp", "euler": "stadia.models.pose_net:euler_to_matrix"}
)

ACTIVATIONS = Registry(
    "activation",
    {
        "relu": "stadia.models.depth_net:relu",
        "leaky_relu": "stadia.models.depth_net:leaky_relu",
        "elu": "stadia.models.depth_net:elu",
        "rrelu": "stadia.models.depth_net:rrelu",
        "snake": "stadia.models.depth_net:Snake",
    },
)
