"""Configuration of the networks. This module does not import torch."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, SerializeAsAny, model_validator

from stadia.core.config import PartConfig, StrictModel, check_registered
from stadia.core.errors import ConfigError
from stadia.networks import (
    ACTIVATIONS,
    ATTENTIONS,
    DEPTH_NETWORK_CONFIGS,
    DEPTH_NETWORKS,
    POSE_HEADS,
    POSE_NETS,
    ROTATIONS,
)

_FIVE_SCALES = Field(description="decoder channels at 1/1, 1/2, 1/4, 1/8, 1/16 of the image")
DecoderChannels = Annotated[tuple[int, int, int, int, int], _FIVE_SCALES]

MAX_SIDE = 4096
"""Largest side in pixels that a network's configuration may request for its input images."""

Side = Annotated[int, Field(ge=32, le=MAX_SIDE, multiple_of=32)]

REVISION_PATTERN = "[0-9a-f]{40}"
"""A revision must be a commit hash of the hub, because branches and tags can move."""


LOG_UNCERTAINTY_RANGE: tuple[float, float] = (-6.0, 2.0)
"""Limits of the predicted log uncertainty. Below -6, one pixel would outweigh four hundred others in the loss."""


class DepthNetworkConfig(PartConfig):
    """The configuration that all depth networks have in common.

    name: a name of `stadia list networks`, an entry point of stadia.depth_networks, or your own module:Class.
    init_depth_m: depth that an untrained network predicts. "auto" is the median depth from matches of stereo pairs, or
        a typical depth. A number that differs from this median by more than a factor of 3 is adjusted, with a note.
    """

    typical_depth_m: ClassVar[float] = 12.0
    """Initial depth for data without a scale: a typical depth of streets."""
    size_multiple: ClassVar[int] = 32
    """Both sides of an input image must be multiples of this number."""
    has_encoder: ClassVar[bool] = False
    """Whether the network has an encoder that the pose network `shared` can use."""
    starts_in_metres: ClassVar[bool] = False
    """Whether the published weights predict metres. A training that starts from them keeps their range of depth."""

    name: str
    init_depth_m: PositiveFloat | Literal["auto"] = "auto"

    @classmethod
    def find_class(cls, name: str) -> "type[DepthNetworkConfig]":
        """Return the configuration class of the depth network with this name.

        The file of your own network is imported, and torch with it. Names of the package's networks import no torch.

        name: a name of `stadia list networks`, an entry point of stadia.depth_networks, or module:Class.

        Raises ConfigError if no depth network has the name.
        """
        if name in DEPTH_NETWORK_CONFIGS:
            found: type[DepthNetworkConfig] = DEPTH_NETWORK_CONFIGS.load(name)
            return found
        network = DEPTH_NETWORKS.load(name)
        config = getattr(network, "Config", None)
        is_network = isinstance(network, type) and callable(getattr(network, "forward", None))
        if not (is_network and isinstance(config, type) and issubclass(config, DepthNetworkConfig)):
            expected = "a class that derives from stadia.networks.depth.depth_network.DepthNetwork"
            fix = "docs/how-to/add-a-depth-network.md has an example"
            raise ConfigError("model.network", found=f"'{name}'", expected=expected, fix=fix)
        return config

    @property
    def num_scales(self) -> int:
        """Return the number of inverse depth maps that the network predicts for an image.

        Each has half the height and width of the previous one.
        """
        return 1

    @property
    def predicts_right_view(self) -> bool:
        """Return whether the network predicts, from the left image, the inverse depth of a stereo rig's right camera
        too.
        """
        return False

    @property
    def predicts_uncertainty(self) -> bool:
        """Return whether the network also predicts log Sigma for each pixel.

        Sigma is the scale of the photometric residual.
        """
        return False

    @property
    def depth_range_m(self) -> tuple[float, float] | None:
        """Return the smallest and the largest depth in metres that the network can predict, or None.

        None means that its depth has no bounds.
        """
        return None

    @property
    def package(self) -> str:
        """Return the Python package of the network's authors that runs it; "" for a network of torch.

        Networks that such a package runs pass no gradients and cannot train.
        """
        return ""

    @property
    def encoders(self) -> tuple[str, ...]:
        """Return the names of the timm models that the network uses."""
        return ()

    @property
    def start_m(self) -> float:
        """Return the depth in metres that the network predicts before training.

        It is `init_depth_m`, or for "auto" the typical depth.

        If the typical depth is outside the network's range, the geometric mean of the range is returned.
        """
        if self.init_depth_m != "auto":
            return self.init_depth_m
        if self.depth_range_m is None or self.depth_range_m[0] < self.typical_depth_m < self.depth_range_m[1]:
            return self.typical_depth_m
        return math.sqrt(self.depth_range_m[0] * self.depth_range_m[1])

    @property
    def title(self) -> str:
        """Return the name of the network with its main settings, for reports."""
        return self.name


class UnetConfig(DepthNetworkConfig):
    """Any timm encoder with the decoder of Monodepth2 (arXiv 1806.01260).

    encoder: timm model (`stadia list encoders`). NAME@REVISION takes one commit of its weights.
    decoder_channels: number of channels at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image size.
    decoder_activation: activation of the depth decoder (`stadia list activations`).
    depth_output: "sigmoid" is linear in inverse depth between the limits (Monodepth2, section 3.3). "softplus" is
        min_depth_m plus softplus, without an upper limit (Insta-DM, arXiv 2101.02629).
    min_depth_m, max_depth_m: limits of depth. If stereo matches are outside the default range, the range is moved.
    scales: number of decoder outputs. Each is half as large as the one before.
    right_view: also predict the right camera's inverse depth from the left image (D3VO, arXiv 2003.01060).
    uncertainty: also predict log Sigma of each pixel's photometric residual (D3VO).
    log_uncertainty_range: limits of the predicted log Sigma.
    fixed_batch_statistics: batch normalization keeps its initial mean and variance. This helps if batches come from
        different datasets or have only two images.
    canonical_focal: sqrt(fx fy / (height width)) of the camera in whose metres the decoder predicts, so that images of
        different cameras can train one network (Metric3D, arXiv 2307.10984). null uses the metres of the only training
        camera.
    """

    experimental: ClassVar[frozenset[str]] = frozenset({"depth_output"})
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

    The weights fit these values only. The network's uncertainty is valid for the packaged weights; a network that was
    trained further predicts none.
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
    """The attention of a transformer. Each kind of attention uses its own fields.

    name: `sdpa` is exact. `explicit` computes the same with the matrix written out. The others are approximations.
    factor: for memory_compressed: number of grid tokens that share one key and one value. They form a window that is as
        square as possible, and otherwise wider than high: 2 is 1x2, 3 is 1x3, 4 is 2x2. 1 is exact.
    features: for performer: number of random features per head. null takes int(d ln d) for a head of size d, which is
        266 for 64.
    redraw_every: for performer: number of training passes between two draws of its features. null never redraws.
    merge: for token_merging: share of the grid's tokens to merge into others, at most one half. 0 is exact.
    """

    name: Annotated[str, AfterValidator(check_registered(ATTENTIONS))] = "sdpa"
    factor: int = Field(default=2, ge=1, le=16)
    features: int | None = Field(default=None, ge=1)
    redraw_every: int | None = Field(default=1000, ge=1)
    merge: float = Field(default=0.25, ge=0, le=0.5)

    @property
    def window(self) -> tuple[int, int]:
        """Return the size (rows, columns) in tokens of the windows of the attention `memory_compressed`.

        The tokens of a window share one key and one value.
        """
        rows = max(side for side in range(1, math.isqrt(self.factor) + 1) if self.factor % side == 0)
        return rows, self.factor // rows

    def features_for(self, head_dim: int) -> int:
        """Return how many random features the attention `performer` uses per head.

        head_dim: size d of an attention head.
        """
        return self.features or max(1, int(head_dim * math.log(head_dim)))

    def removed(self, places: int) -> int:
        """Return how many tokens of an image the attention `token_merging` merges into others.

        It computes with integers, which an export to ONNX can trace.

        places: number of patch tokens of the image.
        """
        share = Fraction(str(self.merge))
        return places * share.numerator // share.denominator


class DptConfig(DepthNetworkConfig):
    """A dense prediction transformer (DPT, arXiv 2103.13413) and its initial weights.

    size: `hybrid` and `large` have published weights. `tiny` and `small` have none and train on two cores.
    revision: commit hash of the published weights on the hub. null takes the newest commit, and a warning gives its
        hash.
    weights: local file: a .pt of isl-org/DPT, a .safetensors of transformers, or the folder of one. null takes the
        published weights.
    allow_missing: parameters (* and ? are wildcards) that may stay random if the file lacks them.
    allow_unexpected: names in the file that the network may leave unused.
    attention: attention of every block.
    scale, shift: inverse depth in 1/m is scale * output + shift; set both or neither. For DPT-Hybrid they are
        0.00006016 and 0.00579 on KITTI, and 0.000305 and 0.1378 on NYU. 1 / shift is the largest possible depth in
        metres. null: a random network starts at init_depth_m; published weights use 1 and 0 until they are fitted.
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
            raise ValueError("revision selects published weights: give it, or a file as weights")
        return self


class Monodepth2Config(DepthNetworkConfig):
    """A published network of Monodepth2 (arXiv 1806.01260).

    weights: folder with encoder.pth and depth.pth, and with pose_encoder.pth and pose.pth if the network was trained on
        video. null starts from random weights.
    encoder: ResNet of the network.
    metres_per_unit: metres per unit of the network's depth: 5.4 for networks trained on stereo video of KITTI. null
        predicts depth up to scale.
    motion: whether the network has a pose network.
    size: (height, width) of the network's training images.
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
    """MiDaS 2.1 (arXiv 1907.01341): a ResNeXt encoder and four refining blocks.

    weights: the published file midas_v21-f6b98070.pt. null starts from random weights.
    encoder: a ResNet of timm; the published one is resnext101_32x8d.
    channels: number of channels of the refining blocks; the published ones have 256.
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
"""Type of a configuration key that chooses a depth network: by its name, or by its name together with the network's
keys.
"""


class DepthModelConfig(StrictModel):
    """A depth network, and how its training starts.

    network: the depth network (`stadia list networks`) with its own keys. Keys without a name belong to `unet`.
    pretrained: start from published weights, if available.
    checkpoint_gradients: compute activations again in the backward pass. This takes less memory and more time, with the
        same results.
    trained: the trained part of the depth network: "all" weights; the "decoder", which is all but the backbone; the
        "head", which is the last layers; or low-rank "adapters" of the backbone's linear layers and convolutions (arXiv
        2106.09685, extra `adapters`), which predictions and exports merge.
    adapter_rank: rank of the adapters.
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
    """Raise ConfigError, which names the nearest valid size, unless both sides of an image are multiples of `multiple`.

    name: name of the network in an error message.
    multiple: required divisor of both sides, in pixels.
    height, width: image size in pixels.
    """
    if height % multiple or width % multiple or not (height and width):
        near = f"{max(round(width / multiple), 1) * multiple}x{max(round(height / multiple), 1) * multiple}"
        found, expected = f"{width}x{height}", f"multiples of {multiple}"
        raise ConfigError(f"image size for '{name}'", found=found, expected=expected, fix=f"take {near}")


class DepthPoseNetConfig(DepthModelConfig):
    """The depth network and the pose network.

    pose_encoder: timm model (`stadia list encoders`) of the pose network `resnet`.
    translation_scale: factor on the pose head's translation, so that training starts near the identity.
    brightness: also predict gain and offset between two images (D3VO).
    pose_net: encoder of image pairs (`stadia list pose-nets`): `correlation`, which needs little data, `resnet`, `d3vo`
        or `shared`, which uses the depth network's own encoder.
    pose_head: layers that map the encoder's features to a motion (`stadia list pose-heads`). `linear` requires the
        training image size.
    pose_bias: use biases in the convolutions of the pose network and its motion head.
    rotation: parameters of a rotation (`stadia list rotations`): axis_angle, Euler angles named by their order, or a
        matrix, given by its first two columns (matrix6d) or by all columns (matrix9d).
    activation: activation of the pose network's own layers (`stadia list activations`).
    """

    experimental: ClassVar[frozenset[str]] = frozenset({"pose_bias"})
    former_keys: ClassVar[Mapping[str, Any]] = {"rotation_scale": 0.01, "brightness_scale": 0.1}
    pose_encoder: str = "resnet18"
    translation_scale: float = Field(default=0.1, gt=0)
    brightness: bool = False
    pose_net: Annotated[str, AfterValidator(check_registered(POSE_NETS))] = "correlation"
    pose_head: Annotated[str, AfterValidator(check_registered(POSE_HEADS))] = "convolution"
    pose_bias: bool = True
    rotation: Annotated[str, AfterValidator(check_registered(ROTATIONS))] = "axis_angle"
    activation: Annotated[str, AfterValidator(check_registered(ACTIVATIONS))] = "relu"

    def encoders(self, *, motion: bool) -> tuple[str, ...]:
        """Return the names of the timm models that the networks use as encoders.

        motion: whether there is a pose network, whose encoder is then included.
        """
        pose = (self.pose_encoder,) if motion and self.pose_net == "resnet" else ()
        return (*self.network.encoders, *pose)

    @model_validator(mode="after")
    def _has_an_encoder_to_share(self) -> Self:
        if self.pose_net == "shared" and not self.network.has_encoder:
            raise ValueError(f"pose_net=shared takes the depth network's encoder, and {self.network.name} has none")
        return self
