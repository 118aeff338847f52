"""The depth network `dpt`: a dense prediction transformer (Ranftl et al., ICCV 2021, arXiv 2103.13413).

It uses the layers of the package transformers, with exchangeable attention, positions for any grid, and constant
padding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import DepthScale
from stadia.networks import ATTENTIONS, hub
from stadia.networks.config import DptConfig
from stadia.networks.depth.depth_network import AffineDepthNetwork, list_trainable
from stadia.networks.depth.dpt_weights import UNUSED_PARAMETERS, LoadReport, load_pretrained
from stadia.networks.encoders import InitialWeights
from stadia.networks.gradient_checkpointing import run_checkpointed
from stadia.networks.weight_files import WEIGHT_FILE_NAMES, resolve_weights_file

_RANDOM_SCALE = 0.1
"""Scale of random weights: they suit depths of streets."""

_RANDOM_SHIFT = 1 / 200
"""Shift of random weights: depths of streets reach 200 m."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The dimensions of a dense prediction transformer. The package transformers builds the network from them.

    settings: arguments of `transformers.DPTConfig`.
    blocks: number of transformer blocks.
    heads: number of attention heads in each block.
    hooks: indices, from 0, of the blocks whose tokens the decoder receives. The decoder of a hybrid also receives two
        convolutional maps.
    hub: repository of the published weights on the Hugging Face hub, or None if there are none.
    """

    settings: dict[str, Any]
    blocks: int
    heads: int
    hooks: tuple[int, ...]
    hub: str | None = None

    @property
    def patch(self) -> int:
        """Return the side of an image patch in pixels."""
        return int(self.settings["patch_size"])


LICENCE = "Apache-2.0"
"""Licence of the published weights Intel/dpt-hybrid-midas and Intel/dpt-large."""


class Dpt(AffineDepthNetwork):
    """The dense prediction transformer: DPT-Hybrid, DPT-Large, or a smaller network that trains on two cores.

    The tokens of four blocks of a vision transformer become maps of four sizes. A decoder without batch normalization
    fuses them.

    The head predicts inverse depth up to scale and shift; `calibrate` converts it to 1/m. Sizes without published
    weights end in a softplus, whose gradient never vanishes.
    """

    Config: ClassVar[type[DptConfig]] = DptConfig
    source = "https://arxiv.org/abs/2103.13413"
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    config: DptConfig
    load_report: LoadReport | None

    def __init__(self, config: DptConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.arch = SIZES[config.size]
        self.licence = "" if self.arch.hub is None else LICENCE
        check_transformers_installed()
        self.network = build_transformer(self.arch)
        make_core = partial(ATTENTIONS.load(config.attention.name), config.attention, self.arch.heads)
        encoder = self.network.dpt.encoder
        encoder.layer = nn.ModuleList(TransformerBlock(block, self.arch.heads, make_core) for block in encoder.layer)
        use_constant_padding(self.network)
        if self.arch.hub is None:
            self.network.head.head[-1] = nn.Softplus()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not any(fnmatchcase(name, pattern) for pattern in UNUSED_PARAMETERS))
        self.load_report = self._load() if pretrained else None
        self.is_pretrained = self.load_report is not None
        scale, shift = (1.0, 0.0) if self.load_report else (_RANDOM_SCALE, _RANDOM_SHIFT)
        if config.scale is not None:
            self.output = DepthScale.METRES
        scale = scale if config.scale is None else config.scale
        shift = shift if config.shift is None else config.shift
        self.register_scale(scale, shift)
        self.checkpoint_gradients = False
        if self.load_report is None:
            self._init_random_weights(max((1 / config.start_m - shift) / scale, 1e-3))

    @classmethod
    def check_config(cls, config: DptConfig, *, height: int, width: int) -> None:
        check_transformers_installed()
        super().check_config(config, height=height, width=width)

    @classmethod
    def check_weights(cls, config: DptConfig) -> None:
        find_weights_file(config, SIZES[config.size])

    def raw(self, image: Tensor) -> Tensor:
        """Return the head's output (B, 1, H, W) for images (B, 3, H, W), RGB in [0, 1]."""
        height, width = image.shape[-2:]
        self.check_config(self.config, height=height, width=width)
        tokens, grid, features = embed_image(self.network.dpt.embeddings, self.normalize(image))
        for index, block in enumerate(self.network.dpt.encoder.layer[: self.arch.hooks[-1] + 1]):
            run = partial(block, grid=grid)
            tokens = run_checkpointed(run, tokens) if self.checkpoint_gradients else run(tokens)
            if index in self.arch.hooks:
                features.append(tokens)
        output: Tensor = self.network.head.head(self.network.neck(features, *grid)[-1])
        return output

    @property
    def weights(self) -> dict[str, InitialWeights]:
        """Return "random" or "pretrained" with the source of the initial weights. `load_report` lists each weight."""
        if self.load_report is None or self.config.weights is not None:
            return {"network": "random" if self.load_report is None else "pretrained"}
        return {"network": f"pretrained {self.arch.hub}@{Path(self.load_report.source).parent.name}"}

    @property
    def has_depth_weights(self) -> bool:
        return self.config.weights is not None or self.arch.hub is not None

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.network.dpt)

    def decoder_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.network.neck, self.network.head)

    def head_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.network.head)

    def modules_to_compile(self) -> list[nn.Module]:
        return [self.network]

    def enable_gradient_checkpointing(self) -> None:
        self.checkpoint_gradients = True

    def _load(self) -> LoadReport | None:
        config, path = self.config, find_weights_file(self.config, self.arch)
        if path is None:
            return None
        return load_pretrained(
            self.network,
            path,
            name=config.title,
            allow_missing=config.allow_missing,
            allow_unexpected=config.allow_unexpected,
        )

    def _init_random_weights(self, output: float) -> None:
        """Initialize a network without pretrained weights so that it trains.

        Positions are 2D sines and cosines (arXiv 1706.03762), the decoder keeps the signal's variance (arXiv
        1502.01852), and the head's output is near `output`, because a ReLU below 0 has no gradient.
        """
        neck, head, positions = self.network.neck, self.network.head, self.network.dpt.embeddings.position_embeddings
        with torch.no_grad():
            positions[:, 1:].copy_(make_sincos_positions(math.isqrt(positions.shape[1] - 1), positions.shape[2]))
        for module in (*neck.modules(), *head.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        last: Any = self.network.head.head[-2]
        nn.init.normal_(last.weight, std=1e-3)
        if self.arch.hub is None:
            output += math.log(-math.expm1(-output))  # inverse of softplus
        nn.init.constant_(last.bias, output)


def check_transformers_installed() -> None:
    """Raise ConfigError if the optional Python package transformers is missing. This does not import it."""
    if find_spec("transformers") is None:
        expected, fix = "the extra 'transformers'", "pip install 'stadia[transformers]'"
        raise ConfigError("transformers", found="no such package", expected=expected, fix=fix)


def import_transformers() -> Any:
    """Import the Python package transformers, which takes seconds, and return the module."""
    import stadia.differentiable.torchvision_operators  # noqa: F401

    # isort: split

    import transformers

    return transformers


def find_weights_file(config: DptConfig, arch: Architecture) -> Path | None:
    """Return the file with the initial weights of a DPT network, downloaded if needed; None for random weights.

    config: its `weights` names a local file; otherwise the published weights are used.
    arch: dimensions of the network, with the repository of its published weights.

    Raises CheckpointError if the file is unavailable.
    """
    if config.weights is not None:
        return resolve_weights_file(Path(config.weights))
    if (repository := arch.hub) is None:
        return None
    try:
        with hub.offline_if_unreachable():
            file = hub.download_first_file(repository, WEIGHT_FILE_NAMES, config.revision)
    except OSError as error:
        found = f"none in the cache, and {repository} is unreachable on the hub ({type(error).__name__})"
        copy = hub.describe_manual_copy(repository)
        fix = f"{copy}; or model.network.weights=FILE; or model.pretrained=false"
        what, expected = f"weights of '{config.title}'", "the published weights"
        raise CheckpointError(what, found=found, expected=expected, fix=fix) from error
    if config.revision is None:
        hub.warn_newest_revision(repository, f"model.network.revision={file.parent.name}")
    return file


def build_transformer(arch: Architecture) -> Any:
    """Build the network of these dimensions by the package transformers, with random weights."""
    transformers = import_transformers()
    return transformers.DPTForDepthEstimation(transformers.DPTConfig(**arch.settings))


# -- parts added to the layers of transformers: exchangeable attention, positions for any grid, constant padding


class SelfAttention(nn.Module):
    """Self-attention with the layers `query`, `key` and `value` of the package transformers, and any of
    `networks.ATTENTIONS`.
    """

    def __init__(self, projections: nn.Module, heads: int, core: nn.Module) -> None:
        super().__init__()
        self.query, self.key, self.value = (getattr(projections, name) for name in ("query", "key", "value"))
        self.heads, self.core = heads, core

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, D) to attended tokens (B, N, D).

        tokens: (B, N, D) class token and patch tokens.
        grid: (height, width) of the patch tokens, which are the last height * width tokens.
        """
        shape = (*tokens.shape[:2], self.heads, -1)
        q, k, v = (project(tokens).view(shape).transpose(1, 2) for project in (self.query, self.key, self.value))
        output: Tensor = self.core(q, k, v, grid).transpose(1, 2).flatten(2)
        return output


class TransformerBlock(nn.Module):
    """A block of DPT's vision transformer that passes the size of the token grid to its attention.

    block: block of the package transformers, whose layers are moved into this module.
    heads: number of attention heads.
    make_core: function that creates the attention of `networks.ATTENTIONS`, from the size of a head.
    """

    def __init__(self, block: Any, heads: int, make_core: Callable[[int], nn.Module]) -> None:
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        projections: Any = block.attention.attention
        core = make_core(projections.query.out_features // heads)
        block.attention.attention = SelfAttention(projections, heads, core)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D).

        tokens: (B, N, D) class token and patch tokens.
        grid: (height, width) of the patch tokens, which are the last height * width tokens.
        """
        layers: Any = self
        normalized = layers.layernorm_before(tokens)
        tokens = layers.attention.output(layers.attention.attention(normalized, grid), normalized) + tokens
        return layers.output(layers.intermediate(layers.layernorm_after(tokens)), tokens)


def resize_position_embeddings(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize position embeddings from a square grid of tokens to another grid: (1, 1 + height * width, D).

    The embedding of the class token is kept.

    positions: (1, 1 + n * n, D) embeddings of the class token and of n x n patches.
    grid: (height, width) of the new grid in tokens.
    """
    side = math.isqrt(positions.shape[1] - 1)
    token, places = positions[:, :1], positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    places = functional.interpolate(places.float(), size=grid, mode="bilinear", align_corners=False).to(positions.dtype)
    return torch.cat((token, places.flatten(2).transpose(1, 2)), dim=1)


def embed_image(embeddings: Any, image: Tensor) -> tuple[Tensor, tuple[int, int], list[Tensor]]:
    """Convert images to tokens: return tokens (B, 1 + N, D), (height, width) of the grid of N patches, and early
    feature maps.

    The early feature maps come from a hybrid's convolutions at 1/4 and 1/8 of the image size; networks without
    convolutions have none.

    embeddings: the embedding layers of the network of transformers.
    image: (B, 3, H, W) normalized images.
    """
    early: list[Tensor] = []
    if hasattr(embeddings, "backbone"):
        trunk = embeddings.backbone.bit
        features = trunk.embedder(image)
        for stage in trunk.encoder.stages:
            features = stage(features)
            early.append(features)
        features = embeddings.projection(early.pop())
    else:
        features = embeddings.patch_embeddings.projection(image)
    grid = features.shape[-2], features.shape[-1]
    token, places = embeddings.cls_token.expand(image.shape[0], -1, -1), features.flatten(2).transpose(1, 2)
    tokens = torch.cat((token, places), dim=1)
    return tokens + resize_position_embeddings(embeddings.position_embeddings, grid), grid, early


def use_constant_padding(network: nn.Module) -> None:
    """Replace "SAME" padding, which depends on the image size, by constant padding, so that exports accept any size.

    Both paddings are equal for even sides.

    network: changed in place.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child).__name__ == "DynamicPad2d":
                dynamic: Any = child
                both = max(dynamic.kernel_size[0] - dynamic.stride[0], 0)  # kernels and strides are square
                before, after = both // 2, both - both // 2
                constant = nn.ConstantPad2d((before, after, before, after), dynamic.value) if both else nn.Identity()
                setattr(module, name, constant)


def make_sincos_positions(side: int, width: int) -> Tensor:
    """Return position embeddings (side * side, width) of a square token grid: sines and cosines of row, then of column.

    side: number of tokens along each side of the grid.
    width: number of channels of a token.
    """
    quarter = width // 4
    rates = 1.0 / 10_000 ** (torch.arange(quarter) / quarter)
    angles = torch.arange(side)[:, None] * rates
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)  # (side, width / 2)
    return torch.cat((waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)), dim=2).flatten(0, 1)


# -- sizes


def make_plain(
    *, width: int, blocks: int, heads: int, hooks: tuple[int, ...], neck: tuple[int, ...], fusion: int, hub: str | None
) -> Architecture:
    """Return the dimensions of a DPT without convolutional stages: a vision transformer with patches of 16 pixels.

    Tokens of four blocks become maps at 1/4 to 1/32 of the image size.

    width: channels of a token.
    blocks, heads: number of transformer blocks, and of attention heads in each.
    hooks: indices of the four blocks whose tokens the decoder receives.
    neck: channels of the four maps.
    fusion: channels of the decoder.
    hub: repository of the published weights, or None.
    """
    decoder = {"neck_hidden_sizes": list(neck), "fusion_hidden_size": fusion}
    settings = {**_vit(width, blocks, heads), "backbone_out_indices": list(hooks), **decoder}
    return Architecture(settings=settings, blocks=blocks, heads=heads, hooks=hooks, hub=hub)


def make_hybrid(
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
) -> Architecture:
    """Return the dimensions of a DPT hybrid: three ResNet stages, then a vision transformer.

    The ResNet is BiT, with standardized weights and group normalization. Two of its stages pass their maps to the
    decoder.

    stem: channels of the first convolution.
    stages: channels of the three ResNet stages.
    depths: number of blocks of the three ResNet stages.
    groups: number of groups of the group normalization.
    width: channels of a token.
    blocks, heads: number of transformer blocks, and of attention heads in each.
    hooks: indices of the two blocks whose tokens the decoder receives.
    fusion: channels of the decoder.
    hub: repository of the published weights, or None.
    """
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
    return Architecture(settings=settings, blocks=blocks, heads=heads, hooks=hooks, hub=hub)


def _vit(width: int, blocks: int, heads: int) -> dict[str, Any]:
    vit: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": blocks}
    vit |= {"num_attention_heads": heads, "image_size": 384, "patch_size": 16, "readout_type": "project"}
    return vit | {"layer_norm_eps": 1e-6}  # timm's value, with which the weights were trained; the default is 1e-12


SIZES = {
    "tiny": make_hybrid(  # 1.8 million parameters; trains from scratch on two cores
        stem=16,
        stages=(32, 64, 128),
        depths=(1, 1, 1),
        groups=8,
        width=128,
        blocks=6,
        heads=4,
        hooks=(2, 5),
        fusion=32,
        hub=None,
    ),
    "small": make_plain(  # ViT-Ti/16 with a small decoder; no published weights
        width=192, blocks=12, heads=3, hooks=(2, 5, 8, 11), neck=(48, 96, 192, 192), fusion=64, hub=None
    ),
    "hybrid": make_hybrid(  # ResNet-50 (BiT) and ViT-B/16 of isl-org/DPT, 122.4 million parameters
        stem=64,
        stages=(256, 512, 1024),
        depths=(3, 4, 9),
        groups=32,
        width=768,
        blocks=12,
        heads=12,
        hooks=(8, 11),
        fusion=256,
        hub="Intel/dpt-hybrid-midas",
    ),
    "large": make_plain(  # ViT-L/16 of isl-org/DPT
        width=1024,
        blocks=24,
        heads=16,
        hooks=(5, 11, 17, 23),
        neck=(256, 512, 1024, 1024),
        fusion=256,
        hub="Intel/dpt-large",
    ),
}
"""The dimensions of each value of `DptConfig.size`. Published weights predict depth up to scale and shift."""
