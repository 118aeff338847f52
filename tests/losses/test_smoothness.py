"""The smoothness by hand, and what it must not depend on."""

from __future__ import annotations

import math

import pytest
import torch

from stadia.losses.smoothness import edge_aware_smoothness


def test_by_hand() -> None:
    """Inverse depth 1, 3 (mean 2, so relative .5, 1.5) in two equal rows; the image steps by .4 in one of three
    channels.
    """
    inverse_depth = torch.tensor([[1.0, 3.0], [1.0, 3.0]], dtype=torch.float64)[None, None]
    image = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    image[0, 0, :, 1] = 0.4
    assert edge_aware_smoothness(inverse_depth, image).item() == pytest.approx(math.exp(-0.4 / 3), rel=1e-12)
    assert edge_aware_smoothness(inverse_depth.transpose(2, 3), image).item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 5.4, 1e3])
def test_does_not_depend_on_the_unit_of_depth(factor: float) -> None:
    generator = torch.Generator().manual_seed(0)
    inverse_depth = torch.rand(2, 1, 6, 7, generator=generator, dtype=torch.float64) + 0.1
    image = torch.rand(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        edge_aware_smoothness(factor * inverse_depth, image),
        edge_aware_smoothness(inverse_depth, image),
        rtol=1e-12,
        atol=0,
    )


def test_each_sample_is_normalized_by_its_own_mean() -> None:
    generator = torch.Generator().manual_seed(1)
    inverse_depth = torch.rand(2, 1, 6, 7, generator=generator, dtype=torch.float64) + 0.1
    image = torch.rand(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    alone = torch.stack([edge_aware_smoothness(inverse_depth[i : i + 1], image[i : i + 1]) for i in range(2)])
    scaled = inverse_depth * torch.tensor([1.0, 7.0], dtype=torch.float64).view(2, 1, 1, 1)
    torch.testing.assert_close(edge_aware_smoothness(scaled, image), alone.mean())


def test_flat_depth_costs_nothing_and_an_edge_in_the_image_excuses_a_step() -> None:
    flat = torch.full((1, 1, 4, 4), 0.3)
    step = flat.clone()
    step[..., 2:] = 0.6
    plain, edge = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 1.0
    assert edge_aware_smoothness(flat, plain) == 0
    assert edge_aware_smoothness(step, edge) < 0.5 * edge_aware_smoothness(step, plain)


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(2)
    inverse_depth = (torch.rand(1, 1, 4, 5, generator=generator, dtype=torch.float64) + 0.1).requires_grad_()
    image = torch.rand(1, 3, 4, 5, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: edge_aware_smoothness(x, image), (inverse_depth,))
