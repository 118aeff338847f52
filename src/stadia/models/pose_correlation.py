"""A pose network that is shown how the image moved: correlations of small neighborhoods, before anything is learnt of
motion.

A plain encoder on two images has to invent matching, and on little data it learns the worlds by sight instead
(`experiments/ pose_speeds.py`). Here matching is given and only what to make of it is learnt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.models.pose_heads import Activation


def correlation_volume(one: Tensor, other: Tensor, reach: int) -> Tensor:
    """How alike each pixel is to the other image's around it, (B, (2 reach + 1)^2, h, w), from features (B, C, h, w) of
    both.

    Row by row, dx fastest: channel (dy + reach) (2 reach + 1) + dx + reach holds one(x, y) . other(x + dx, y + dy), 0
        beyond the edge
    (the correlation layer of FlowNet, arXiv 1504.06852, eq. 1, with a neighborhood of one pixel).
    """
    height, width = one.shape[-2:]
    around = F.pad(other, (reach, reach, reach, reach))
    shifts = [(dy, dx) for dy in range(2 * reach + 1) for dx in range(2 * reach + 1)]
    return torch.stack([(one * around[..., dy : dy + height, dx : dx + width]).sum(1) for dy, dx in shifts], dim=1)


def expected_shift(alike: Tensor, reach: int) -> Tensor:
    """The shift (B, 2, h, w), dx and dy in pixels, that a volume of likelihoods (B, (2 reach + 1)^2, h, w) says on
    average.
    """
    steps = torch.arange(-reach, reach + 1, dtype=alike.dtype, device=alike.device)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return torch.einsum("bnhw,cn->bchw", alike, torch.stack([dx.flatten(), dy.flatten()]))


class Correlation(nn.Module):
    """(B, 6, H, W) RGB in [0, 1] to (B, 128, H / 32, W / 32), sides rounded up; normalized inside.

    Both images' features at a quarter of the size are correlated within four of their pixels, so 16 of the image's.
    What follows sees the correlations, the shift that they say, where in the image it is, and the features of the
    first.
    """

    REACH, FEATURES = 4, 16
    MEAN, STD = 0.45, 0.225
    SHARPNESS = 10.0
    """Of the likelihood at the start: features that are alike weigh exp(10) times as much as features that are at right
    angles.
    """

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
        alike = correlation_volume(earlier, later, self.REACH)
        shift = expected_shift((self.sharpness * alike).softmax(1), self.REACH)
        return [self.layers(torch.cat([alike, shift, _places(earlier), earlier], dim=1))]

    def _directions(self, image: Tensor) -> Tensor:
        """Unit vectors (B, C, h, w): what differs from the image's mean, so that a change of brightness is no match by
        itself.
        """
        features = self.features(image)
        return F.normalize(features - features.mean((-2, -1), keepdim=True), dim=1)


def _places(like: Tensor) -> Tensor:
    """(B, 2, h, w): x and y from -1 to 1 over the image."""
    height, width = like.shape[-2:]
    x = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device).expand(height, width)
    y = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)[:, None].expand(height, width)
    return torch.stack([x, y]).expand(len(like), 2, height, width)
