"""Law: the identity pose gives the image back at every pixel, edges included, whatever the size and the depth.

The field's classic mistake, pixels normalized for align_corners=True and sampled with False, breaks it (Monodepth2 and
its descendants); so does float32's own rounding at width 1242.
"""

from collections.abc import Callable

import pytest
import torch
from tests import tensor_cameras
from torch import Tensor
from torch.nn import functional as F

from stadia.differentiable.view_synthesis import synthesize_views, warp_image

SIZES = [(192, 640), (37, 53), (375, 1242), (36, 53), (37, 54), (2, 2), (1, 1), (1, 9)]
DEPTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "near and far": lambda d: 10 ** (6 * d - 3),
    "one": lambda d: torch.ones_like(d),
    "none here and there": lambda d: torch.where(d < 0.3, torch.zeros_like(d), d * 80),
    "far beyond the sky": lambda d: torch.full_like(d, 1e30),
}


def deviation(height: int, width: int, dtype: torch.dtype = torch.float32, depth: str = "near and far") -> float:
    """The largest difference between white noise and itself warped by the identity."""
    camera = tensor_cameras.intrinsics(
        0.58 * width, 1.92 * height, 0.491 * width, 0.461 * height, height=height, width=width
    )
    generator = torch.Generator().manual_seed(height * width)
    image = torch.rand(2, 3, height, width, dtype=dtype, generator=generator)
    depth_m = DEPTHS[depth](torch.rand(2, 1, height, width, dtype=dtype, generator=generator))
    warped, valid = warp_image(image, depth_m, camera, camera, torch.eye(4, dtype=dtype).expand(2, 4, 4))
    assert torch.equal(valid, depth_m > 0)
    return (warped - image).abs().max().item()


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_at_every_size(height, width, dtype):
    assert deviation(height, width, dtype) <= 1e-5


@pytest.mark.parametrize("depth", DEPTHS)
def test_identity_at_every_depth(depth):
    assert deviation(37, 53, depth=depth) <= 1e-5


def test_identity_of_every_source_and_with_intrinsics_in_float32():
    camera = tensor_cameras.intrinsics(371.0, 368.0, 314.0, 88.0, height=192, width=640, dtype=torch.float32)
    sources = torch.rand(1, 3, 3, 192, 640)
    views = synthesize_views(sources, torch.rand(1, 1, 192, 640) + 0.1, camera, camera, torch.eye(4).expand(1, 3, 4, 4))
    assert (views.image - sources).abs().max() <= 1e-5
    assert views.valid.all()


# -- the law is able to break


def classic_mistake(image: Tensor, pixels: Tensor) -> Tensor:
    """Normalized with W - 1 as for align_corners=True, sampled with False."""
    height, width = image.shape[-2:]
    grid = 2 * pixels / pixels.new_tensor([max(width - 1, 1), max(height - 1, 1)]).view(2, 1, 1) - 1
    return F.grid_sample(image, grid.movedim(1, -1), padding_mode="border", align_corners=False)


@pytest.mark.parametrize(("height", "width"), SIZES[:5])
def test_a_wrong_sampler_breaks_the_law(monkeypatch, height, width):
    monkeypatch.setattr("stadia.differentiable.view_synthesis.sample_image", classic_mistake)
    assert deviation(height, width) > 0.1
