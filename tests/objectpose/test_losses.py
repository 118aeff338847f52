"""Masks, centers, depth and size: numbers by hand, exact gradients, and finite ones at the ends."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from tests.refusals import refuses
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError, ConfigMistakes
from stadia.geometry.poses import quaternion_multiply
from stadia.geometry.segments import segments_from_instances
from stadia.losses.class_masks import IGNORE_INDEX, cross_entropy, dice_loss, focal_loss, labeled_pixels
from stadia.losses.loss_report import masked_mean
from stadia.objectpose import ROTATION_LOSSES
from stadia.objectpose.boxes import Symmetry, symmetric_angle_deg
from stadia.objectpose.config import ObjectPoseLossConfig, RotationLossConfig
from stadia.objectpose.losses import (
    ObjectPoseLabels,
    ObjectPoseLoss,
    ObjectPosePrediction,
    RotationLoss,
    build_rotation_loss,
    center_error,
    log_depth_error,
    size_error,
)
from stadia.objectpose.recipe import make_rotation_case
from stadia.training.loss_checks.loss_check_runner import check_losses

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


HALF_TURN_Y = (0.0, 0.0, 1.0, 0.0)
KINDS = {"none": "none", "revolution": "revolution", "finite": [HALF_TURN_Y]}
LOSSES = {name: ROTATION_LOSSES.load(name) for name in ROTATION_LOSSES}
SEE_NO_LENGTH = [name for name in LOSSES if name != "squared_error"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def unit(n: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 4, dtype=F64), dim=-1).to(dtype)


def about(axis: tuple[float, float, float], angle_deg: Tensor) -> Tensor:
    half = torch.deg2rad(angle_deg.to(F64)) / 2
    return torch.cat((half.cos()[:, None], half.sin()[:, None] * torch.tensor(axis, dtype=F64)), -1)


def trained(loss: RotationLoss, steps: int = 250) -> tuple[float, float]:
    """Mean angle in degrees of 256 free quaternions before and after Adam."""
    true = unit(256, torch.float32)
    quaternion = torch.randn(256, 4).requires_grad_()
    start = float(symmetric_angle_deg(quaternion.detach(), true).mean())
    optimizer = torch.optim.Adam([quaternion], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(quaternion, true, None).sum().backward()
        optimizer.step()
        schedule.step()
    return start, float(symmetric_angle_deg(quaternion.detach(), true).mean())


def rises_from_the_truth(loss: RotationLoss) -> bool:
    angles = torch.linspace(0, 180, 181)
    true = unit(1).expand(181, 4)
    of_angle = loss(quaternion_multiply(true, about((0.6, 0.0, 0.8), angles)), true, None)
    return bool((of_angle.diff() > 0).all()) and float(of_angle[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_least_at_the_truth_and_rising_all_the_way(name: str):
    assert rises_from_the_truth(LOSSES[name])


@pytest.mark.parametrize("name", ["-log", "neg_log"])
def test_the_mistake_is_refused_by_name_with_the_reason(name: str):
    with refuses(ConfigError, found=name, expected="bounded_log", fix="180"):
        ROTATION_LOSSES.load(name)
    with refuses(ConfigMistakes, where="name"):
        resolve_config(RotationLossConfig, {}, [f"name={name}"])
    with pytest.raises(ValidationError):
        RotationLossConfig(name=name)
    assert RotationLossConfig().name in ROTATION_LOSSES


@pytest.mark.parametrize("degrees", [0.0, 1.0, 60.0, 180.0])
def test_by_hand(degrees: float):
    true = unit(1)
    q = quaternion_multiply(true, about((0.0, 0.6, 0.8), torch.tensor([degrees])))
    theta = math.radians(degrees)
    expected = {
        "geodesic": theta,
        "bounded_log": math.log((math.sin(theta / 2) ** 2 + 0.1) / 0.1),
        "log_dot": math.log((1 - math.cos(theta / 2) + 0.1) / 0.1),
        "minus_log_dot": -math.log((math.cos(theta / 2) + 0.1) / 1.1),
        "one_minus_dot_squared": math.sin(theta / 2) ** 2,
        "squared_error": 2 - 2 * math.cos(theta / 2),
    }
    assert {name: float(loss(q, true)) for name, loss in LOSSES.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_sign_does_not_matter_and_length_only_with_the_norm_penalty(name: str, kind: str):
    q, true, symmetry = unit(100, torch.float32), unit(100, torch.float32), Symmetry.parse([KINDS[kind]] * 100)
    loss = LOSSES[name]
    assert_close(loss(-q, true, symmetry), loss(q, true, symmetry), atol=1e-6, rtol=0)
    assert_close(loss(q, -true, symmetry), loss(q, true, symmetry), atol=1e-6, rtol=0)
    if name in SEE_NO_LENGTH:
        assert_close(loss(2 * q, true, symmetry), loss(q, true, symmetry), atol=1e-6, rtol=0)
    else:
        assert (loss(2 * q, true, symmetry) > loss(q, true, symmetry)).any()
    assert loss(q.half(), true, symmetry).dtype == torch.float32


@pytest.mark.parametrize("name", LOSSES)
def test_a_turn_about_the_axis_of_revolution_changes_nothing(name: str):
    q, true = unit(64), unit(64)
    spun = quaternion_multiply(true, about((0.0, 1.0, 0.0), 360 * torch.rand(64)))
    revolution, none = Symmetry.parse(["revolution"] * 64), Symmetry.parse(["none"] * 64)
    assert_close(LOSSES[name](q, spun, revolution), LOSSES[name](q, true, revolution))
    assert_close(LOSSES[name](spun, true, revolution), torch.zeros(64, dtype=F64), atol=1e-12, rtol=0)
    assert (LOSSES[name](spun, true, none) > 1e-3).sum() > 55
    assert_close(LOSSES[name](q, true, none), LOSSES[name](q, true))


@pytest.mark.parametrize("name", LOSSES)
def test_in_closed_form_it_is_the_least_by_enumeration(name: str):
    q, true = unit(20), unit(20)
    turns = about((0.0, 1.0, 0.0), torch.arange(720) / 2)
    closed = LOSSES[name](q, true, Symmetry.parse(["revolution"] * 20))
    listed = LOSSES[name](q, true, Symmetry.parse([turns.tolist()] * 20))
    brute = LOSSES[name](q[:, None], quaternion_multiply(true[:, None], turns)).amin(1)
    assert_close(listed, brute)
    assert (closed <= listed + 1e-12).all()
    assert_close(closed, listed, atol=2e-4, rtol=0)


def test_each_object_has_its_own_symmetry():
    q, true = unit(3), unit(3)
    together = LOSSES["geodesic"](q, true, Symmetry.parse(list(KINDS.values())))
    alone = [
        float(LOSSES["geodesic"](q[i : i + 1], true[i : i + 1], Symmetry.parse([kind])))
        for i, kind in enumerate(KINDS.values())
    ]
    assert together.tolist() == pytest.approx(alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_exact(name: str, kind: str):
    true, symmetry = unit(4), Symmetry.parse([KINDS[kind]] * 4)
    assert torch.autograd.gradcheck(lambda q: LOSSES[name](q, true, symmetry), (1.7 * unit(4)).requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_everywhere(name: str, kind: str):
    true = torch.cat((unit(8, torch.float32), torch.eye(4)))
    opposite = quaternion_multiply(true, about((1.0, 0.0, 0.0), torch.full((12,), 180.0)).float())
    for at in (true, -true, opposite, 0 * true, 1e-30 * true, 1e-20 * true, true + 1e-7, 1e8 * true):
        q = at.clone().requires_grad_()
        value = LOSSES[name](q, true, Symmetry.parse([KINDS[kind]] * 12))
        value.sum().backward()
        assert value.isfinite().all()
        assert q.grad is not None
        assert q.grad.isfinite().all()


@pytest.mark.parametrize("objects", [0, 5])
def test_no_object_is_0_and_still_in_the_graph(objects: int):
    q = unit(objects).requires_grad_()
    value = masked_mean(
        LOSSES["geodesic"](q, unit(objects), Symmetry.parse(["none"] * objects)), torch.zeros(objects, dtype=torch.bool)
    )
    assert float(value.detach()) == 0
    value.backward()
    assert q.grad is not None
    assert (q.grad == 0).all()


def test_rotation_losses_are_added_with_their_weights() -> None:
    true, q = unit(5), unit(5)
    config = RotationLossConfig(name="log_dot", eps=0.02, also={"squared_error": 0.5, "geodesic": 2.0})
    expected = torch.log1p((1 - (q * true).sum(-1).abs()) / 0.02)
    expected = expected + 0.5 * LOSSES["squared_error"](q, true) + 2 * LOSSES["geodesic"](q, true)
    assert_close(build_rotation_loss(config)(q, true, None), expected)
    with pytest.raises(ValidationError, match=r"rotation\.name"):
        RotationLossConfig(name="geodesic", also={"geodesic": 1.0})
    with pytest.raises(ValidationError):
        RotationLossConfig(also={"neg_log": 1.0})


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


# -- a rotation loss of a user


def backwards(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None) -> Tensor:
    """The mistake of the notebook: least at 180 degrees."""
    cosine = (F.normalize(quaternion, dim=-1) * true).sum(-1).abs()
    return -(1e-3 + 1 - cosine).log()


def counts_the_sign(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None) -> Tensor:
    return (quaternion - true).square().sum(-1)


def one_number(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None) -> Tensor:
    return (quaternion - true).square().sum()


@pytest.mark.parametrize("name", LOSSES)
def test_rotation_losses_of_the_package_pass_the_checks(name: str):
    assert check_losses({name: make_rotation_case(LOSSES[name])}) == []


@pytest.mark.parametrize(
    ("loss", "code", "shown"),
    [(backwards, "L17", "180"), (counts_the_sign, "L17", "opposite sign"), (one_number, "L11", "shape")],
)
def test_a_wrong_rotation_loss_is_named_without_data(loss: RotationLoss, code: str, shown: str):
    findings = check_losses({"mine": make_rotation_case(loss)})
    assert {finding.code for finding in findings} - {"N01"} == {code}
    assert any(shown in finding.measured for finding in findings)


def test_a_rotation_loss_of_ones_own_is_named_by_module_and_function():
    config = RotationLossConfig(name=f"{__name__}:backwards", also={f"{__name__}:counts_the_sign": 0.5})
    true = unit(3)
    both = backwards(true, true, None) + 0.5 * counts_the_sign(true, true, None)
    assert_close(build_rotation_loss(config)(true, true, None), both)
