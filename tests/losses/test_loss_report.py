"""A weighted sum of losses: its total, its gradient, and the terms that add up to it."""

import pytest
import torch
from torch import Tensor

from stadia.losses.loss_report import LossReport, combine_losses


def reports(x: Tensor) -> tuple[LossReport, LossReport]:
    square, size = x.square().mean(), x.abs().sum()
    return (
        LossReport(square + size, {"square": square.detach(), "size": size.detach()}, {"residual": x.detach()}),
        LossReport(size, {"size": size.detach()}, {"error": 2 * x.detach()}),
    )


def test_by_hand() -> None:
    x = torch.tensor([1.0, -3.0], dtype=torch.float64, requires_grad=True)
    first, second = reports(x)
    report = combine_losses({"first": (2.0, first), "second": (0.5, second)})
    assert report.total.item() == pytest.approx(20.0)
    assert {name: value.item() for name, value in report.terms.items()} == pytest.approx(
        {"first/square": 10.0, "first/size": 8.0, "second/size": 2.0}
    )
    assert sum(value.item() for value in report.terms.values()) == pytest.approx(report.total.item())
    assert set(report.maps) == {"residual", "error"}
    report.total.backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([2 * (1.0 + 1) + 0.5, 2 * (-3.0 - 1) - 0.5], dtype=torch.float64))
    assert not any(value.requires_grad for value in (*report.terms.values(), *report.maps.values()))


def test_least_values_are_weighted_as_their_terms() -> None:
    x = torch.ones(2)
    one = LossReport(x.sum(), {"log": x.sum(), "free": x.sum()}, {}, least={"log": -3.0}, logged={"dead": x[0]})
    report = combine_losses({"a": (2.0, one), "b": (0.5, one)})
    assert report.least == {"a/log": -6.0, "b/log": -1.5}
    assert set(report.logged) == {"a/dead", "b/dead"}


def test_a_weight_of_zero_has_no_gradient() -> None:
    x = torch.ones(2, requires_grad=True)
    first, second = reports(x)
    combine_losses({"first": (0.0, first), "second": (1.0, second)}).total.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]


def test_what_cannot_be_combined() -> None:
    first, _ = reports(torch.ones(2))
    with pytest.raises(ValueError):
        combine_losses({})
    with pytest.raises(ValueError, match=r"twice.*residual"):
        combine_losses({"once": (1.0, first), "twice": (1.0, first)})
