"""Loss of composite images: depth and mask, by named and weighted terms (OVERLAY_LOSSES)."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.losses.class_masks import dice_loss
from stadia.losses.loss_report import LossReport, average_count_over_processes, divide_sum
from stadia.losses.reprojection import ssim_distance
from stadia.overlay import OVERLAY_LOSSES
from stadia.overlay.config import OverlayLossConfig


@dataclass(frozen=True, slots=True)
class OverlayComparison:
    """Hold predictions and labels as every loss term takes them, (B, 1, H, W) each.

    depth: predicted depth, scaled so that the configured range from min_depth to max_depth becomes 0 to 1.
    true: true depth, scaled in the same way; 0 at unknown pixels.
    known: bool, true for pixels whose true depth is known and inside the configured range.
    mask_logits: predicted logits of the mask of the pasted object.
    mask: true mask, 0 or 1.
    """

    depth: Tensor
    true: Tensor
    known: Tensor
    mask_logits: Tensor
    mask: Tensor

    @classmethod
    def from_maps(
        cls, log_depth: Tensor, true: Tensor, mask_logits: Tensor, mask: Tensor, config: OverlayLossConfig
    ) -> "OverlayComparison":
        """Return the comparison of maps (B, 1, H, W).

        log_depth: predicted ln z.
        true: true z; 0 means unknown.
        mask_logits: predicted logits.
        mask: true mask in [0, 1]; the threshold is 0.5.
        """
        kind = torch.promote_types(log_depth.dtype, torch.float32)
        known = (true > config.min_depth) & (true < config.max_depth)
        nearest, farthest = config.min_depth, config.max_depth
        depth, true = log_depth.to(kind).where(known, 0.0), true.where(known, nearest).to(kind)
        if config.depth_values == "log":
            nearest, farthest, true = math.log(nearest), math.log(farthest), true.log()
        else:
            depth = depth.exp()
        true, depth = (((x - nearest) / (farthest - nearest)).where(known, 0.0) for x in (true, depth))
        mask = (mask >= 0.5 if mask.is_floating_point() else mask).to(kind)
        return cls(depth, true, known, mask_logits.to(kind), mask)

    @property
    def error(self) -> Tensor:
        """Return prediction minus truth in scaled depth, (B, 1, H, W); 0 at unknown pixels."""
        return self.depth - self.true


def _mean_over(values: Tensor, where: Tensor) -> Tensor:
    return divide_sum(values.where(where, 0.0), average_count_over_processes(where.sum().to(values.dtype)))


def depth_mse(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return the mean squared error of depth, scaled to the range 0 to 1, over the pixels with known depth; a scalar.

    given: scaled predictions and labels.
    config: configuration of the loss, which this term does not use.
    """
    return _mean_over(given.error.square(), given.known)


def depth_l1(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return the mean absolute error of depth, scaled to the range 0 to 1, over the pixels with known depth; a scalar.

    given: scaled predictions and labels.
    config: configuration of the loss, which this term does not use.
    """
    return _mean_over(given.error.abs(), given.known)


def depth_smooth_l1(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return the mean smooth L1 error of scaled depth over the pixels with known depth; a scalar.

    With the error d of a pixel, it is d^2 / (2 beta) up to |d| = beta, and |d| - beta / 2 beyond.

    given: scaled predictions and labels.
    config: configuration of the loss, which gives beta as smooth_l1_beta.
    """
    values = F.smooth_l1_loss(given.depth, given.true, reduction="none", beta=config.smooth_l1_beta)
    return _mean_over(values, given.known)


def depth_ssim(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return the mean of 1 - SSIM between predicted and true scaled depth; a scalar.

    The mean is over all 3x3 windows with known depth at every pixel.

    given: scaled predictions and labels.
    config: configuration of the loss, which this term does not use.
    """
    whole = -F.max_pool2d(-given.known.float(), 3, stride=1, padding=1) > 0.5
    return _mean_over(2 * ssim_distance(given.depth, given.true), whole)


def depth_gradient(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return the mean absolute difference of the depth error between neighbors, along x plus along y; a scalar.

    It compares slopes and edges of predicted and true scaled depth. Only neighbors that both have known depth are
    used.

    given: scaled predictions and labels.
    config: configuration of the loss, which this term does not use.
    """
    d, known = given.error, given.known
    along_x = _mean_over((d[..., 1:] - d[..., :-1]).abs(), known[..., 1:] & known[..., :-1])
    along_y = _mean_over((d[..., 1:, :] - d[..., :-1, :]).abs(), known[..., 1:, :] & known[..., :-1, :])
    return along_x + along_y


def mask_bce(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return the binary cross-entropy between the predicted and the true mask, the mean over all pixels; a scalar.

    given: predictions and labels.
    config: configuration of the loss, which this term does not use.
    """
    values = F.binary_cross_entropy_with_logits(given.mask_logits, given.mask, reduction="none")
    return _mean_over(values, torch.ones_like(given.known))


def mask_mse(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return the squared error of the predicted mask probability, the mean over all pixels; a scalar.

    given: predictions and labels.
    config: configuration of the loss, which this term does not use.
    """
    return _mean_over((given.mask_logits.sigmoid() - given.mask).square(), torch.ones_like(given.known))


def mask_dice(given: OverlayComparison, config: OverlayLossConfig) -> Tensor:
    """Return 1 - Dice between the predicted and the true mask, the mean over images with a pasted object; a scalar.

    given: predictions and labels.
    config: configuration of the loss, which this term does not use.
    """
    # Two classes, whose softmax is the sigmoid.
    logits = torch.cat((torch.zeros_like(given.mask_logits), given.mask_logits), dim=1)
    shown = given.mask.flatten(1).any(1)
    return _mean_over(dice_loss(logits, given.mask[:, 0]), shown)


class OverlayLoss:
    """The weighted sum of OVERLAY_LOSSES. Depth terms need labels; mask terms train on every image.

    Terms are means over the batches of all processes, so every process must call it. It runs in float32 at least.
    """

    def __init__(self, config: OverlayLossConfig | None = None) -> None:
        self.config = config or OverlayLossConfig()
        self.weights = self.config.weights
        self._rows = {name: OVERLAY_LOSSES.load(name) for name in self.weights}

    def __call__(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> LossReport:
        return self.report(self.terms(log_depth, mask_logits, true, mask))

    def terms(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return the unweighted terms that have a weight, by name, from maps (B, 1, H, W).

        log_depth, mask_logits: predicted ln z and mask logits.
        true, mask: true z (0 means unknown) and mask.

        Raises GeometryError if shapes differ.
        """
        shapes = [tuple(x.shape) for x in (log_depth, mask_logits, true, mask)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 4 or shapes[0][1] != 1:
            found, expected = ", ".join(map(str, shapes)), "four maps (B, 1, H, W) of one size"
            raise GeometryError("depth, mask and their labels", found=found, expected=expected)
        with torch.autocast(log_depth.device.type, enabled=False):
            given = self._compare(log_depth, mask_logits, true, mask)
            return {name: row(given, self.config) for name, row in self._rows.items()}

    def _compare(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> OverlayComparison:
        if (stride := self.config.label_stride) > 1:
            log_depth, mask_logits = (F.avg_pool2d(x, stride) for x in (log_depth, mask_logits))
            true = true[..., stride // 2 :: stride, stride // 2 :: stride]
            mask = F.avg_pool2d(mask.to(log_depth.dtype), stride)
        return OverlayComparison.from_maps(log_depth, true, mask_logits, mask, self.config)

    @torch.no_grad()
    def monitor(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor | float]:
        """Compute every term of OVERLAY_LOSSES, also with weight 0, to log it.

        Return each term as the scalar "monitor/NAME", and the seconds that it took as "monitor_s/NAME".

        log_depth: (B, 1, H, W) predicted ln z.
        mask_logits: (B, 1, H, W) predicted logits of the mask.
        true: (B, 1, H, W) true z; 0 means unknown.
        mask: (B, 1, H, W) true mask.
        """
        logged: dict[str, Tensor | float] = {}
        with torch.autocast(log_depth.device.type, enabled=False):
            given = self._compare(log_depth, mask_logits, true, mask)
            for name in OVERLAY_LOSSES:
                term = OVERLAY_LOSSES.load(name)
                began = time.perf_counter()
                logged[f"monitor/{name}"] = value = term(given, self.config)
                value.item()
                logged[f"monitor_s/{name}"] = time.perf_counter() - began
        return logged

    def report(self, terms: Mapping[str, Tensor], factors: Mapping[str, Tensor | float] | None = None) -> LossReport:
        """Return the total loss, which is the weighted sum of terms, together with its weighted terms.

        terms: unweighted scalar terms by name, from `terms`.
        factors: additional factors of the weights by name, such as those that balance gradients; 1 for a missing
            name.
        """
        weighted = {name: self.weights[name] * (factors or {}).get(name, 1.0) * value for name, value in terms.items()}
        return LossReport.from_terms(weighted, {}, least=dict.fromkeys(weighted, 0.0))
