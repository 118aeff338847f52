"""Scores of depth and masks from sums: by hand, in any order and batch size, and of nothing at all."""

from __future__ import annotations

import math

import pytest
import torch

from stadia.metrics.depth_metrics import depth_error_sums, pooled_depth_scores, sum_over_images
from stadia.overlay.metrics import mask_boundary, mask_counts, mask_scores


def scores(
    logits: torch.Tensor, mask: torch.Tensor, depth: torch.Tensor, true: torch.Tensor, *, order: list[int], size: int
) -> dict:
    """Of images in this order, so many in a batch."""
    images = []
    for start in range(0, len(order), size):
        at = order[start : start + size]
        counts = mask_counts(logits[at], mask[at]) | depth_error_sums(depth[at, 0], true[at, 0], true[at, 0] > 0)
        images += [{name: float(value[row]) for name, value in counts.items()} for row in range(len(at))]
    sums = sum_over_images(images)
    return mask_scores(sums) | pooled_depth_scores(sums)


@pytest.fixture
def given() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    true = 1 + 30 * torch.rand(7, 1, 16, 24, generator=generator)
    depth = true * torch.exp(0.3 * torch.randn(true.shape, generator=generator))
    true[2] = 0  # an image without a label, and one with a few
    true[3, :, 1:] = 0
    mask = torch.zeros_like(true, dtype=torch.bool)
    mask[:4, :, 3:12, 5:15] = True
    return torch.randn(true.shape, generator=generator) + 3 * (mask.float() - 0.5), mask, depth, true


def test_scores_by_hand(given):
    logits, mask, depth, true = given
    found = scores(*given, order=list(range(7)), size=7)
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


def test_shuffling_and_batch_size_change_nothing(given):
    """M-03, M-02 and D-12: to the last bit, where 1e-6 is required."""
    found = scores(*given, order=list(range(7)), size=7)
    for order, size in (([6, 2, 0, 4, 1, 5, 3], 7), (list(range(7)), 1), ([3, 1, 0, 6, 5, 2, 4], 3)):
        assert scores(*given, order=order, size=size) == pytest.approx(found, rel=1e-14)


def test_rmse_is_the_root_of_mse(given):
    """M-04; and not the mean of the images' roots, which is less."""
    found = scores(*given, order=list(range(7)), size=2)
    each = [scores(*given, order=[row], size=1) for row in range(7)]
    assert found["rmse"] == pytest.approx(found["mse"] ** 0.5, rel=1e-12)
    assert found["rmse"] > 1.01 * sum(one["rmse"] for one in each if "rmse" in one) / 6


def test_nothing_is_nan(given):
    """M-01: empty masks, all labels 0, no image, a prediction that is not finite."""
    logits, mask, depth, true = given
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


def test_scores_of_perfect_and_constant_predictions(given):
    _, mask, _, true = given
    known = true.where(true > 0, 5.0)
    perfect = scores(torch.where(mask, 50.0, -50.0), mask, known, true, order=list(range(7)), size=2)
    assert (perfect["mask_iou"], perfect["mask_boundary_f"], perfect["rmse"], perfect["d1"]) == (1, 1, 0, 1)
    constant = scores(torch.ones_like(true), mask, torch.full_like(true, 5.0), true, order=list(range(7)), size=2)
    assert constant["mask_iou"] == pytest.approx(float(mask.double().mean()))


def test_a_boundary_is_inside_the_mask_and_not_at_the_edge_of_image():
    mask = torch.zeros(1, 1, 6, 7, dtype=torch.bool)
    mask[..., :4, :3] = True
    expected = torch.zeros_like(mask)
    expected[..., 3, :3] = expected[..., :4, 2] = True
    assert torch.equal(mask_boundary(mask), expected)
    assert not mask_boundary(torch.ones_like(mask)).any()


@pytest.mark.parametrize(("moved", "near_enough"), [(1, True), (2, False)])
def test_a_boundary_counts_within_its_tolerance(moved, near_enough):
    """Of 64x64 a pixel, .8 % of the diagonal rounded up."""
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 20:40, :] = True
    sums = {
        name: float(value[0]) for name, value in mask_counts(torch.where(mask.roll(moved, 2), 9.0, -9.0), mask).items()
    }
    assert mask_scores(sums)["mask_boundary_f"] == float(near_enough)
