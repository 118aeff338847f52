"""SILog: never negative, and what it forgives."""

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
