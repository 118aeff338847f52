"""Architectures of dense prediction transformers: how transformers builds each. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from stadia.core.errors import ConfigError

Triple = tuple[float, float, float]
_HALF: Triple = (0.5, 0.5, 0.5)
_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DptArchitecture:
    """One architecture.

    family: "dpt" is transformers' DPTForDepthEstimation, "depth-anything" its DepthAnythingForDepthEstimation.
    settings: of their configuration.
    blocks: number of transformer blocks.
    heads: of each block's attention.
    hooks: blocks whose tokens the decoder receives, from 0; a hybrid's decoder also receives two convolutional maps.
    hub: repository of the published weights, or None.
    stride: image sides are multiples of it.
    mean, std: normalize RGB in [0, 1] inside the network.
    positions: interpolation of the position embeddings.
    """

    family: Literal["dpt", "depth-anything"]
    settings: dict[str, Any]
    blocks: int
    heads: int
    hooks: tuple[int, ...]
    hub: str | None = None
    stride: int = 32
    mean: Triple = _HALF
    std: Triple = _HALF
    positions: Literal["bilinear", "bicubic"] = "bilinear"

    @property
    def patch(self) -> int:
        """Return the side of an image patch in pixels."""
        return int(self.settings["patch_size"])

    @property
    def head_dim(self) -> int:
        """Return the channels of one attention head."""
        vit = self.settings if "hidden_size" in self.settings else self.settings["backbone_config"]
        return int(vit["hidden_size"]) // self.heads

    def build(self) -> Any:
        """Create the network at random. Raises ConfigError if transformers is not installed."""
        check_transformers_installed()
        import stadia.process.torchvision_shim  # noqa: F401

        # isort: split

        import transformers

        if self.family == "dpt":
            return transformers.DPTForDepthEstimation(transformers.DPTConfig(**self.settings))
        return transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig(**self.settings))


def check_transformers_installed() -> None:
    """Raise ConfigError if the optional dependency transformers is missing. Imports nothing heavy."""
    if find_spec("transformers") is None:
        expected, fix = "the extra 'transformers'", "pip install 'stadia[transformers]'"
        raise ConfigError("transformers", found="no such package", expected=expected, fix=fix)


def check_stride_multiples(name: str, stride: int, *, height: int, width: int) -> None:
    """Raise ConfigError with the nearest valid size if the image's sides are no multiples of the stride.

    Examples:
        >>> check_stride_multiples("dpt-tiny", 32, height=192, width=640)  # multiples of 32 pass
    """
    if height % stride or width % stride or not (height and width):
        near = f"{max(round(width / stride), 1) * stride}x{max(round(height / stride), 1) * stride}"
        found, expected = f"{width}x{height}", f"multiples of {stride}"
        raise ConfigError(f"image size for '{name}'", found=found, expected=expected, fix=f"take {near}")


def _dpt(
    *, width: int, blocks: int, heads: int, hooks: tuple[int, ...], neck: tuple[int, ...], fusion: int, hub: str | None
) -> DptArchitecture:
    """A ViT with patches of 16 pixels; tokens of four blocks become maps at 1/4, 1/8, 1/16 and 1/32."""
    decoder = {"neck_hidden_sizes": list(neck), "fusion_hidden_size": fusion}
    settings = {**_vit(width, blocks, heads), "backbone_out_indices": list(hooks), **decoder}
    return DptArchitecture("dpt", settings, blocks, heads, hooks, hub)


def _hybrid(
    *,
    stem: int,
    stages: tuple[int, int, int],
    depths: tuple[int, int, int],
    groups: int,
    width: int,
    blocks: int,
    heads: int,
    hooks: tuple[int, int],
    fusion: int,
    hub: str | None,
) -> DptArchitecture:
    """Three ResNet stages (BiT: standardized weights, group norm) and a ViT; two stages give maps at 1/4 and 1/8."""
    trunk = {
        "model_type": "bit",
        "embedding_size": stem,
        "hidden_sizes": list(stages),
        "depths": list(depths),
        "num_groups": groups,
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "out_features": ["stage1", "stage2", "stage3"],
    }
    settings = {
        **_vit(width, blocks, heads),
        "is_hybrid": True,
        "backbone_config": trunk,
        "backbone_featmap_shape": [1, stages[-1], 24, 24],
        "backbone_out_indices": [0, 1, *hooks],
        "reassemble_factors": [1, 1, 1, 0.5],
        "neck_hidden_sizes": [*stages[:2], width, width],
        "fusion_hidden_size": fusion,
    }
    return DptArchitecture("dpt", settings, blocks, heads, hooks, hub)


def _vit(width: int, blocks: int, heads: int) -> dict[str, Any]:
    vit: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": blocks}
    vit |= {"num_attention_heads": heads, "image_size": 384, "patch_size": 16, "readout_type": "project"}
    return vit | {"layer_norm_eps": 1e-6}  # timm's, in which the weights were trained; the default is 1e-12


def _depth_anything(
    size: str, *, width: int, blocks: int, heads: int, hooks: tuple[int, ...], neck: tuple[int, ...], fusion: int
) -> DptArchitecture:
    """DINOv2 with patches of 14 pixels and a DPT decoder, which ignores the class token."""
    trunk = {
        "model_type": "dinov2",
        "image_size": 518,
        "patch_size": 14,
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "out_indices": [block + 1 for block in hooks],  # transformers counts the embeddings as 0
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    }
    settings: dict[str, Any] = {"backbone_config": trunk, "patch_size": 14, "reassemble_hidden_size": width}
    settings |= {"neck_hidden_sizes": list(neck), "fusion_hidden_size": fusion}
    hub, inputs = f"depth-anything/Depth-Anything-V2-{size}-hf", {"mean": _IMAGENET_MEAN, "std": _IMAGENET_STD}
    return DptArchitecture(
        "depth-anything", settings, blocks, heads, hooks, hub, stride=14, positions="bicubic", **inputs
    )


def dpt_tiny() -> DptArchitecture:
    """A few convolutions and a ViT of width 128, 1.8 M parameters; trains from scratch on two cores."""
    trunk: dict[str, Any] = {"stem": 16, "stages": (32, 64, 128), "depths": (1, 1, 1), "groups": 8}
    return _hybrid(**trunk, width=128, blocks=6, heads=4, hooks=(2, 5), fusion=32, hub=None)


def dpt_small() -> DptArchitecture:
    """A plain ViT-Ti/16 of 12 blocks with a small decoder; no published weights."""
    return _dpt(width=192, blocks=12, heads=3, hooks=(2, 5, 8, 11), neck=(48, 96, 192, 192), fusion=64, hub=None)


def dpt_hybrid() -> DptArchitecture:
    """ResNet-50 (BiT) and ViT-B/16 of isl-org/DPT, 122.4 M parameters; published weights are up to scale and shift."""
    trunk: dict[str, Any] = {"stem": 64, "stages": (256, 512, 1024), "depths": (3, 4, 9), "groups": 32}
    vit: dict[str, Any] = {"width": 768, "blocks": 12, "heads": 12, "hooks": (8, 11)}
    return _hybrid(**trunk, **vit, fusion=256, hub="Intel/dpt-hybrid-midas")


def dpt_large() -> DptArchitecture:
    """ViT-L/16 of isl-org/DPT; published weights are up to scale and shift."""
    vit: dict[str, Any] = {"width": 1024, "blocks": 24, "heads": 16, "hooks": (5, 11, 17, 23)}
    return _dpt(**vit, neck=(256, 512, 1024, 1024), fusion=256, hub="Intel/dpt-large")


def depth_anything_small() -> DptArchitecture:
    """Depth Anything V2 on DINOv2 ViT-S/14; published weights are up to scale and shift."""
    vit: dict[str, Any] = {"width": 384, "blocks": 12, "heads": 6, "hooks": (2, 5, 8, 11)}
    return _depth_anything("Small", **vit, neck=(48, 96, 192, 384), fusion=64)


def depth_anything_base() -> DptArchitecture:
    """Depth Anything V2 on DINOv2 ViT-B/14; published weights are up to scale and shift (CC-BY-NC)."""
    vit: dict[str, Any] = {"width": 768, "blocks": 12, "heads": 12, "hooks": (2, 5, 8, 11)}
    return _depth_anything("Base", **vit, neck=(96, 192, 384, 768), fusion=128)


def depth_anything_large() -> DptArchitecture:
    """Depth Anything V2 on DINOv2 ViT-L/14; published weights are up to scale and shift (CC-BY-NC)."""
    vit: dict[str, Any] = {"width": 1024, "blocks": 24, "heads": 16, "hooks": (4, 11, 17, 23)}
    return _depth_anything("Large", **vit, neck=(256, 512, 1024, 1024), fusion=256)
