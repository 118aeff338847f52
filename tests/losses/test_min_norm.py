"""The shortest convex combination of gradients, against its laws; balance of data sets."""

from __future__ import annotations

import itertools

import pytest
import torch

from stadia.losses.loss_balance import DataSetBalance, find_min_norm_weights


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_combination_descends_along_every_gradient(count: int) -> None:
    """At the shortest point g of the hull, every g_i . g is at least |g|^2: the law of projection."""
    gradients = torch.randn(count, 12, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    weights = find_min_norm_weights(gradients)
    assert weights.sum().item() == pytest.approx(1)
    assert (weights >= 0).all()
    shortest = weights @ gradients
    assert (gradients @ shortest >= shortest.square().sum() * (1 - 1e-6)).all()


def test_it_is_as_short_as_the_best_of_a_fine_grid() -> None:
    gradients = torch.tensor([[1.0, 0.2], [-0.5, 1.0], [2.0, 2.0]], dtype=torch.float64)
    found = (find_min_norm_weights(gradients) @ gradients).norm()
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)
    grid = [(a, b, 1 - a - b) for a, b in itertools.product(shares, shares) if a + b <= 1]
    best = min((torch.stack([*weights]) @ gradients).norm() for weights in grid)
    assert found <= best + 1e-6


def test_opposite_gradients_have_no_way_down() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    weights = find_min_norm_weights(gradients)
    torch.testing.assert_close(weights @ gradients, torch.zeros(2), atol=1e-4, rtol=0)


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
