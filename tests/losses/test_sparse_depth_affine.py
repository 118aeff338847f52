"""What scale and shift cannot change, what a fifth of wrong labels can, and which neighbors have a slope."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stadia.losses.sparse_depth import (
    affine_invariant_residual,
    gradient_matching_error,
    normalize_median_deviation,
    trimmed_mean,
)

F64 = torch.float64


def maps(seed: int = 0, share: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, truth and where it is known, (2, 1, 9, 12)."""
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = torch.rand(2, 2, 1, 9, 12, generator=generator, dtype=F64)
    return prediction, truth, torch.rand(2, 1, 9, 12, generator=generator) < share


def test_by_hand():
    """1, 2, 3, 6 has the median 2.5 and the mean deviation 1.5; a fifth pixel is none."""
    x = torch.tensor([1.0, 2, 3, 6, 99], dtype=F64).view(1, 1, 1, 5)
    known = torch.tensor([True, True, True, True, False]).view(1, 1, 1, 5)
    assert normalize_median_deviation(x, known).flatten().tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 7 / 3, 0])
    difference = torch.tensor([3.0, -1, 2, -5, 99], dtype=F64).view(1, 1, 1, 5)
    assert trimmed_mean(difference, known, 0.25).item() == pytest.approx((3 + 1 + 2) / 8)
    assert trimmed_mean(difference, known, 0.0).item() == pytest.approx(11 / 8)
    assert gradient_matching_error(difference, known, 1).item() == pytest.approx((4 + 3 + 7) / 4)
    assert gradient_matching_error(difference, known, 2).item() == pytest.approx(
        (4 + 3 + 7 + 1) / 4
    )  # pixels 0 and 2 of size two


@pytest.mark.parametrize("scale", [1e-4, 1.0, 800.0])
@pytest.mark.parametrize("shift", [-0.3, 0.0, 40.0])
def test_scale_and_shift_of_prediction_do_not_matter(scale, shift):
    prediction, truth, known = maps()
    expected = affine_invariant_residual(prediction, truth, known)
    torch.testing.assert_close(
        affine_invariant_residual(scale * (prediction + shift), truth, known), expected, atol=1e-5, rtol=0
    )
    single = affine_invariant_residual((scale * (prediction + shift)).float(), truth.float(), known)
    torch.testing.assert_close(
        single.double(), expected, atol=2e-4 if shift == 40 else 1e-5, rtol=0
    )  # float32 has 7 digits


def test_a_mirrored_prediction_is_not_forgiven():
    _, truth, known = maps()
    assert trimmed_mean(affine_invariant_residual(-truth, truth, known), known).min() > 0.5
    assert trimmed_mean(affine_invariant_residual(truth, truth, known), known).max() < 1e-12


def test_a_fifth_of_wrong_labels_changes_nothing():
    """However wrong they are; a quarter has."""
    generator = torch.Generator().manual_seed(3)
    difference = 0.1 * torch.randn(1, 1, 10, 10, generator=generator, dtype=F64)
    known = torch.ones(1, 1, 10, 10, dtype=torch.bool)
    values = []
    for wrong, size in ((20, 5.0), (20, 5e6), (25, 5.0), (25, 50.0)):
        spoilt = difference.clone().flatten()
        spoilt[:wrong] = size
        leaf = spoilt.view_as(difference).requires_grad_()
        value = trimmed_mean(leaf, known)
        value.sum().backward()
        values.append(value.item())
        if wrong == 20:
            assert (leaf.grad.flatten()[:20] == 0).all()
    assert values[0] == values[1] < 0.05
    assert values[3] > 2 * values[2] > 2 * values[0]


def test_wrong_labels_leave_most_of_fit_as_it_was():
    """The truth with a fifth of its labels taken from elsewhere is far nearer to the truth than to another map."""
    prediction, truth, known = maps(share=1.1)
    wrong = torch.rand(truth.shape, generator=torch.Generator().manual_seed(5)) < 0.2
    spoilt = truth.where(~wrong, truth.flip(-1))
    right, other = (trimmed_mean(affine_invariant_residual(x, spoilt, known), known) for x in (truth, prediction))
    untrimmed = trimmed_mean(affine_invariant_residual(truth, spoilt, known), known, 0.0)
    assert (right < 0.25 * other).all()
    assert (right < 0.5 * untrimmed).all()


def test_only_neighbors_that_are_both_known_have_a_slope():
    """A checkerboard has neighbors along no axis at full size; at half of it all are of one color."""
    generator = torch.Generator().manual_seed(4)
    difference = torch.rand(1, 1, 8, 8, generator=generator, dtype=F64)
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    checkers = ((x + y) % 2 == 0)[None, None]
    assert gradient_matching_error(difference, checkers, 1) == 0
    assert gradient_matching_error(difference, checkers, 2) > 0
    pair = torch.zeros_like(checkers)
    pair[..., 3, 4:6] = True
    leaf = difference.clone().requires_grad_()
    value = gradient_matching_error(leaf, pair, 4)
    value.sum().backward()
    assert value.item() == pytest.approx((difference[0, 0, 3, 5] - difference[0, 0, 3, 4]).abs().item() / 2)
    assert leaf.grad.nonzero()[:, 2:].tolist() == [[3, 4], [3, 5]]


def test_a_step_between_known_and_unknown_has_no_gradient_loss():
    """What a mask forgotten here would show: the truth is 0 where it is not known."""
    _, truth, known = maps()
    holes = truth.where(known, 0.0)
    assert gradient_matching_error(affine_invariant_residual(truth, holes, known), known).max() < 1e-12


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_a_constant_prediction_has_a_finite_gradient(constant):
    """As of a head whose last ReLU is dead."""
    _, truth, known = maps()
    leaf = torch.full_like(truth, constant, dtype=torch.float32).requires_grad_()
    value = trimmed_mean(affine_invariant_residual(leaf, truth.float(), known), known).mean()
    value.backward()
    assert value.isfinite()
    assert leaf.grad.abs().max() < 10


@pytest.mark.parametrize("labels", [0, 1, 2])
def test_next_to_no_labels(labels):
    prediction, truth, known = maps()
    known = torch.zeros_like(known)
    known.view(2, -1)[:, :labels] = True
    leaf = prediction.clone().requires_grad_()
    difference = affine_invariant_residual(leaf, truth, known)
    value = trimmed_mean(difference, known, 0.0) + gradient_matching_error(difference, known)
    value.sum().backward()
    assert value.isfinite().all()
    assert leaf.grad.isfinite().all()
    if labels < 2:
        assert (value == 0).all()
