"""Rotations of a pose head: orders of Euler angles, matrices by 6 or 9 numbers, heads without bias."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn
from torch.testing import assert_close

from stadia.models import ROTATION_NUMBERS, ROTATIONS
from stadia.models.config import DepthPoseNetConfig
from stadia.models.pose.pose_net import PoseNet
from stadia.models.pose.rotations import matrix6d, matrix9d

EULER = [name for name in ROTATIONS if name.startswith("euler_")]


@pytest.mark.parametrize("name", EULER)
def test_euler_orders_are_those_of_scipy(name: str) -> None:
    order, angles = name.removeprefix("euler_"), torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    expected = Rotation.from_euler(order, [angles["xyz".index(axis)] for axis in order]).as_matrix()
    assert_close(ROTATIONS.load(name)(angles), torch.from_numpy(expected))


def test_all_orders_differ_and_euler_is_xyz() -> None:
    angles = torch.tensor([0.3, -0.2, 0.5])
    assert len({tuple(ROTATIONS.load(name)(angles).flatten().tolist()) for name in EULER}) == 6
    assert_close(ROTATIONS.load("euler")(angles), ROTATIONS.load("euler_xyz")(angles))


def test_matrices_are_found_again() -> None:
    R = torch.from_numpy(Rotation.random(20, random_state=0).as_matrix())
    less = R - torch.eye(3)
    assert_close(matrix9d(less.flatten(1)), R)
    assert_close(matrix6d(less[:, :, :2].transpose(1, 2).flatten(1)), R)


def test_nine_numbers_give_the_nearest_rotation_with_exact_gradients() -> None:
    torch.manual_seed(0)
    values = 0.2 * torch.randn(8, 9, dtype=torch.float64)
    U, _, Vt = torch.linalg.svd(torch.eye(3, dtype=torch.float64) + values.unflatten(-1, (3, 3)))
    assert_close(matrix9d(values), U @ Vt)
    for rotation, numbers in ((matrix9d, 9), (matrix6d, 6)):
        for start in (torch.zeros(1, numbers), 0.2 * torch.randn(1, numbers)):
            assert torch.autograd.gradcheck(rotation, start.double().requires_grad_())


@pytest.mark.parametrize("rotation", ["matrix6d", "matrix9d", "euler_zyx"])
def test_a_pose_network_predicts_each_rotation(rotation: str) -> None:
    config = DepthPoseNetConfig(pose_net="correlation", rotation=rotation, pretrained=False)
    net = PoseNet(config, None)
    T = net(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)).T_later_earlier
    assert net.head[-1].out_channels == ROTATION_NUMBERS.get(rotation, 3) + 3
    assert_close(T[:, :3, :3] @ T[:, :3, :3].transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)


def test_biases_of_the_pose_network_can_be_left_out() -> None:
    def count_biases(*, pose_bias: bool) -> int:
        net = PoseNet(DepthPoseNetConfig(pose_net="d3vo", pose_bias=pose_bias, pretrained=False), None)
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        return sum(layer.bias is not None for layer in layers)

    assert count_biases(pose_bias=True) > 7
    assert count_biases(pose_bias=False) == 0
