"""Pixels of objects, and quantiles of many objects at once."""

import pytest
import torch
from torch.testing import assert_close

from stadia.geometry.segments import segment_quantiles, segments_from_instances

F64 = torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_as_torch_finds_them_in_each_segment(dtype):
    values, segment = torch.randn(500, dtype=dtype), torch.randint(0, 7, (500,))
    segment[segment == 3] = 4  # nothing in 3
    segment[0], segment[segment == 6] = 6, 5
    segment[0] = 6  # and one value in 6
    asked = (0.0, 0.02, 0.5, 0.77, 1.0)
    found = segment_quantiles(values, segment, 8, asked)
    for s in range(8):
        mine = values[segment == s]
        expected = (
            mine.quantile(torch.tensor(asked, dtype=dtype)) if len(mine) else torch.full((5,), torch.nan, dtype=dtype)
        )
        assert_close(found[:, s], expected, equal_nan=True)
    assert found[:, 6].tolist() == [values[0].item()] * 5


def test_nan_and_infinity_stay_in_their_segment():
    values = torch.tensor([1.0, torch.nan, 3.0, 4.0, torch.inf, -torch.inf])
    found = segment_quantiles(values, torch.tensor([0, 0, 1, 1, 2, 2]), 3, (0.0, 1.0))
    assert found[:, 0].isnan().all()
    assert found[:, 1].tolist() == [3, 4]
    assert found[:, 2].tolist() == [-torch.inf, torch.inf]
    assert segment_quantiles(values[:0], torch.zeros(0, dtype=torch.long), 2, (0.5,)).isnan().tolist() == [[True, True]]


def test_gradients():
    values = torch.randn(40, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v: segment_quantiles(v, torch.arange(40) % 5, 5, (0.0, 0.1, 0.5, 1.0)), (values,)
    )
    segment_quantiles(values, torch.arange(40) % 5, 6, (0.5,))[0, :5].sum().backward()  # a sixth without a pixel
    assert values.grad.isfinite().all()


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
    assert segments_from_instances(torch.zeros(2, 3, 3, dtype=torch.int32)).count == 0
