r"""METER XXS (Papa et al., IEEE TCSVT 2023, arXiv 2403.08368) as a depth network of your own, with its weights.

    PYTHONPATH=experiments stadia predict meter_network:Meter drive.mp4 network.weights=meter_kitti_xxs.pt --out depth
    PYTHONPATH=experiments stadia train selfsup drive.mp4 model.network=meter_network:Meter \
        model.network.weights=meter_kitti_xxs.pt

The network is written anew from the paper and the names of the published tensors. Its unit of depth is not documented:
about 0.08 m on KITTI.
"""

# mypy: disable-error-code="has-type"

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.types import DepthScale
from stadia.networks import AffineDepthNetwork, DepthNetworkConfig, load_state_dict

CHANNELS = (16, 16, 24, 24, 48, 48, 64, 64, 80, 80, 160)
WIDTHS = (64, 80, 96)
PATCH = 2
HEADS, HEAD_WIDTH = 4, 8


class Separable(nn.Module):
    """A full 3x3 and a 1x1 convolution: the published network has no groups."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.pointwise = nn.Conv2d(out, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def normalized(convolution: nn.Module, channels: int) -> nn.Sequential:
    """Return a convolution, its batch normalization and a ReLU."""
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class PreNorm(nn.Module):
    """A layer norm before a function."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Attention(nn.Module):
    """Attention among the pixels at one place of all patches: (B, places, patches, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, places, patches, _ = x.shape
        parts = self.to_qkv(x).view(batch, places, patches, 3, HEADS, HEAD_WIDTH).permute(3, 0, 1, 4, 2, 5)
        attended = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.to_out(attended.transpose(2, 3).reshape(batch, places, patches, -1))


class FeedForward(nn.Module):
    """Two linear layers, under the published names."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Transformer(nn.Module):
    """One block of attention and of a feed-forward network."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        block = nn.ModuleList([PreNorm(width, Attention(width)), PreNorm(width, FeedForward(width, hidden))])
        self.layers = nn.ModuleList([block])

    def forward(self, x: Tensor) -> Tensor:
        for attention, feed_forward in self.layers:  # type: ignore[misc]
            x = attention(x) + x
            x = feed_forward(x) + x
        return x


class InvertedResidual(nn.Module):
    """The block of MobileNetV2."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.is_residual = stride == 1 and channels == out
        self.conv = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileVit(nn.Module):
    """Convolutions around a transformer on patches of 2x2 pixels."""

    def __init__(self, width: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = normalized(Separable(channels, channels), channels)
        self.conv2 = normalized(nn.Conv2d(channels, width, 1, bias=False), width)
        self.transformer = Transformer(width, hidden)
        self.conv3 = normalized(nn.Conv2d(width, channels, 1, bias=False), channels)
        self.conv4 = normalized(Separable(2 * channels, channels), channels)

    def forward(self, x: Tensor) -> Tensor:
        local = self.conv2(self.conv1(x))
        batch, width, height, columns = local.shape
        rows, cols = height // PATCH, columns // PATCH
        tokens = local.view(batch, width, rows, PATCH, cols, PATCH).permute(0, 3, 5, 2, 4, 1)
        tokens = self.transformer(tokens.reshape(batch, PATCH * PATCH, rows * cols, width))
        tokens = tokens.view(batch, PATCH, PATCH, rows, cols, width).permute(0, 5, 3, 1, 4, 2)
        return self.conv4(torch.cat([self.conv3(tokens.reshape(batch, width, height, columns)), x], dim=1))


class Encoder(nn.Module):
    """MobileViT XXS with one transformer block a stage; it returns the last map and those of 1/2, 1/4 and 1/8."""

    def __init__(self) -> None:
        super().__init__()
        c = CHANNELS
        self.conv1 = normalized(Separable(3, c[0], 2), c[0])
        blocks = ((0, 1, 1), (1, 2, 2), (2, 3, 1), (2, 3, 1), (3, 4, 2), (5, 6, 2), (7, 8, 2))
        self.mv2 = nn.ModuleList(InvertedResidual(c[a], c[b], stride) for a, b, stride in blocks)
        transformers = zip(WIDTHS, (c[5], c[7], c[9]), (2, 4, 4), strict=True)
        self.mvit = nn.ModuleList(MobileVit(width, channels, width * ratio) for width, channels, ratio in transformers)
        self.conv2 = normalized(nn.Conv2d(c[-2], c[-1], 1, bias=False), c[-1])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        quarter = self.mv2[1](self.mv2[0](self.conv1(x)))
        eighth = self.mv2[4](self.mv2[3](self.mv2[2](quarter)))
        sixteenth = self.mv2[5](self.mvit[0](eighth))
        last = self.mvit[2](self.mv2[6](self.mvit[1](sixteenth)))
        return self.conv2(last), [quarter, eighth, sixteenth]


class Up(nn.Module):
    """Twice the size, joined with the encoder's map."""

    def __init__(self, channels: int, skip: int, out: int) -> None:
        super().__init__()
        self.conv2d_transpose = nn.ConvTranspose2d(channels, out, 3, 2, 1, output_padding=1, bias=False)
        self.end_up_layer = nn.Sequential(Separable(out + skip, out), nn.ReLU())

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.end_up_layer(torch.cat([self.conv2d_transpose(x), skip], dim=1))


class Decoder(nn.Module):
    """Three steps up, to a quarter of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_in = nn.Conv2d(160, 64, 1, bias=False)
        self.ups_block_1, self.ups_block_2, self.ups_block_3 = Up(64, 64, 32), Up(32, 48, 16), Up(16, 24, 8)
        self.conv2d_out = nn.Conv2d(8, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.ups_block_1(self.conv2d_in(x), skips[2])
        x = self.ups_block_2(x, skips[1])
        return self.conv2d_out(self.ups_block_3(x, skips[0]))


class MeterConfig(DepthNetworkConfig):
    """METER XXS.

    weights: the published file, a state_dict; it is read as tensors alone. null: random weights.
    metres_per_unit: unit of the published depth, where you know it; null predicts depth up to scale.
    size: (height, width) of its images where no training chose one: that of the file for KITTI.
    """

    weights: str | None = None
    metres_per_unit: float | None = None
    size: tuple[int, int] = (192, 640)


class Meter(AffineDepthNetwork):
    """METER XXS: depth at a quarter of the image's size, from RGB in [0, 1]."""

    Config = MeterConfig
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    licence = "MIT"
    source = "https://arxiv.org/abs/2403.08368"
    config: MeterConfig

    def __init__(self, config: MeterConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.is_pretrained = pretrained and config.weights is not None
        self.output = DepthScale.UP_TO_SCALE if config.metres_per_unit is None else DepthScale.METRES
        self.register_scale(1 / (config.metres_per_unit or 1.0), 0.0)
        if self.is_pretrained:
            load_state_dict(self, Path(str(config.weights)), ignore=("scale", "shift"))

    @property
    def predicts_depth_at_start(self) -> bool:
        return self.is_pretrained

    @property
    def has_depth_weights(self) -> bool:
        return self.config.weights is not None

    @property
    def training_focal(self) -> float | None:
        return 721.5377 / 1242 if self.output is DepthScale.METRES else None

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return self.config.size

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def raw(self, image: Tensor) -> Tensor:
        depth = self.decoder(*self.encoder(image)).float()
        inverse_depth = 1 / depth.clamp(min=1.0)  # units; the nearest depth of KITTI is about 30
        return functional.interpolate(inverse_depth, size=image.shape[-2:], mode="bilinear", align_corners=False)
