"""Configuration of the depth networks. Imports no torch. Your own network has the class attribute `Config`."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, SerializeAsAny, model_validator

from stadia.core.config import PartConfig, StrictModel, check_registered
from stadia.core.errors import ConfigError
from stadia.models import ACTIVATIONS, ATTENTIONS, DEPTH_NETWORK_CONFIGS, DEPTH_NETWORKS

_FIVE_SCALES = Field(description="decoder channels at 1/1, 1/2, 1/4, 1/8, 1/16 of the image")
DecoderChannels = Annotated[tuple[int, int, int, int, int], _FIVE_SCALES]

MAX_SIDE = 4096
"""A file of a network may not request a larger side of an image."""

Side = Annotated[int, Field(ge=32, le=MAX_SIDE, multiple_of=32)]

REVISION_PATTERN = "[0-9a-f]{40}"
"""Revisions are commits of the hub, because branches and tags can move."""


LOG_UNCERTAINTY_RANGE: tuple[float, float] = (-6.0, 2.0)
"""Below -6 one pixel would outweigh four hundred others."""


class DepthNetworkConfig(PartConfig):
    """The common configuration of all depth networks.

    name: a name of `stadia list networks`, an entry point of stadia.depth_networks, or your own module:Class.
    init_depth_m: depth that an untrained network predicts. "auto" is the median depth by matches of stereo pairs, or a
        typical depth. A number that differs from this median by more than a factor of 3 is adjusted, with a note.
    """

    typical_depth_m: ClassVar[float] = 12.0
    """Data without a scale start at the depth of a street."""
    size_multiple: ClassVar[int] = 32
    """Both sides of an image are multiples of it."""
    has_encoder: ClassVar[bool] = False
    """The pose network `shared` can use an encoder."""
    starts_in_metres: ClassVar[bool] = False
    """Published weights may predict metres; a training from them keeps their range of depth."""

    name: str
    init_depth_m: PositiveFloat | Literal["auto"] = "auto"

    @classmethod
    def find_class(cls, name: str) -> "type[DepthNetworkConfig]":
        """Return the class of a network's configuration. Raises ConfigError if the name is no depth network's.

        Only your own network's file is imported, and with it torch.
        """
        if name in DEPTH_NETWORK_CONFIGS:
            found: type[DepthNetworkConfig] = DEPTH_NETWORK_CONFIGS.load(name)
            return found
        network = DEPTH_NETWORKS.load(name)
        config = getattr(network, "Config", None)
        is_network = isinstance(network, type) and callable(getattr(network, "forward", None))
        if not (is_network and isinstance(config, type) and issubclass(config, DepthNetworkConfig)):
            expected = "a class that derives from stadia.models.depth.depth_network.DepthNetwork"
            fix = "docs/how-to/add-a-depth-network.md has an example"
            raise ConfigError("model.network", found=f"'{name}'", expected=expected, fix=fix)
        return config

    @property
    def num_scales(self) -> int:
        """Return the number of maps of inverse depth; each has half the size of the map before."""
        return 1

    @property
    def predicts_right_view(self) -> bool:
        """Return whether it also predicts the inverse depth of the rig's right camera."""
        return False

    @property
    def predicts_uncertainty(self) -> bool:
        """Return whether it also predicts log Sigma of the photometric residual."""
        return False

    @property
    def depth_range_m(self) -> tuple[float, float] | None:
        """Return the nearest and the farthest possible depth; None without bounds."""
        return None

    @property
    def package(self) -> str:
        """Return the authors' package that runs it without gradients; "" for a network of torch."""
        return ""

    @property
    def encoders(self) -> tuple[str, ...]:
        """Return its timm models."""
        return ()

    @property
    def start_m(self) -> float:
        """Return `init_depth_m`, or for "auto" the typical depth or the middle of its range."""
        if self.init_depth_m != "auto":
            return self.init_depth_m
        if self.depth_range_m is None or self.depth_range_m[0] < self.typical_depth_m < self.depth_range_m[1]:
            return self.typical_depth_m
        return math.sqrt(self.depth_range_m[0] * self.depth_range_m[1])

    @property
    def title(self) -> str:
        """Return the network's name for reports."""
        return self.name


class UnetConfig(DepthNetworkConfig):
    """Any timm encoder and the decoder of Monodepth2 (arXiv 1806.01260).

    encoder: timm model (`stadia list encoders`). NAME@REVISION takes one commit of its weights.
    decoder_channels: at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image size.
    decoder_activation: of the depth decoder (`stadia list activations`).
    depth_output: "sigmoid", linear in inverse depth between the limits (Monodepth2, section 3.3), or "softplus":
        min_depth_m plus softplus, without max_depth_m (Insta-DM, arXiv 2101.02629).
    min_depth_m, max_depth_m: limits of depth. Stereo matches outside move the default range.
    scales: number of decoder outputs, each half the size of the one before.
    right_view: also predict the right camera's inverse depth from the left image (D3VO, arXiv 2003.01060).
    uncertainty: also predict log Sigma of each pixel's photometric residual (D3VO).
    log_uncertainty_range: its limits.
    fixed_batch_statistics: batch normalization keeps its initial mean and variance, for batches of different data sets
        or of two images.
    canonical_focal: sqrt(fx fy / (height width)) of the camera in whose metres the decoder predicts, so that images of
        different cameras train one network (Metric3D, arXiv 2307.10984). null: the metres of the one training camera.
    """

    has_encoder: ClassVar[bool] = True

    name: Literal["unet"] = "unet"
    encoder: str = "resnet18"
    decoder_channels: DecoderChannels = (16, 32, 64, 128, 256)
    decoder_activation: Annotated[str, AfterValidator(check_registered(ACTIVATIONS))] = "elu"
    depth_output: Literal["sigmoid", "softplus"] = "sigmoid"
    min_depth_m: float = Field(default=0.5, gt=0)
    max_depth_m: float = Field(default=100.0, gt=0)
    scales: int = Field(default=4, ge=1, le=4)
    right_view: bool = False
    uncertainty: bool = False
    log_uncertainty_range: tuple[Annotated[float, Field(lt=0)], Annotated[float, Field(gt=0)]] = LOG_UNCERTAINTY_RANGE
    fixed_batch_statistics: bool = False
    canonical_focal: float | None = Field(default=None, gt=0, le=10)

    @property
    def num_scales(self) -> int:
        return self.scales

    @property
    def predicts_right_view(self) -> bool:
        return self.right_view

    @property
    def predicts_uncertainty(self) -> bool:
        return self.uncertainty

    @property
    def depth_range_m(self) -> tuple[float, float] | None:
        return (self.min_depth_m, self.max_depth_m) if self.depth_output == "sigmoid" else None

    @property
    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    @property
    def title(self) -> str:
        return f"{self.name} {self.encoder}"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.depth_output == "sigmoid" and not self.min_depth_m < self.start_m < self.max_depth_m:
            raise ValueError("min_depth_m < init_depth_m < max_depth_m must hold")
        if not self.min_depth_m < self.start_m:
            raise ValueError("min_depth_m < init_depth_m must hold")
        return self


class BaseConfig(UnetConfig):
    """The network whose weights are part of the package: `unet` with these settings.

    The weights fit these values only. Its uncertainty holds before any training; trained networks predict none.
    """

    starts_in_metres: ClassVar[bool] = True

    name: Literal["base"] = "base"  # type: ignore[assignment]
    encoder: Literal["tf_efficientnet_lite2"] = "tf_efficientnet_lite2"
    decoder_channels: DecoderChannels = (4, 24, 48, 80, 128)
    min_depth_m: float = Field(default=0.2, gt=0)
    max_depth_m: float = Field(default=200.0, gt=0)
    scales: Literal[1] = 1
    right_view: Literal[False] = False
    uncertainty: Literal[True] = True
    fixed_batch_statistics: bool = True
    canonical_focal: float | None = Field(default=0.5, gt=0, le=10)

    @property
    def predicts_uncertainty(self) -> bool:
        return False

    @model_validator(mode="after")
    def _fits_the_weights(self) -> Self:
        fixed = ("decoder_channels", "decoder_activation", "min_depth_m", "max_depth_m", "canonical_focal")
        for key in fixed:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: the weights of base do not fit it; name=unet takes any value")
        return self


class AttentionConfig(StrictModel):
    """The attention of a transformer. Each kind uses its own fields.

    name: `sdpa` is exact; `explicit` is the same with the matrix written out. Others are approximations.
    factor: for memory_compressed: tokens of the grid that share one key and value. They form a window that is as square
        as possible, and wider than high: 2 is 1x2, 3 is 1x3, 4 is 2x2. 1 is exact.
    features: for performer: random features per head; null means int(d ln d) for a head of size d: 266 for 64.
    redraw_every: for performer: training passes between two draws of its features; null never redraws.
    merge: for token_merging: share of the grid's tokens to merge into others, at most one half. 0 is exact.
    """

    name: Annotated[str, AfterValidator(check_registered(ATTENTIONS))] = "sdpa"
    factor: int = Field(default=2, ge=1, le=16)
    features: int | None = Field(default=None, ge=1)
    redraw_every: int | None = Field(default=1000, ge=1)
    merge: float = Field(default=0.25, ge=0, le=0.5)

    @property
    def window(self) -> tuple[int, int]:
        """Return (rows, columns) of memory_compressed's windows."""
        rows = max(side for side in range(1, math.isqrt(self.factor) + 1) if self.factor % side == 0)
        return rows, self.factor // rows

    def features_for(self, head_dim: int) -> int:
        """Return performer's number of random features."""
        return self.features or max(1, int(head_dim * math.log(head_dim)))

    def removed(self, places: int) -> int:
        """Return the number of a grid's tokens that token_merging merges, in integers that an export can trace."""
        share = Fraction(str(self.merge))
        return places * share.numerator // share.denominator


class DptConfig(DepthNetworkConfig):
    """A dense prediction transformer (DPT, arXiv 2103.13413) and its initial weights.

    size: `tiny` and `small` train on two cores and have no published weights; `hybrid` and `large` have.
    revision: commit hash of the published weights on the hub; null takes the newest, and a warning has its hash.
    weights: local file: a .pt of isl-org/DPT, a .safetensors of transformers, or its folder; null takes the published
        weights.
    allow_missing: parameters (* and ? are wildcards) that may stay random if the file lacks them.
    allow_unexpected: names in the file that the network may leave unused.
    attention: attention of every block.
    scale, shift: inverse depth in 1/m is scale * output + shift; set both or neither. DPT-Hybrid's values are
        0.00006016 and 0.00579 for KITTI, 0.000305 and 0.1378 for NYU. 1 / shift is the largest possible depth in m.
        null: a random network starts at init_depth_m; published weights use 1 and 0 until fitted.
    """

    typical_depth_m: ClassVar[float] = 10.0

    name: Literal["dpt"] = "dpt"
    size: Literal["tiny", "small", "hybrid", "large"] = "hybrid"
    revision: Annotated[str, Field(pattern=f"^{REVISION_PATTERN}$")] | None = None
    weights: str | None = None
    allow_missing: tuple[str, ...] = ()
    allow_unexpected: tuple[str, ...] = ()
    attention: AttentionConfig = AttentionConfig()
    scale: float | None = Field(default=None, gt=0)
    shift: float | None = Field(default=None, ge=0)

    @property
    def title(self) -> str:
        return f"{self.name} {self.size}, attention {self.attention.name}"

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.scale is None) != (self.shift is None):
            raise ValueError("scale and shift belong together: give both, or neither and they are fitted")
        if self.revision is not None and self.weights is not None:
            raise ValueError("revision is of the published weights: give it, or a file as weights")
        return self


class Monodepth2Config(DepthNetworkConfig):
    """A published network of Monodepth2 (arXiv 1806.01260).

    weights: folder with encoder.pth, depth.pth, and pose_encoder.pth and pose.pth of video; null: random weights.
    encoder: ResNet of the network.
    metres_per_unit: unit of its depth: 5.4 for networks of stereo video of KITTI; null predicts depth up to scale.
    motion: it has a pose network.
    size: (height, width) of its training images.
    """

    weights: str | None = None
    encoder: Literal["resnet18", "resnet50"] = "resnet18"
    metres_per_unit: PositiveFloat | None = None
    motion: bool = True
    size: tuple[Side, Side] = (192, 640)

    @property
    def num_scales(self) -> int:
        return 4

    @property
    def title(self) -> str:
        return f"{self.name} {self.encoder}"


class MidasConfig(DepthNetworkConfig):
    """MiDaS 2.1 (arXiv 1907.01341): a ResNeXt and four refining blocks.

    weights: the published file midas_v21-f6b98070.pt; null: random weights.
    encoder: a ResNet of timm; the published one is resnext101_32x8d.
    channels: of the refining blocks; the published ones have 256.
    """

    typical_depth_m: ClassVar[float] = 10.0

    name: Literal["midas"] = "midas"
    weights: str | None = None
    encoder: str = "resnext101_32x8d"
    channels: int = Field(default=256, ge=8, le=1024)

    @property
    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    @property
    def title(self) -> str:
        return f"{self.name} {self.encoder}"


NetworkChoice = Annotated[SerializeAsAny[DepthNetworkConfig], BeforeValidator(DepthNetworkConfig.choose)]
"""A key chooses a depth network by a name, or by a name with the keys of that network."""


class DepthModelConfig(StrictModel):
    """A depth network, and how it starts.

    network: the depth network (`stadia list networks`) with its own keys; keys without a name belong to `unet`.
    pretrained: start from published weights, if available.
    checkpoint_gradients: compute activations again in the backward pass: less memory, more time, the same results.
    trained: "all" weights of the depth network; its "decoder": all but the backbone; its "head": the last layers; or
        low-rank "adapters" of the backbone's linear layers and convolutions (arXiv 2106.09685, extra `adapters`), which
        predictions and exports merge.
    adapter_rank: of the adapters.
    backbone_precision: "bf16" stores the linear layers and convolutions of a frozen backbone in bfloat16.
    keep_statistics: batch normalization of the depth network keeps the statistics of its published weights.
    """

    part_of_keys: ClassVar[Mapping[str, str]] = {"network": "unet"}

    network: NetworkChoice = BaseConfig()
    pretrained: bool = True
    checkpoint_gradients: bool = False
    trained: Literal["all", "decoder", "head", "adapters"] = "all"
    adapter_rank: int = Field(default=8, ge=1, le=1024)
    backbone_precision: Literal["32", "bf16"] = "32"
    keep_statistics: bool = False

    @model_validator(mode="after")
    def _is_frozen_in_bf16(self) -> Self:
        if self.backbone_precision == "bf16" and self.trained == "all":
            raise ValueError(
                "backbone_precision=bf16 needs a frozen backbone: set trained=decoder, head or adapters. Or use "
                "training.precision=bf16"
            )
        return self


def check_size_multiple(name: str, multiple: int, *, height: int, width: int) -> None:
    """Raise ConfigError with the nearest valid size if a side is not a multiple of `multiple`."""
    if height % multiple or width % multiple or not (height and width):
        near = f"{max(round(width / multiple), 1) * multiple}x{max(round(height / multiple), 1) * multiple}"
        found, expected = f"{width}x{height}", f"multiples of {multiple}"
        raise ConfigError(f"image size for '{name}'", found=found, expected=expected, fix=f"take {near}")
