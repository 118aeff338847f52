"""Small networks of every architecture of transformers for depth, as folders that its own loading code reads."""

from pathlib import Path
from typing import Any

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

import torch
import transformers
from torch import nn

DINOV2 = {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 14}
DINOV2 |= {"image_size": 42, "out_indices": [1, 2, 3, 4], "apply_layernorm": True, "reshape_hidden_states": False}
DPT_NECK: dict[str, Any] = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
DEPTH_PRO = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
DEPTH_PRO |= {"patch_size": 4, "image_size": 24, "use_mask_token": False}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "dpt": (
        "DPT",
        {**VIT, "image_size": 64, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3], **DPT_NECK},
        "DPTImageProcessor",
        {"size": {"height": 64, "width": 64}, "ensure_multiple_of": 32, "keep_aspect_ratio": True},
    ),
    "depth_anything": (
        "DepthAnything",
        {"backbone_config": DINOV2, "reassemble_hidden_size": 32, "patch_size": 14, "head_hidden_size": 8, **DPT_NECK},
        "DPTImageProcessor",
        {"size": {"height": 70, "width": 70}, "ensure_multiple_of": 14, "keep_aspect_ratio": True},
    ),
    "prompt_depth_anything": (
        "PromptDepthAnything",
        {"backbone_config": DINOV2, "reassemble_hidden_size": 32, "patch_size": 14, "head_hidden_size": 8, **DPT_NECK},
        "PromptDepthAnythingImageProcessor",
        {"size": {"height": 70, "width": 70}, "ensure_multiple_of": 14, "keep_aspect_ratio": True},
    ),
    "depth_pro": (
        "DepthPro",
        {
            "patch_size": 24,
            "fusion_hidden_size": 8,
            "intermediate_hook_ids": [1, 0],
            "intermediate_feature_dims": [8, 8],
            "scaled_images_ratios": [0.25, 0.5, 1.0],
            "scaled_images_overlap_ratios": [0.0, 0.5, 0.25],
            "scaled_images_feature_dims": [8, 8, 8],
            "use_fov_model": True,
            "num_fov_head_layers": 2,
            "image_model_config": DEPTH_PRO,
            "patch_model_config": DEPTH_PRO,
            "fov_model_config": DEPTH_PRO,
        },
        "DepthProImageProcessor",
        {"size": {"height": 96, "width": 96}},
    ),
    "glpn": (
        "GLPN",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2]}
        | {"decoder_hidden_size": 8, "max_depth": 10},
        "GLPNImageProcessor",
        {"size_divisor": 32},
    ),
    "zoedepth": (
        "ZoeDepth",
        {
            "backbone_config": {"model_type": "beit", **VIT, "image_size": 64, "patch_size": 16, "add_fpn": False}
            | {"out_indices": [1, 2, 3, 4], "reshape_hidden_states": False, "use_relative_position_bias": True},
            "backbone_hidden_size": 32,
            "bottleneck_features": 16,
            "num_relative_features": 8,
            "bin_configurations": [{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
            "bin_embedding_dim": 16,
            **DPT_NECK,
        },
        "ZoeDepthImageProcessor",
        {"size": {"height": 64, "width": 96}, "ensure_multiple_of": 32, "keep_aspect_ratio": True},
    ),
    "chmv2": (
        "CHMv2",
        {
            "backbone_config": {"model_type": "dinov3_vit", **VIT, "image_size": 64, "patch_size": 16}
            | {"out_indices": [1, 2, 3, 4], "reshape_hidden_states": True, "apply_layernorm": True}
            | {"num_register_tokens": 1, "return_class_token": True},
            "post_process_channels": [8, 8, 16, 16],
            "fusion_hidden_size": 16,
            "head_hidden_size": 8,
            "number_output_channels": 16,
        },
        "CHMv2ImageProcessor",
        {"do_resize": False, "size_divisor": 16},
    ),
    "tipsv2_dpt": (
        "Tipsv2Dpt",
        {
            "backbone_config": {"model_type": "tipsv2_vision_model", **VIT, "image_size": 56, "patch_size": 14}
            | {"out_indices": [1, 2, 3, 4], "apply_layernorm": True, "reshape_hidden_states": False},
            "num_depth_bins": 16,
            **DPT_NECK,
        },
        "Tipsv2DptImageProcessor",
        {"size": {"height": 56, "width": 56}},
    ),
}
"""By model type: the prefix of its classes, its configuration, the class of its image processor, and its settings."""


def write_network(folder: Path, architecture: str, **changes: Any) -> Path:
    """Write a small network with random weights as `save_pretrained` does; return its folder.

    changes: of the configuration.
    """
    prefix, settings, processor, preprocessing = ARCHITECTURES[architecture]
    config = getattr(transformers, f"{prefix}Config")(**{**settings, **changes})
    torch.manual_seed(0)
    network: nn.Module = getattr(transformers, f"{prefix}ForDepthEstimation")(config).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.08)
        elif name.endswith("bias"):
            nn.init.uniform_(parameter, 0.0, 0.1)  # a head that ends in a ReLU predicts no zeros
    if architecture == "depth_anything":
        nn.init.constant_(network.get_parameter("head.conv3.bias"), 3.0)
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    getattr(transformers, processor)(**preprocessing).save_pretrained(folder)
    return folder
