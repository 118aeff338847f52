"""Means over segments: of quaternions against SciPy, one by one and all segments at once, and with gradients."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.testing import assert_close

from stadia.differentiable.segments import quaternion_mean_by_segment, segment_means
from stadia.objectpose.boxes import symmetric_angle_deg

F64 = torch.float64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, 4, dtype=F64), dim=-1)


def around(center: Tensor, n: int, spread: float) -> Tensor:
    """Quaternions near one, of either sign."""
    near = torch.nn.functional.normalize(center + spread * torch.randn(n, 4, dtype=center.dtype), dim=-1)
    return near * torch.where(torch.rand(n, 1) < 0.5, -1.0, 1.0)


def mean(quaternions: torch.Tensor) -> torch.Tensor:
    """The mean of all, as one segment."""
    segment = torch.zeros(len(quaternions), dtype=torch.long)
    return quaternion_mean_by_segment(quaternions, segment, 1)[0]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_signs_do_not_cancel(dtype: torch.dtype):
    q = unit(50).to(dtype)
    q = torch.where(q[:, :1] < 0, -q, q)
    segment = torch.arange(50).repeat(2)
    assert_close(quaternion_mean_by_segment(torch.cat((q, -q)), segment, 50), q, atol=1e-6, rtol=0)
    assert_close(quaternion_mean_by_segment(q, segment[:50], 50), q, atol=1e-6, rtol=0)


def test_equal_to_scipys_weighted_mean():
    quaternions, weights = around(unit()[None].squeeze(), 40, 0.4).reshape(4, 10, 4), torch.rand(4, 10, dtype=F64)
    for q, w in zip(quaternions, weights, strict=True):
        found = mean(q * w.sqrt()[:, None])  # the squared length is the weight
        expected = Rotation.from_quat(q.numpy(), scalar_first=True).mean(w.numpy()).as_quat(scalar_first=True)
        assert_close(found, torch.from_numpy(expected * np.sign(expected[0])), atol=1e-12, rtol=0)
        assert found[0] >= 0


def test_gradients_are_exact_and_finite_where_quaternions_agree():
    assert torch.autograd.gradcheck(mean, around(unit(), 6, 0.3).requires_grad_())
    same = unit().float().expand(6, 4).clone().requires_grad_()
    mean(same).sum().backward()
    assert same.grad.isfinite().all()
    assert same.grad.abs().sum() > 0
    for degenerate in (torch.eye(4), torch.eye(4)[:2], torch.zeros(3, 4)):
        q = degenerate.clone().requires_grad_()
        found = mean(q)
        found.sum().backward()
        assert found.isfinite().all()
        assert q.grad.isfinite().all()


def test_all_segments_at_once_are_each_alone():
    segment = torch.randint(0, 5, (400,))
    segment[segment == 3] = 0  # object 3 has no pixel
    centers = unit(6)
    q = torch.nn.functional.normalize(centers[segment] + 0.2 * torch.randn(400, 4, dtype=F64), dim=-1)
    q = q * torch.where(torch.rand(400, 1) < 0.5, -1.0, 1.0)
    q = q * torch.rand(400, 1, dtype=F64).sqrt()
    found = quaternion_mean_by_segment(q, segment, 6)
    for i in (0, 1, 2, 4):
        assert_close(found[i], mean(q[segment == i]))
        assert symmetric_angle_deg(found[i], centers[i]) < 10
    assert found[3].tolist() == found[5].tolist() == [0, 0, 0, 0]
    assert quaternion_mean_by_segment(q[:0], segment[:0], 0).shape == (0, 4)


def test_means_are_weighted_and_0_where_nothing_weighs():
    values, segment = torch.tensor([[1.0, 10], [3, 30], [5, 50]]), torch.tensor([0, 0, 2])
    assert segment_means(values, segment, 3).tolist() == [[2, 20], [0, 0], [5, 50]]
    assert segment_means(values, segment, 3, torch.tensor([3.0, 1, 0])).tolist() == [[1.5, 15], [0, 0], [0, 0]]
    assert segment_means(values[:, 0], segment, 3).tolist() == [2, 0, 5]
