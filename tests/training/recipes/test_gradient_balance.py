"""Weights as shares of the gradient: how far they go, and what measuring them costs nobody."""

import pytest
import torch

from stadia.overlay.recipe import MAX_FACTOR, GradientBalance


def measured(*sizes: float) -> GradientBalance:
    shared, balance = torch.ones(1, requires_grad=True), GradientBalance(1)
    balance.measure(0, {f"term{number}": size * shared.sum() for number, size in enumerate(sizes)}, shared)
    return balance


def test_terms_are_brought_to_their_geometric_mean() -> None:
    assert measured(1.0, 4.0).factors() == pytest.approx({"term0": 2.0, "term1": 0.5})


def test_a_term_without_a_gradient_to_speak_of_is_not_blown_up() -> None:
    balance = measured(1e-6, 1.0)
    assert balance.factors() == {"term0": MAX_FACTOR, "term1": 1 / MAX_FACTOR}
    assert balance.shares(balance.factors())["term0"] == pytest.approx(1e-4, rel=1e-2), (
        "as it enters, not as it was meant"
    )
