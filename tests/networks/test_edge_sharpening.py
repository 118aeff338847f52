"""Sharpened edges: laws of `sharpen_edges`, and where the network of the package uses it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stadia.networks.config import BaseConfig
from stadia.networks.depth.unet import BaseNetwork, sharpen_edges

SIDE, BORDER = 40, 6


def make_plane(slope: tuple[float, float]) -> Tensor:
    """Return ln z (1, 1, SIDE, SIDE) of a plane whose inverse depth changes by `slope` per row and column."""
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return -(slope[0] * row + slope[1] * column + 0.2).log()[None, None]


def make_edge(blur: int = 5) -> tuple[Tensor, Tensor]:
    """Return ln z of an edge at column SIDE / 2 that is blurred over some pixels, and an image with a sharp edge."""
    sharp = (torch.arange(SIDE) >= SIDE // 2).float().expand(1, 1, SIDE, SIDE)
    padded = torch.nn.functional.pad(sharp, (blur // 2,) * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, blur, stride=1), sharp.expand(1, 3, SIDE, SIDE)


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.01, 0.0), (0.01, 0.01)])
def test_a_plane_stays(slope: tuple[float, float]) -> None:
    plane, image = make_plane(slope), torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    inside = slice(BORDER, -BORDER)
    for guide in (torch.full_like(image, 0.5), image):  # texture is no edge of depth
        change = (sharpen_edges(plane, guide) - plane).abs()
        assert change[..., inside, inside].max() < 1e-5
        assert change.max() < 0.1


@pytest.mark.parametrize("blur", [5, 7])
def test_a_blurred_edge_becomes_narrow(blur: int) -> None:
    blurred, image = make_edge(blur)
    sharp = sharpen_edges(blurred, image)
    before, after = (((depth > 0.15) & (depth < 0.85)).float().mean() for depth in (blurred, sharp))
    assert before > 0.08
    assert after <= before / 2
    assert (sharp.diff(dim=-1) >= 0).all()
    assert torch.equal(sharp > 0.5, image[:, :1] > 0.5), "the edge is where that of the image is"


def test_a_sharp_edge_and_small_contrast_stay() -> None:
    _, image = make_edge()
    torch.testing.assert_close(sharpen_edges(image[:, :1], image), image[:, :1], atol=0.01, rtol=0)
    blurred, _ = make_edge()
    assert torch.equal(sharpen_edges(0.05 * blurred, image), 0.05 * blurred)


def test_the_network_sharpens_in_evaluation_alone() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 96)
    network = BaseNetwork(BaseConfig(fixed_batch_statistics=True), pretrained=False)
    with torch.no_grad():
        plain = network.train()(image).inverse_depth[0]
        sharp = network.eval()(image).inverse_depth[0]
    torch.testing.assert_close(sharp, sharpen_edges(plain.log(), image).exp())
