"""Configuration of the losses. This module does not import torch."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import StrictModel, check_registered
from stadia.core.errors import ConfigError
from stadia.losses import LOSSES, RESIDUALS, SMOOTHNESS

LossName = Annotated[str, AfterValidator(check_registered(LOSSES))]
"""A name of `stadia list losses`, an entry point of stadia.losses, or module:Class of your own loss."""


SELFSUP_TERMS = ("photometric", "motion", "smoothness", "right_view", "left_right_consistency", "brightness")


def _is_term(name: str) -> str:
    if name not in SELFSUP_TERMS:
        raise ValueError(f"'{name}' is not one of {', '.join(SELFSUP_TERMS)}")
    return name


SATURATION: tuple[float, float] = (0.02, 0.98)
"""Default limits of brightness beyond which sensors clip."""


class SelfSupervisedLossConfig(StrictModel):
    """The self-supervised loss.

    name: the loss, or your own class, module:Class, derived from it.
    residual: how images are compared: ssim_l1 (Monodepth2), mse, patch, Huber's norm over DSO's eight pixels, or your
        own module:function. Only ssim_l1 has compiled loops.
    ssim_weight: share of SSIM in the residual ssim_l1; the rest is the absolute difference.
    smoothness: weight of edge-aware smoothness at full resolution, halved at each coarser scale. It is Monodepth2's
        lambda.
    smoothness_type: slope_over_mean, slope, bend, or your own module:function.
    auto_mask: a pixel trains only if a warped source explains it better than the unwarped ones do.
    auto_mask_from_step: with one camera, the auto-mask starts at this step, because it masks the pixels whose gradient
        makes a small motion grow. With a stereo source, the auto-mask acts from the start.
    residual_threshold: residuals above it are clamped to it as outliers and get no gradient. None clamps nothing.
    pyramid: number of image sizes, each half the one before, at which every depth map is compared. A match 24 pixels
        away is 3 pixels away at the fourth size, within reach of the gradient.
    scale_weights: weight of each scale of the prediction in all terms, finest first; the sum is divided by the number
        of scales. None sets all to 1.
    term_scale_weights: further factors for single terms by name: {"smoothness": [1, 0.5, 0, 0]}.
    translation_gradient: factor on the gradient of the predicted translation of temporal sources.
    translation_gradient_steps: number of steps until the distance of this factor from 1 falls by a factor of e. None
        keeps the factor constant.
    temporal_from_step: temporal neighbors train depth from this step on; before it, only the stereo source trains
        depth, and temporal neighbors train the pose network. None: temporal neighbors never train depth. Without a
        stereo source they train depth from the start.
    uncertainty_from_step: from this step on, a predicted uncertainty weights the residual. Before it, Sigma is 1.
    num_uncertainty_sizes: number of pyramid sizes that the uncertainty weights, beginning with the full size. At the
        others Sigma is 1. None weights all sizes.
    brightness: beta, weight of (a - 1)^2 + b^2 summed over the sources, relative to `smoothness` at each scale (D3VO
        uses 1e-2).
    brightness_from_step: a predicted brightness stays at (1, 0) until the residual of warped sources is below 0.8 times
        the unwarped one, or until this step. None uses the residual only.
    saturation: a pixel keeps its brightness if all its channels are at most the first value, or all at least the
        second.
    points: weight of |ln z - ln z_point| at the points of a map, if the data have one (motion=map).
    right_view: weight of the right view's reconstruction and smoothness, if it is predicted.
    tilt_consistency: weight of the relative difference between the depth of a tilted image and the tilted depth; 0
        disables it. The term costs one more pass of the depth network.
    tilt_deg: largest roll angle of this term.
    sparse_depth: weight of |ln z - ln z_true| if the data have depth, such as LiDAR (`data.ground_truth_depth=true`).
        With it, depth is in metres.
    speed: weight of the error of the length of a motion in metres, if the data have poses. With it, depth is in metres.
    left_right_consistency: weight of the difference between the left and right view's inverse depth, both ways; 0
        disables it. It also penalizes correct occlusions (Monodepth, arXiv 1609.03677, used 1).
    """

    experimental: ClassVar[frozenset[str]] = frozenset({"tilt_consistency", "tilt_deg"})
    name: LossName = "selfsup"
    residual: Annotated[str, AfterValidator(check_registered(RESIDUALS))] = "ssim_l1"
    ssim_weight: float = Field(default=0.85, ge=0, le=1)
    smoothness: float = Field(default=1e-3, ge=0)
    smoothness_type: Annotated[str, AfterValidator(check_registered(SMOOTHNESS))] = "slope_over_mean"
    auto_mask: bool = True
    auto_mask_from_step: int = Field(default=0, ge=0)
    residual_threshold: float | None = Field(default=None, gt=0)
    pyramid: int = Field(default=1, ge=1, le=6)
    scale_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    term_scale_weights: dict[Annotated[str, AfterValidator(_is_term)], tuple[Annotated[float, Field(ge=0)], ...]] = (
        Field(default_factory=dict)
    )
    translation_gradient: float = Field(default=1.0, gt=0, le=1e4)
    translation_gradient_steps: int | None = Field(default=None, ge=1)
    temporal_from_step: int | None = Field(default=0, ge=0)
    uncertainty_from_step: int = Field(default=0, ge=0)
    num_uncertainty_sizes: int | None = Field(default=None, ge=1)
    brightness: float = Field(default=1e-2, ge=0)
    brightness_from_step: int | None = Field(default=None, ge=0)
    saturation: tuple[Annotated[float, Field(ge=0, lt=0.5)], Annotated[float, Field(gt=0.5, le=1)]] = SATURATION
    points: float = Field(default=0.02, ge=0)
    right_view: float = Field(default=1.0, ge=0)
    left_right_consistency: float = Field(default=0.0, ge=0)
    tilt_consistency: float = Field(default=0.0, ge=0)
    tilt_deg: float = Field(default=5.0, gt=0, le=30)
    sparse_depth: float = Field(default=0.0, ge=0)
    speed: float = Field(default=0.0, ge=0)

    @property
    def is_measured(self) -> bool:
        """Return whether measured depth or measured motions train, which give metres."""
        return self.sparse_depth > 0 or self.speed > 0


class MetricScaleConfig(StrictModel):
    """Metric scale from objects of known height and from the constant camera height. Weights change over the epochs.

    name: the loss, or your own class, module:Class, derived from it.
    object_height: weight of |H - h D / f_y| over object pixels. Alone, this term turns every object towards the camera.
    camera_height: weight of the camera height error on the road. Keep it small, because uniform depth is also a minimum
        of this term.
    balance: "fixed" keeps the weights. "ratio" sets the weight of the camera height to the photometric loss divided by
        the camera height error, at most to `camera_height`. "variation" lets both weights follow the variation of their
        losses relative to the photometric variation, at most 10 times (CoV-Weighting, arXiv 2009.01717).
    balance_every: number of batches that "ratio" and "variation" use the same weight for.
    form: "absolute" uses absolute errors. "gaussian" uses the squared error divided by twice the variance, plus the
        logarithm of the deviation, which is 10 % of an object's height and 2 % of the camera height.
    """

    experimental: ClassVar[frozenset[str]] = frozenset({"balance", "balance_every", "form"})
    former_keys: ClassVar[Mapping[str, Any]] = {"object_spread": 0.1, "camera_spread": 0.02}

    name: LossName = "metric_scale"
    object_height: float = Field(default=1.0, ge=0)
    camera_height: float = Field(default=0.01, ge=0, le=2)
    balance: Literal["fixed", "ratio", "variation"] = "fixed"
    balance_every: int = Field(default=10, ge=1)
    form: Literal["absolute", "gaussian"] = "absolute"


TermWeight = Annotated[float, Field(ge=0)]


def describe_empty_range(name: str, least: float, most: float, unit: str = "") -> str:
    """Return the message for a range of values that contains no label."""
    return f"min_{name}{unit}={least:g} is not below max_{name}{unit}={most:g}: no label is left"


class SparseDepthConfig(StrictModel):
    """Depth supervised by sparse (projected LiDAR) or dense ground truth: a weighted sum of terms.

    name: the loss, or your own class, module:Class, derived from it.
    silog_per_image: weight of SILog, averaged over the images of a batch.
    silog_pooled: weight of SILog over the pixels of the whole batch, as in BTS; it depends on the batch size.
    affine_invariant: weight of the error of inverse depth up to scale and shift of each image, without the largest 20 %
        of its errors.
    gradient_matching: weight of the gradients of the same error at four sizes, for dense ground truth.
    log_l1: weight of the mean |ln z - ln z_true|.
    silog_form: "root" is alpha sqrt(mean d^2 - lam mean(d)^2) with alpha 10 (BTS), "variance" is mean d^2 - lam
        mean(d)^2 (Eigen).
    silog_lam: share of a common factor that is ignored, from 0 to 1. null takes 0.85 for the root and 0.5 for the
        variance.
    min_depth_m, max_depth_m: ground truth outside this range is ignored.
    """

    former_keys: ClassVar[Mapping[str, Any]] = {"trim": 0.2}
    name: LossName = "sparse_depth"
    silog_per_image: float = Field(default=1.0, ge=0)
    silog_pooled: float = Field(default=0.0, ge=0)
    affine_invariant: float = Field(default=0.0, ge=0)
    gradient_matching: float = Field(default=0.0, ge=0)
    log_l1: float = Field(default=0.0, ge=0)
    silog_form: Literal["root", "variance"] = "root"
    silog_lam: float | None = Field(default=None, ge=0, le=1)
    min_depth_m: float = Field(default=1e-3, gt=0)
    max_depth_m: float = Field(default=80.0, gt=0)

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        if self.min_depth_m >= self.max_depth_m:
            raise ValueError(describe_empty_range("depth", self.min_depth_m, self.max_depth_m, "_m"))
        parts = ("silog_per_image", "silog_pooled", "affine_invariant", "gradient_matching", "log_l1")
        if not any(getattr(self, part) for part in parts):
            raise ValueError(f"all weights are 0: set one of {', '.join(parts)} above 0")
        return self


# -- the class of a loss


LossT = TypeVar("LossT")


def load_loss(name: str, base: type[LossT], *, key: str = "loss.name") -> type[LossT]:
    """Return the class of a loss: a name of `stadia list losses`, an entry point, or module:Class.

    base: the recipe's own loss. Other losses must derive from it, because checks and monitors use its terms.
    key: the configuration's key of the name, for the error.

    Raises ConfigError for a class that does not derive from the base.
    """
    loss: object = LOSSES.load(name)
    if isinstance(loss, type) and issubclass(loss, base):
        return loss
    expected = f"{base.__name__} or a class that derives from it"
    fix = "docs/tutorials/train-with-your-loss.md has an example"
    raise ConfigError(key, found=f"'{name}'", expected=expected, fix=fix)
