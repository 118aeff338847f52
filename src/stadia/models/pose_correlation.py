"""Pose encoder on correlations of small neighborhoods, so that matching need not be learned.

On little data a plain encoder of image pairs memorizes the scenes instead (`experiments/pose_speeds.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.models.pose_heads import Activation


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
