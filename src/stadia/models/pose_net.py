"""Pose network: two images in temporal order to the camera motion and the brightness change between them.

Entries of `models.POSE_NETS` are called with (configuration, the depth network's encoder). They return a module like
`Encoder`: an image pair, concatenated along the channels, to features with `channels` and `strides`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stadia.geometry.se3 import from_rotation_translation, matrix_from_euler
from stadia.models import ACTIVATIONS, POSE_HEADS, POSE_NETS, ROTATIONS
from stadia.models.brightness import decode_brightness
from stadia.models.config import DepthAndMotionConfig
from stadia.models.encoders import Encoder
from stadia.models.pose_correlation import CorrelationPoseEncoder
from stadia.models.pose_heads import Activation


class Motion(NamedTuple):
    """From the earlier image of a pair to the later one.

    T_later_earlier: (B, 4, 4), float32.
    brightness: (B, 2) a and b, a * earlier + b matches the later image; None if the network does not predict it.
    """

    T_later_earlier: Tensor
    brightness: Tensor | None


MOMENT_SCALE = 10
"""Weights of 0.1 map the scaled moments to brightness: 100 steps from 0 at a learning rate of 1e-3."""


class PoseNet(nn.Module):
    """Encoder of image pairs and a motion head; with `config.brightness` also heads for a and b, which start at (1, 0).

    Args:
        config: its `pose_net`, `pose_head`, `rotation` and scales. Rotations are in radians, translations in meters or
            the unit of depth.
        depth_encoder: of the depth network, which a `pose_net` may share.
        size: (height, width) of the training images, for a head that requires them.
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
        """Predict the motion between (B, 3, H, W) images in temporal order.

        For `SharedPoseEncoder` the inputs are the depth network's coarsest features (B, C, h, w) of each image.
        moments: (B, 2) `compare_image_moments` of the two images, an input of the brightness.
        """
        features = self.encoder(torch.cat([earlier, later], dim=1))[-1]
        motion = self.head(features).float()
        rotation = self.rotation(self.rotation_scale * motion[:, :3])
        T_later_earlier = from_rotation_translation(rotation, self.translation_scale * motion[:, 3:])
        if self.gain is None or self.offset is None or self.from_moments is None or moments is None:
            return Motion(T_later_earlier, None)
        logits = torch.cat([self.gain(features), self.offset(features)], dim=1).float()
        logits = logits + self.from_moments(moments * (MOMENT_SCALE / self.brightness_scale)).float()
        return Motion(T_later_earlier, decode_brightness(logits, self.brightness_scale))


def resnet(config: DepthAndMotionConfig, depth_encoder: Encoder) -> Encoder:
    """A separate encoder, ResNet-18 or any timm model by `pose_encoder` (Monodepth2, arXiv 1806.01260)."""
    return Encoder(config.pose_encoder, images=2, pretrained=config.pretrained)


def d3vo(config: DepthAndMotionConfig, depth_encoder: Encoder) -> D3voPoseEncoder:
    """Seven convolutions of stride 2 on the image pair, from random weights (D3VO, arXiv 2003.01060, supplement)."""
    return D3voPoseEncoder(ACTIVATIONS.load(config.activation))


def shared(config: DepthAndMotionConfig, depth_encoder: Encoder) -> SharedPoseEncoder:
    """The depth network's encoder on each image: only the head has weights of its own."""
    return SharedPoseEncoder(depth_encoder)


def correlation(config: DepthAndMotionConfig, depth_encoder: Encoder) -> CorrelationPoseEncoder:
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


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Map (..., 3) angles in radians about the fixed axes x, y, z to (..., 3, 3) = Rz Ry Rx."""
    return matrix_from_euler(angles, "xyz")
