"""The pose network: two images in order of time to the camera's motion and the change of brightness between them.

A row of `models.POSE_NETS` makes what compares the two. It is called with (configuration, the depth network's encoder)
and gives a
module as `Encoder` is: the pair along the channels to features, with their `channels` and `strides`, of which the
coarsest count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stadia.geometry.se3 import from_rotation_translation, matrix_from_euler
from stadia.models import ACTIVATIONS, POSE_HEADS, POSE_NETS, ROTATIONS
from stadia.models.brightness import brightness_from_logits
from stadia.models.config import DepthAndMotionConfig
from stadia.models.encoders import Encoder
from stadia.models.pose_correlation import Correlation
from stadia.models.pose_heads import Activation


class Motion(NamedTuple):
    """From the earlier image of a pair to the later.

    T_later_earlier: (B, 4, 4), float32.
    brightness: (B, 2) a and b, a * earlier + b being as bright as the later; None where the network does not say it.
    """

    T_later_earlier: Tensor
    brightness: Tensor | None


MOMENTS_AT = 10
"""Weights of the moments that say brightness all by themselves are 1 over this: at a rate of 1e-3 a hundred steps away
from 0.
"""


class PoseNet(nn.Module):
    """What compares two images, and a head for the motion; with `config.brightness` one for a and one for b, which
    start at (1, 0).

    Args:
        config: its `pose_net`, `pose_head`, `rotation` and scales: axis-angle or Euler angles in radians, metres or the
            depth's unit.
        depth_encoder: of the depth network, which a `pose_net` may share.
        size: (height, width) of the training's images, for a head that is bound to them.
    """

    def __init__(
        self, config: DepthAndMotionConfig, depth_encoder: Encoder, *, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.encoder = POSE_NETS.load(config.pose_net)(config, depth_encoder)
        head, stride = POSE_HEADS.load(config.pose_head), self.encoder.strides[-1]
        grid = size and (-(-size[0] // stride), -(-size[1] // stride))
        like = (ACTIVATIONS.load(config.activation), grid)
        self.head = head(self.encoder.channels[-1], 6, *like)
        self.gain, self.offset = (
            head(self.encoder.channels[-1], 1, *like) if config.brightness else None for _ in range(2)
        )
        for each in filter(None, (self.gain, self.offset)):
            nn.init.zeros_(each[-1].weight)
            nn.init.zeros_(each[-1].bias)
        self.from_moments = nn.Linear(2, 2, bias=False) if config.brightness else None
        if self.from_moments is not None:
            nn.init.zeros_(self.from_moments.weight)
        self.rotation: Callable[[Tensor], Tensor] = ROTATIONS.load(config.rotation)
        self.rotation_scale, self.translation_scale = config.rotation_scale, config.translation_scale
        self.brightness_scale = config.brightness_scale

    def forward(self, earlier: Tensor, later: Tensor, moments: Tensor | None = None) -> Motion:
        """(B, 3, H, W) twice, in order of time; of `Shared` (B, C, h, w), the depth network's coarsest features of
        each.

        moments: (B, 2) `change_of_moments` of the two images, which brightness is said with.
        """
        features = self.encoder(torch.cat([earlier, later], dim=1))[-1]
        motion = self.head(features).float()
        rotation = self.rotation(self.rotation_scale * motion[:, :3])
        T_later_earlier = from_rotation_translation(rotation, self.translation_scale * motion[:, 3:])
        if self.gain is None or self.offset is None or self.from_moments is None or moments is None:
            return Motion(T_later_earlier, None)
        logits = torch.cat([self.gain(features), self.offset(features)], dim=1).float()
        logits = logits + self.from_moments(moments * (MOMENTS_AT / self.brightness_scale)).float()
        return Motion(T_later_earlier, brightness_from_logits(logits, self.brightness_scale))


def resnet(config: DepthAndMotionConfig, depth_encoder: Encoder) -> Encoder:
    """An encoder of its own on the two images, a ResNet-18 or any of timm's by `pose_encoder` (Monodepth2, arXiv
    1806.01260).
    """
    return Encoder(config.pose_encoder, images=2, pretrained=config.pretrained)


def d3vo(config: DepthAndMotionConfig, depth_encoder: Encoder) -> SevenConvolutions:
    """Seven convolutions of stride 2 on the two images, from random weights (D3VO, arXiv 2003.01060, supplement)."""
    return SevenConvolutions(ACTIVATIONS.load(config.activation))


def shared(config: DepthAndMotionConfig, depth_encoder: Encoder) -> Shared:
    """The depth network's encoder on each image: one encoder for both jobs, and no weights of its own but the head's."""
    return Shared(depth_encoder)


def correlation(config: DepthAndMotionConfig, depth_encoder: Encoder) -> Correlation:
    """Small networks on what the images' features correlate to: from random weights and little data the one that sees
    motion.
    """
    return Correlation(ACTIVATIONS.load(config.activation))


class SevenConvolutions(nn.Module):
    """(B, 6, H, W) RGB in [0, 1] to (B, 1024, H / 128, W / 128), sides rounded up; normalized inside.

    SfMLearner's pose network (arXiv 1704.07813) widened to D3VO's 1024 channels: the first kernels are 7 and 5 wide.
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


class Shared(nn.Module):
    """The coarsest features of both images as they are: (B, 2 C, h, w)."""

    def __init__(self, depth_encoder: Encoder) -> None:
        super().__init__()
        self.channels, self.strides = [2 * depth_encoder.channels[-1]], depth_encoder.strides[-1:]

    def forward(self, pair: Tensor) -> list[Tensor]:
        return [pair]


def euler_xyz(angles: Tensor) -> Tensor:
    """(..., 3) angles about the fixed axes x, y, z, in radians, to (..., 3, 3) = Rz Ry Rx."""
    return matrix_from_euler(angles, "xyz")
