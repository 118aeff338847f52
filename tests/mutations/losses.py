"""Losses with one mistake each, checked on scenes whose correct outputs are known.

The loss of the package is the correct one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from tests.mutations.mutation import MutationCase
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction, Targets
from stadia.differentiable.view_synthesis import invert_brightness, warp_image
from stadia.geometry.poses import invert_pose
from stadia.judge.finding import Finding, Stage
from stadia.losses.config import MetricScaleConfig, SelfSupervisedLossConfig
from stadia.losses.loss_report import LossReport
from stadia.losses.metric_scale import MetricScaleLoss
from stadia.losses.reprojection import TorchReprojector
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.losses.sparse_depth import SparseDepthLoss
from stadia.overlay.config import OverlayLossConfig
from stadia.overlay.losses import OverlayLoss
from stadia.overlay.recipe import make_overlay_case
from stadia.training.loss_checks.loss_case import LossCase, make_camera_height_case, make_depth_case
from stadia.training.loss_checks.loss_check_runner import check_losses
from stadia.training.loss_checks.video_cases import OutputSpec, VideoLoss, make_video_case

PACKAGE_LOSS = SelfSupervisedLoss(SelfSupervisedLossConfig())
TORCH_LOSS = SelfSupervisedLoss(SelfSupervisedLossConfig(), reprojector=TorchReprojector)


def package_loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    """Return the photometric loss of the package, by the compiled loops that train on a CPU."""
    return PACKAGE_LOSS(targets, prediction, source_names)


def package_loss_at(sizes: int) -> VideoLoss:
    """The same, compared at so many image sizes."""
    return SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=sizes))


def summed(loss: VideoLoss) -> VideoLoss:
    """A sum over pixels where the loss takes the mean."""

    def of(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
        return report(loss(targets, prediction, source_names).total * targets.image[0, 0].numel())

    return of


def report(total: Tensor, term: Tensor | None = None) -> LossReport:
    return LossReport(total, {"l1": (total if term is None else term).detach()}, {})


def by_color(
    targets: Targets, prediction: Prediction, compare: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Tensor:
    """(B, N, 3, H, W) |warped source - target|, or how else the two are compared; what no source sees counts 1."""
    found = []
    for i in range(targets.sources.shape[1]):
        camera = Camera(targets.source_camera.K[:, i], targets.camera.height, targets.camera.width)
        depth = 1 / prediction.inverse_depth[0]
        view, seen = warp_image(targets.sources[:, i], depth, targets.camera, camera, prediction.T_source_target[:, i])
        found.append((compare(view, targets.image) if compare else (view - targets.image).abs()).where(seen, 1.0))
    return torch.stack(found, 1)


def residuals(targets: Targets, prediction: Prediction) -> Tensor:
    """(B, N, H, W), the mean over channels."""
    return by_color(targets, prediction).mean(2)


def simple(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    """A loss of a user's own: the least of the candidates, and its mean."""
    return report(residuals(targets, prediction).amin(1).mean())


def least(targets: Targets, prediction: Prediction) -> Tensor:
    return residuals(targets, prediction).amin(1)


def favors_near_depth(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    depth = 1 / prediction.inverse_depth[0]
    return report(least(targets, prediction).mean() + 8 * depth.diff(dim=-1).abs().mean())


def missing_errors(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    each = least(targets, prediction)
    return report(each.where(each < 0.03, 0.0).mean())


def half_the_slope(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    half = (prediction.inverse_depth[0] + prediction.inverse_depth[0].detach()) / 2
    return report(least(targets, replace(prediction, inverse_depth=(half,))).mean())


def pooled(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(least(targets, prediction).square().mean().sqrt())


def two_to_the_first(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    each = residuals(targets, prediction)
    return report((2 * each[:, 0] + each[:, 1]).mean() / 3)


def shifted(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    each = least(targets, prediction)
    return report((each * torch.linspace(0.5, 1.5, each.shape[-1], dtype=each.dtype)).mean())


def detached(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    still = tuple(x.detach() for x in prediction.inverse_depth)
    return simple(targets, replace(prediction, inverse_depth=still), source_names)


def one_sample(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(least(targets, prediction).view(1, *targets.image.shape[-2:]).mean())


def map_total(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(least(targets, prediction))


def float_total(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(torch.tensor(least(targets, prediction).mean().item()))


def missing_term(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    value = least(targets, prediction).mean()
    return report(value + 0.1 * prediction.inverse_depth[0].diff(dim=-1).abs().mean(), term=value)


def random_pixels(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    each = least(targets, prediction).flatten(1)
    return report(each[:, torch.randperm(each.shape[1])[: each.shape[1] // 2]].mean())


def modifies_input(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    targets.image.clamp_(max=0.7)
    return simple(targets, prediction, source_names)


def normalized_by_mean(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(least(targets, prediction).mean(dim=(1, 2)).square().mean())


def inverted(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return simple(targets, replace(prediction, T_source_target=invert_pose(prediction.T_source_target)), source_names)


def static_camera(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(least(targets, prediction).mean() + prediction.T_source_target[..., :3, 3].norm(dim=-1).mean())


def on_the_source(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    assert prediction.brightness is not None
    return package_loss(targets, replace(prediction, brightness=invert_brightness(prediction.brightness)), source_names)


def least_of_nine(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(by_color(targets, prediction).flatten(1, 2).amin(1).mean())


def least_of_means(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    return report(residuals(targets, prediction).mean((2, 3)).amin(1).mean())


def uncertainty_loss(weigh: Callable[[Tensor, Tensor], Tensor]) -> VideoLoss:
    """A loss of residual and Sigma, (B, 1, H, W) each, with log Sigma added."""

    def loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
        assert prediction.log_uncertainty is not None
        log_uncertainty = prediction.log_uncertainty[0]
        return report((weigh(least(targets, prediction)[:, None], log_uncertainty.exp()) + log_uncertainty).mean())

    return loss


def smoothed(values: Callable[[Tensor], Tensor], weight: float = 1e-3) -> VideoLoss:
    """A loss with the slopes of some values of inverse depth: their mean."""

    def loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
        smooth = values(prediction.inverse_depth[0])
        slopes = smooth.diff(dim=-1).abs().mean() + smooth.diff(dim=-2).abs().mean()
        return report(least(targets, prediction).mean() + weight * slopes)

    return loss


def over_its_mean(inverse_depth: Tensor) -> Tensor:
    return inverse_depth / inverse_depth.mean((2, 3), keepdim=True)


def summed_slopes(inverse_depth: Tensor) -> Tensor:
    return over_its_mean(inverse_depth) * inverse_depth[0].numel()


def similar(data_range: float) -> VideoLoss:
    """Structural similarity, with the constants of values to data_range, beside the absolute difference."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)

    def unlike(a: Tensor, b: Tensor) -> Tensor:
        mean_a, mean_b = mean(a), mean(b)
        spread = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
        together = mean(a * b) - mean_a * mean_b
        return (
            1 - (2 * mean_a * mean_b + c1) * (2 * together + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread + c2))
        ) / 2

    def loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
        ssim = 0.85 * by_color(targets, prediction, unlike).mean(2).amin(1).mean()
        l1 = 0.15 * least(targets, prediction).mean()
        return LossReport(ssim + l1, {"ssim": ssim.detach(), "l1": l1.detach()}, {})

    return loss


def by_all_sources(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    """No minimum: the mean over what each source sees."""
    each = residuals(targets, prediction)
    seen = each < 1
    return report((each.where(seen, 0.0).sum((2, 3)) / seen.sum((2, 3))).mean())


def of_each(change: Callable[[Tensor], Tensor]) -> Callable[..., LossReport]:
    """Return the loss of the package for each sample, combined in another way."""

    def loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
        return report(change(least(targets, prediction)))

    return loss


DEPTH, OVERLAY = SparseDepthLoss(), OverlayLoss()
SIMILAR = OverlayLossConfig(depth_ssim=1.0)


def labels_everywhere(inverse_depth: Tensor, depth_m: Tensor) -> LossReport:
    filled = depth_m.where(depth_m > 0, depth_m[depth_m > 0].median())
    return report((inverse_depth.log() + filled.log()).abs().mean())


def metres_as_inverse(inverse_depth: Tensor, depth_m: Tensor) -> LossReport:
    known = depth_m > 0
    return report((inverse_depth - depth_m / 64).abs().where(known, 0.0).sum() / known.sum().clamp(min=1))


class SimilarityOf255(OverlayLoss):
    """SSIM of scaled depth with the constants of values up to 255."""

    def terms(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
        found = super().terms(log_depth, mask_logits, true, mask)
        error = (log_depth - true.where(true > 0, 1.0).log()).where(true > 0, 0.0)
        found["depth_ssim"] = (error.square() / (error.square() + (0.03 * 255) ** 2)).mean()
        return found


def mask_turned(log_depth: Tensor, logits: Tensor, depth: Tensor, mask: Tensor) -> LossReport:
    return OVERLAY(log_depth, -logits, depth, mask)


VIDEO = ("-1", "+1")
WITH_PAIR = ("-1", "+1", "stereo")
EXPOSED = OutputSpec(brightness=True)
DOUBTING = OutputSpec(uncertainty=True)


def video(
    loss: VideoLoss, source_names: Sequence[str] = VIDEO, outputs: OutputSpec | None = None
) -> Callable[[], LossCase]:
    return lambda: make_video_case(loss, source_names, outputs)


def depth(loss: Callable[[Tensor, Tensor], LossReport]) -> Callable[[], LossCase]:
    return lambda: make_depth_case(loss)


SOUND: dict[str, Callable[[], LossCase]] = {
    "the house's": video(package_loss),
    "a simple one": video(simple),
    "the house's, in plain torch": video(TORCH_LOSS, WITH_PAIR),
    "the house's, at four sizes": video(package_loss_at(4), WITH_PAIR, OutputSpec(sizes=4)),
    "the house's, at six sizes": video(package_loss_at(6), ("stereo",), OutputSpec(sizes=6)),
    "the house's, exposed": video(package_loss, VIDEO, EXPOSED),
    "one with uncertainty": video(uncertainty_loss(lambda r, sigma: r / sigma), VIDEO, DOUBTING),
    "one that smooths": video(smoothed(over_its_mean), WITH_PAIR),
    "one of similarity": video(similar(1.0)),
    "one without a minimum": video(by_all_sources),
    "labels": depth(DEPTH),
    "composed": lambda: make_overlay_case(OVERLAY, OVERLAY.weights),
    "composed, with similarity": lambda: make_overlay_case(OverlayLoss(SIMILAR), SIMILAR.weights),
    "heights": lambda: make_camera_height_case(MetricScaleLoss(MetricScaleConfig(object_height=0, camera_height=0.05))),
}

TABLE: list[tuple[str, str, str, Callable[[], LossCase]]] = [
    ("a loss that rewards near depth, by smoothness of metres", "L01", "a simple one", video(favors_near_depth)),
    ("a loss of labels that are metres as inverse depth", "L01", "labels", depth(metres_as_inverse)),
    ("a loss that leaves out large errors", "L02", "a simple one", video(missing_errors)),
    ("a loss with half of its slope detached", "L03", "a simple one", video(half_the_slope)),
    ("a loss with a root over the whole batch", "L04", "a simple one", video(pooled)),
    ("a loss summed over samples", "L05", "a simple one", video(of_each(lambda x: x.mean((1, 2)).sum()))),
    ("a loss summed over pixels", "L06", "a simple one", video(of_each(lambda x: x.sum((1, 2)).mean()))),
    ("a loss of four sizes, summed over pixels", "L06", "the house's, at four sizes",
        video(summed(package_loss_at(4)), WITH_PAIR, OutputSpec(sizes=4))),
    ("a loss with a source that counts twice", "L07", "a simple one", video(two_to_the_first)),
    ("a loss that weighs the right side more", "L08", "a simple one", video(shifted)),
    ("a loss with a root at 0", "L09", "a simple one", video(of_each(lambda x: x.sqrt().mean()))),
    ("a loss with depth detached", "L10", "a simple one", video(detached)),
    ("a loss for batches of one", "L11", "a simple one", video(one_sample)),
    ("a loss that is a map", "L12", "a simple one", video(map_total)),
    ("a loss that is a number", "L12", "a simple one", video(float_total)),
    ("a loss with a term that is not told", "L13", "a simple one", video(missing_term)),
    ("a loss of random pixels", "L14", "a simple one", video(random_pixels)),
    ("a loss that writes to its images", "L15", "a simple one", video(modifies_input)),
    ("a loss with a square of image means", "L16", "a simple one", video(normalized_by_mean)),
    ("a loss with the mask turned", "L17", "composed", lambda: make_overlay_case(mask_turned, OVERLAY.weights)),
    ("a loss that reads what has no label", "L18", "labels", depth(labels_everywhere)),
    ("a minimum over colors and sources", "L19", "a simple one", video(least_of_nine)),
    ("a minimum over the means of images", "L16", "a simple one", video(least_of_means)),
    ("the mean of an image over its map of uncertainty", "L16", "one with uncertainty",
        video(uncertainty_loss(lambda r, sigma: r.mean((1, 2, 3), keepdim=True) / sigma), VIDEO, DOUBTING)),
    ("residuals without an axis of channels over a map with one: every sample over every other's Sigma", "L04",
        "one with uncertainty", video(uncertainty_loss(lambda r, sigma: r[:, 0] / sigma), VIDEO, DOUBTING)),
    ("residuals times uncertainty", "U07", "one with uncertainty",
        video(uncertainty_loss(lambda r, sigma: r * sigma), VIDEO, DOUBTING)),
    ("smoothness of metres", "L24", "one that smooths", video(smoothed(torch.reciprocal), WITH_PAIR)),
    ("smoothness summed over pixels", "L06", "one that smooths", video(smoothed(summed_slopes), WITH_PAIR)),
    ("similarity with constants for 255", "L25", "one of similarity", video(similar(255.0))),
    ("similarity of depth with constants for 255", "L25", "composed, with similarity",
        lambda: make_overlay_case(SimilarityOf255(SIMILAR), SIMILAR.weights)),
    ("a loss that inverts motion", "L01 P01", "a simple one", video(inverted)),
    ("a loss that holds motion still", "P01", "a simple one", video(static_camera)),
    ("a loss with brightness on the source", "B01", "the house's, exposed", video(on_the_source, VIDEO, EXPOSED)),
]  # fmt: skip


@cache
def _of_sound(name: str) -> list[Finding]:
    return check_losses({name: SOUND[name]()})


def _case(name: str, codes: str, correct: str, broken: Callable[[], LossCase]) -> MutationCase:
    def found(folder: Path) -> list[Finding]:
        torch.manual_seed(0)
        return check_losses({name: broken()})

    return MutationCase(name, tuple(codes.split()), Stage.BEFORE_TRAINING, found, lambda folder: _of_sound(correct))


ROWS = tuple(_case(*row) for row in TABLE)
