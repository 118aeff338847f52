"""Configuration of the networks. Imports no torch."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from stadia.core.config import StrictModel, check_registered
from stadia.models import ACTIVATIONS, ATTENTIONS, DPT_NETWORKS, OVERLAY_NETWORKS, POSE_HEADS, POSE_NETS, ROTATIONS
from stadia.models.dpt_architectures import check_stride_multiples

_FIVE_SCALES = Field(description="decoder channels at 1/1, 1/2, 1/4, 1/8, 1/16 of the image")
DecoderChannels = Annotated[tuple[int, int, int, int, int], _FIVE_SCALES]

REVISION_PATTERN = "[0-9a-f]{40}"
"""A commit of the hub. Names of branches and tags can be moved to other files."""

DEFAULT_INIT_DEPTH_M = 12.0
"""Typical depth of a street: the start where nothing in the data has a scale."""


class DepthPoseNetConfig(StrictModel):
    """The depth network and the pose network.

    encoder, pose_encoder: timm models (`stadia list encoders`); pose_encoder applies to the pose network `resnet`.
        NAME@REVISION takes one commit of the weights on the hub.
    pretrained: start the encoders from timm's weights where available; otherwise one line warns.
    decoder_channels: at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image size.
    min_depth_m, max_depth_m: range of the sigmoid, linear in inverse depth (Monodepth2, arXiv 1806.01260, section 3.3).
    init_depth_m: depth that an untrained network predicts. It sets the head's bias, so that stereo training starts
        within reach of the true match. "auto" is the median depth of the matches of some stereo pairs, 12 without. The
        default range then follows where it does not hold these matches. A number below 1/3 or above 3 times that median
        is moved to it too, and one line reports it.
    scales: number of decoder outputs, each half the size of the one before.
    rotation_scale, translation_scale: multiply the pose head, so that training starts near the identity.
    right_view: also predict the inverse depth of the rig's right camera from the left image (D3VO, arXiv 2003.01060).
    uncertainty: also predict log Sigma of each pixel's photometric residual (D3VO).
    brightness: also predict gain and offset between two images, for the stereo pair too (D3VO).
    brightness_scale: multiplies the heads of gain and offset.
    pose_net: encoder of image pairs (`stadia list pose-nets`): `resnet`, `d3vo`, `shared` (the depth network's own
        encoder), or `correlation`, which needs little data.
    pose_head: maps its features to numbers (`stadia list pose-heads`); `linear` requires the training image size.
    rotation: parametrization, axis_angle or euler (`stadia list rotations`).
    activation, decoder_activation: of the pose network's own layers, and of the depth decoder (`stadia list
        activations`).
    checkpoint_gradients: compute activations again in the backward pass instead of keeping them: less memory, more
        time, and the same losses and weights.
    """

    encoder: str = "resnet18"
    pose_encoder: str = "resnet18"
    pretrained: bool = True
    decoder_channels: DecoderChannels = (16, 32, 64, 128, 256)
    min_depth_m: float = Field(default=0.5, gt=0)
    max_depth_m: float = Field(default=100.0, gt=0)
    init_depth_m: PositiveFloat | Literal["auto"] = "auto"
    scales: int = Field(default=4, ge=1, le=4)
    rotation_scale: float = Field(default=0.01, gt=0)
    translation_scale: float = Field(default=0.1, gt=0)
    right_view: bool = False
    uncertainty: bool = False
    brightness: bool = False
    brightness_scale: float = Field(default=0.1, gt=0)
    pose_net: Annotated[str, AfterValidator(check_registered(POSE_NETS))] = "resnet"
    pose_head: Annotated[str, AfterValidator(check_registered(POSE_HEADS))] = "convolution"
    rotation: Annotated[str, AfterValidator(check_registered(ROTATIONS))] = "axis_angle"
    activation: Annotated[str, AfterValidator(check_registered(ACTIVATIONS))] = "relu"
    decoder_activation: Annotated[str, AfterValidator(check_registered(ACTIVATIONS))] = "elu"
    checkpoint_gradients: bool = False

    def encoders(self, *, motion: bool) -> tuple[str, ...]:
        """Return the timm models it consists of, with a pose network or without."""
        return (self.encoder, self.pose_encoder) if motion and self.pose_net == "resnet" else (self.encoder,)

    @property
    def start_m(self) -> float:
        """Return `init_depth_m`; where that is "auto", DEFAULT_INIT_DEPTH_M, or the middle of a range without it."""
        if self.init_depth_m != "auto":
            return self.init_depth_m
        has_default = self.min_depth_m < DEFAULT_INIT_DEPTH_M < self.max_depth_m
        return DEFAULT_INIT_DEPTH_M if has_default else math.sqrt(self.min_depth_m * self.max_depth_m)

    @model_validator(mode="after")
    def _ordered(self) -> DepthPoseNetConfig:
        if not self.min_depth_m < self.start_m < self.max_depth_m:
            raise ValueError("min_depth_m < init_depth_m < max_depth_m must hold")
        return self


class AttentionConfig(StrictModel):
    """The attention of a transformer. Fields of other attentions than `name` are ignored.

    name: `sdpa` is exact; `explicit` is the same with the matrix written out. The others are approximations.
    factor: for memory_compressed: tokens of the grid that share one key and value. They form the squarest window of
        that size, wider than high: 2 is 1x2, 3 is 1x3, 4 is 2x2. 1 is exact.
    features: for performer: random features per head; null is int(d ln d), 266 for heads of 64.
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
        """Return performer's number of random features (default of Choromanski et al., arXiv 2009.14794)."""
        return self.features or max(1, int(head_dim * math.log(head_dim)))

    def removed(self, places: int) -> int:
        """Return how many of a grid's tokens token_merging merges, in integers that an export can trace."""
        share = Fraction(str(self.merge))
        return places * share.numerator // share.denominator


# -- multiply-accumulates (MACs) of attention per layer and image; `benchmarks/attention.py` measures times


def count_attention_macs(
    config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int, *, first: int = 1
) -> int:
    """Count the MACs from queries, keys and values to the output, without projections; exact attention takes 2 N^2 D.

    Args:
        grid: (height, width) of the tokens.
        first: tokens before the grid.

    Examples:
        >>> count_attention_macs(AttentionConfig(), grid=(12, 40), heads=12, head_dim=64)
        355370496
    """
    places, width = grid[0] * grid[1], heads * head_dim
    tokens = places + first
    if config.name == "performer":
        return 4 * tokens * config.features_for(head_dim) * width
    if config.name == "memory_compressed":
        windows = math.prod(math.ceil(length / step) for length, step in zip(grid, config.window, strict=True))
        return 2 * tokens * (windows + first) * width + 2 * windows * width * head_dim * config.factor
    if config.name == "token_merging" and config.merge:
        return 2 * (tokens - config.removed(places)) ** 2 * width + (places // 2) ** 2 * head_dim
    return 2 * tokens**2 * width


def count_block_macs(tokens: int, width: int) -> int:
    """Count the rest of a transformer block: 4 N D^2 for the projections, 8 N D^2 for an MLP four times as wide.

    Examples:
        >>> count_block_macs(tokens=481, width=768)
        3404464128
    """
    return 12 * tokens * width**2


def find_break_even_tokens(config: AttentionConfig, heads: int, head_dim: int) -> int | None:
    """Return the number of tokens from which on it takes fewer MACs than exact attention, or None if it never does.

    performer: 4 N m D = 2 N^2 D at N = 2m. memory_compressed: N / r + d = N at N = d r / (r - 1), ignoring grid edges.
    token_merging: 1, where merging saves more than the matching costs, 1 / (8 heads) of exact attention.

    Examples:
        >>> find_break_even_tokens(AttentionConfig(name="performer"), heads=12, head_dim=64)
        532
    """
    if config.name == "performer":
        return 2 * config.features_for(head_dim)
    if config.name == "memory_compressed" and config.factor > 1:
        return math.ceil(head_dim * config.factor / (config.factor - 1))
    if config.name == "token_merging" and (1 - config.merge) ** 2 + 1 / (8 * heads) < 1:
        return 1
    return None


def describe_attention_cost(config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int) -> str:
    """Describe in one line the cost of attention on this grid, against exact attention and the rest of the block.

    Examples:
        >>> describe_attention_cost(AttentionConfig(), (12, 40), heads=12, head_dim=64)
        'attention sdpa on 481 tokens: 0.355 GMAC a layer, 9% of the block'
    """
    tokens, width = grid[0] * grid[1] + 1, heads * head_dim
    core = count_attention_macs(config, grid, heads, head_dim)
    exact = count_attention_macs(AttentionConfig(), grid, heads, head_dim)
    share = core / (core + count_block_macs(tokens, width))
    line = f"attention {config.name} on {tokens} tokens: {core / 1e9:.3g} GMAC a layer, {share:.0%} of the block"
    if config.name in ("sdpa", "explicit"):
        return line
    even = find_break_even_tokens(config, heads, head_dim)
    fewer = "fewer multiplications at every length" if even == 1 else f"fewer multiplications above {even} tokens"
    fewer = "never fewer multiplications" if even is None else fewer
    return f"{line}, {core / exact:.2f} times exact attention; {fewer}"


# -- the other networks


class DptConfig(StrictModel):
    """A dense prediction transformer (DPT, arXiv 2103.13413) and its initial weights.

    network: name (`stadia list networks`). `dpt-tiny` and `dpt-small` train on two cores and have no published
        weights.
    pretrained: load the file `weights`, or else the published weights from the hub; missing weights are an error.
        false starts at random.
    revision: commit hash of the published weights on the hub; null takes the newest, and a warning has its hash.
    weights: local file: a .pt of isl-org/DPT, a .safetensors of transformers, or the folder that holds one.
    allow_missing: parameters (* and ? are wildcards) that may stay random if the file lacks them; others stop the
        run.
    allow_unexpected: names in the file that the network may leave unused; others stop the run.
    scale, shift: inverse depth in 1/m is scale * output + shift; set both or neither. null: a random network starts at
        10 m; published weights, which have no scale, use 1 and 0 until they are fitted. DPT-Hybrid's values are
        0.00006016 and 0.00579 for KITTI, 0.000305 and 0.1378 for NYU. 1 / shift is the largest possible depth in m.
    """

    network: Annotated[str, AfterValidator(check_registered(DPT_NETWORKS))] = "dpt-hybrid"
    pretrained: bool = True
    revision: Annotated[str, Field(pattern=f"^{REVISION_PATTERN}$")] | None = None
    weights: str | None = None
    allow_missing: tuple[str, ...] = ()
    allow_unexpected: tuple[str, ...] = ()
    attention: AttentionConfig = AttentionConfig()
    scale: float | None = Field(default=None, gt=0)
    shift: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.scale is None) != (self.shift is None):
            raise ValueError("scale and shift belong together: give both, or neither and they are fitted")
        if self.revision is not None and self.weights is not None:
            raise ValueError("revision is of the published weights: give it, or a file as weights")
        return self


def _in_fours(channels: int) -> int:
    if channels % 4:
        raise ValueError("expected a multiple of 4: each group of normalization has 4 channels")
    return channels


class ObjectPoseNetConfig(StrictModel):
    """One encoder, and one decoder per output (FastPoseCNN, arXiv 2406.11063).

    The decoder is the semantic branch of Panoptic FPN (arXiv 1901.02446). The defaults train in minutes on two cores.
    The reference networks are `resnet18` and `resnext50_32x4d` with 256 and 128 channels.

    encoder: any timm model (`stadia list encoders`); NAME@REVISION takes one commit of its weights on the hub.
    pretrained: start the encoder from timm's weights where available; otherwise one line warns.
    pyramid_channels: of each level of the pyramid.
    segmentation_channels: of each level after upsampling to the finest size.
    dropout: of whole channels, before each head.
    rotation_frame: the quaternion is relative to each pixel's ray ("ray"), so that an object's appearance does not
        depend on its position in the image, or relative to the camera axes ("camera").
    """

    encoder: str = "regnetx_002"
    pretrained: bool = True
    pyramid_channels: int = Field(default=64, ge=4)
    segmentation_channels: Annotated[int, Field(ge=4), AfterValidator(_in_fours)] = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rotation_frame: Literal["ray", "camera"] = "ray"


OVERLAY_STRIDE = 8  # image sides are multiples of it: both networks halve the image three times


class OverlayNetConfig(StrictModel):
    """The network of the recipe `overlay`.

    network: see `stadia list overlay-networks`: `light`, or `full` with 24,019,618 parameters.
    output_stride: predict at 1/output_stride of the image size and upsample bilinearly: smoother, at the same cost.
    init_depth_m: depth that an untrained network predicts, in the unit of the labels.
    """

    network: Annotated[str, AfterValidator(check_registered(OVERLAY_NETWORKS))] = "light"
    output_stride: Literal[1, 2, 4, 8] = 1
    init_depth_m: float = Field(default=10.0, gt=0)


def check_overlay_size(height: int, width: int) -> None:
    """Raise ConfigError with the nearest valid size if the image's sides are no multiples of OVERLAY_STRIDE.

    Examples:
        >>> check_overlay_size(64, 128)  # multiples of 8 pass
    """
    check_stride_multiples("overlay", OVERLAY_STRIDE, height=height, width=width)
