"""SILog: never negative, what it forgives, and the three ways in which others' went wrong, written out and caught."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stadia.losses.sparse_depth import (
    FAR_INVERSE_DEPTH,
    log_ratio,
    mean_over_labeled_images,
    pool_batch,
    silog_root,
    silog_variance,
)

F64 = torch.float64


def errors(batch: int, spread: float, bias: float, seed: int, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Return log errors (B, 1, 6, 7) and their mask; the last of several images has no labels."""
    generator = torch.Generator().manual_seed(seed)
    d = bias + spread * torch.randn(batch, 1, 6, 7, generator=generator, dtype=F64)
    known = torch.rand(batch, 1, 6, 7, generator=generator) < 0.4
    if batch > 2:
        known[-1] = False
    return d.to(dtype), known


@settings(max_examples=150, deadline=None)
@given(
    batch=st.integers(1, 4),
    spread=st.sampled_from([0.0, 1e-4, 0.1, 3.0]),
    bias=st.sampled_from([0.0, 1e-3, 0.7, -5.0]),
    lam=st.sampled_from([0.0, 0.5, 0.85, 1.0]),
    dtype=st.sampled_from([torch.float32, F64]),
    seed=st.integers(0, 2**31),
)
def test_never_negative(batch, spread, bias, lam, dtype, seed):
    """D-02: not for one image, not pooled over several, not by rounding where lam is 1 and the error is constant."""
    d, known = errors(batch, spread, bias, seed, dtype)
    for of, where in ((d, known), pool_batch(d, known)):
        for form in (silog_variance, silog_root):
            value = form(of, where, lam=lam)
            assert (value >= 0).all()
            assert value.isfinite().all()


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.85, 1.0])
def test_it_equals_numpy(lam):
    d, known = errors(3, 0.3, 0.2, 0)
    expected = [np.mean(x**2) - lam * np.mean(x) ** 2 for x in (d[i][known[i]].numpy() for i in (0, 1))]
    assert silog_variance(d, known, lam=lam).tolist() == pytest.approx([*expected, 0.0])
    every = d[known].numpy()
    assert silog_variance(*pool_batch(d, known), lam=lam).item() == pytest.approx(
        np.mean(every**2) - lam * np.mean(every) ** 2
    )
    assert silog_root(d, known, lam=lam)[:2].tolist() == pytest.approx(10 * np.sqrt(expected), abs=0.0101)


def mismatched_count(d: Tensor, known: Tensor) -> Tensor:
    """D-02: over the whole batch, but the second term is divided by the labels of one image."""
    n = known.sum()
    return d[known].square().sum() / n - 0.5 * (d[known].sum() / (n / d.shape[0])) ** 2


def counted_images(d: Tensor, known: Tensor) -> Tensor:
    """As D-02, with n = shape[0] of what was never flattened: the number of images."""
    n = d.shape[0]
    return d[known].square().sum() / n - 0.5 * (d[known].sum() / n) ** 2


def forgotten_mask(d: Tensor, known: Tensor) -> Tensor:
    """D-04: what stands where there is no label, counted."""
    return silog_variance(d.reshape(1, -1), torch.ones_like(known).reshape(1, -1))[0]


def ours(d: Tensor, known: Tensor) -> Tensor:
    return silog_variance(*pool_batch(d, known))[0]


def breaks(form) -> set[str]:
    """Which clauses of the contract a pooled SILog breaks, on errors with a bias of 1."""
    broken = set()
    for batch in (1, 2):
        d, known = errors(batch, 0.2, 1.0, 0)
        leaf = d.clone().requires_grad_()
        form(leaf, known).backward()
        broken |= {"not negative"} if form(d, known) < 0 else set()
        broken |= {"reads labels only"} if leaf.grad[~known].any() else set()
        broken |= (
            {"the same for one image and its double"}
            if not math.isclose(form(d, known), form(d.repeat(2, 1, 1, 1), known.repeat(2, 1, 1, 1)))
            else set()
        )
    return broken


@pytest.mark.parametrize(
    ("form", "clauses"),
    [
        (ours, set()),
        (mismatched_count, {"not negative", "the same for one image and its double"}),
        (counted_images, {"not negative"}),
        (forgotten_mask, {"reads labels only"}),
    ],
)
def test_loss_checks_catch_known_mistakes_of_other_implementations(form, clauses):
    assert breaks(form) == clauses


def test_the_mismatched_count_is_right_for_one_image_and_negative_for_two():
    """As it was seen: "batch size 1 is fine, 2 is negative"."""
    one, two = errors(1, 0.2, 1.0, 0), errors(2, 0.2, 1.0, 0)
    assert mismatched_count(*one).item() == pytest.approx(ours(*one).item())
    assert mismatched_count(*two) < 0 < ours(*two)


@pytest.mark.parametrize("factor", [1e-2, 0.5, 3.0, 1e2])
def test_lam_1_forgives_any_factor_and_less_does_not(factor):
    d, known = errors(2, 0.3, 0.1, 1)
    scaled = d + math.log(factor)
    torch.testing.assert_close(silog_variance(scaled, known, lam=1.0), silog_variance(d, known, lam=1.0))
    torch.testing.assert_close(silog_root(scaled, known, lam=1.0), silog_root(d, known, lam=1.0))
    assert (silog_variance(scaled, known, lam=0.85) - silog_variance(d, known, lam=0.85)).abs().min() > 1e-2


def test_the_root_has_a_finite_slope_at_the_truth_and_next_to_it():
    for size in (0.0, 1e-12, 1e-7, 1e-3):
        d = torch.full((1, 1, 2, 3), size, requires_grad=True)
        value = silog_root(d, torch.ones_like(d, dtype=torch.bool))
        value.sum().backward()
        assert value >= 0
        assert d.grad.abs().max() <= 10 / math.sqrt(6)


def test_which_images_enter_the_mean():
    values, known = torch.tensor([1.0, 7.0, 3.0]), torch.tensor([True, False, True]).view(3, 1, 1, 1)
    assert mean_over_labeled_images(values, known) == 2
    assert mean_over_labeled_images(values, known & False) == 0


def test_the_logarithm_goes_on_as_its_tangent():
    """Continuous in value and slope at a kilometre, and finite below 0."""
    x = (
        torch.tensor([1 - 1e-6, 1 + 1e-6, 0.0, -2.0], dtype=F64)
        .mul(FAR_INVERSE_DEPTH)
        .view(1, 1, 1, 4)
        .requires_grad_()
    )
    true_m, known = torch.ones_like(x.detach()), torch.ones(1, 1, 1, 4, dtype=torch.bool)
    d = log_ratio(x, true_m, known)
    d.sum().backward()
    assert d.flatten().tolist() == pytest.approx(
        [math.log(1000), math.log(1000), math.log(1000) + 1, math.log(1000) + 3], abs=1e-5
    )
    assert x.grad.flatten().tolist() == pytest.approx([-1000] * 4, rel=1e-5)


def test_an_inverse_depth_is_compared_with_metres():
    d = log_ratio(
        torch.tensor(0.05).view(1, 1, 1, 1),
        torch.tensor(10.0).view(1, 1, 1, 1),
        torch.ones(1, 1, 1, 1, dtype=torch.bool),
    )
    assert d.item() == pytest.approx(math.log(2))
