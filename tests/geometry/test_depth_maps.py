"""Depth and inverse depth: each other's inverses, none stays none, and the depth a head starts with."""

import cv2
import pytest
import torch
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.differentiable.depth_activations import init_depth_bias, sigmoid_to_inverse_depth
from stadia.differentiable.images import resize_map
from stadia.geometry.cameras import depth_from_inverse, inverse_from_depth


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_keeps_values_and_none(dtype):
    depth = (torch.rand(2, 1, 5, 7, dtype=dtype) * 80).clamp(min=0.1)
    depth[0, 0, 0] = 0
    inverse = inverse_from_depth(depth)
    assert_close(depth_from_inverse(inverse), depth)
    assert (inverse[0, 0, 0] == 0).all()


@pytest.mark.parametrize("none", [0.0, -3.0, float("nan"), 1e-12])
def test_none_has_no_gradient_and_no_nan(none):
    depth = torch.tensor([none, 2.0], requires_grad=True)
    inverse_from_depth(depth).sum().backward()
    assert depth.grad.tolist() == [0, -0.25]


@pytest.mark.parametrize(("height", "width"), [(10, 14), (40, 63), (7, 3), (20, 31)])
def test_resize_map_is_opencvs(height, width):
    values = torch.rand(20, 31)
    expected = cv2.resize(values.numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    assert_close(resize_map(values[None, None], height, width)[0, 0], torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_the_head_covers_its_range_and_starts_at_the_given_depth():
    logits = torch.tensor([-40.0, 40.0], dtype=torch.float64)
    assert_close(1 / sigmoid_to_inverse_depth(logits, 0.5, 80), torch.tensor([80.0, 0.5], dtype=torch.float64))
    for start in (0.6, 5.0, 20.0, 79.0):
        bias = torch.tensor(init_depth_bias(start, 0.5, 80), dtype=torch.float64)
        assert_close(1 / sigmoid_to_inverse_depth(bias, 0.5, 80).item(), start)


def test_gradients():
    depth = (0.5 + torch.rand(2, 1, 3, 4, dtype=torch.float64)).requires_grad_()
    for function in (
        inverse_from_depth,
        depth_from_inverse,
        lambda d: sigmoid_to_inverse_depth(d, 0.1, 100),
        lambda d: resize_map(d, 5, 7),
    ):
        assert torch.autograd.gradcheck(function, (depth,))


@pytest.mark.parametrize("call", [(20, 0, 80), (20, 80, 0.1), (0.05, 0.1, 80), (80, 0.1, 80)])
def test_a_range_that_is_none_is_named(call):
    with pytest.raises(GeometryError):
        init_depth_bias(*call)
