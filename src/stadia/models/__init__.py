"""Networks and their weights. This package imports only core and geometry."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

DEPTH_NETWORKS = Registry(
    "depth network",
    {
        "base": "stadia.models.depth.base_network:BaseNetwork",
        "unet": "stadia.models.depth.unet:Unet",
        "dpt": "stadia.models.depth.dpt:Dpt",
        "depth_anything": "stadia.models.depth.published:DepthAnything",
        "published": "stadia.models.depth.published:Published",
        "monodepth2": "stadia.models.depth.monodepth2:Monodepth2",
        "midas": "stadia.models.depth.midas:Midas",
    },
    entry_points="stadia.depth_networks",
)
"""Depth networks by name. `model.network` chooses one of these subclasses of `DepthNetwork` in every depth recipe."""

DEFAULT_NETWORK = "base"
"""The network of commands that name none. Its weights are part of the package."""

DEPTH_NETWORK_CONFIGS = Registry(
    "configuration of a depth network",
    {
        "base": "stadia.models.depth.config:BaseConfig",
        "unet": "stadia.models.depth.config:UnetConfig",
        "dpt": "stadia.models.depth.config:DptConfig",
        "depth_anything": "stadia.models.depth.published_config:DepthAnythingConfig",
        "published": "stadia.models.depth.published_config:PublishedConfig",
        "monodepth2": "stadia.models.depth.config:Monodepth2Config",
        "midas": "stadia.models.depth.config:MidasConfig",
    },
)
"""Configurations of the depth networks, which do not import torch. Your own network has the attribute `Config`."""

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
    "rotation",
    {
        "axis_angle": "stadia.geometry.se3:so3_exp",
        "euler": "stadia.models.pose_net:euler_xyz",
        "euler_xyz": "stadia.models.pose_net:euler_xyz",
        "euler_xzy": "stadia.models.pose_net:euler_xzy",
        "euler_yxz": "stadia.models.pose_net:euler_yxz",
        "euler_yzx": "stadia.models.pose_net:euler_yzx",
        "euler_zxy": "stadia.models.pose_net:euler_zxy",
        "euler_zyx": "stadia.models.pose_net:euler_zyx",
        "matrix6d": "stadia.models.pose_net:matrix6d",
        "matrix9d": "stadia.models.pose_net:matrix9d",
    },
)

ROTATION_NUMBERS = {"matrix6d": 6, "matrix9d": 9}
"""Number of values from which a rotation is computed. Rotations that are not listed take 3 values."""

ACTIVATIONS = Registry(
    "activation",
    {
        "relu": "stadia.models.depth.unet:relu",
        "leaky_relu": "stadia.models.depth.unet:leaky_relu",
        "elu": "stadia.models.depth.unet:elu",
        "rrelu": "stadia.models.depth.unet:rrelu",
        "snake": "stadia.models.depth.unet:Snake",
    },
)
