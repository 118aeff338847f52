"""A list of poses gives back what it took, in 56 bytes a pose."""

from __future__ import annotations

import pytest
import torch

from stadia.geometry.se3 import se3_exp
from stadia.odometry.sliding_window_ba import PoseList

HALF_TURNS = ((1.0, -1.0, -1.0, 1.0), (-1.0, 1.0, -1.0, 1.0), (-1.0, -1.0, 1.0, 1.0))


def test_poses_come_back_and_hold_no_memory_of_what_they_were_a_view_of() -> None:
    twists = torch.randn(1500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = se3_exp(twists)
    poses = PoseList()
    assert poses.stack().shape == (0, 4, 4)
    for T in given:
        poses.append(T)
    assert len(poses) == 1500
    assert torch.equal(poses.stack()[:, :3, 3], given[:, :3, 3])
    torch.testing.assert_close(poses.stack(), given, rtol=0, atol=4e-15)
    assert torch.equal(poses[-1], poses.stack()[-1])
    assert torch.equal(poses[7], poses.stack()[7])
    assert torch.equal(torch.stack(list(poses)), poses.stack())
    before = poses[7]
    poses[7].zero_()
    assert torch.equal(poses[7], before), "a copy"
    with pytest.raises(IndexError):
        poses[1500]
    assert poses._values.itemsize * len(poses._values) == 56 * 1500


def test_the_identity_and_half_turns_come_back() -> None:
    poses = PoseList()
    given = [torch.eye(4, dtype=torch.float64), *(torch.diag(torch.tensor(signs).double()) for signs in HALF_TURNS)]
    for T in given:
        poses.append(T)
    assert torch.equal(poses.stack(), torch.stack(given))
