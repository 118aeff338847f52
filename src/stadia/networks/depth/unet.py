"""The depth network `unet`: any timm encoder and a decoder at several scales (Monodepth2, arXiv 1806.01260).

Optional head channels predict the right view's inverse depth and the residual's uncertainty (D3VO, arXiv 2003.01060).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.types import Camera, DepthScale
from stadia.geometry.camera import (
    init_depth_bias,
    init_softplus_bias,
    sigmoid_to_inverse_depth,
    softplus_to_inverse_depth,
)
from stadia.networks import ACTIVATIONS
from stadia.networks.config import LOG_UNCERTAINTY_RANGE, BaseConfig, UnetConfig
from stadia.networks.depth.depth_network import DepthMaps, DepthNetwork, compute_focal_ratio, list_trainable
from stadia.networks.encoders import Encoder, InitialWeights, check_encoder, load_base_weights
from stadia.networks.gradient_checkpointing import run_checkpointed

# -- activation functions of `models.ACTIVATIONS`


def relu() -> nn.Module:
    """Clamp negative values to 0."""
    return nn.ReLU()


def leaky_relu() -> nn.Module:
    """Scale negative values by 0.01, so that no unit dies."""
    return nn.LeakyReLU(0.01)


def elu() -> nn.Module:
    """Replace negative values by exp(x) - 1."""
    return nn.ELU()


def rrelu() -> nn.Module:
    """Scale negative values by random slopes between 1/8 and 1/3, and by their mean in evaluation."""
    return nn.RReLU()


class Snake(nn.Module):
    """The activation x + sin(x)^2, which is monotonic and has periodic slopes.

    Source: Ziyin et al. 2020, arXiv 2006.08195, eq. 3 with a = 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x + sin(x)^2, with the shape of x, which may be any shape."""
        return x + x.sin().square()


# -- the network


class EdgePaddedConv(nn.Conv2d):
    """A 3x3 convolution that repeats the edge, because padding with zeros would draw a frame around the depth.

    Compiled code pads by concatenation. torch.compile does not support the gradient of torch's own padding of
    channels-last images (torch 2.13).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, outputs, H, W); outside, the nearest pixels are repeated.

        Autocast is off, because on a CPU torch would convert the image to float32 and back.
        """
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            return functional.conv2d(repeat_edges(x), self.weight, self.bias)
        if torch.compiler.is_exporting() or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return functional.conv2d(padded, self.weight, self.bias)


def repeat_edges(x: Tensor) -> Tensor:
    """Return the image (B, C, H, W) with its edge pixels repeated once on each side, (B, C, H + 2, W + 2)."""
    x = torch.cat([x[..., :1, :], x, x[..., -1:, :]], dim=-2)
    return torch.cat([x[..., :1], x, x[..., -1:]], dim=-1)


class DepthDecoder(nn.Module):
    """The decoder of a U-Net.

    Each stage convolves, upsamples, concatenates the skip feature if there is one, and convolves.

    channels_in: numbers of channels of the encoder's features, finest first; `strides` gives their strides.
    channels: numbers of channels of the decoder at strides 1, 2, 4, 8 and 16.
    outputs: number of channels of each head.
    scales: number of heads, at strides 1, 2, 4, ...
    activation: function that creates the layer after each convolution.
    """

    def __init__(
        self,
        channels_in: list[int],
        strides: list[int],
        channels: tuple[int, ...],
        *,
        outputs: int = 1,
        scales: int = 4,
        activation: Callable[[], nn.Module] = nn.ELU,
    ) -> None:
        super().__init__()
        skips = dict(zip(strides, channels_in, strict=True))
        self.strides = [s for s in (16, 8, 4, 2, 1) if s < strides[-1]]
        width = {1 << i: c for i, c in enumerate(channels)}
        before, after, current = {}, {}, channels_in[-1]
        for stride in self.strides:
            before[str(stride)] = EdgePaddedConv(current, width[stride])
            after[str(stride)] = EdgePaddedConv(width[stride] + skips.get(stride, 0), width[stride])
            current = width[stride]
        self.before, self.after = nn.ModuleDict(before), nn.ModuleDict(after)
        self.heads = nn.ModuleDict({str(1 << s): EdgePaddedConv(width[1 << s], outputs) for s in range(scales)})
        self.skips = {stride: index for index, stride in enumerate(strides)}
        self.activation = activation()
        self.checkpoint_gradients = False  # see `models.gradient_checkpointing`

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Map features to logits (B, outputs, H / 2^s, W / 2^s), one per scale s; both are finest first."""
        x, maps = features[-1], []
        for stride in self.strides:
            upsample = partial(self._upsample, stride)
            skips = [features[self.skips[stride]]] if stride in self.skips else []
            x = run_checkpointed(upsample, x, *skips) if self.checkpoint_gradients else upsample(x, *skips)
            if str(stride) in self.heads:
                maps.append(self.heads[str(stride)](x))
        return tuple(reversed(maps))

    def _upsample(self, stride: int, x: Tensor, *skips: Tensor) -> Tensor:
        x = self.activation(self.before[str(stride)](x))
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = torch.cat([x, *skips], dim=1) if skips else x
        result: Tensor = self.activation(self.after[str(stride)](x))
        return result


def bound_log_uncertainty(logit: Tensor, limits: tuple[float, float] = LOG_UNCERTAINTY_RANGE) -> Tensor:
    """Bound a logit of any shape to limits around 0 by tanh. Near 0 this is the identity.

    limits: smallest and largest result.
    """
    least, largest = limits
    bound = torch.where(logit > 0, largest, -least)
    return bound * torch.tanh(logit / bound)


class Unet(DepthNetwork):
    """Any timm encoder, the decoder of Monodepth2, and the function from logits to inverse depth.

    An untrained network predicts `init_depth_m` and log uncertainty 0 at every pixel.
    """

    Config: ClassVar[type[UnetConfig]] = UnetConfig
    source = "https://arxiv.org/abs/1806.01260"
    config: UnetConfig

    def __init__(self, config: UnetConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.uses_camera = config.canonical_focal is not None
        self.encoder = Encoder(config.encoder, pretrained=pretrained)
        self.decoder = self.build_decoder()
        if config.depth_output == "softplus":
            bias = init_softplus_bias(config.start_m, config.min_depth_m)
        else:
            bias = init_depth_bias(config.start_m, config.min_depth_m, config.max_depth_m)
        for head in self.decoder.heads.values():
            nn.init.normal_(head.weight, std=1e-2)  # type: ignore[arg-type]
            nn.init.constant_(head.bias, bias)  # type: ignore[arg-type]
            if config.uncertainty and isinstance(self.decoder, DepthDecoder):
                nn.init.zeros_(head.weight[-1])  # type: ignore[index]
                nn.init.zeros_(head.bias[-1])  # type: ignore[index]

    def build_decoder(self) -> "DepthDecoder | SharpDecoder":
        """Return the decoder for the features of the encoder, with random weights."""
        return DepthDecoder(
            self.encoder.channels,
            self.encoder.strides,
            self.config.decoder_channels,
            outputs=1 + self.config.right_view + self.config.uncertainty,
            scales=self.config.scales,
            activation=ACTIVATIONS.load(self.config.decoder_activation),
        )

    def compute_logits(self, features: list[Tensor], image: Tensor) -> list[Tensor]:
        """Return float32 logits (B, outputs, H / 2^s, W / 2^s), one per scale s, finest first.

        features: the encoder's features, finest first.
        image: (B, 3, H, W) RGB in [0, 1].
        """
        if isinstance(self.decoder, SharpDecoder):
            encoder = self.encoder
            return [self.decoder(features, (image - encoder.mean) / encoder.std).float()]
        return [logits.float() for logits in self.decoder(features)]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.fixed_batch_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Predict the depth maps of images (B, 3, H, W), RGB in [0, 1]."""
        return self.decode(self.encoder(image), image, camera)

    def decode(self, features: list[Tensor], image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Return the depth maps of an image from the encoder's features.

        features: the encoder's features, finest first.
        image: (B, 3, H, W) RGB in [0, 1].
        camera: camera of the image; without one, depth is that of the canonical camera.
        """
        canonical = self.config.canonical_focal
        ratio = 1.0 if canonical is None or camera is None else compute_focal_ratio(camera, canonical)
        logits = self.compute_logits(features, image)  # left view; optional right view and uncertainty

        def inverse_depth(view: int) -> tuple[Tensor, ...]:
            maps = (x[:, view : view + 1] for x in logits)
            least, most = self.config.min_depth_m, self.config.max_depth_m
            if self.config.depth_output == "softplus":
                return tuple(softplus_to_inverse_depth(x, least) / ratio for x in maps)
            return tuple(sigmoid_to_inverse_depth(x, least, most) / ratio for x in maps)

        limits = self.config.log_uncertainty_range
        uncertainty = (
            tuple(bound_log_uncertainty(x[:, -1:], limits) for x in logits) if self.config.uncertainty else None
        )
        return DepthMaps(inverse_depth(0), inverse_depth(1) if self.config.right_view else None, uncertainty)

    @property
    def weights(self) -> dict[str, InitialWeights]:
        return {"encoder": self.encoder.weights}

    def backbone_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the last convolution of each scale."""
        return [parameter for parameter in self.decoder.heads.parameters() if parameter.requires_grad]

    def modules_to_compile(self) -> list[nn.Module]:
        return [self.encoder, self.decoder]

    def enable_gradient_checkpointing(self) -> None:
        self.encoder.checkpoint_gradients = True
        self.decoder.checkpoint_gradients = True

    @classmethod
    def check_config(cls, config: UnetConfig, *, height: int, width: int) -> None:
        check_encoder(config.encoder, height=height, width=width)


# -- the decoder of `base`: full resolution at half the cost, with the image's own pixels as a skip
#
# The finest convolutions are at stride 2: they take 2x2 pixels as channels, and the head gives the logits of 2x2 pixels
# (sub-pixel convolution, arXiv 1609.05158).

FINEST = 2
"""The finest convolutions have this stride."""


def make_block(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Return a convolution, batch normalization and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SharpDecoder(nn.Module):
    """Map features of strides 2 to 32 and the image to logits at full resolution.

    The coarsest feature gets its mean over the image, which has the scene's scale. Log uncertainty comes from stride 4.

    channels_in: channels of the encoder's features at strides 2, 4, 8, 16 and 32.
    channels: channels of the decoder at stride 1, as 2x2 pixels of the head, and at 2, 4, 8 and 16.
    """

    def __init__(self, channels_in: list[int], channels: tuple[int, ...]) -> None:
        super().__init__()
        pixels, *widths = channels
        finest_first = list(zip(widths, channels_in[:-1], strict=True))
        coarsest = widths[-1]
        self.coarsest = make_block(channels_in[-1], coarsest, size=1)
        self.context = nn.Conv2d(channels_in[-1], coarsest, 1)
        before, after, current = {}, {}, coarsest
        for level in reversed(range(len(widths))):
            width, skip = finest_first[level]
            stride = FINEST << level
            before[str(stride)] = make_block(current, width, size=1)
            own = 3 * FINEST**2 if stride == FINEST else 0
            blocks = [make_block(width + skip + own, width)]
            if stride in (FINEST, FINEST << (len(widths) - 1)):
                blocks.append(make_block(width, width))
            after[str(stride)] = nn.Sequential(*blocks)
            current = width
        self.before, self.after = nn.ModuleDict(before), nn.ModuleDict(after)
        self.heads = nn.ModuleDict({"1": nn.Conv2d(current, pixels, 3, padding=1)})
        self.uncertainty = nn.Sequential(make_block(widths[1], 16), nn.Conv2d(16, 1, 1))
        self.checkpoint_gradients = False  # see `models.gradient_checkpointing`

    def forward(self, features: list[Tensor], image: Tensor) -> Tensor:
        """Map features, finest first, and the normalized image (B, 3, H, W) to logits (B, 2, H, W).

        The logits are of inverse depth and log uncertainty.
        """
        context = self.context(features[-1].mean((-2, -1), keepdim=True))
        x = self.coarsest(features[-1]) + context
        spread: Tensor | None = None
        for level in reversed(range(len(features) - 1)):
            stride = FINEST << level
            skips = [features[level]]
            if stride == FINEST:
                skips.append(functional.pixel_unshuffle(image, FINEST))
            upsample = partial(self._upsample, str(stride))
            x = run_checkpointed(upsample, x, *skips) if self.checkpoint_gradients else upsample(x, *skips)
            if stride == 2 * FINEST:
                spread = self.uncertainty(x)
        assert spread is not None
        logit = functional.pixel_shuffle(self.heads["1"](x), FINEST)
        spread = functional.interpolate(spread, scale_factor=2.0 * FINEST, mode="bilinear")
        return torch.cat([logit, spread], dim=1)

    def _upsample(self, stride: str, x: Tensor, *skips: Tensor) -> Tensor:
        x = functional.interpolate(self.before[stride](x), scale_factor=2.0, mode="nearest")
        result: Tensor = self.after[stride](torch.cat([x, *skips], dim=1))
        return result


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
