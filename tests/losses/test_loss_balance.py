"""Weights of the height losses: the ratio of the losses, held for batches and capped; variation; a Gaussian."""

import itertools
import math

import pytest
import torch

from stadia.losses.config import MetricScaleConfig
from stadia.losses.loss_balance import (
    MAX_FACTOR,
    DataSetBalance,
    HeightLossBalance,
    RunningVariation,
    find_min_norm_weights,
)
from stadia.losses.metric_scale import negative_log_likelihood


def losses(photometric: float, camera: float, objects: float = 0.2) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    errors = {"object_height": torch.tensor(objects), "camera_height": torch.tensor(camera)}
    return torch.tensor(photometric), errors


def test_the_ratio_is_that_of_the_losses_kept_for_batches_and_at_most_the_weight() -> None:
    balance = HeightLossBalance(MetricScaleConfig(camera_height=1.0, balance="ratio", balance_every=3))
    found = [balance.update(*losses(0.1, error))["camera_height"] for error in (1.0, 0.5, 0.5, 0.2, 0.2, 0.2, 0.05)]
    assert found == pytest.approx([0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 1.0])


def test_an_unknown_height_keeps_the_factor() -> None:
    balance = HeightLossBalance(MetricScaleConfig(camera_height=1.0, balance="ratio", balance_every=1))
    balance.update(*losses(0.1, 0.2))
    assert balance.update(*losses(0.1, 0.0))["camera_height"] == pytest.approx(0.5)


def test_a_loss_that_varies_more_weighs_more() -> None:
    balance = HeightLossBalance(MetricScaleConfig(balance="variation", balance_every=1))
    factors = dict(balance.factors)
    for batch in range(12):
        wave = (-1) ** batch
        factors = dict(balance.update(*losses(0.1 * (1 + 0.1 * wave), 1 + 0.3 * wave, 0.2 * (1 + 0.05 * wave))))
    assert 2 < factors["camera_height"] <= MAX_FACTOR
    assert factors["object_height"] < 1


def test_variation_is_that_of_the_ratios_to_the_mean_before() -> None:
    running = RunningVariation()
    for value in (2.0, 2.0):
        running.add(value)
    assert math.isnan(running.variation)
    running.add(4.0)
    ratios = torch.tensor([1.0, 1.0, 2.0])
    assert running.variation == pytest.approx(float(ratios.std(correction=0) / ratios.mean()))


def test_the_state_survives_a_resume() -> None:
    config = MetricScaleConfig(balance="variation", balance_every=2)
    whole, first = HeightLossBalance(config), HeightLossBalance(config)
    for batch in range(5):
        for balance in (whole, first):
            balance.update(*losses(0.1 + 0.01 * batch, 1.0 + 0.2 * batch))
    resumed = HeightLossBalance(config)
    resumed.load_state_dict(first.state_dict())
    for batch in range(5):
        values = losses(0.1, 1.0 + 0.3 * batch)
        assert dict(whole.update(*values)) == dict(resumed.update(*values))


def test_a_gaussian_is_least_where_its_deviation_is_the_error_and_explodes_for_a_small_one() -> None:
    error = torch.tensor(0.1)
    deviations = torch.tensor([0.01, 0.05, 0.1, 0.2])
    found = negative_log_likelihood(error, deviations)
    assert int(found.argmin()) == 2
    assert found[0] > 40
    with pytest.raises(ValueError, match="2"):
        MetricScaleConfig(camera_height=2.5)


# -- the shortest convex combination of gradients, against its laws; balance of data sets


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_combination_descends_along_every_gradient(count: int) -> None:
    gradients = torch.randn(count, 12, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    weights = find_min_norm_weights(gradients)
    assert weights.sum().item() == pytest.approx(1)
    assert (weights >= 0).all()
    shortest = weights @ gradients
    assert (gradients @ shortest >= shortest.square().sum() * (1 - 1e-6)).all()


@pytest.mark.slow
def test_it_is_as_short_as_the_best_of_a_fine_grid() -> None:
    gradients = torch.tensor([[1.0, 0.2], [-0.5, 1.0], [2.0, 2.0]], dtype=torch.float64)
    found = (find_min_norm_weights(gradients) @ gradients).norm()
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)
    grid = [(a, b, 1 - a - b) for a, b in itertools.product(shares, shares) if a + b <= 1]
    best = min((torch.stack([*weights]) @ gradients).norm() for weights in grid)
    assert found <= best + 1e-6


def test_the_longer_gradient_counts_less_once_all_data_sets_have_one() -> None:
    balance = DataSetBalance(("a", "b"), every=2)
    assert [balance.is_due("a") for _ in range(3)] == [True, False, True]
    balance.update("a", torch.tensor([1.0, 0.0]))
    assert balance.factors == {"a": 1.0, "b": 1.0}
    balance.update("b", torch.tensor([0.0, 3.0]))
    assert balance.factors["a"] == pytest.approx(1.8)
    assert balance.factors["b"] == pytest.approx(0.2)
    again = DataSetBalance(("a", "b"), every=2)
    again.load_state_dict(balance.state_dict())
    assert again.factors == balance.factors
    assert again.batches == balance.batches
