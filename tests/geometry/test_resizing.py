"""Resized maps equal PyTorch's, pixel by pixel, also beside holes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from stadia.geometry.resizing import Interpolation, resize_dense_map


@pytest.mark.parametrize(("shape", "size"), [((192, 640), (375, 1242)), ((37, 41), (20, 30)), ((1, 5), (3, 1))])
@pytest.mark.parametrize(
    ("mode", "corners"), [("nearest", None), ("bilinear", False), ("bilinear", True), ("bicubic", False)]
)
def test_a_resized_map_equals_that_of_torch(
    shape: tuple[int, int], size: tuple[int, int], mode: Interpolation, corners: bool | None
) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    values[0, -1] = np.inf
    found = resize_dense_map(values, *size, mode, align_corners=bool(corners))
    expected = functional.interpolate(torch.from_numpy(values)[None, None], size, mode=mode, align_corners=corners)
    finite = np.isfinite(found)
    np.testing.assert_array_equal(finite, np.isfinite(expected[0, 0].numpy()))
    np.testing.assert_allclose(found[finite], expected[0, 0].numpy()[finite], rtol=0, atol=1e-12)
