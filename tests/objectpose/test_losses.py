"""Masks, centers, depth and size: numbers by hand, exact gradients, and finite ones at the ends."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.refusals import refuses
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.geometry.segments import segments_from_instances
from stadia.losses.class_masks import IGNORE_INDEX, cross_entropy, dice_loss, focal_loss, labeled_pixels
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.config import ObjectPoseLossConfig, RotationLossConfig
from stadia.objectpose.losses import (
    ObjectPoseLabels,
    ObjectPoseLoss,
    ObjectPosePrediction,
    center_error,
    log_depth_error,
    size_error,
)

F64 = torch.float64
CLASSES = torch.tensor([[[0, 0, 1], [0, 2, 1]], [[0, 0, 0], [0, 0, 0]]])


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


def sure(classes: Tensor, by: float = 1e4) -> Tensor:
    return by * F.one_hot(classes, 3).movedim(-1, 1).float()


def test_cross_entropy_and_focal_by_hand(logits: Tensor):
    p = logits.softmax(1).gather(1, CLASSES[:, None])
    assert_close(cross_entropy(logits, CLASSES), -p.log())
    assert_close(focal_loss(logits, CLASSES), -((1 - p) ** 2) * p.log())
    assert_close(focal_loss(logits, CLASSES, gamma=0), cross_entropy(logits, CLASSES))
    with pytest.raises(ValueError, match=r"gamma=0\.5"):
        focal_loss(logits, CLASSES, gamma=0.5)


def test_dice_by_hand(logits: Tensor):
    p = logits.softmax(1)
    one, two = p[0, 1], p[0, 2]
    of_one = (2 * (one[0, 2] + one[1, 2]) + 1) / (one.sum() + 2 + 1)
    of_two = (2 * two[1, 1] + 1) / (two.sum() + 1 + 1)
    found = dice_loss(logits, CLASSES)
    assert_close(found[0], 1 - (of_one + of_two) / 2)
    assert found[1] == 0


def test_the_truth_costs_nothing_and_the_opposite_is_finite():
    for classes, least in ((CLASSES, True), ((CLASSES + 1) % 3, False)):
        pred = sure(classes).requires_grad_()
        for loss in (cross_entropy, focal_loss, dice_loss):
            value = loss(pred, CLASSES)
            assert (float(value.sum().detach()) < 1e-6) == least
            (gradient,) = torch.autograd.grad(value.sum(), pred)
            assert value.isfinite().all()
            assert gradient.isfinite().all()
    assert (dice_loss(sure(CLASSES), CLASSES) < 1e-6).all()


def test_a_class_counts_the_same_however_small_and_the_background_not_at_all():
    """Missing one pixel of class 2 and two of class 1 each count half; more background changes nothing."""
    missed_two, missed_one = sure(CLASSES.where(CLASSES != 2, 0)), sure(CLASSES.where(CLASSES != 1, 0))
    assert float(dice_loss(missed_two, CLASSES, smooth=1e-6)[0]) == pytest.approx(0.5, abs=1e-3)
    assert float(dice_loss(missed_one, CLASSES, smooth=1e-6)[0]) == pytest.approx(0.5, abs=1e-3)
    wider = F.pad(CLASSES, (0, 9))
    assert_close(dice_loss(sure(wider.where(wider != 2, 0)), wider), dice_loss(missed_two, CLASSES))


def test_mask_gradients(logits: Tensor):
    for loss in (cross_entropy, focal_loss, dice_loss):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, CLASSES), logits.requires_grad_())


def test_pixels_of_no_class_cost_nothing_and_have_no_slope(logits: Tensor):
    """For any prediction there; Dice is computed from the other pixels only."""
    classes = CLASSES.clone()
    classes[0, :, 2] = IGNORE_INDEX
    pred = logits.clone().requires_grad_()
    for loss in (cross_entropy, focal_loss):
        assert (loss(pred, classes)[~labeled_pixels(classes)] == 0).all()
    assert_close(dice_loss(pred, classes), dice_loss(pred[..., :2], classes[..., :2]))
    (gradient,) = torch.autograd.grad(
        sum(loss(pred, classes).sum() for loss in (cross_entropy, focal_loss, dice_loss)), pred
    )
    assert (gradient[0, :, :, 2] == 0).all()
    assert (gradient[0, :, :, :2] != 0).all()


def test_directions_to_the_center():
    true = torch.tensor([0.6, 0.8]).expand(20, 2)
    assert center_error(true, true).shape == (20,)
    assert (center_error(true, true) == 0).all()
    opposite = (-true).clone().requires_grad_()
    value = center_error(opposite, true)
    assert float(value[0].detach()) == pytest.approx((1.2 - 0.5) + (1.6 - 0.5))
    value.sum().backward()
    assert opposite.grad is not None
    assert (opposite.grad != 0).all()
    assert center_error(true.view(4, 5, 2), true.half().view(4, 5, 2)).shape == (4, 5)


def test_log_depth():
    log_depth = torch.tensor([math.log(2), 0.0, 5.0], requires_grad=True)
    found = log_depth_error(log_depth, torch.tensor([1.0, 1.0, 0.0]))
    assert found.tolist() == pytest.approx([math.log(2), 0, 0])
    found.sum().backward()
    assert log_depth.grad is not None
    assert log_depth.grad.tolist() == [1, 0, 0]
    assert_close(
        log_depth_error(torch.tensor(1.1).log(), torch.tensor(1.0)),
        log_depth_error(torch.tensor(11.0).log(), torch.tensor(10.0)),
    )


def test_size_is_by_the_diagonal():
    true = torch.tensor([[0.03, 0.04, 0.0], [3, 4, 0]])
    assert size_error(true, true).tolist() == [0, 0]
    assert size_error(1.3 * true, true).tolist() == pytest.approx([0.3 * 7 / 3 / 5] * 2)
    assert size_error(-true, true).isfinite().all()


def two_objects() -> tuple[ObjectPosePrediction, ObjectPoseLabels]:
    """Two objects of 2 and 1 pixels, without an error but of the mask, depth and size."""
    segments = segments_from_instances(torch.tensor([[[1, 1, 0], [0, 0, 2]]]))
    place = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]])
    identity, size_m = torch.tensor([1.0, 0, 0, 0]), torch.tensor([[3.0, 4.0, 0.0], [0.6, 0.8, 0.0]])
    center = torch.tensor([[5.0, 0.0], [2.0, 3.0]])
    to_center = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = ObjectPoseLabels(
        torch.tensor([[[1, 1, 0], [0, 0, 2]]]),
        segments,
        identity.expand(2, 4),
        center,
        torch.tensor([2.0, 4.0]),
        size_m,
        Symmetry.parse(["none", "none"]),
    )
    log_depth = torch.tensor([2.0, 4.0]).log() + torch.tensor([0.1, -0.3])
    return ObjectPosePrediction(
        torch.zeros(1, 3, 2, 3),
        place,
        2 * identity.expand(3, 4),
        to_center,
        identity.expand(2, 4),
        log_depth,
        size_m + 0.3,
    ), labels


def test_terms_of_two_objects_by_hand():
    """Object terms are means over objects, not over pixels; a pixel quaternion of length 2 costs (2 - 1)^2."""
    config = ObjectPoseLossConfig(dice=0, depth=2.0, rotation=RotationLossConfig(norm_penalty=0.5))
    terms = ObjectPoseLoss(config)(*two_objects()).terms
    assert terms["cross_entropy"] == pytest.approx(2 * math.log(3))
    assert terms["rotation"] == pytest.approx(0, abs=1e-6)
    assert terms["norm"] == pytest.approx(0.5)
    assert terms["center"] == pytest.approx(0, abs=1e-6)
    assert terms["depth"] == pytest.approx(2 * 0.2)
    assert terms["size"] == pytest.approx((0.3 / 5 + 0.3 / 1) / 2)


def test_predictions_at_other_pixels_are_refused():
    predicted, labels = two_objects()
    with refuses(GeometryError, found=("3", "1", "2")):
        ObjectPoseLoss()(replace(predicted, quaternion=predicted.quaternion[:1]), labels)


def test_pixels_count_where_the_predicted_mask_agrees():
    """Object 1 is predicted at its first pixel alone, object 2 nowhere, where all of its pixels count."""
    predicted, labels = two_objects()
    logits = sure(torch.tensor([[[1, 0, 0], [0, 0, 0]]]))
    quaternions = torch.tensor([[2.0, 0, 0, 0], [5.0, 0, 0, 0], [3.0, 0, 0, 0]])
    predicted = replace(predicted, class_logits=logits, pixel_quaternion=quaternions)
    norms = {}
    for pixels in ("all", "predicted"):
        config = ObjectPoseLossConfig(pixels=pixels, rotation=RotationLossConfig(norm_penalty=1.0))
        norms[pixels] = float(ObjectPoseLoss(config)(predicted, labels).terms["norm"])
    assert norms["all"] == pytest.approx(((1 + 16) / 2 + 4) / 2)
    assert norms["predicted"] == pytest.approx((1 + 4) / 2)
