"""Dense prediction transformers for inverse depth (DPT, arXiv 2103.13413; Depth Anything, arXiv 2406.09414)."""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import CheckpointError, ConfigError
from stadia.models import ATTENTIONS, DPT_NETWORKS, pretrained_weights
from stadia.models.config import DptConfig, describe_attention_cost
from stadia.models.dpt_architectures import DptArchitecture, check_stride_multiples
from stadia.models.pretrained_weights import (
    UNUSED_PARAMETERS,
    WEIGHT_FILE_NAMES,
    InitialWeights,
    LoadReport,
    load_pretrained,
    resolve_weights_file,
)

MIN_INVERSE_DEPTH = 1e-8  # lower bound of the prediction in 1/m (isl-org/DPT)

_RANDOM_SCALE, _RANDOM_SHIFT, _RANDOM_START_M = 0.1, 1 / 200, 10.0


class DptNet(nn.Module):
    """A dense prediction transformer: DPT-Hybrid, DPT-Large, Depth Anything V2, or a small one.

    A vision transformer encodes image patches. Four of its stages become maps of four sizes, and a convolutional
    decoder without batch norm fuses them. `network` holds the layers of transformers under its names. The attention
    core is exchangeable (`models.ATTENTIONS`), one instance per block. Blocks after the decoder's last input are not
    run.

    The head predicts inverse depth up to scale and shift unless the weights state more; `calibrate` makes it 1/m.
    Networks without published weights end in a softplus instead of a ReLU, so that their gradient never vanishes.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor
    load_report: LoadReport | None

    def __init__(self, config: DptConfig) -> None:
        super().__init__()
        self.config = config
        self.arch: DptArchitecture = DPT_NETWORKS.load(config.network)()
        self.network = self.arch.build()
        make_core = partial(ATTENTIONS.load(config.attention.name), config.attention, self.arch.heads)
        blocks = self._body.encoder.layer
        self._body.encoder.layer = nn.ModuleList(TransformerBlock(b, self.arch.heads, make_core) for b in blocks)
        use_constant_padding(self.network)
        if self.arch.hub is None:
            self.network.head.head[-1] = nn.Softplus()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not any(fnmatchcase(name, pattern) for pattern in UNUSED_PARAMETERS))
        self.load_report = self._load()
        scale, shift = (1.0, 0.0) if self.load_report else (_RANDOM_SCALE, _RANDOM_SHIFT)
        scale, shift = scale if config.scale is None else config.scale, shift if config.shift is None else config.shift
        self.register_buffer("mean", torch.tensor(self.arch.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.arch.std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("shift", torch.tensor(shift))
        if self.load_report is None:
            self._init_random_weights(max((1 / _RANDOM_START_M - shift) / scale, 1e-3))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) RGB in [0, 1] to inverse depth in 1/m, (B, 1, H, W) float32: max(scale * raw + shift, 1e-8).

        Raises ConfigError if H or W is no multiple of `stride`.
        """
        return (self.scale * self.raw(image).float() + self.shift).clamp(min=MIN_INVERSE_DEPTH)

    def raw(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) RGB in [0, 1] to the head's output, (B, 1, H, W), at least 0, larger for nearer points."""
        height, width = image.shape[-2:]
        check_stride_multiples(self.config.network, self.stride, height=height, width=width)
        tokens, grid, features = embed_image(self._body.embeddings, (image - self.mean) / self.std, self.arch.positions)
        for index, block in enumerate(self._body.encoder.layer[: self.arch.hooks[-1] + 1]):
            tokens = block(tokens, grid)
            if index in self.arch.hooks:
                features.append(tokens if self.arch.family == "dpt" else self._body.layernorm(tokens))
        finest = self.network.neck(features, *grid)[-1]
        head = self.network.head
        if self.arch.family == "dpt":
            return head.head(finest)
        finest = functional.interpolate(head.conv1(finest), size=(height, width), mode="bilinear", align_corners=True)
        return head.activation2(head.conv3(head.activation1(head.conv2(finest))))

    @property
    def floor(self) -> Tensor:
        """Return the smallest possible inverse depth in 1/m, (); with a final ReLU it has no gradient."""
        return self.shift.clamp(min=MIN_INVERSE_DEPTH)

    @property
    def stride(self) -> int:
        """Return the divisor of valid image sides: 32, or 14 for Depth Anything."""
        return self.arch.stride

    @property
    def weights(self) -> dict[str, InitialWeights]:
        """Return the kind of initial weights; `load_report` lists each weight."""
        if self.load_report is None or self.config.weights is not None:
            return {"network": "random" if self.load_report is None else "pretrained"}
        return {"network": f"pretrained {self.arch.hub}@{Path(self.load_report.source).parent.name}"}

    def calibrate(self, scale: float, shift: float) -> None:
        """Set scale and shift to 1/m (`geometry.align` fits them). Raises ConfigError if the scale is not positive."""
        if not (math.isfinite(scale) and math.isfinite(shift) and scale > 0):
            found = f"scale {scale:g} and shift {shift:g}"
            fix = "check the unit of the ground truth"
            raise ConfigError("calibration", found=found, expected="a positive scale", fix=fix)
        self.scale.fill_(scale)
        self.shift.fill_(shift)

    def attention_cost(self, height: int, width: int) -> str:
        """Describe the attention cost per layer at this image size in one line."""
        grid = height // self.arch.patch, width // self.arch.patch
        return describe_attention_cost(self.config.attention, grid, self.arch.heads, self.arch.head_dim)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the transformer, its convolutions and its attention."""
        return [parameter for parameter in self._body.parameters() if parameter.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the decoder and the head."""
        parts = (self.network.neck, self.network.head)
        return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]

    @property
    def _body(self) -> Any:
        return self.network.dpt if self.arch.family == "dpt" else self.network.backbone

    def _load(self) -> LoadReport | None:
        config, path = self.config, find_weights_file(self.config)
        allowed = {"allow_missing": config.allow_missing, "allow_unexpected": config.allow_unexpected}
        return None if path is None else load_pretrained(self.network, path, name=config.network, **allowed)

    def _init_random_weights(self, output: float) -> None:
        """Initialize a network without pretrained weights so that it trains.

        transformers initializes for fine-tuning: equal position embeddings, and decoder weights so small that the
        signal fades. Here positions are 2D sines and cosines (arXiv 1706.03762) and the decoder keeps the signal's
        variance (He et al., arXiv 1502.01852). The head's output is near `output` everywhere, since below 0 a ReLU has
        no gradient.
        """
        neck, head, positions = self.network.neck, self.network.head, self._body.embeddings.position_embeddings
        with torch.no_grad():
            positions[:, 1:].copy_(make_sincos_positions(math.isqrt(positions.shape[1] - 1), positions.shape[2]))
        for module in (*neck.modules(), *head.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        last = head.head[-2] if self.arch.family == "dpt" else head.conv3
        nn.init.normal_(last.weight, std=1e-3)
        if self.arch.hub is None:
            output += math.log(-math.expm1(-output))  # inverse of softplus
        nn.init.constant_(last.bias, output)


def find_weights_file(config: DptConfig) -> Path | None:
    """Return the file of initial weights: the configured one, else the published one; None for a random start.

    Raises CheckpointError if it is unavailable: a hundred million random weights would not train.
    """
    if not config.pretrained:
        return None
    if config.weights is not None:
        return resolve_weights_file(Path(config.weights))
    arch: DptArchitecture = DPT_NETWORKS.load(config.network)()
    if (repository := arch.hub) is None:
        return None
    try:
        with pretrained_weights.offline_if_unreachable():
            file = pretrained_weights.download_first_file(repository, WEIGHT_FILE_NAMES, config.revision)
    except OSError as error:
        found = f"none in the cache, and {repository} is unreachable on the hub ({type(error).__name__})"
        fix = f"{pretrained_weights.describe_manual_copy(repository)}; or model.weights=FILE; or model.pretrained=false"
        what, expected = f"weights of '{config.network}'", "the published weights"
        raise CheckpointError(what, found=found, expected=expected, fix=fix) from error
    if config.revision is None:
        pretrained_weights.warn_newest_revision(repository, f"model.revision={file.parent.name}")
    return file


# -- parts added to the layers of transformers: exchangeable attention, positions for any grid, constant padding


class SelfAttention(nn.Module):
    """Self-attention from the projections of transformers, with an exchangeable core.

    Args:
        projections: to queries, keys and values, and of the output if it belongs to the same module, by name.
        core: from `models.ATTENTIONS`, for this block only.
    """

    def __init__(self, projections: dict[str, nn.Module], heads: int, core: nn.Module) -> None:
        super().__init__()
        for name, projection in projections.items():
            self.add_module(name, projection)
        names = tuple(projections)
        self._qkv, self._output = names[:3], names[3:]
        self.heads, self.core = heads, core

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (B, N, D) tokens, the last of which form `grid` (height, width), to (B, N, D)."""
        shape = (*tokens.shape[:2], self.heads, -1)
        q, k, v = (getattr(self, name)(tokens).view(shape).transpose(1, 2) for name in self._qkv)
        tokens = self.core(q, k, v, grid).transpose(1, 2).flatten(2)
        for name in self._output:
            tokens = getattr(self, name)(tokens)
        return tokens


class TransformerBlock(nn.Module):
    """Run the layers of a block of DPT's ViT or of DINOv2, with the token grid for its attention.

    The blocks of transformers pass other arguments to their attention in each version, and DINOv2's projections have
    other names before version 5. Here all versions have the names of version 5, so that checkpoints fit each of them.

    Args:
        block: of transformers; its layers move here.
        make_core: `make_core(head_dim)` creates the attention core of this block.
    """

    def __init__(self, block: Any, heads: int, make_core: Callable[[int], nn.Module]) -> None:
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        holder: Any = block.attention
        inner = getattr(holder, "attention", holder)
        projections = {name: getattr(inner, name) for name in ("query", "key", "value") if hasattr(inner, name)}
        self._is_dinov2 = hasattr(block, "layer_scale1")
        if self._is_dinov2:
            layers = (*projections.values(), holder.output.dense) if projections else tuple(inner.children())
            projections = dict(zip(("q_proj", "k_proj", "v_proj", "o_proj"), layers, strict=True))
        head_dim: int = next(iter(projections.values())).out_features // heads
        attention = SelfAttention(projections, heads, make_core(head_dim))
        if self._is_dinov2:
            self.attention: Any = attention
        else:  # the output projection is a separate module
            self.attention.attention = attention

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        layers: Any = self
        if self._is_dinov2:
            update = layers.layer_scale1(self.attention(layers.norm1(tokens), grid))
            tokens = layers.drop_path(update) + tokens
            return layers.drop_path(layers.layer_scale2(layers.mlp(layers.norm2(tokens)))) + tokens
        normalized = layers.layernorm_before(tokens)
        tokens = self.attention.output(self.attention.attention(normalized, grid), normalized) + tokens
        return layers.output(layers.intermediate(layers.layernorm_after(tokens)), tokens)


def resize_position_embeddings(
    positions: Tensor, grid: tuple[int, int], mode: Literal["bilinear", "bicubic"]
) -> Tensor:
    """Resize position embeddings (1, 1 + n * n, D) to another grid: (1, 1 + height * width, D).

    The class token's embedding, the first, stays. The square grid is resized with align_corners=False, so that the
    training grid returns the embeddings unchanged.
    """
    side = math.isqrt(positions.shape[1] - 1)
    token, places = positions[:, :1], positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    places = functional.interpolate(places.float(), size=grid, mode=mode, align_corners=False).to(positions.dtype)
    return torch.cat((token, places.flatten(2).transpose(1, 2)), dim=1)


def embed_image(
    embeddings: Any, image: Tensor, mode: Literal["bilinear", "bicubic"]
) -> tuple[Tensor, tuple[int, int], list[Tensor]]:
    """Embed an image (B, 3, H, W). Returns tokens (B, 1 + N, D), their grid, and a hybrid's maps at 1/4 and 1/8."""
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
    return tokens + resize_position_embeddings(embeddings.position_embeddings, grid, mode), grid, early


def use_constant_padding(network: nn.Module) -> None:
    """Replace size-dependent "SAME" padding by constant padding, which is equal for even sides.

    Image sides are multiples of the stride, so every map that is halved has even sides. An export then has no
    conditions on the size.
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
    """Return (side * side, width): sines and cosines of each position's row, then of its column."""
    quarter = width // 4
    rates = 1.0 / 10_000 ** (torch.arange(quarter) / quarter)
    angles = torch.arange(side)[:, None] * rates
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)  # (side, width / 2)
    return torch.cat((waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)), dim=2).flatten(0, 1)
