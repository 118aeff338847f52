"""The depth network `unet`: any timm encoder and a decoder at several scales (Monodepth2, arXiv 1806.01260).

Optional head channels predict the right view's inverse depth and the residual's uncertainty (D3VO, arXiv 2003.01060).
"""

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.types import Camera, DepthScale
from stadia.differentiable.depth_activations import (
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
from stadia.predict.networks.base import LICENCE, compute_network_size

# -- activation functions of `models.ACTIVATIONS`


def relu() -> nn.Module:
    """Create the activation max(x, 0)."""
    return nn.ReLU()


def leaky_relu() -> nn.Module:
    """Create the activation that multiplies negative values by 0.01, so that no unit dies."""
    return nn.LeakyReLU(0.01)


def elu() -> nn.Module:
    """Create the activation that replaces negative values x by exp(x) - 1."""
    return nn.ELU()


def rrelu() -> nn.Module:
    """Create the activation that multiplies negative values by random slopes, in evaluation by their mean.

    The slopes are from 1/8 to 1/3.
    """
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
    """A 3x3 convolution that pads by repeating edge pixels, because zeros would disturb depth near the image's edges.

    Compiled code pads by concatenation, because torch.compile does not support the gradient of torch's own padding of
    channels-last images (torch 2.13).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W).

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
    """The decoder of a U-Net with one output per scale.

    Each stage convolves, upsamples, concatenates the encoder's feature map of the same stride if there is one, and
    convolves.

    channels_in: numbers of channels of the encoder's feature maps, finest first.
    strides: strides of these feature maps in pixels.
    channels: numbers of channels of the decoder at strides 1, 2, 4, 8 and 16.
    outputs: number of channels of each output.
    scales: number of outputs, at strides 1, 2, 4, ...
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
        """Map the encoder's feature maps to logits (B, outputs, H / 2^s, W / 2^s), one per scale s, finest first."""
        x, maps = features[-1], []
        for stride in self.strides:
            upsample = functools.partial(self._upsample, stride)
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
    """Limit values smoothly by tanh, separately above and below 0. Near 0 the values do not change.

    logit: values of any shape.
    limits: smallest (negative) and largest (positive) result.
    """
    least, largest = limits
    bound = torch.where(logit > 0, largest, -least)
    return bound * torch.tanh(logit / bound)


class Unet(DepthNetwork):
    """A depth network with any timm encoder and the decoder of Monodepth2 (arXiv 1806.01260).

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
        """Create the decoder for the encoder's feature maps, with random weights."""
        return DepthDecoder(
            self.encoder.channels,
            self.encoder.strides,
            self.config.decoder_channels,
            outputs=1 + self.config.right_view + self.config.uncertainty,
            scales=self.config.scales,
            activation=ACTIVATIONS.load(self.config.decoder_activation),
        )

    def compute_logits(self, features: list[Tensor], image: Tensor) -> list[Tensor]:
        """Return the decoder's float32 outputs (B, outputs, H / 2^s, W / 2^s), one per scale s, finest first.

        features: the encoder's feature maps, finest first.
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
        """Predict the depth maps of images.

        image: (B, 3, H, W) RGB in [0, 1].
        camera: camera of the images; if the network has a canonical camera and this is None, depth is for the canonical
            camera.
        """
        return self.decode(self.encoder(image), image, camera)

    def decode(self, features: list[Tensor], image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Return the depth maps of images whose encoder features are already computed.

        features: the encoder's feature maps, finest first.
        image: (B, 3, H, W) RGB in [0, 1].
        camera: camera of the images; if the network has a canonical camera and this is None, depth is for the canonical
            camera.
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
"""Stride of the finest convolutions of `SharpDecoder`."""


def make_block(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Create a convolution, batch normalization and ReLU.

    inputs, outputs: numbers of channels.
    size: side of the convolution's kernel.
    """
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SharpDecoder(nn.Module):
    """A decoder that maps feature maps of strides 2 to 32 and the image itself to outputs at full resolution.

    Its mean over the image is added to the coarsest feature map (after a linear layer), so that the scene's scale can
    be learned. Log uncertainty is predicted at stride 4 and upsampled.

    channels_in: channels of the encoder's feature maps at strides 2, 4, 8, 16 and 32.
    channels: channels of the decoder: first 4, the 2x2 pixels that the output layer predicts per position, then those
        at strides 2, 4, 8 and 16.
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
        """Map feature maps and the image to logits (B, 2, H, W): of inverse depth, and log uncertainty.

        features: the encoder's feature maps, finest first.
        image: (B, 3, H, W) normalized image.
        """
        context = self.context(features[-1].mean((-2, -1), keepdim=True))
        x = self.coarsest(features[-1]) + context
        spread: Tensor | None = None
        for level in reversed(range(len(features) - 1)):
            stride = FINEST << level
            skips = [features[level]]
            if stride == FINEST:
                skips.append(functional.pixel_unshuffle(image, FINEST))
            upsample = functools.partial(self._upsample, str(stride))
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


# -- sharp edges

WINDOW = 5
"""Side, pixels, of the window that an edge is sharpened within."""

CONTEXT = 11
"""Side, pixels, of the window that distinguishes an edge from a slope."""

GUIDE_RADIUS = 2
"""Radius of the guided filter, pixels."""

GUIDE_VARIANCE = 1e-4
"""Regularizer of the guided filter: the variance of brightness in [0, 1] that counts as an edge."""

SLOPE = 0.5
"""Up to this contrast in WINDOW, as a share of the contrast in CONTEXT, depth stays as it is.

A slope has (WINDOW - 1) / (CONTEXT - 1) = .4. Without this limit, floors become terraces: normals in rendered rooms are
47 degrees off instead of 27.
"""

EDGE = 0.65
"""From this contrast in WINDOW, as a share of the contrast in CONTEXT, depth is sharpened in full."""

STEEPER = 10.0
"""Factor on the slope of the edge between its two sides. With a step, outlines of trees and grass are ragged: two blind
judges preferred depth without sharpening in 10 and 10 of thirty photos.
"""

NEIGHBORS = 3
"""Side, pixels, of the window whose largest weight a pixel takes, so that both feet of an edge are sharpened."""

MIN_CONTRAST = 0.08
"""Contrast of ln z in CONTEXT up to which depth stays; from twice as much, it is sharpened."""


def sharpen_edges(log_depth: Tensor, image: Tensor) -> Tensor:
    """Return depth whose edges are narrower and follow the edges of the image; slopes and surfaces stay.

    A guided filter (He et al., ECCV 2010) aligns edges with the image. Then each pixel near an edge moves to the
    extreme of its window that is nearer to it (Kramer and Bruckner, Pattern Recognition 7, 1975). An average along the
    edge decides which one is nearer, so that outlines are not jagged. ln z and -ln z are treated alike.

    log_depth: (B, 1, H, W) ln z, or its negative.
    image: (B, 3, H, W) RGB in [0, 1].

    Example:
        >>> blurred = torch.tensor([0.0, 0, 0, 0, 0, 0.3, 0.7, 1, 1, 1, 1, 1]).expand(1, 1, 12, 12)
        >>> sharp = sharpen_edges(blurred, (blurred > 0.5).float().expand(1, 3, 12, 12))
        >>> [round(value, 2) for value in sharp[0, 0, 6, 4:8].tolist()]
        [0.03, 0.05, 0.95, 0.97]
    """
    aligned = _filter_guided(log_depth, image.mean(1, keepdim=True))
    highest, lowest = _pool_max(aligned, WINDOW), -_pool_max(-aligned, WINDOW)
    share = _average_along((aligned - lowest) / (highest - lowest).clamp(min=1e-6))
    sharp = lowest + ((share - 0.5) * STEEPER + 0.5).clamp(0, 1) * (highest - lowest)
    rest = CONTEXT - WINDOW + 1
    wide = _pool_max(highest, rest) + _pool_max(-lowest, rest)
    steepness = (highest - lowest) / wide.clamp(min=1e-6)
    weight = ((steepness - SLOPE) / (EDGE - SLOPE)).clamp(0, 1) * (wide / MIN_CONTRAST - 1).clamp(0, 1)
    return log_depth + _pool_max(weight, NEIGHBORS) * (sharp - log_depth)


def _filter_guided(values: Tensor, guide: Tensor) -> Tensor:
    """Return values (B, 1, H, W) that are an affine function of the guide in each window."""
    mean, mean_guide = _average(values), _average(guide)
    variance = _average(guide * guide) - mean_guide * mean_guide
    slope = (_average(guide * values) - mean_guide * mean) / (variance + GUIDE_VARIANCE)
    return _average(slope) * guide + _average(mean - slope * mean_guide)


def _average_along(values: Tensor) -> Tensor:
    """Average each pixel with two opposite neighbors, in the direction in which they differ least: thin lines stay."""
    height, width = values.shape[-2:]
    padded = functional.pad(values, (1, 1, 1, 1), mode="replicate")
    total, weights = torch.zeros_like(values), torch.zeros_like(values)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first, last = (
            padded.narrow(-2, 1 + sign * down, height).narrow(-1, 1 + sign * right, width) for sign in (-1, 1)
        )
        weight = ((first - values).abs() + (last - values).abs() + 1e-3) ** -2
        total = total + weight * (first + values + last) / 3
        weights = weights + weight
    return total / weights


def _average(values: Tensor) -> Tensor:
    side = 2 * GUIDE_RADIUS + 1
    return _slide(values, side, torch.add) / side**2


def _pool_max(values: Tensor, side: int) -> Tensor:
    return _slide(values, side, torch.maximum)


def _slide(values: Tensor, side: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine each pixel's window, first along rows and then along columns: a tenth of the time of pooling layers."""
    for axis, padding in ((-1, (side // 2, side // 2, 0, 0)), (-2, (0, 0, side // 2, side // 2))):
        padded = functional.pad(values, padding, mode="replicate")
        parts = (padded.narrow(axis, shift, values.shape[axis]) for shift in range(side))
        values = functools.reduce(combine, parts)
    return values


# -- the network of the package


def pool_features(features: Sequence[Tensor]) -> Tensor:
    """Return the mean over the image (B, C) of the encoder's two coarsest feature maps, concatenated along the
    channels.

    features: feature maps (B, C_i, h_i, w_i), finest first.
    """
    return torch.cat([feature.mean((-2, -1)) for feature in features[-2:]], dim=1)


class BaseNetwork(Unet):
    """The depth network of the package: EfficientNet-Lite2, a full-resolution decoder, and weights that predict metres.

    It predicts the depth of a canonical camera and scales it by the focal length of the camera that is passed.

    Example:
        >>> network = BaseNetwork(BaseConfig()).eval()
        >>> network.output, network.predicts_depth_at_start
        (<DepthScale.METRES: 'metres'>, True)
    """

    Config: ClassVar[type[BaseConfig]] = BaseConfig
    output = DepthScale.METRES
    licence = LICENCE

    def __init__(self, config: BaseConfig, *, pretrained: bool = True) -> None:
        super().__init__(config, pretrained=False)
        self.is_pretrained = pretrained
        if pretrained:
            self.load_state_dict(load_base_weights())

    def build_decoder(self) -> SharpDecoder:
        return SharpDecoder(self.encoder.channels, self.config.decoder_channels)

    def decode(self, features: list[Tensor], image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Return the depth maps of images as `Unet.decode` does, with sharpened edges in evaluation mode."""
        maps = super().decode(features, image, camera)
        if self.training:
            return maps
        (inverse_depth,) = maps.inverse_depth
        return maps._replace(inverse_depth=(sharpen_edges(inverse_depth.log(), image.float()).exp(),))

    @property
    def weights(self) -> dict[str, InitialWeights]:
        return {"network": "pretrained base of the package, in metres" if self.is_pretrained else "random"}

    @property
    def has_depth_weights(self) -> bool:
        return True

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return compute_network_size(height, width)

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.encoder)
