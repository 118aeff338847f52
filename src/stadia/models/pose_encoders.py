"""Encoders of image pairs for the pose network (`models.POSE_NETS`): ResNet, D3VO, shared with depth, correlation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.models import ACTIVATIONS
from stadia.models.config import DepthPoseNetConfig
from stadia.models.encoders import Encoder


def compute_correlation_volume(one: Tensor, other: Tensor, reach: int) -> Tensor:
    """Correlate features (B, C, h, w) of two images within `reach` pixels: (B, (2 reach + 1)^2, h, w).

    Row by row, dx fastest: channel (dy + reach) (2 reach + 1) + dx + reach is one(x, y) . other(x + dx, y + dy), and 0
    outside the image (the correlation layer of FlowNet, arXiv 1504.06852, eq. 1, with a neighborhood of one pixel).
    """
    height, width = one.shape[-2:]
    around = F.pad(other, (reach, reach, reach, reach))
    shifts = [(dy, dx) for dy in range(2 * reach + 1) for dx in range(2 * reach + 1)]
    return torch.stack([(one * around[..., dy : dy + height, dx : dx + width]).sum(1) for dy, dx in shifts], dim=1)


def compute_expected_shift(alike: Tensor, reach: int) -> Tensor:
    """Return the mean shift (B, 2, h, w), dx and dy in pixels, of likelihoods (B, (2 reach + 1)^2, h, w)."""
    steps = torch.arange(-reach, reach + 1, dtype=alike.dtype, device=alike.device)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return torch.einsum("bnhw,cn->bchw", alike, torch.stack([dx.flatten(), dy.flatten()]))


class CorrelationPoseEncoder(nn.Module):
    """Map (B, 6, H, W) RGB in [0, 1] to (B, 128, H / 32, W / 32), sides rounded up; normalizes inside.

    Features at 1/4 size are correlated within 4 of their pixels, which are 16 of the image. The next layers receive the
    correlations, the expected shift, the image coordinates, and the features of the first image.
    """

    REACH, FEATURES = 4, 16
    MEAN, STD = 0.45, 0.225
    SHARPNESS = 10.0
    """Initial softmax sharpness: equal features weigh exp(10) times as much as orthogonal ones."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        few, shifts = self.FEATURES, (2 * self.REACH + 1) ** 2
        self.features = nn.Sequential(
            nn.Conv2d(3, few, 5, stride=2, padding=2),
            activation(),
            nn.Conv2d(few, few, 3, stride=2, padding=1),
            activation(),
            nn.Conv2d(few, few, 3, padding=1),
        )
        self.sharpness = nn.Parameter(torch.tensor(self.SHARPNESS))
        layers: list[nn.Module] = [nn.Conv2d(shifts + 4 + few, 64, 1), activation()]
        for inputs, outputs in ((64, 64), (64, 128), (128, 128)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), activation()]
        self.layers = nn.Sequential(*layers)
        self.channels, self.strides = [128], [32]

    def forward(self, pair: Tensor) -> list[Tensor]:
        earlier, later = (self._directions((image - self.MEAN) / self.STD) for image in (pair[:, :3], pair[:, 3:]))
        alike = compute_correlation_volume(earlier, later, self.REACH)
        shift = compute_expected_shift((self.sharpness * alike).softmax(1), self.REACH)
        return [self.layers(torch.cat([alike, shift, _places(earlier), earlier], dim=1))]

    def _directions(self, image: Tensor) -> Tensor:
        """Return unit features (B, C, h, w) minus the image mean, so that brightness alone is no match."""
        features = self.features(image)
        return F.normalize(features - features.mean((-2, -1), keepdim=True), dim=1)


def _places(like: Tensor) -> Tensor:
    """Return (B, 2, h, w): x and y from -1 to 1 over the image."""
    height, width = like.shape[-2:]
    x = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device).expand(height, width)
    y = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)[:, None].expand(height, width)
    return torch.stack([x, y]).expand(len(like), 2, height, width)


def make_resnet_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder) -> Encoder:
    """A separate encoder, ResNet-18 or any timm model by `pose_encoder` (Monodepth2, arXiv 1806.01260)."""
    return Encoder(config.pose_encoder, images=2, pretrained=config.pretrained)


def make_d3vo_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder) -> D3voPoseEncoder:
    """Seven convolutions of stride 2 on the image pair, from random weights (D3VO, arXiv 2003.01060, supplement)."""
    return D3voPoseEncoder(ACTIVATIONS.load(config.activation))


def make_shared_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder) -> SharedPoseEncoder:
    """The depth network's encoder on each image: only the head has weights of its own."""
    return SharedPoseEncoder(depth_encoder)


def make_correlation_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder) -> CorrelationPoseEncoder:
    """Small networks on feature correlations of the image pair: from random weights the best choice for little data."""
    return CorrelationPoseEncoder(ACTIVATIONS.load(config.activation))


class D3voPoseEncoder(nn.Module):
    """Map (B, 6, H, W) RGB in [0, 1] to (B, 1024, H / 128, W / 128), sides rounded up; normalizes inside.

    SfMLearner's pose network (arXiv 1704.07813) widened to D3VO's 1024 channels; the first kernels are 7 and 5 wide.
    """

    CHANNELS = (16, 32, 64, 128, 256, 512, 1024)
    KERNELS = (7, 5, 3, 3, 3, 3, 3)
    MEAN, STD = 0.45, 0.225

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel in zip((6, *self.CHANNELS), self.CHANNELS, self.KERNELS, strict=False):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2), activation()]
        self.layers = nn.Sequential(*layers)
        self.channels, self.strides = [self.CHANNELS[-1]], [2 ** len(self.CHANNELS)]

    def forward(self, pair: Tensor) -> list[Tensor]:
        return [self.layers((pair - self.MEAN) / self.STD)]


class SharedPoseEncoder(nn.Module):
    """Return the coarsest features of both images unchanged: (B, 2 C, h, w)."""

    def __init__(self, depth_encoder: Encoder) -> None:
        super().__init__()
        self.channels, self.strides = [2 * depth_encoder.channels[-1]], depth_encoder.strides[-1:]

    def forward(self, pair: Tensor) -> list[Tensor]:
        return [pair]


Activation = Callable[[], nn.Module]
