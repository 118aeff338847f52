"""Dense prediction transformers (DPT, arXiv 2103.13413; Depth Anything, arXiv 2406.09414): an image to inverse depth in
1/m.
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import CheckpointError, ConfigError
from stadia.models import ATTENTIONS, NETWORKS, hub
from stadia.models.attention_cost import cost_line
from stadia.models.dpt_blocks import embed, install_attention, pad_alike, start_at_random
from stadia.models.dpt_config import DptConfig
from stadia.models.dpt_networks import Network, check_installed, check_size
from stadia.models.dpt_weights import FILES, NEVER_USED, LoadReport, load, weights_file

SMALLEST = 1e-8
"""Inverse depth in 1/m, what a network answers at least (isl-org/DPT)."""

_RANDOM_SCALE, _RANDOM_SHIFT, _RANDOM_START_M = 0.1, 1 / 200, 10.0


class Dpt(nn.Module):
    """A dense prediction transformer: DPT-Hybrid, DPT-Large, Depth Anything V2, and small ones.

    A vision transformer sees the image in patches; four of its stages become maps of four sizes, which a convolutional
    decoder without batch norm joins. The layers are those of transformers, under its names (`network`); attention is a
    part (`models.ATTENTIONS`), one instance a block. Blocks behind the last one that the decoder sees are not run.

    What the head answers is inverse depth up to scale and shift where weights say nothing else; `calibrate` makes it
    1/m. A network without published weights ends in a softplus where the others end in a ReLU: it is never without a
    slope.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor
    load_report: LoadReport | None

    def __init__(self, config: DptConfig) -> None:
        super().__init__()
        self.config = config
        self.facts: Network = NETWORKS.load(config.network)()
        self.network = self.facts.build()
        install_attention(
            self._body.encoder.layer,
            self.facts.heads,
            lambda head_dim: ATTENTIONS.load(config.attention.name)(config.attention, self.facts.heads, head_dim),
        )
        pad_alike(self.network)
        if self.facts.hub is None:
            self.network.head.head[-1] = nn.Softplus()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not any(fnmatchcase(name, pattern) for pattern in NEVER_USED))
        self.load_report = self._load()
        scale, shift = (1.0, 0.0) if self.load_report else (_RANDOM_SCALE, _RANDOM_SHIFT)
        scale, shift = scale if config.scale is None else config.scale, shift if config.shift is None else config.shift
        self.register_buffer("mean", torch.tensor(self.facts.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.facts.std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("shift", torch.tensor(shift))
        if self.load_report is None:
            self._start_at_random(max((1 / _RANDOM_START_M - shift) / scale, 1e-3))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] to inverse depth in 1/m, (B, 1, H, W) float32: max(scale * raw + shift, 1e-8).

        Raises ConfigError where H or W is no multiple of `stride`.
        """
        return (self.scale * self.raw(image).float() + self.shift).clamp(min=SMALLEST)

    def raw(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] to what the head answers, (B, 1, H, W), at least 0, larger for what is nearer."""
        height, width = image.shape[-2:]
        check_size(self.config.network, self.stride, height=height, width=width)
        tokens, grid, features = embed(self._body.embeddings, (image - self.mean) / self.std, self.facts.positions)
        for index, block in enumerate(self._body.encoder.layer[: self.facts.hooks[-1] + 1]):
            tokens = block(tokens, grid=grid)
            if index in self.facts.hooks:
                features.append(tokens if self.facts.family == "dpt" else self._body.layernorm(tokens))
        finest = self.network.neck(features, *grid)[-1]
        head = self.network.head
        if self.facts.family == "dpt":
            return head.head(finest)
        finest = functional.interpolate(head.conv1(finest), size=(height, width), mode="bilinear", align_corners=True)
        return head.activation2(head.conv3(head.activation1(head.conv2(finest))))

    @property
    def floor(self) -> Tensor:
        """(), the least inverse depth in 1/m that it can answer. A network that ends in a ReLU has no slope there."""
        return self.shift.clamp(min=SMALLEST)

    @property
    def stride(self) -> int:
        """The sides of an image are multiples of it: 32, and 14 for Depth Anything."""
        return self.facts.stride

    @property
    def weights(self) -> dict[str, hub.Weights]:
        """What the network started from; `load_report` tells what became of each weight."""
        return {"network": "pretrained" if self.load_report else "random"}

    def calibrate(self, scale: float, shift: float) -> None:
        """Set what turns the head's answers into 1/m (`geometry.align` fits both). Raises ConfigError where nearer
        would be farther.
        """
        if not (math.isfinite(scale) and math.isfinite(shift) and scale > 0):
            found = f"scale {scale:g} and shift {shift:g}"
            raise ConfigError(
                "calibration", found=found, expected="a positive scale", fix="check the unit of the ground truth"
            )
        self.scale.fill_(scale)
        self.shift.fill_(shift)

    def attention_cost(self, height: int, width: int) -> str:
        """One line: what a layer's attention costs on images of this size, against exact attention."""
        facts = self.facts
        return cost_line(
            self.config.attention, (height // facts.patch, width // facts.patch), facts.heads, facts.head_dim
        )

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The transformer's, and those of its convolutions and attention: what pretraining has taught most."""
        return [parameter for parameter in self._body.parameters() if parameter.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        """The decoder's and the head's."""
        parts = (self.network.neck, self.network.head)
        return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]

    @property
    def _body(self) -> Any:
        return self.network.dpt if self.facts.family == "dpt" else self.network.backbone

    def _load(self) -> LoadReport | None:
        config, path = self.config, find_weights(self.config)
        allowed = {"allow_initialized": config.allow_initialized, "allow_left_over": config.allow_left_over}
        return None if path is None else load(self.network, path, name=config.network, **allowed)

    def _start_at_random(self, answer: float) -> None:
        """A start from which the head answers about so everywhere."""
        head = self.network.head
        if self.facts.hub is None:
            answer += math.log(-math.expm1(-answer))  # what softplus makes the answer of
        start_at_random(
            self.network, self._body.embeddings, head.head[-2] if self.facts.family == "dpt" else head.conv3, answer
        )


def find_weights(config: DptConfig) -> Path | None:
    """The file of weights that a network starts from: the one that is named, else the published ones; None where it
    starts at random.

    Raises CheckpointError where they cannot be had: a hundred million weights at random are not what was asked for.
    """
    if not config.pretrained:
        return None
    if config.weights is not None:
        return weights_file(Path(config.weights))
    facts: Network = NETWORKS.load(config.network)()
    if (repository := facts.hub) is None:
        return None
    try:
        with hub.asked_where_reachable():
            return hub.fetch(repository, FILES)
    except OSError as error:
        raise CheckpointError(
            f"weights of '{config.network}'",
            found=f"none in the cache, and no way to {repository} on the hub ({type(error).__name__})",
            expected="the published weights",
            fix=f"{hub.how_to_copy(repository)}; or model.weights=FILE; or model.pretrained=false to start at random",
        ) from error


def check_network(name: str, *, height: int, width: int) -> None:
    """Raise ConfigError for a network that nobody knows, a size that does not suit it, or where transformers is
    missing. Builds nothing.
    """
    facts: Network = NETWORKS.load(name)()
    check_size(name, facts.stride, height=height, width=width)
    check_installed()
