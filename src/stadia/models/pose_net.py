"""Pose network with its heads: two images in temporal order to the camera motion and the brightness change between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.geometry.se3 import from_rotation_translation, matrix_from_euler
from stadia.models import ACTIVATIONS, POSE_HEADS, POSE_NETS, ROTATIONS
from stadia.models.config import DepthPoseNetConfig
from stadia.models.encoders import Encoder
from stadia.models.pose_encoders import Activation

# -- Heads of the pose network: features of an image pair (B, C, h, w) to numbers (B, outputs).
#
# Entries of `models.POSE_HEADS` are called with (channels, outputs, activation, grid). They return an `nn.Sequential`
# whose last layer holds the outputs' weights and bias, so that an output can start at 0. `activation` creates the
# layers between convolutions. `grid` is (h, w) at the training size, or None; only `LinearHead` requires it.
Grid = tuple[int, int]


class PoolHead(nn.Sequential):
    """Global average pooling and one linear layer, for any image size (D3VO, arXiv 2003.01060, supplement)."""

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        super().__init__(nn.Linear(channels, outputs))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = super().forward(x.mean(dim=(2, 3)))  # type: ignore[no-untyped-call]
        return output


class ConvHead(nn.Sequential):
    """Four convolutions and global average pooling, for any image size (Monodepth2, arXiv 1806.01260)."""

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        super().__init__(
            nn.Conv2d(channels, 256, 1),
            activation(),
            nn.Conv2d(256, 256, 3, padding=1),
            activation(),
            nn.Conv2d(256, 256, 3, padding=1),
            activation(),
            nn.Conv2d(256, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return output.mean(dim=(2, 3))


class LinearHead(nn.Sequential):
    """One linear layer over all pixels of the map, for the training image size only.

    Raises ConfigError if that size is unknown, or for an input of another size.
    """

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        if grid is None:
            raise ConfigError(
                "pose_head 'linear'",
                found="no image size",
                expected="the training's",
                fix="pass it, or take 'pool' or 'convolution'",
            )
        super().__init__(nn.Flatten(), nn.Linear(channels * grid[0] * grid[1], outputs))
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        if (found := tuple(x.shape[-2:])) != self.grid:
            raise ConfigError(
                "image size for pose_head 'linear'",
                found=f"a map of {found[1]}x{found[0]}",
                expected=f"{self.grid[1]}x{self.grid[0]}, that of the training's images",
                fix="keep the training's size, or train with 'pool' or 'convolution'",
            )
        output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return output


# -- Affine brightness between two images: gain a and offset b, a * first + b matches the second (D3VO, arXiv 2003.01060).
#
# Predictions are bounded, so neither image can be faded out. They are closed under inversion: swapping the images
# negates the logits. With b = sqrt(a) c, the inverse (1/a, -b/a) has -log a and -c.

MAX_GAIN = 2.0
"""a lies between 1/2 and 2: one stop of exposure."""

MAX_OFFSET = 0.5
"""b lies between -1/2 and 1/2 for any a, with images in [0, 1]."""

MIN_IMAGE_STD = 1 / 255
"""Standard deviation below which an image in [0, 1] counts as uniform: one 8-bit step."""


def compare_image_moments(earlier: Tensor, later: Tensor) -> Tensor:
    """Return (B, 2) log a and c that give the earlier images (B, 3, H, W) the later ones' mean and standard deviation.

    Images of mostly the same scene differ in both mainly by exposure, so this is close to the target of training. It
    is only evidence, because new content also changes both. Swapping the images negates it. Uniform images have no
    contrast to compare: their gain is 1.
    """
    (mean, spread), (mean_later, spread_later) = (
        (x.mean(dim=(1, 2, 3)), x.std(dim=(1, 2, 3))) for x in (earlier.float(), later.float())
    )
    flat = torch.minimum(spread, spread_later) < MIN_IMAGE_STD
    log_gain = (spread_later.clamp(min=MIN_IMAGE_STD) / spread.clamp(min=MIN_IMAGE_STD)).log().masked_fill(flat, 0)
    half = (log_gain / 2).exp()
    return torch.stack((log_gain, mean_later / half - mean * half), dim=-1)


def decode_brightness(logits: Tensor, scale: float) -> Tensor:
    """Map (..., 2) logits of gain and offset to (..., 2) brightness (a, b); zeros give exactly (1, 0).

    scale: slope of log a, and of b, at logit 0.
    """
    log_gain, offset = (
        bound * torch.tanh(logits[..., i] * (scale / bound))
        for i, bound in enumerate((math.log(MAX_GAIN), MAX_OFFSET / math.sqrt(MAX_GAIN)))
    )
    return torch.stack((log_gain.exp(), (log_gain / 2).exp() * offset), dim=-1)


# -- Pose network: two images in temporal order to the camera motion and the brightness change between them.
#
# Entries of `models.POSE_NETS` are called with (configuration, the depth network's encoder). They return a module like
# `Encoder`: an image pair, concatenated along the channels, to features with `channels` and `strides`.


class PairMotion(NamedTuple):
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
        self, config: DepthPoseNetConfig, depth_encoder: Encoder, *, size: tuple[int, int] | None = None
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

    def forward(self, earlier: Tensor, later: Tensor, moments: Tensor | None = None) -> PairMotion:
        """Predict the motion between (B, 3, H, W) images in temporal order.

        For `SharedPoseEncoder` the inputs are the depth network's coarsest features (B, C, h, w) of each image.
        moments: (B, 2) `compare_image_moments` of the two images, an input of the brightness.
        """
        features = self.encoder(torch.cat([earlier, later], dim=1))[-1]
        motion = self.head(features).float()
        rotation = self.rotation(self.rotation_scale * motion[:, :3])
        T_later_earlier = from_rotation_translation(rotation, self.translation_scale * motion[:, 3:])
        if self.gain is None or self.offset is None or self.from_moments is None or moments is None:
            return PairMotion(T_later_earlier, None)
        logits = torch.cat([self.gain(features), self.offset(features)], dim=1).float()
        logits = logits + self.from_moments(moments * (MOMENT_SCALE / self.brightness_scale)).float()
        return PairMotion(T_later_earlier, decode_brightness(logits, self.brightness_scale))


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Map (..., 3) angles in radians about the fixed axes x, y, z to (..., 3, 3) = Rz Ry Rx."""
    return matrix_from_euler(angles, "xyz")
