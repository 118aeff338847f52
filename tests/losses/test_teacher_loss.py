"""The difference from a teacher: what the relation of two depths ignores costs nothing, and all else does."""

import pytest
import torch

from stadia.losses.teacher_loss import align_teacher, compute_difference, teacher_error

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.rand(2, 1, 12, 16, generator=GENERATOR) + 0.2
KNOWN = torch.ones_like(STUDENT, dtype=torch.bool)
CHANGES = {"metres": (1.0, 0.0), "scale": (3.0, 0.0), "affine": (3.0, 0.5)}
"""Scale and shift that a relation ignores."""


@pytest.mark.parametrize("relation", list(CHANGES))
def test_what_the_relation_ignores_costs_nothing(relation: str) -> None:
    scale, shift = CHANGES[relation]
    difference = compute_difference(STUDENT, scale * STUDENT + shift, KNOWN, relation)  # type: ignore[arg-type]
    assert teacher_error(difference, KNOWN).item() < 1e-5
    aligned = align_teacher(STUDENT, scale * STUDENT + shift, KNOWN, relation)  # type: ignore[arg-type]
    torch.testing.assert_close(aligned, STUDENT, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("relation", "scale", "shift"), [("metres", 3.0, 0.0), ("scale", 1.0, 0.5)])
def test_what_it_does_not_ignore_costs(relation: str, scale: float, shift: float) -> None:
    difference = compute_difference(STUDENT, scale * STUDENT + shift, KNOWN, relation)  # type: ignore[arg-type]
    assert teacher_error(difference, KNOWN).item() > 0.05


@pytest.mark.parametrize("relation", list(CHANGES))
def test_unknown_pixels_have_no_gradient(relation: str) -> None:
    teacher, known = torch.rand(2, 1, 12, 16, generator=GENERATOR) + 0.2, KNOWN.clone()
    known[..., :4] = False
    teacher[..., :4] = torch.nan
    student = STUDENT.clone().requires_grad_()
    difference = compute_difference(student, teacher, known, relation)  # type: ignore[arg-type]
    teacher_error(difference, known).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert (student.grad[..., :4] == 0).all()
    assert (student.grad[..., 4:] != 0).any()


def test_an_image_without_known_pixels_costs_nothing() -> None:
    for relation in CHANGES:
        known = torch.zeros_like(KNOWN)
        difference = compute_difference(STUDENT, STUDENT + 1, known, relation)  # type: ignore[arg-type]
        assert teacher_error(difference, known).item() == 0
