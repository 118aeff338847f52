"""Networks and their weights. This package imports only core and geometry."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

DEPTH_NETWORKS = Registry(
    "depth network",
    {
        "base": "stadia.networks.depth.unet:BaseNetwork",
        "unet": "stadia.networks.depth.unet:Unet",
        "dpt": "stadia.networks.depth.dpt:Dpt",
        "depth_anything": "stadia.networks.depth.published:DepthAnything",
        "published": "stadia.networks.depth.published:Published",
        "monodepth2": "stadia.networks.depth.monodepth2:Monodepth2",
        "midas": "stadia.networks.depth.midas:Midas",
    },
    entry_points="stadia.depth_networks",
)
"""Depth networks by name. `model.network` of a configuration chooses one of these classes."""

DEPTH_NETWORK_CONFIGS = Registry(
    "configuration of a depth network",
    {
        "base": "stadia.networks.config:BaseConfig",
        "unet": "stadia.networks.config:UnetConfig",
        "dpt": "stadia.networks.config:DptConfig",
        "depth_anything": "stadia.networks.depth.published_config:DepthAnythingConfig",
        "published": "stadia.networks.depth.published_config:PublishedConfig",
        "monodepth2": "stadia.networks.config:Monodepth2Config",
        "midas": "stadia.networks.config:MidasConfig",
    },
)
"""Configuration class of each depth network, by the network's name. Loading one does not import torch.

The class of your own depth network is found by its attribute `Config` instead.
"""

ATTENTIONS = Registry(
    "attention",
    {
        "sdpa": "stadia.networks.attention:SdpaAttention",
        "explicit": "stadia.networks.attention:ExplicitAttention",
        "performer": "stadia.networks.attention:PerformerAttention",
        "memory_compressed": "stadia.networks.attention:MemoryCompressedAttention",
        "token_merging": "stadia.networks.attention:TokenMergingAttention",
    },
    entry_points="stadia.attentions",
)
"""An attention is a class that is built from (AttentionConfig, heads, head_dim), see `networks.attention`."""

POSE_NETS = Registry(
    "pose network",
    {
        "resnet": "stadia.networks.pose_net:make_resnet_encoder",
        "d3vo": "stadia.networks.pose_net:make_d3vo_encoder",
        "shared": "stadia.networks.pose_net:make_shared_encoder",
        "correlation": "stadia.networks.pose_net:make_correlation_encoder",
    },
    entry_points="stadia.pose_nets",
)
"""A pose network maps (DepthPoseNetConfig, depth encoder or None) to an encoder of image pairs (B, 6, H, W)."""

POSE_HEADS = Registry(
    "pose head",
    {
        "pool": "stadia.networks.pose_net:PoolHead",
        "convolution": "stadia.networks.pose_net:ConvHead",
        "linear": "stadia.networks.pose_net:LinearHead",
    },
    entry_points="stadia.pose_heads",
)
"""A pose head is a class that is built from (channels, outputs, activation, grid), see `networks.pose_net`."""

ROTATIONS = Registry(
    "rotation",
    {
        "axis_angle": "stadia.geometry.poses:so3_exp",
        "euler": "stadia.networks.pose_net:euler_xyz",
        "euler_xyz": "stadia.networks.pose_net:euler_xyz",
        "euler_zyx": "stadia.networks.pose_net:euler_zyx",
        "matrix6d": "stadia.networks.pose_net:matrix6d",
        "matrix9d": "stadia.networks.pose_net:matrix9d",
    },
    entry_points="stadia.rotations",
)
"""A rotation maps values (..., n) to matrices (..., 3, 3); your own takes n = 3. Zeros give the identity."""

ROTATION_NUMBERS = {"matrix6d": 6, "matrix9d": 9}
"""Number of input values of a function of ROTATIONS, if it is not 3."""

ACTIVATIONS = Registry(
    "activation",
    {
        "relu": "stadia.networks.depth.unet:relu",
        "leaky_relu": "stadia.networks.depth.unet:leaky_relu",
        "elu": "stadia.networks.depth.unet:elu",
        "rrelu": "stadia.networks.depth.unet:rrelu",
        "snake": "stadia.networks.depth.unet:Snake",
    },
    entry_points="stadia.activations",
)
"""An activation is a class or function that creates a layer."""
