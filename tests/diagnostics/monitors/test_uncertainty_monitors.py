"""Monitors of uncertainty (U01 to U03): no finding for trainings that learn, one for each that is broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from mutations.training_logs import DIED, START, SigmaRow

from stadia.core.types import Prediction
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.monitors.prediction_monitors import (
    LOG_SIGMA_BOUNDS,
    ConstantUncertaintyMonitor,
    UncertaintyBoundsMonitor,
    UncertaintyOnlyMonitor,
)
from stadia.models.depth.unet import LOG_UNCERTAINTY_RANGE, bound_log_uncertainty
from stadia.recipes.base.self_supervised import brightness_and_uncertainty_stats


def run_monitor(rows: Sequence[SigmaRow]) -> list[Finding]:
    monitors = (ConstantUncertaintyMonitor(), UncertaintyOnlyMonitor(), UncertaintyBoundsMonitor())
    found = []
    for number, (fit, *tenths) in enumerate(rows):
        row = {
            "train/warped_over_unwarped": fit,
            **{f"train/log_uncertainty/p{p}": v for p, v in zip((10, 50, 90), tenths, strict=True)},
        }
        found += [finding for monitor in monitors if (finding := monitor.on_row(10 * number + 10, row))]
    return found


def test_an_uncertainty_that_died_is_named_and_so_is_a_loss_that_falls_by_it_alone() -> None:
    found = run_monitor(DIED)
    assert found[0].code == "U01"
    assert {finding.code for finding in found} == {"U01", "U02"}
    constant, alone = (next(finding for finding in found if finding.code == code) for code in ("U01", "U02"))
    assert constant.evidence["step"] == 290, "twenty rows past the start"
    assert alone.evidence["step"] == 330, "a hundred steps after twenty rows that had moved"
    assert alone.evidence["at_the_start"] == 0.755


def test_a_start_is_constant_too_and_is_not_named() -> None:
    assert run_monitor(START[:2] * 40) == []


def test_a_geometry_that_fitted_before_uncertainty_came_is_no_loss_that_falls_by_it_alone() -> None:
    assert run_monitor([(0.31, 0.0, 0.0, 0.0)] * 30 + [(0.31, -4.0, -3.0, -2.0)] * 40) == []


@pytest.mark.parametrize("logit", [-40.0, 40.0])
def test_an_uncertainty_at_its_bounds_is_named(logit: float) -> None:
    bounded = bound_log_uncertainty(torch.full((1, 1, 32, 64), logit))
    seen: Mapping[str, torch.Tensor] = brightness_and_uncertainty_stats(
        Prediction((bounded,), torch.eye(4)[None, None], log_uncertainty=(bounded,)), ("+1",)
    )
    tenths = [float(seen[f"log_uncertainty/p{p}"]) for p in (10, 50, 90)]
    assert "U03" in {finding.code for finding in run_monitor([(0.5, *tenths)] * 29)}
    assert "U03" not in {finding.code for finding in run_monitor([(0.5, *tenths)] * 28)}


def test_uncertainty_bounds_are_those_of_the_network() -> None:
    assert LOG_SIGMA_BOUNDS == LOG_UNCERTAINTY_RANGE
    for monitor in (ConstantUncertaintyMonitor(), UncertaintyOnlyMonitor(), UncertaintyBoundsMonitor()):
        assert monitor.on_row(10, {"val/residual": 0.1}) is None
        assert monitor.on_row(10, {"train/warped_over_unwarped": 0.9}) is None
