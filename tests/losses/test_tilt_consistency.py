"""Tilt consistency: 0 for a network that rolls with its image, positive for one that takes the row for the distance."""

from __future__ import annotations

import pytest
import torch

from stadia.core.types import Camera
from stadia.losses.tilt_consistency import roll_images, tilt_consistency

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


def test_only_the_map_of_the_rolled_image_is_trained() -> None:
    upright, rolled = predict_plane(0).requires_grad_(), predict_plane(0).clone().requires_grad_()
    tilt_consistency(upright, rolled, CAMERA, 5.0).backward()
    assert upright.grad is None
    assert rolled.grad is not None
    assert rolled.grad.any()


def test_a_roll_by_nothing_is_the_identity() -> None:
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    rolled, inside = roll_images(images, CAMERA, 0.0)
    torch.testing.assert_close(rolled, images)
    assert inside.all()


def test_the_roll_agrees_with_that_of_samples() -> None:
    from stadia.dataloading.transforms import make_tilt, tilt_image

    image = (predict_plane(0)[0, 0] * 500).byte()
    expected = tilt_image(
        image[..., None].repeat(1, 1, 3).numpy(), K[0].double().numpy(), make_tilt(roll_deg=6, pitch_deg=0)
    )
    rolled, inside = roll_images(image[None, None].float(), CAMERA, 6.0)
    difference = (rolled[0, 0] - torch.from_numpy(expected[..., 0]).float()).abs()
    assert difference[inside[0, 0]].max() < 3
