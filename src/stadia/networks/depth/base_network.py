"""The depth network `base`: a small U-Net with packaged weights, trained on rendered worlds only.

docs/reference/base-network.md gives its scores and limits.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stadia.core.types import DepthScale
from stadia.networks.depth.config import BaseConfig
from stadia.networks.depth.depth_network import list_trainable
from stadia.networks.depth.unet import SharpDecoder, Unet
from stadia.networks.encoders import load_base_weights
from stadia.networks.pretrained_weights import InitialWeights

FAMILIAR_FILE = Path(__file__).with_name("base_familiar.safetensors")
"""Mean features of photos whose metres were measured, and of other images (experiments/familiar_photos.py)."""

STANDARD_LIMIT = 4.0
"""Standardized features are clamped to this absolute value."""

TRAINED_PIXELS = 384 * 288
"""Number of pixels of the images on which the network was trained. It predicts best at about this size."""

REAL_ERROR = 0.25
"""Mean relative depth error in metres over the real samples of docs/reference/base-network.md."""

INTERVAL_IN_METRES, INTERVAL_WITH_A_LENGTH = 4.0, 1.9
"""Numbers of predicted uncertainties within which ln z of 90 % of the pixels agrees with the truth.

The second number holds if a known length gave the scale.
"""


def find_depth_interval(
    depth_m: NDArray[np.floating], log_uncertainty: NDArray[np.floating], spread: float = INTERVAL_IN_METRES
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the lower and upper ends (H, W) of the 90 % interval of each pixel's depth, in the unit of the depth.

    The spread was measured on real recordings (docs/reference/base-network.md).

    depth_m: (H, W) predicted depth.
    log_uncertainty: (H, W) predicted log uncertainty.
    spread: `INTERVAL_IN_METRES`, or `INTERVAL_WITH_A_LENGTH` if a known length scaled the depth.

    Example:
        >>> near, far = find_depth_interval(np.array([[2.0]]), np.log([[0.1]]))
        >>> float(near[0, 0].round(2)), float(far[0, 0].round(2))
        (1.34, 2.98)
    """
    factor = np.exp(spread * np.exp(log_uncertainty))
    return depth_m / factor, depth_m * factor


def pool_features(features: Sequence[Tensor]) -> Tensor:
    """Return the spatial means (B, C) of the encoder's two coarsest features (B, C_i, h, w), concatenated."""
    return torch.cat([feature.mean((-2, -1)) for feature in features[-2:]], dim=1)


class BaseNetwork(Unet):
    """EfficientNet-Lite2 with a decoder at full resolution, a canonical camera, and weights that predict metres.

    Example:
        >>> network = BaseNetwork(BaseConfig()).eval()
        >>> network.output, network.predicts_depth_at_start
        (<DepthScale.METRES: 'metres'>, True)
    """

    Config: ClassVar[type[BaseConfig]] = BaseConfig
    output = DepthScale.METRES
    licence = "Apache-2.0"

    def __init__(self, config: BaseConfig, *, pretrained: bool = True) -> None:
        super().__init__(config, pretrained=False)
        self.is_pretrained = pretrained
        if pretrained:
            self.load_state_dict(load_base_weights())

    def measure_strangeness(self, pooled: Tensor) -> Tensor:
        """Return a score (B,) that is above 0 for images unlike those on which the error in metres was measured.

        The score is a kernel ridge regression to 1 for paintings, maps, drone images and so on, and to -1 for rooms,
        streets and people (docs/reference/base-network.md).

        pooled: (B, C) result of `pool_features`.
        """
        known = {name: value.float() for name, value in safetensors.torch.load_file(FAMILIAR_FILE).items()}
        standard = ((pooled.cpu() - known["mean"]) / known["spread"]).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)
        squares = torch.cdist(standard @ known["axes"].T, known["points"]).square()
        return torch.exp(-squares / known["width"]) @ known["weights"]

    def build_decoder(self) -> SharpDecoder:
        return SharpDecoder(self.encoder.channels, self.config.decoder_channels)

    @property
    def weights(self) -> dict[str, InitialWeights]:
        return {"network": "pretrained base of the package, in metres" if self.is_pretrained else "random"}

    @property
    def has_depth_weights(self) -> bool:
        return True

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the network's (height, width) for an image: multiples of 32 with about `TRAINED_PIXELS` pixels.

        The aspect ratio of the image is kept as far as the multiples allow.
        """
        factor = math.sqrt(TRAINED_PIXELS / (height * width))
        return super().image_size(round(height * factor), round(width * factor))

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.encoder)
