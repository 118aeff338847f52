"""Supervised loss: inverse depth against sparse or dense ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.errors import GeometryError
from stadia.geometry.depth_maps import inverse_from_depth
from stadia.losses import SPARSE_DEPTH_LOSSES
from stadia.losses.affine_invariant import affine_invariant_residual, gradient_matching_error, trimmed_mean
from stadia.losses.report import LossReport
from stadia.losses.silog import log_ratio, mean_over_labeled_images, pooled, silog_root, silog_variance
from stadia.losses.sparse_depth_config import SparseDepthConfig


@dataclass(frozen=True, slots=True)
class Labeled:
    """The input of every term, all (B, 1, H, W). Pixels that are not `known` must not be read."""

    inverse_depth: Tensor
    true_m: Tensor
    known: Tensor
    log_ratio: Tensor
    """ln z - ln z_true, 0 where not known."""

    def affine_residual(self) -> Tensor:
        return affine_invariant_residual(
            self.inverse_depth, inverse_from_depth(self.true_m.where(self.known, 0.0)), self.known
        )


def _silog(d: Tensor, known: Tensor, config: SparseDepthConfig) -> Tensor:
    form = {"root": silog_root, "variance": silog_variance}[config.silog_form]
    return form(d, known) if config.silog_lam is None else form(d, known, lam=config.silog_lam)


def silog_per_image(given: Labeled, config: SparseDepthConfig) -> Tensor:
    """SILog of each image, averaged over the images with labels."""
    return mean_over_labeled_images(_silog(given.log_ratio, given.known, config), given.known)


def silog_pooled(given: Labeled, config: SparseDepthConfig) -> Tensor:
    """SILog over the labeled pixels of the whole batch."""
    return _silog(*pooled(given.log_ratio, given.known), config)[0]


def affine(given: Labeled, config: SparseDepthConfig) -> Tensor:
    """Trimmed error up to scale and shift of each image, averaged over images."""
    return mean_over_labeled_images(trimmed_mean(given.affine_residual(), given.known, config.trim), given.known)


def gradient_matching(given: Labeled, config: SparseDepthConfig) -> Tensor:
    """Gradients of the error up to scale and shift, averaged over images."""
    return mean_over_labeled_images(gradient_matching_error(given.affine_residual(), given.known), given.known)


def log_l1(given: Labeled, config: SparseDepthConfig) -> Tensor:
    """Mean |ln z - ln z_true| of each image, averaged over the images with labels."""
    of_each = given.log_ratio.abs().flatten(1).sum(1) / given.known.flatten(1).sum(1).clamp(min=1)
    return mean_over_labeled_images(of_each, given.known)


class SparseDepthLoss:
    """The weighted sum of SPARSE_DEPTH_LOSSES. Ground truth of 0, or outside the configured range, is no label.

    Images without labels contribute nothing to the loss, the gradient or the mean. Runs in float32 at least. A
    non-finite prediction at a labeled pixel makes the total non-finite.
    """

    def __init__(self, config: SparseDepthConfig | None = None) -> None:
        self.config = config or SparseDepthConfig()
        weights = {name: float(getattr(self.config, name)) for name in SPARSE_DEPTH_LOSSES}
        self.parts = {name: (weight, SPARSE_DEPTH_LOSSES.load(name)) for name, weight in weights.items() if weight}

    def __call__(self, inverse_depth: Tensor, true_m: Tensor) -> LossReport:
        """Compute the loss of a batch.

        Args:
            inverse_depth: (B, 1, H, W) in 1/m (affine_invariant and gradient_matching: up to scale and shift).
            true_m: (B, 1, H, W) meters, 0 = none.

        Returns: the total; weighted `terms` by name; the map "log_error" (B, 1, H, W), |ln z - ln z_true| at labels,
        else 0. Raises GeometryError if the sizes differ.
        """
        _check_sizes(inverse_depth, true_m)
        with torch.autocast(inverse_depth.device.type, enabled=False):
            inverse_depth = inverse_depth.to(torch.promote_types(inverse_depth.dtype, torch.float32))
            true_m = true_m.to(inverse_depth.dtype)
            known = self.known(true_m)
            given = Labeled(inverse_depth, true_m, known, log_ratio(inverse_depth, true_m, known))
            terms = {name: weight * part(given, self.config) for name, (weight, part) in self.parts.items()}
            total = torch.stack(list(terms.values())).sum()
        maps = {"log_error": given.log_ratio.detach().abs()}
        detached = {name: value.detach() for name, value in terms.items()}
        return LossReport(total, detached, maps, least=dict.fromkeys(terms, 0.0))

    def known(self, true_m: Tensor) -> Tensor:
        """Return the mask of labels, of the shape of `true_m` in meters."""
        return (true_m > self.config.min_depth_m) & (true_m < self.config.max_depth_m)


def _check_sizes(inverse_depth: Tensor, true_m: Tensor) -> None:
    if inverse_depth.ndim != 4 or inverse_depth.shape[1] != 1 or inverse_depth.shape != true_m.shape:
        raise GeometryError(
            "depth and ground truth",
            found=f"{tuple(inverse_depth.shape)} and {tuple(true_m.shape)}",
            expected="two maps (B, 1, H, W) of one size",
            fix="read the ground truth at the network's size; one that is sparse cannot be resized after",
        )
