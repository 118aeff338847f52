"""The smoothness by hand, and what it must not depend on."""

import math

import pytest
import torch

from stadia.core.types import Camera
from stadia.losses.selfsup_loss import edge_aware_smoothness
from stadia.losses.tilt_consistency import roll_images, tilt_consistency


def test_by_hand() -> None:
    inverse_depth = torch.tensor([[1.0, 3.0], [1.0, 3.0]], dtype=torch.float64)[None, None]
    image = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    image[0, 0, :, 1] = 0.4
    assert edge_aware_smoothness(inverse_depth, image).item() == pytest.approx(math.exp(-0.4 / 3), rel=1e-12)
    assert edge_aware_smoothness(inverse_depth.transpose(2, 3), image).item() == pytest.approx(1.0, rel=1e-12)


def test_gradient_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    inverse_depth = (torch.rand(2, 1, 4, 5, generator=generator, dtype=torch.float64) + 0.1).requires_grad_()
    image = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: edge_aware_smoothness(d, image), (inverse_depth,))


# -- tilt consistency: 0 for a network that rolls with its image, positive for one that takes the row for the distance


K = torch.tensor([[60.0, 0, 47.5], [0, 60, 31.5], [0, 0, 1]])[None]
CAMERA = Camera(K, 64, 96)


def predict_plane(roll_deg: float) -> torch.Tensor:
    """Inverse depth of a wall-like slope that leans with the scene: exact under a roll, since 1 / z is linear."""
    angle = torch.deg2rad(torch.tensor(roll_deg))
    y, x = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(96.0) - 47.5, indexing="ij")
    down = -torch.sin(angle) * x + torch.cos(angle) * y
    return (0.2 + 0.002 * down)[None, None]


@pytest.mark.parametrize("roll_deg", [-5.0, 3.0, 12.0])
def test_a_plane_that_rolls_with_the_image_costs_nothing(roll_deg: float) -> None:
    assert tilt_consistency(predict_plane(0), predict_plane(roll_deg), CAMERA, roll_deg).item() < 1e-4
    assert tilt_consistency(predict_plane(0), predict_plane(0), CAMERA, roll_deg).item() > 5e-3
    assert tilt_consistency(predict_plane(0), predict_plane(-roll_deg), CAMERA, roll_deg).item() > 1e-2


def test_the_roll_agrees_with_that_of_samples() -> None:
    from stadia.training.loading.transforms import make_tilt, tilt_image

    image = (predict_plane(0)[0, 0] * 500).byte()
    expected = tilt_image(
        image[..., None].repeat(1, 1, 3).numpy(), K[0].double().numpy(), make_tilt(roll_deg=6, pitch_deg=0)
    )
    rolled, inside = roll_images(image[None, None].float(), CAMERA, 6.0)
    difference = (rolled[0, 0] - torch.from_numpy(expected[..., 0]).float()).abs()
    assert difference[inside[0, 0]].max() < 3
