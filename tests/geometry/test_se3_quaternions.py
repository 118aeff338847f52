"""Products and averages of quaternions: against SciPy, one by one and all segments at once, and with gradients where
they agree.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.testing import assert_close

from stadia.geometry import se3
from stadia.geometry.boxes import symmetric_angle_deg
from stadia.geometry.se3 import matrix_from_quaternion_wxyz, rotation_angle_deg
from stadia.geometry.segments import segment_means, segments_from_instances

F64 = torch.float64


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, 4, dtype=F64), dim=-1)


def around(center: Tensor, n: int, spread: float) -> Tensor:
    """Quaternions near one, of either sign."""
    near = torch.nn.functional.normalize(center + spread * torch.randn(n, 4, dtype=center.dtype), dim=-1)
    return near * torch.where(torch.rand(n, 1) < 0.5, -1.0, 1.0)


def test_products_are_those_of_matrices_and_of_scipy():
    a, b = unit(100), unit(100)
    product = se3.quaternion_multiply(a, b)
    matrices = matrix_from_quaternion_wxyz(a) @ matrix_from_quaternion_wxyz(b)
    assert_close(matrix_from_quaternion_wxyz(product), matrices, atol=1e-12, rtol=0)
    expected = Rotation.from_quat(a.numpy(), scalar_first=True) * Rotation.from_quat(b.numpy(), scalar_first=True)
    assert_close(product.abs(), torch.from_numpy(expected.as_quat(scalar_first=True)).abs(), atol=1e-12, rtol=0)
    assert_close(
        se3.quaternion_multiply(a, se3.quaternion_conjugate(a)),
        torch.tensor([[1.0, 0, 0, 0]], dtype=F64).expand(100, 4),
    )


def mean(quaternions: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The mean of all, as one segment."""
    segment = torch.zeros(len(quaternions), dtype=torch.long)
    return se3.quaternion_mean_by_segment(quaternions, segment, 1, weights)[0]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_signs_do_not_cancel(dtype: torch.dtype):
    q = unit(50).to(dtype)
    q = torch.where(q[:, :1] < 0, -q, q)
    segment = torch.arange(50).repeat(2)
    assert_close(se3.quaternion_mean_by_segment(torch.cat((q, -q)), segment, 50), q, atol=1e-6, rtol=0)
    assert_close(se3.quaternion_mean_by_segment(q, segment[:50], 50), q, atol=1e-6, rtol=0)


def test_equal_to_scipys_weighted_mean():
    quaternions, weights = around(unit()[None].squeeze(), 40, 0.4).reshape(4, 10, 4), torch.rand(4, 10, dtype=F64)
    for q, w in zip(quaternions, weights, strict=True):
        found = mean(q, w)
        expected = Rotation.from_quat(q.numpy(), scalar_first=True).mean(w.numpy()).as_quat(scalar_first=True)
        assert_close(found, torch.from_numpy(expected * np.sign(expected[0])), atol=1e-12, rtol=0)
        assert found[0] >= 0


def test_gradients_are_exact_and_finite_where_quaternions_agree():
    q, weights = around(unit(), 6, 0.3).requires_grad_(), torch.rand(6, dtype=F64).requires_grad_()
    assert torch.autograd.gradcheck(mean, (q, weights))
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
    weights = torch.rand(400, dtype=F64)
    found = se3.quaternion_mean_by_segment(q, segment, 6, weights)
    for i in (0, 1, 2, 4):
        assert_close(found[i], mean(q[segment == i], weights[segment == i]))
        assert symmetric_angle_deg(found[i], centers[i]) < 10
    assert found[3].tolist() == found[5].tolist() == [0, 0, 0, 0]
    assert se3.quaternion_mean_by_segment(q[:0], segment[:0], 0).shape == (0, 4)


def test_segments_of_instance_maps():
    instances = torch.tensor([[[0, 2], [7, 2]], [[0, 0], [0, 0]], [[2, 2], [1, 0]]])
    found = segments_from_instances(instances)
    assert found.image.tolist() == [0, 0, 2, 2]
    assert found.instance.tolist() == [2, 7, 1, 2]
    assert found.count == 4
    assert found.segment.tolist() == [0, 1, 0, 3, 3, 2]
    maps = torch.arange(24.0).view(3, 2, 2, 2)
    assert found.gather(maps)[:, 0].tolist() == [
        maps[b, 0, y, x] for b, y, x in ((0, 0, 1), (0, 1, 0), (0, 1, 1), (2, 0, 0), (2, 0, 1), (2, 1, 0))
    ]
    assert segment_means(found.gather(maps), found.segment, 4)[0].tolist() == [2.0, 6.0]
    assert segments_from_instances(torch.zeros(2, 3, 3, dtype=torch.int32)).count == 0


def test_means_are_weighted_and_0_where_nothing_weighs():
    values, segment = torch.tensor([[1.0, 10], [3, 30], [5, 50]]), torch.tensor([0, 0, 2])
    assert segment_means(values, segment, 3).tolist() == [[2, 20], [0, 0], [5, 50]]
    assert segment_means(values, segment, 3, torch.tensor([3.0, 1, 0])).tolist() == [[1.5, 15], [0, 0], [0, 0]]
    assert segment_means(values[:, 0], segment, 3).tolist() == [2, 0, 5]


def test_the_turn_to_a_ray_brings_the_optical_axis_there_and_by_the_shortest_way() -> None:
    generator = torch.Generator().manual_seed(0)
    ray = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    ray[:, 2] = ray[:, 2].abs() + 0.1
    q = se3.quaternion_from_ray(ray)
    R = matrix_from_quaternion_wxyz(q)
    towards = torch.nn.functional.normalize(ray, dim=-1)
    assert_close(R[..., 2], towards)
    assert_close(rotation_angle_deg(R), torch.rad2deg(towards[:, 2].arccos()))
    assert se3.quaternion_from_ray(torch.tensor([0.0, 0.0, 5.0])).tolist() == [1, 0, 0, 0]
