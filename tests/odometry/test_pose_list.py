"""A list of poses gives back what it took, in 96 bytes a pose."""

from __future__ import annotations

import sys

import pytest
import torch

from stadia.geometry.se3 import se3_exp
from stadia.odometry.pose_list import PoseList


def test_poses_come_back_to_the_last_bit_and_hold_no_memory_of_what_they_were_a_view_of() -> None:
    given = se3_exp(torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    poses = PoseList()
    assert poses.stack().shape == (0, 4, 4)
    for T in given:
        poses.append(T)
    assert len(poses) == 500
    assert torch.equal(poses.stack(), given)
    assert torch.equal(poses[-1], given[-1])
    assert torch.equal(poses[7], given[7])
    poses[7].zero_()
    assert torch.equal(poses[7], given[7]), "a copy"
    with pytest.raises(IndexError):
        poses[500]
    assert sys.getsizeof(poses._values) < 1.2 * 96 * len(poses)
    assert not [name for name, value in vars(poses).items() if isinstance(value, torch.Tensor | list)]
