"""The interface check of losses (test_tables.loss) for every self-supervised loss, plain and D3VO."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conformance import test_tables
from torch import Tensor

from stadia.differentiable.batch import Prediction
from stadia.losses import SMOOTHNESS
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.cpu.fused_reprojector import FusedReprojector
from stadia.losses.loss_report import LossReport
from stadia.losses.reprojection import Reprojector, TorchReprojector
from stadia.losses.selfsup_loss import SelfSupervisedLoss

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without auto-mask": {"auto_mask": False},
    "differences alone": {"ssim_weight": 0.0},
    "pyramid": {"pyramid": 3},
    "stereo first": {"temporal_from_step": None},
    "residual threshold": {"residual_threshold": 0.3},
    "weights of scales": {"scale_weights": (0.5,)},
    "uncertainty later": {"uncertainty_from_step": 10},
    "uncertainty of the full size": {"num_uncertainty_sizes": 1, "pyramid": 2},
    "views agree": {"left_right_consistency": 0.1},
    **{f"smoothness {kind}": {"smoothness_type": kind} for kind in SMOOTHNESS},
}


IN_TORCH = "as it is", "pyramid", "residual threshold", "views agree"
"""Configurations that the suite runs in plain torch, too; tests/losses holds both ways against each other."""


def list_cases() -> Iterator[Any]:
    """Yield each configuration with the compiled loops, which are fast, and in plain torch."""
    for name in CONFIGURATIONS:
        yield name, FusedReprojector
        marks = [pytest.mark.slow] + [pytest.mark.exhaustive] * (name not in IN_TORCH)
        yield pytest.param(name, TorchReprojector, marks=marks)


@pytest.mark.parametrize(("configuration", "reprojector"), list(list_cases()))
@pytest.mark.parametrize("d3vo", [False, True], ids=["plain", "d3vo"])
def test_loss_conforms_to_its_interface(
    monkeypatch: pytest.MonkeyPatch, configuration: str, d3vo: bool, reprojector: type[Reprojector], tmp_path: Path
) -> None:
    plain, true, wrong, size = test_tables.wall()

    def report(loss: Any, inverse_depth: Tensor) -> LossReport:
        """The wall faces both cameras: the right one sees the same depth."""

        def compute(targets: Any, prediction: Prediction, names: Any) -> LossReport:
            maps, count = prediction.inverse_depth, len(names)
            ab = torch.tensor([1.0, 0.0]).expand(len(maps[0]), count, 2)
            whole = replace(
                prediction, inverse_depth_right=maps, log_uncertainty=(torch.zeros_like(maps[0]),), brightness=ab
            )
            return loss(targets, whole if d3vo else prediction, names)

        return plain(compute, inverse_depth)

    monkeypatch.setitem(test_tables.LOSS_EXAMPLES, "configured", lambda: (report, true, wrong, size))
    config = SelfSupervisedLossConfig(**CONFIGURATIONS[configuration])
    test_tables.loss("configured", lambda: SelfSupervisedLoss(config, reprojector=reprojector), tmp_path)
