"""The loss of composed images: each term by hand, what it does not read, and what the published one had wrong."""

import math

import pytest
import torch
from pydantic import ValidationError

from stadia.metrics.depth_metrics import depth_error_sums, pooled_depth_scores, sum_over_images
from stadia.overlay import OVERLAY_LOSSES
from stadia.overlay.config import OverlayLossConfig
from stadia.overlay.losses import OverlayLoss
from stadia.overlay.metrics import mask_boundary, mask_counts, mask_scores

NONE = dict.fromkeys(OVERLAY_LOSSES, 0.0)
REACH = math.log(80 / 0.25)


def only(**weights: float) -> OverlayLoss:
    """These terms; another one as well where depth or mask would have none."""
    return OverlayLoss(OverlayLossConfig(**{**NONE, "depth_l1": 1e-9, "mask_bce": 1e-9, **weights}))


@pytest.fixture
def given() -> tuple[torch.Tensor, ...]:
    """Logarithm of z, logits, z with holes, mask."""
    generator = torch.Generator().manual_seed(0)
    true = 1 + 20 * torch.rand(2, 1, 8, 10, generator=generator, dtype=torch.float64)
    log_depth = true.log() + 0.3 * torch.randn(true.shape, generator=generator, dtype=torch.float64)
    holes = torch.rand(true.shape, generator=generator) < 0.2
    logits = torch.randn(true.shape, generator=generator, dtype=torch.float64)
    return log_depth, logits, true.masked_fill(holes, 0), torch.rand(true.shape, generator=generator) < 0.3


def test_terms_by_hand(given):
    log_depth, logits, true, mask = given
    known = true > 0
    d, p = (log_depth[known] - true[known].log()) / REACH, logits.sigmoid()
    by_hand = {
        "depth_mse": d.square().mean(),
        "depth_l1": d.abs().mean(),
        "depth_smooth_l1": torch.where(d.abs() < 0.02, d.square() / 0.04, d.abs() - 0.01).mean(),
        "mask_bce": -torch.where(mask, p, 1 - p).log().mean(),
        "mask_mse": (p - mask.double()).square().mean(),
        "mask_dice": (1 - (2 * (p * mask).sum((1, 2, 3)) + 1) / ((p + mask.double()).sum((1, 2, 3)) + 1)).mean(),
    }
    full = ((log_depth - true.where(known, 1.0).log()) / REACH).where(known, torch.nan)
    by_hand["depth_gradient"] = full.diff(dim=-1).abs().nanmean() + full.diff(dim=-2).abs().nanmean()
    for name, value in by_hand.items():
        torch.testing.assert_close(only(**{name: 2.0})(*given).terms[name], 2 * value)


def test_raw_depth_is_compared_in_its_unit(given):
    log_depth, logits, true, mask = given
    wild = log_depth.where(true > 0, torch.inf).requires_grad_()
    report = OverlayLoss(OverlayLossConfig(depth_values="raw", depth_l1=2.0))(wild, logits, true, mask)
    torch.testing.assert_close(report.terms["depth_l1"], 2 * (log_depth.exp() - true)[true > 0].abs().mean() / 79.75)
    report.total.backward()
    assert wild.grad.isfinite().all()


@pytest.mark.parametrize("name", OVERLAY_LOSSES)
def test_unlabeled_pixels_are_neither_read_nor_trained(given, name):
    """D-04, for every term; predictions there have no effect, even NaN."""
    log_depth, logits, true, mask = given
    leaf = log_depth.clone().requires_grad_()
    report = only(**{name: 1.0})(leaf, logits, true, mask)
    report.total.backward()
    assert (leaf.grad[true == 0] == 0).all()
    wild = log_depth.where(true > 0, torch.nan)
    assert float(only(**{name: 1.0})(wild, logits, true, mask).total) == float(report.total.detach())


def test_batches_without_any_label_cost_nothing_and_are_finite(given):
    log_depth, logits, true, mask = given
    loss = OverlayLoss(OverlayLossConfig(**dict.fromkeys(OVERLAY_LOSSES, 1.0)))
    log_depth.requires_grad_()
    report = loss(log_depth, logits, torch.zeros_like(true), torch.zeros_like(mask))
    assert {n: float(v) for n, v in report.terms.items() if n.startswith("depth") or n == "mask_dice"} == dict.fromkeys(
        ("depth_mse", "depth_l1", "depth_smooth_l1", "depth_ssim", "depth_gradient", "mask_dice"), 0.0
    )
    report.total.backward()
    assert (log_depth.grad == 0).all()


def test_another_unit_of_length_is_a_constant_that_cancels(given):
    """Depth is compared as ln z: an error of a tenth costs as much at 2 m as at 20 m, and as much in feet."""
    log_depth, logits, true, mask = given
    weights = dict.fromkeys(("depth_mse", "depth_l1", "depth_smooth_l1", "depth_gradient"), 1.0)
    metres = only(**weights)(log_depth, logits, true, mask).terms
    feet = only(**weights)(log_depth + math.log(3.0), logits, 3.0 * true, mask).terms
    for name in weights:
        torch.testing.assert_close(feet[name], metres[name])


def test_the_loss_of_a_batch_is_that_of_its_pixels_however_they_are_ordered(given):
    loss = OverlayLoss(OverlayLossConfig(**dict.fromkeys(OVERLAY_LOSSES, 1.0)))
    flipped = [x.flip(0) for x in given]
    torch.testing.assert_close(loss(*flipped).total, loss(*given).total)
    assert float(loss(*given).total) == pytest.approx(sum(float(v) for v in loss(*given).terms.values()))


@pytest.mark.parametrize(
    "given_",
    [{**NONE, "mask_bce": 1.0, "depth_gradient": 1.0}, {**NONE, "depth_l1": 1.0}, {"min_depth": 9.0, "max_depth": 9.0}],
)
def test_losses_that_cannot_train_are_refused(given_):
    with pytest.raises(ValidationError):
        OverlayLossConfig(**given_)


def test_labels_of_a_reduced_size_are_compared_with_the_mean_of_the_prediction():
    generator = torch.Generator().manual_seed(0)
    true = 1 + 20 * torch.rand(1, 1, 8, 16, generator=generator, dtype=torch.float64)
    log_depth = torch.randn(true.shape, generator=generator, dtype=torch.float64)
    mask = torch.rand(true.shape, generator=generator) < 0.5
    terms = only(depth_l1=1.0, mask_mse=1.0, label_stride=4)(log_depth, log_depth, true, mask).terms
    small, few = torch.nn.functional.avg_pool2d(log_depth, 4), true[..., 2::4, 2::4]
    torch.testing.assert_close(terms["depth_l1"], ((small - few.log()) / REACH).abs().mean())
    most = (torch.nn.functional.avg_pool2d(mask.double(), 4) >= 0.5).double()
    torch.testing.assert_close(terms["mask_mse"], (small.sigmoid() - most).square().mean())


def scores(
    logits: torch.Tensor, mask: torch.Tensor, depth: torch.Tensor, true: torch.Tensor, *, order: list[int], size: int
) -> dict:
    """Of images in this order, so many in a batch."""
    images = []
    for start in range(0, len(order), size):
        at = order[start : start + size]
        predicted, truth = depth[at, 0].numpy(), true[at, 0].numpy()
        counts = {**mask_counts(logits[at], mask[at]), **depth_error_sums(predicted, truth, truth > 0)}
        images += [{name: float(value[row]) for name, value in counts.items()} for row in range(len(at))]
    sums = sum_over_images(images)
    return mask_scores(sums) | pooled_depth_scores(sums)


@pytest.fixture
def given_of_metrics() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    true = 1 + 30 * torch.rand(7, 1, 16, 24, generator=generator)
    depth = true * torch.exp(0.3 * torch.randn(true.shape, generator=generator))
    true[2] = 0  # an image without a label, and one with a few
    true[3, :, 1:] = 0
    mask = torch.zeros_like(true, dtype=torch.bool)
    mask[:4, :, 3:12, 5:15] = True
    return torch.randn(true.shape, generator=generator) + 3 * (mask.float() - 0.5), mask, depth, true


def test_scores_by_hand(given_of_metrics):
    logits, mask, depth, true = given_of_metrics
    found = scores(*given_of_metrics, order=list(range(7)), size=7)
    said, known, p = logits > 0, true > 0, logits.double().sigmoid()
    error = (depth.double() - true.double())[known]
    iou = float((said & mask).sum() / (said | mask).sum())
    assert found["mask_iou"] == pytest.approx(iou)
    assert found["mask_dice"] == pytest.approx(2 * iou / (1 + iou))
    assert found["mask_mae"] == pytest.approx(float((p - mask.double()).abs().mean()))
    assert found["mask_bce"] == pytest.approx(float(-torch.where(mask, p, 1 - p).log().mean()))
    assert found["mse"] == pytest.approx(float(error.square().mean()))
    assert found["rmse"] == pytest.approx(math.sqrt(float(error.square().mean())), rel=1e-12)
    assert found["abs_rel"] == pytest.approx(float((error.abs() / true.double()[known]).mean()))
    assert found["log10"] == pytest.approx(
        float((depth.double()[known].log10() - true.double()[known].log10()).abs().mean())
    )


def test_nothing_is_nan(given_of_metrics):
    """M-01: empty masks, all labels 0, no image, a prediction that is not finite."""
    logits, mask, depth, true = given_of_metrics
    nothing = torch.zeros_like(mask)
    empty = scores(-logits.abs(), nothing, depth, 0 * true, order=[0, 1], size=1)
    assert (empty["mask_iou"], empty["mask_dice"], empty["mask_boundary_f"]) == (1, 1, 1)
    assert "rmse" not in empty
    assert sum_over_images([]) == mask_scores({}) == pooled_depth_scores({}) == {}
    assert scores(logits, nothing, depth, true, order=[0], size=1)["mask_iou"] == 0
    missed = scores(-logits.abs(), mask, depth, true, order=[0], size=1)
    assert (missed["mask_iou"], missed["mask_boundary_f"]) == (0, 0)
    broken = scores(logits * torch.nan, mask, depth * torch.inf, true, order=[0, 2], size=2)
    assert (broken["mask_iou"], broken["mask_bce"], broken["rmse"], broken["d1"]) == (0, math.inf, math.inf, 0)
    assert not any(math.isnan(value) for found in (empty, missed, broken) for value in found.values())


def test_a_boundary_is_inside_the_mask_and_not_at_the_edge_of_image():
    mask = torch.zeros(1, 1, 6, 7, dtype=torch.bool)
    mask[..., :4, :3] = True
    expected = torch.zeros_like(mask)
    expected[..., 3, :3] = expected[..., :4, 2] = True
    assert torch.equal(mask_boundary(mask), expected)
    assert not mask_boundary(torch.ones_like(mask)).any()


def test_ssim_uses_the_range_of_its_inputs():
    true = 0.25 * torch.exp(REACH * torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)))
    noise = math.log(0.25) + REACH * torch.rand(true.shape, generator=torch.Generator().manual_seed(2))
    terms = only(depth_ssim=1.0)(noise, torch.zeros_like(true), true, true > 5).terms
    assert terms["depth_ssim"] > 0.5
