"""Dense prediction transformers for inverse depth (DPT, arXiv 2103.13413; Depth Anything, arXiv 2406.09414)."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import CheckpointError, ConfigError
from stadia.models import ATTENTIONS, DPT_NETWORKS, hub
from stadia.models.attention_cost import describe_attention_cost
from stadia.models.config import DptConfig
from stadia.models.dpt.architectures import DptArchitecture, check_image_size, check_transformers_installed
from stadia.models.dpt.pretrained_weights import (
    UNUSED_PARAMETERS,
    WEIGHT_FILE_NAMES,
    LoadReport,
    load_pretrained,
    resolve_weights_file,
)
from stadia.models.dpt.vit_blocks import TransformerBlock, embed_image, init_random_weights, use_constant_padding

MIN_INVERSE_DEPTH = 1e-8
"""Lower bound of the prediction in 1/m (isl-org/DPT)."""

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
        check_image_size(self.config.network, self.stride, height=height, width=width)
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
    def weights(self) -> dict[str, hub.InitialWeights]:
        """Return the kind of initial weights; `load_report` lists each weight."""
        return {"network": "pretrained" if self.load_report else "random"}

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
        arch, patch = self.arch, self.arch.patch
        grid = height // patch, width // patch
        return describe_attention_cost(self.config.attention, grid, arch.heads, arch.head_dim)

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
        """Initialize the network so that the head's output is about `output` everywhere."""
        head, embeddings = self.network.head, self._body.embeddings
        if self.arch.hub is None:
            output += math.log(-math.expm1(-output))  # inverse of softplus
        last = head.head[-2] if self.arch.family == "dpt" else head.conv3
        init_random_weights(self.network, embeddings, last, output)


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
        with hub.offline_if_unreachable():
            return hub.download_first_file(repository, WEIGHT_FILE_NAMES)
    except OSError as error:
        found = f"none in the cache, and {repository} is unreachable on the hub ({type(error).__name__})"
        fix = f"{hub.describe_manual_copy(repository)}; or model.weights=FILE; or model.pretrained=false"
        what, expected = f"weights of '{config.network}'", "the published weights"
        raise CheckpointError(what, found=found, expected=expected, fix=fix) from error


def check_dpt_network(name: str, *, height: int, width: int) -> None:
    """Raise ConfigError for an unknown network, an invalid image size, or missing transformers. Builds nothing."""
    arch: DptArchitecture = DPT_NETWORKS.load(name)()
    check_image_size(name, arch.stride, height=height, width=width)
    check_transformers_installed()
