"""The angle between rotations of symmetric objects: exact, bounded, and invariant to their symmetry alone."""

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.testing import assert_close

from stadia.geometry import poses
from stadia.geometry.poses import quaternion_multiply
from stadia.objectpose.boxes import Symmetry, half_angle_sin_cos, symmetric_angle_deg

F64 = torch.float64
HALF_TURN_Y = (0.0, 0.0, 1.0, 0.0)
ANGLES_DEG = [0.0, 1e-4, 1e-3, 0.01, 0.1, 1.0, 5.0, 45.0, 90.0, 135.0, 179.0, 179.99, 179.9999, 180.0]


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, 4, dtype=F64), dim=-1)


def turn(axis: Tensor, angle_deg: Tensor | float) -> Tensor:
    half = torch.deg2rad(torch.as_tensor(angle_deg, dtype=F64)) / 2
    return torch.cat((half.cos().expand(axis.shape[:-1])[..., None], half.sin()[..., None] * axis), -1)


def axes(n: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, dtype=F64), dim=-1)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("angle_deg", ANGLES_DEG)
def test_angles_are_exact(angle_deg: float, dtype: torch.dtype):
    true, axis = unit(200), axes(200)
    moved = quaternion_multiply(true, turn(axis, angle_deg))
    expected = torch.full((200,), angle_deg, dtype=F64)
    found = [
        symmetric_angle_deg(moved.to(dtype), true.to(dtype)),
        symmetric_angle_deg(-moved.to(dtype), true.to(dtype), Symmetry.parse(["none"] * 200)),
        poses.rotation_angle_deg(
            poses.matrix_from_quaternion_wxyz(moved.to(dtype)).mT @ poses.matrix_from_quaternion_wxyz(true.to(dtype))
        ),
    ]
    for angle in found:
        assert_close(angle.double(), expected, atol=1e-4, rtol=0)
    assert max(float(angle.max()) for angle in found[:2]) <= 180


def test_length_and_sign_do_not_matter():
    q, true = unit(100), unit(100)
    symmetry = Symmetry.parse(["none", "revolution", [HALF_TURN_Y]] * 33 + ["none"])
    expected = symmetric_angle_deg(q, true, symmetry)
    assert_close(symmetric_angle_deg(-3 * q, true, symmetry), expected)
    assert_close(symmetric_angle_deg(q, -true, symmetry), expected)
    sine, cosine = half_angle_sin_cos(-3 * q, true, symmetry)
    assert_close(sine.square() + cosine.square(), torch.full((100,), 9.0, dtype=F64))


def test_revolution_is_the_angle_between_the_y_axes_and_the_least_over_all_turns():
    q, true = unit(100), unit(100)
    found = symmetric_angle_deg(q, true, Symmetry.parse(["revolution"] * 100))
    y, y_true = (poses.matrix_from_quaternion_wxyz(x)[..., 1] for x in (q, true))
    assert_close(found, torch.rad2deg(torch.arccos((y * y_true).sum(-1))), atol=1e-6, rtol=0)
    about_y = turn(torch.tensor([0.0, 1, 0], dtype=F64).expand(360, 3), torch.arange(360.0))
    tried = symmetric_angle_deg(q[:, None], quaternion_multiply(true[:, None], about_y))
    assert (found[:, None] <= tried + 1e-9).all()
    assert (tried.amin(1) - found < 0.51).all()


def test_a_finite_set_is_the_least_of_its_members():
    group = Rotation.create_group("O").as_quat(scalar_first=True).tolist()  # the 24 of a cube
    q, true = unit(100), unit(100)
    found = symmetric_angle_deg(q, true, Symmetry.parse([group] * 100))
    each = torch.stack([symmetric_angle_deg(q, quaternion_multiply(true, torch.tensor(s, dtype=F64))) for s in group])
    assert_close(found, each.amin(0))
    assert found.max() < 62.8  # no two orientations of a cube are farther apart


def test_a_turn_is_of_true_object_not_back():
    quarter = turn(torch.tensor([0.0, 0, 1], dtype=F64), 90.0)
    true, symmetry = unit(2), Symmetry.parse([[quarter.tolist()]] * 2)
    turned = torch.stack(
        (quaternion_multiply(true[0], quarter), quaternion_multiply(true[1], quarter * torch.tensor([1, 1, 1, -1])))
    )
    assert symmetric_angle_deg(turned, true, symmetry).tolist() == pytest.approx([0, 90], abs=1e-5)


def test_a_body_of_revolution_may_stand_on_its_head():
    can = Symmetry(torch.tensor([True]), torch.tensor([[[1.0, 0, 0, 0], [0.0, 1, 0, 0]]], dtype=F64))
    true = unit(1)
    tipped = quaternion_multiply(true, turn(torch.tensor([[1.0, 0, 0]], dtype=F64), 170.0))
    assert float(symmetric_angle_deg(tipped, true, can)) == pytest.approx(10)
    assert float(symmetric_angle_deg(tipped, true, Symmetry.parse(["revolution"]))) == pytest.approx(170)


def test_gradients_are_exact_and_finite_at_0_and_at_180():
    true = unit(3)
    symmetry = Symmetry.parse(["none", "revolution", [HALF_TURN_Y]])
    assert torch.autograd.gradcheck(lambda q: half_angle_sin_cos(q, true, symmetry), unit(3).requires_grad_())
    about_x = turn(torch.tensor([1.0, 0, 0], dtype=F64).expand(3, 3), 180.0)
    for at in (true, -true, quaternion_multiply(true, about_x), torch.zeros(3, 4, dtype=F64)):
        q = at.clone().requires_grad_()
        sum(x.sum() for x in half_angle_sin_cos(q, true, symmetry)).backward()
        assert q.grad.isfinite().all()


def test_symmetries_are_chosen_and_checked():
    both = Symmetry.parse(["none", "revolution", [HALF_TURN_Y]])
    assert both.revolution.tolist() == [False, True, False]
    assert both.turns.shape == (3, 2, 4)
    assert both[torch.tensor([2, 1])].turns[0, 1].tolist() == list(HALF_TURN_Y)
    assert Symmetry.parse([]).turns.shape == (0, 1, 4)
    assert symmetric_angle_deg(unit(3), unit(3), both).shape == (3,)
    with pytest.raises(ValueError, match="revolutoin"):
        Symmetry.parse(["revolutoin"])
    assert (both.turns.norm(dim=-1) == 1).all()
