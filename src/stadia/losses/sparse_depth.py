"""Compare inverse depth with sparse or dense true depth by SILog, affine-invariant and log L1 terms; compare speed.

Pixels outside `known` are never read. An image without labels contributes 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stadia.differentiable.batch import Prediction, Targets, is_temporal
from stadia.geometry.align import median_and_deviation
from stadia.geometry.cameras import inverse_from_depth
from stadia.losses import SPARSE_DEPTH_LOSSES
from stadia.losses.config import SelfSupervisedLossConfig, SparseDepthConfig
from stadia.losses.loss_report import LossReport, masked_mean

# -- scale-invariant logarithmic error (SILog): a global factor of depth is partly ignored
#
# All functions take d = ln z - ln z_true and `known`, both (B, ...). With the mean m over the known pixels,
# mean(d^2) - lam mean(d)^2 = mean((d - m)^2) + (1 - lam) m^2,
# and the right side is computed, because rounding cannot make it negative for lam <= 1.
#
# Source: Eigen et al., "Depth map prediction from a single image using a multi-scale deep network", NeurIPS 2014,
# arXiv 1406.2283, eq. 4; the root is from Lee et al., "From big to small", arXiv 1907.10326, eq. 4.

FAR_INVERSE_DEPTH = 1e-3
"""Below this inverse depth in 1/m, the logarithm is continued by its tangent; see `log_ratio`."""

ROOT_EPS = 1e-6
"""Added under the root, because the root has an infinite slope at 0."""


def log_ratio(inverse_depth: Tensor, true_m: Tensor, known: Tensor) -> Tensor:
    """Return d = ln z - ln z_true, (B, 1, H, W); 0 at unknown pixels.

    Predictions are not clamped, because a clamped value has no gradient. Below FAR_INVERSE_DEPTH the tangent of the
    logarithm keeps the value finite.

    inverse_depth: (B, 1, H, W) predicted, in 1/m.
    true_m: (B, 1, H, W) true depth in metres.
    known: (B, 1, H, W) bool mask of labeled pixels.
    """
    near = inverse_depth > FAR_INVERSE_DEPTH  # false for NaN, which the tangent propagates
    tangent = inverse_depth / FAR_INVERSE_DEPTH - 1 + math.log(FAR_INVERSE_DEPTH)
    return torch.where(known, -torch.where(near, inverse_depth.where(near, 1.0).log(), tangent) - true_m.log(), 0.0)


def silog_variance(d: Tensor, known: Tensor, *, lam: float = 0.5) -> Tensor:
    """Return mean(d^2) - lam mean(d)^2 of each image, (B,) (Eigen). lam = 0 gives the mean square.

    d: (B, 1, H, W) log ratios.
    known: (B, 1, H, W) bool mask of labeled pixels.
    """
    d, known = d.flatten(1), known.flatten(1)
    count = known.sum(1).clamp(min=1)
    mean = d.where(known, 0.0).sum(1) / count
    spread = (d - mean[:, None]).where(known, 0.0).square().sum(1) / count
    return spread + (1 - lam) * mean.square()


def silog_root(d: Tensor, known: Tensor, *, lam: float = 0.85, alpha: float = 10.0) -> Tensor:
    """Return alpha sqrt(mean(d^2) - lam mean(d)^2) of each image, (B,). Value and gradient are 0 at the truth.

    d: (B, 1, H, W) log ratios.
    known: (B, 1, H, W) bool mask of labeled pixels.
    """
    return alpha * ((silog_variance(d, known, lam=lam) + ROOT_EPS).sqrt() - ROOT_EPS**0.5)


def mean_over_labeled_images(of_each: Tensor, known: Tensor) -> Tensor:
    """Return the mean of `of_each` (B,) over the images with a label, a scalar; 0 if no image has one.

    known: (B, ...) bool mask of labeled pixels.
    """
    labeled = known.flatten(1).any(1)
    return of_each.where(labeled, 0.0).sum() / labeled.sum().clamp(min=1)


# -- losses of inverse depth up to scale and shift, as networks trained on mixed data predict it
#
# Prediction and truth are normalized to median 0 and mean deviation 1 over the labeled pixels of each image. Maps are
# (B, 1, H, W); pixels that are not `known` are never read.
#
# Source: Ranftl et al., "Towards robust monocular depth estimation: mixing datasets for zero-shot cross-dataset
# transfer", PAMI 44(3), 2022, arXiv 1907.01341, eq. 5 to 8 and 11.


def normalize_median_deviation(inverse_depth: Tensor, known: Tensor) -> Tensor:
    """Return (x - median) / mean |x - median| of each image, (B, 1, H, W); 0 at unknown pixels and in constant images.

    inverse_depth: (B, 1, H, W) values x.
    known: (B, 1, H, W) bool mask of the pixels to use.
    """
    x, where = inverse_depth.flatten(1), known.flatten(1)
    x = x.where(where, 0.0)
    median, deviation = median_and_deviation(x, where)
    varied = deviation > 4 * torch.finfo(x.dtype).eps * median.abs()  # false for NaN: an image without labels
    relative = (x - median.where(where.any(1), 0.0)[:, None]) / deviation.where(varied, 1.0)[:, None]
    return relative.where(where, 0.0).view_as(inverse_depth)


def affine_invariant_residual(inverse_depth: Tensor, true_inverse_depth: Tensor, known: Tensor) -> Tensor:
    """Return the normalized prediction minus the normalized truth, (B, 1, H, W); 0 at unknown pixels.

    inverse_depth, true_inverse_depth: (B, 1, H, W).
    known: (B, 1, H, W) bool mask of labeled pixels.
    """
    return normalize_median_deviation(inverse_depth, known) - normalize_median_deviation(true_inverse_depth, known)


def trimmed_mean(difference: Tensor, known: Tensor, trim: float = 0.2) -> Tensor:
    """Return the sum of the M (1 - trim) smallest |r| of an image's M known pixels, times 1 / (2 M), (B,) (eq. 8).

    The largest errors are considered to be wrong labels and get no gradient.

    difference: (B, 1, H, W) residuals r.
    known: (B, 1, H, W) bool mask of labeled pixels.
    """
    where = known.flatten(1)
    size = difference.flatten(1).abs().where(where, 0.0)
    ordered = size.where(where, torch.inf).sort(1).values
    count = where.sum(1)
    kept = ((1 - trim) * count.double() + 1e-6).floor()  # 0.8 * 5 is 4 despite rounding
    rank = torch.arange(ordered.shape[1], device=ordered.device)
    not_finite = 0 * size.sum(1)  # propagates, although it is trimmed
    return ordered.where(rank < kept[:, None], 0.0).sum(1) / (2 * count.clamp(min=1)) + not_finite


def gradient_matching_error(difference: Tensor, known: Tensor, scales: int = 4) -> Tensor:
    """Return the sum of |dx r| + |dy r| between known neighbors over `scales` sizes, divided by M, (B,) (eq. 11).

    M is the number of known pixels. Each size has every second pixel of the size before. Use it with dense ground
    truth.

    difference: (B, 1, H, W) residuals r.
    known: (B, 1, H, W) bool mask of labeled pixels.
    """
    total = difference.new_zeros(difference.shape[0])
    for scale in range(scales):
        r, where = difference[..., :: 2**scale, :: 2**scale], known[..., :: 2**scale, :: 2**scale]
        for dim in (-1, -2):
            length = r.shape[dim] - 1
            both = where.narrow(dim, 0, length) & where.narrow(dim, 1, length)
            total = total + r.diff(dim=dim).abs().where(both, 0.0).flatten(1).sum(1)
    return total / known.flatten(1).sum(1).clamp(min=1)


# -- the loss and its terms


@dataclass(frozen=True, slots=True)
class LabeledDepth:
    """The input of every term; all tensors are (B, 1, H, W). Terms must not read pixels outside `known`.

    inverse_depth: predicted inverse depth in 1/m.
    true_m: true depth in metres.
    known: bool mask of labeled pixels.
    """

    inverse_depth: Tensor
    true_m: Tensor
    known: Tensor
    log_ratio: Tensor
    """ln z - ln z_true, 0 at unknown pixels."""

    def affine_residual(self) -> Tensor:
        """Return the normalized prediction minus the normalized truth, (B, 1, H, W)."""
        true_inverse_depth = inverse_from_depth(self.true_m.where(self.known, 0.0))
        return affine_invariant_residual(self.inverse_depth, true_inverse_depth, self.known)


def _silog(d: Tensor, known: Tensor, config: SparseDepthConfig) -> Tensor:
    form = {"root": silog_root, "variance": silog_variance}[config.silog_form]
    return form(d, known) if config.silog_lam is None else form(d, known, lam=config.silog_lam)


def silog_per_image(given: LabeledDepth, config: SparseDepthConfig) -> Tensor:
    """Return the SILog of each image, averaged over the images with labels, a scalar."""
    return mean_over_labeled_images(_silog(given.log_ratio, given.known, config), given.known)


def silog_pooled(given: LabeledDepth, config: SparseDepthConfig) -> Tensor:
    """Return the SILog over the labeled pixels of the whole batch, a scalar."""
    return _silog(given.log_ratio.reshape(1, -1), given.known.reshape(1, -1), config)[0]


def affine_invariant(given: LabeledDepth, config: SparseDepthConfig) -> Tensor:
    """Return the trimmed error after alignment of scale and shift, averaged over images with labels, a scalar."""
    return mean_over_labeled_images(trimmed_mean(given.affine_residual(), given.known), given.known)


def gradient_matching(given: LabeledDepth, config: SparseDepthConfig) -> Tensor:
    """Return the gradients of the error after alignment of scale and shift, averaged over labeled images, a scalar."""
    return mean_over_labeled_images(gradient_matching_error(given.affine_residual(), given.known), given.known)


def log_l1(given: LabeledDepth, config: SparseDepthConfig) -> Tensor:
    """Return the mean |ln z - ln z_true| of each image, averaged over the images with labels, a scalar."""
    of_each = given.log_ratio.abs().flatten(1).sum(1) / given.known.flatten(1).sum(1).clamp(min=1)
    return mean_over_labeled_images(of_each, given.known)


class SparseDepthLoss:
    """The weighted sum of SPARSE_DEPTH_LOSSES. Ground truth that is 0 or outside the configured range is not used.

    The loss runs in float32 at least. A prediction that is not finite at a labeled pixel makes the total not finite.
    """

    def __init__(self, config: SparseDepthConfig | None = None) -> None:
        self.config = config or SparseDepthConfig()
        weights = {name: float(getattr(self.config, name)) for name in SPARSE_DEPTH_LOSSES}
        self.parts = {name: (weight, SPARSE_DEPTH_LOSSES.load(name)) for name, weight in weights.items() if weight}

    def __call__(self, inverse_depth: Tensor, true_m: Tensor) -> LossReport:
        """Return the weighted terms of a batch, and the map "log_error" (B, 1, H, W), 0 without label.

        inverse_depth: (B, 1, H, W) in 1/m (affine_invariant and gradient_matching: up to scale and shift).
        true_m: (B, 1, H, W) metres, 0 = none.
        """
        with torch.autocast(inverse_depth.device.type, enabled=False):
            inverse_depth = inverse_depth.to(torch.promote_types(inverse_depth.dtype, torch.float32))
            true_m = true_m.to(inverse_depth.dtype)
            known = self.known(true_m)
            given = LabeledDepth(inverse_depth, true_m, known, log_ratio(inverse_depth, true_m, known))
            terms = {name: weight * part(given, self.config) for name, (weight, part) in self.parts.items()}
            maps = {"log_error": given.log_ratio.detach().abs()}
            return LossReport.from_terms(terms, maps, least=dict.fromkeys(terms, 0.0))

    def known(self, true_m: Tensor) -> Tensor:
        """Return the mask of labeled pixels, with the shape of `true_m` (B, 1, H, W) in metres."""
        return (true_m > self.config.min_depth_m) & (true_m < self.config.max_depth_m)


# -- points of a map, and static pixels, in the self-supervised loss

MAX_LOG_ERROR = 1.0
"""The gradient is constant for larger errors of ln z, so that one wrong point cannot move a network far."""


@dataclass(frozen=True, slots=True)
class MapLabels:
    """Labels of a batch that come from a map of the scene.

    point_depth: (B, 1, H, W) z of map points in the unit of the motion, 0 without a point; or None.
    static: (B, 1, H, W) bool, false on moving objects, which must not train; or None.
    """

    point_depth: Tensor | None
    static: Tensor | None

    @classmethod
    def of_targets(cls, targets: Targets) -> "MapLabels":
        """Return the labels that the targets of a batch contain."""
        return cls(targets.point_depth, None if targets.static is None else targets.static > 0)

    def mask(self, residual: Tensor) -> Tensor:
        """Return the residual (B, 1, h, w), of any size, with 0 on moving objects."""
        if self.static is None:
            return residual
        stands = functional.interpolate(self.static.to(residual.dtype), residual.shape[-2:], mode="nearest-exact")
        return residual * stands


def point_depth_loss(inverse_depth: Tensor, point_depth: Tensor) -> Tensor:
    """Return the mean smooth L1 error of ln z at the map's points, a scalar; 0 without points.

    inverse_depth: (B, 1, H, W) predicted.
    point_depth: (B, 1, H, W) z of the points; 0 without a point.
    """
    known = point_depth > 0
    error = torch.log(inverse_depth) + torch.log(torch.where(known, point_depth, 1 / inverse_depth.detach()))
    robust = functional.smooth_l1_loss(error, torch.zeros_like(error), beta=MAX_LOG_ERROR, reduction="none")
    return torch.where(known, robust, torch.zeros_like(robust)).sum() / known.sum().clamp(min=1)


# -- terms of measured depth and speed next to view synthesis: they give metres


def compute_speed_error(T_source_target: Tensor, T_source_target_true: Tensor, source_names: Sequence[str]) -> Tensor:
    """Return the mean | |t| - |t_true| | in metres over sources with measured motion, a scalar.

    T_source_target: (B, N, 4, 4) predicted motions.
    T_source_target_true: (B, N, 4, 4) true motions in metres, NaN if unknown.
    source_names: N names, which give the kind of each source.

    Source: arXiv 1905.02693, eq. 6.
    """
    in_time = [number for number, name in enumerate(source_names) if is_temporal(name)]
    if not in_time:
        return 0 * T_source_target.sum()
    predicted = torch.stack([T_source_target[:, number, :3, 3] for number in in_time], 1)
    true = torch.stack([T_source_target_true[:, number, :3, 3] for number in in_time], 1)
    known = true.isfinite().all(-1)
    length = predicted.square().sum(-1).clamp(min=torch.finfo(predicted.dtype).tiny).sqrt()
    return masked_mean((length - true.nan_to_num().norm(dim=-1)).abs(), known)


class MeasuredTerms:
    """Compute the terms "sparse_depth" and "speed", which compare with measured depth and motion.

    Their weights are `loss.sparse_depth` and `loss.speed`.
    """

    def __init__(self, config: SelfSupervisedLossConfig) -> None:
        self.config = config
        self.sparse_depth = SparseDepthLoss(SparseDepthConfig(silog_per_image=0.0, log_l1=1.0))

    def __call__(self, targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
        """Compute the weighted terms of a batch; depth uses `targets.depth_m`, speed the measured motions."""
        terms: dict[str, Tensor] = {}
        with torch.autocast(targets.image.device.type, enabled=False):
            if self.config.sparse_depth and targets.depth_m is not None:
                finest = prediction.inverse_depth[0].float()
                terms["sparse_depth"] = self.config.sparse_depth * self.sparse_depth(finest, targets.depth_m).total
            if self.config.speed:
                given = prediction.T_source_target.float(), targets.T_source_target_true.float()
                terms["speed"] = self.config.speed * compute_speed_error(*given, source_names)
        if not terms:
            terms["sparse_depth"] = 0 * prediction.inverse_depth[0].sum()
        return LossReport.from_terms(terms, {}, least=dict.fromkeys(terms, 0.0))
