"""How far an update moves the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_recipe
import torch
from small_recipe import SmallRecipe
from torch import nn

from stadia.training.loggers import read_rows
from stadia.training.optim import SAMPLE_SIZE, UpdateRatio


def with_gradients(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0))) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    return parameters


def test_a_hundredth_is_a_hundredth_and_what_stays_lowers_it() -> None:
    moved, still = with_gradients((3, 50, 70), (40, 20))
    bias = nn.Parameter(torch.zeros(5))
    bias.grad = torch.ones(5)
    ratio = UpdateRatio()
    ratio.measure_before([moved, bias])
    with torch.no_grad():
        moved *= 1.01
        bias += 1
    assert ratio.measure_after() == pytest.approx(0.01, rel=1e-3)
    ratio.measure_before([moved, still])
    with torch.no_grad():
        moved *= 1.01
    found = ratio.measure_after()
    assert found is not None
    assert 0.005 < found < 0.01
    assert ratio.measure_after() is None


def test_large_weights_are_sampled_all_over_in_any_memory_layout() -> None:
    (weight,) = with_gradients((64, 32, 9, 9))
    weight = nn.Parameter(weight.detach().contiguous(memory_format=torch.channels_last))
    weight.grad = torch.zeros_like(weight)
    ratio = UpdateRatio()
    ratio.measure_before([weight])
    assert SAMPLE_SIZE <= ratio._kept[0][1].numel() <= 2 * SAMPLE_SIZE
    with torch.no_grad():
        weight[32:] *= 1.02
    assert ratio.measure_after() == pytest.approx(0.02 / 2**0.5, rel=0.05)


def test_it_is_logged_of_the_steps_own_update(tmp_path: Path) -> None:
    """Whatever is logged between; in the warm-up it rises with the rate."""
    ratios = []
    for every in (1, 2):
        run, _ = small_recipe.train(tmp_path / str(every), task=SmallRecipe(lr=1e-3), max_steps=4, log_every=every)
        ratios.append(
            {
                row["step"]: float(row["train/update_ratio"])
                for row in read_rows(run.metrics_csv)
                if row["train/update_ratio"]
            }
        )
    assert ratios[1] == {step: ratio for step, ratio in ratios[0].items() if step in "24"}
    assert 0 < ratios[1]["2"] < ratios[1]["4"] < 0.1
