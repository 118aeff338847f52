"""Centers voted by pixels: exact where they agree, the majority's where they do not, and unknown where lines
never cross.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stadia.geometry import camera as cameras
from stadia.geometry.segments import subsample_evenly
from stadia.objectpose.instances import (
    center_from_translation,
    translation_from_center,
    unit_directions,
    vote_center,
    vote_center_ransac,
)

CENTERS = torch.tensor([[100.0, 50], [-40, 300], [612.5, 20.25]])  # the second lies outside of the image


def voters(n: int = 300, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of three objects around their centers, and the directions to them."""
    segment = torch.randint(0, 3, (n,))
    pixels = (CENTERS[segment] + 60 * torch.rand(n, 2) - 20).round().to(dtype)
    return pixels, unit_directions(CENTERS[segment].to(dtype), pixels), segment


def turned(directions: Tensor, sigma_deg: float) -> Tensor:
    angle = math.radians(sigma_deg) * torch.randn(len(directions))
    x, y = directions.unbind(-1)
    return torch.stack((angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y), -1)


def test_exact_directions_give_the_centers():
    pixels, directions, segment = voters()
    found = vote_center(pixels, 7 * directions, segment, 3)
    assert found.known.all()
    assert_close(found.pixel, CENTERS, atol=1e-3, rtol=0)
    found = vote_center_ransac(pixels, directions, segment, 3, generator=torch.Generator().manual_seed(0))
    assert found.known.all()
    assert_close(found.pixel, CENTERS, atol=1e-3, rtol=0)


def test_the_closed_form_is_the_least_squares_solution():
    pixels, directions, segment = voters(60, torch.float64)
    directions = turned(directions, 10)
    weights = torch.rand(60, dtype=torch.float64)
    found = vote_center(pixels, directions, segment, 3, weights).pixel
    for i in range(3):
        p, d, w = (x[segment == i] for x in (pixels, directions, weights))
        across = torch.stack((-d[:, 1], d[:, 0]), -1) * w.sqrt()[:, None]
        expected = torch.linalg.lstsq(across, (across * p).sum(-1, keepdim=True)).solution[:, 0]
        assert_close(found[i], expected, atol=1e-6, rtol=0)


def test_the_majority_wins_over_a_third_that_is_wrong():
    pixels, directions, segment = voters(900)
    directions = turned(directions, 1)
    wrong = torch.rand(900) < 0.35
    elsewhere = unit_directions(CENTERS[segment] + torch.tensor([80.0, -60]), pixels)
    directions = directions.where(~wrong[:, None], elsewhere)
    fitted = vote_center(pixels, directions, segment, 3)
    voted = vote_center_ransac(pixels, directions, segment, 3, generator=torch.Generator().manual_seed(0))
    assert (fitted.pixel - CENTERS).norm(dim=-1).min() > 5
    assert (voted.pixel - CENTERS).norm(dim=-1).max() < 1.5
    few = vote_center_ransac(pixels, directions, segment, 3, generator=torch.Generator().manual_seed(0), voters=40)
    assert (few.pixel - CENTERS).norm(dim=-1).max() < 1.5
    again = vote_center_ransac(pixels, directions, segment, 3, generator=torch.Generator().manual_seed(0))
    assert_close(again.pixel, voted.pixel, atol=0, rtol=0)


def test_chance_comes_from_the_generator_alone():
    pixels, directions, segment = voters(300)
    directions = turned(directions, 8)
    votes = [
        vote_center_ransac(
            pixels, directions, segment, 3, generator=torch.Generator().manual_seed(seed), hypotheses=2
        ).pixel
        for seed in (1, 1, 2)
    ]
    assert_close(votes[0], votes[1], atol=0, rtol=0)
    assert (votes[0] - votes[2]).abs().min() > 0


def test_a_vote_does_not_depend_on_the_objects_beside_it():
    pixels, directions, segment = voters(300)
    directions = turned(directions, 8)

    def voted(rows: Tensor, count: int) -> Tensor:
        chance = torch.Generator().manual_seed(0)
        return vote_center_ransac(
            pixels[rows], directions[rows], segment[rows] % count, count, generator=chance, hypotheses=8
        ).pixel

    together = voted(torch.arange(300), 3)
    for i in range(3):
        assert_close(voted((segment == i).nonzero()[:, 0], 1)[0], together[i], atol=1e-3, rtol=0)


def test_a_pixel_without_direction_has_no_vote():
    pixels, directions, segment = voters()
    silent = torch.arange(300) % 3 == 0
    assert_close(
        vote_center(pixels, directions.where(~silent[:, None], 0.0), segment, 3).pixel, CENTERS, atol=1e-3, rtol=0
    )


def test_voters_are_spread_over_every_object():
    segment = torch.tensor([0] * 100 + [2] * 7 + [1] * 25)[torch.randperm(132)]
    chosen = subsample_evenly(segment, 4, 10)
    assert torch.bincount(segment[chosen], minlength=4).tolist() == [10, 9, 7, 0]
    assert len(set(chosen.tolist())) == len(chosen)


def test_a_direction_has_a_sign_for_the_vote():
    """More than half of the pixels point away from the center: their lines go through it, and do not count."""
    pixels, directions, segment = voters(300)
    away = torch.arange(300) % 5 < 3
    found = vote_center_ransac(
        pixels,
        directions.where(~away[:, None], -directions),
        segment,
        3,
        generator=torch.Generator().manual_seed(0),
        min_cosine=0.9,
    )
    assert_close(found.pixel, CENTERS, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("pixels", "directions"),
    [
        ([[0.0, 0], [10, 0], [20, 5]], [[1.0, 0], [1, 0], [1, 0]]),  # parallel
        ([[3.0, 4]], [[0.6, 0.8]]),  # one pixel
        ([[3.0, 4], [5, 6]], [[0.0, 0], [0, 0]]),  # no direction
        ([], []),
    ],
)
def test_lines_that_do_not_cross_are_no_center(pixels: list[list[float]], directions: list[list[float]]):
    p, d = (
        torch.tensor(pixels).reshape(-1, 2).requires_grad_(),
        torch.tensor(directions).reshape(-1, 2).requires_grad_(),
    )
    segment = torch.zeros(len(p), dtype=torch.long)
    for found in (
        vote_center(p, d, segment, 1),
        vote_center_ransac(p, d, segment, 1, generator=torch.Generator().manual_seed(0)),
    ):
        assert not found.known.any()
        assert found.pixel.isfinite().all()
        found.pixel.sum().backward()
        assert d.grad is not None
        assert d.grad.isfinite().all()


def test_gradients_are_exact():
    pixels, directions, segment = voters(20, torch.float64)
    directions, weights = turned(directions, 10).requires_grad_(), torch.rand(20, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda d, w: vote_center(pixels, d, segment, 3, w).pixel, (directions, weights))


def test_translation_of_a_center():
    camera = cameras.intrinsics(500, 510, 320, 240, height=480, width=640, dtype=torch.float32)
    t = translation_from_center(torch.tensor([[370.0, 138.0]]), torch.tensor([2.0]), camera)
    assert_close(t, torch.tensor([[0.2, -0.4, 2.0]]))
    many = torch.rand(5, 3, dtype=torch.float64) + 0.5
    depth_m = many[:, 2]
    assert_close(translation_from_center(center_from_translation(many, camera), depth_m, camera), many)
    of_each = cameras.Camera(camera.K.expand(5, 3, 3), 480, 640)
    assert_close(translation_from_center(center_from_translation(many, of_each), depth_m, of_each), many)
