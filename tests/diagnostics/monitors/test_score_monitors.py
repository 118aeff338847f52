"""C10 to C12: no finding for what the recipe `overlay` logs, one where it is broken."""

from __future__ import annotations

import math

import torch

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.monitors.optimization_monitors import ProportionalTermsMonitor
from stadia.diagnostics.monitors.persistence import ROWS
from stadia.diagnostics.monitors.score_monitors import FrozenScoresMonitor, RmseMonitor, ScoreRangeMonitor
from stadia.evaluation.validation_metrics import compute_overlay_scores
from stadia.losses.config import OverlayLossConfig
from stadia.losses.overlay_loss import OverlayLoss


def found_of(**config: float) -> list[Finding]:
    """What is found of a loss whose errors fall while it trains, with factors that are balanced anew at each step."""
    loss, monitor, generator = (
        OverlayLoss(OverlayLossConfig(balance=True, **config)),
        ProportionalTermsMonitor(),
        torch.Generator().manual_seed(0),
    )
    true = 2 + 30 * torch.rand(2, 1, 16, 16, generator=generator)
    found = []
    for step in range(2 * ROWS):
        size = 0.3 * math.exp(-step / 15)
        output = true.log() + size * torch.randn(true.shape, generator=generator) + size / 3
        logits = torch.randn(true.shape, generator=generator) + (true > 9) * step
        terms = {name: float(value) for name, value in loss.terms(output, logits, true, true > 9).items()}
        factors = {name: 1 + 0.5 * math.sin(step + number) for number, name in enumerate(terms)}
        row = {f"train/weight/{name}": factors[name] for name in terms} | {
            f"train/term/{n}": factors[n] * v for n, v in terms.items()
        }
        found.append(monitor.on_row(step, row))
    return [one for one in found if one is not None]


def test_terms_of_their_own_are_let_be() -> None:
    weights = {
        "depth_l1": 1.0,
        "depth_mse": 1.0,
        "depth_smooth_l1": 1.0,
        "depth_ssim": 1.0,
        "depth_gradient": 1.0,
        "mask_bce": 1.0,
    }
    assert found_of(**weights, mask_mse=1.0, mask_dice=1.0) == []


def test_smooth_l1_that_is_half_of_mse_is_found() -> None:
    """Beta is above all errors."""
    found = found_of(depth_mse=1.0, depth_smooth_l1=1.0, depth_l1=0.0, mask_bce=1.0, smooth_l1_beta=1.0)
    assert found[0].code == "C10"
    assert set(found[0].where) == {"depth_mse", "depth_smooth_l1"}
    assert "2 times" in found[0].measured


def test_rmse_is_compared_with_the_mse() -> None:
    """Correct for sums, reported for a mean of roots; values that are not finite have another code."""
    sums = {"depth_pixels": 4.0, "mse": 100.0, **dict.fromkeys(("abs_rel", "mae", "log10", "d1", "d2", "d3"), 1.0)}
    other = sums | {"mse": 1.0}
    right = compute_overlay_scores([{**one, "mask_pixels": 0.0} for one in (sums, other)] + [MASK])
    row = {f"val/{name}": value for name, value in right.items()}
    assert RmseMonitor().on_row(5, row) is None
    assert RmseMonitor().on_row(5, {**row, "val/mse": math.inf}) is None
    wrong = RmseMonitor().on_row(5, {**row, "val/rmse": (5 + 0.5) / 2})
    assert wrong is not None
    assert wrong.code == "C11"


MASK = dict.fromkeys(("mask_both", "mask_predicted", "mask_true", "mask_absolute", "mask_surprise"), 1.0) | {
    "mask_pixels": 4.0,
    **dict.fromkeys(("boundary_predicted", "boundary_true", "boundary_predicted_near", "boundary_true_near"), 1.0),
}


def test_a_validation_that_stands_still_is_found() -> None:
    """Perfect scores may repeat, and rows of training do not count."""
    moved = {"val/rmse": 4.0, "val/mse": 16.0, "val/mask_iou": 0.5}
    monitor = FrozenScoresMonitor()
    assert monitor.on_row(1, moved) is None
    assert monitor.on_row(2, {"train/loss": 1.0}) is None
    assert monitor.on_row(3, {**moved, "val/mask_iou": 0.50001}) is None
    again = monitor.on_row(4, {**moved, "val/mask_iou": 0.50001})
    assert again is not None
    assert again.code == "C12"
    perfect = FrozenScoresMonitor()
    assert [perfect.on_row(step, dict.fromkeys(moved, 1.0)) for step in (1, 2)] == [None, None]


def test_a_precision_of_nothing_detected_is_in_no_range_and_infinity_is_outside() -> None:
    monitor = ScoreRangeMonitor()
    assert monitor.on_row(1, {"val/precision": math.nan, "val/recall": 0.0}) is None
    found = monitor.on_row(2, {"val/precision": math.inf, "val/recall": math.nan})
    assert found is not None
    assert found.measured == "at step 2 the validation has precision inf"
