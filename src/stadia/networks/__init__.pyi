"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .attention import MemoryCompressedAttention as MemoryCompressedAttention
from .attention import PerformerAttention as PerformerAttention
from .attention import TokenMergingAttention as TokenMergingAttention
from .config import AttentionConfig as AttentionConfig
from .config import DepthModelConfig as DepthModelConfig
from .config import DepthNetworkConfig as DepthNetworkConfig
from .config import DepthPoseNetConfig as DepthPoseNetConfig
from .config import DptConfig as DptConfig
from .config import Monodepth2Config as Monodepth2Config
from .config import UnetConfig as UnetConfig
from .depth.depth_network import AffineDepthNetwork as AffineDepthNetwork
from .depth.depth_network import DepthMaps as DepthMaps
from .depth.depth_network import DepthNetwork as DepthNetwork
from .depth.depth_network import build_depth_network as build_depth_network
from .depth.dpt import Dpt as Dpt
from .depth.dpt_weights import LoadReport as LoadReport
from .depth.monodepth2 import Monodepth2 as Monodepth2
from .depth.published import DepthAnything as DepthAnything
from .depth.published import Published as Published
from .depth.published_config import DepthAnythingConfig as DepthAnythingConfig
from .depth.published_config import PublishedConfig as PublishedConfig
from .depth.unet import Unet as Unet
from .encoders import Encoder as Encoder
from .encoders import check_encoder as check_encoder
from .pose_net import CorrelationPoseEncoder as CorrelationPoseEncoder
from .pose_net import DepthPoseNet as DepthPoseNet
from .pose_net import PoseNet as PoseNet
from .segmentation import load_panoptic_model as load_panoptic_model
from .size_prior import SizePrior as SizePrior
from .size_prior import load_size_prior as load_size_prior
from .weight_files import load_state_dict as load_state_dict

ATTENTIONS: stadia.core.registry.Registry
DEPTH_NETWORKS: stadia.core.registry.Registry
DEPTH_NETWORK_CONFIGS: stadia.core.registry.Registry
POSE_NETS: stadia.core.registry.Registry
POSE_HEADS: stadia.core.registry.Registry
ROTATIONS: stadia.core.registry.Registry
ROTATION_NUMBERS: dict[str, int]
ACTIVATIONS: stadia.core.registry.Registry
