"""Objects of directions to their centers and of classes."""

import math
from collections.abc import Sequence

import pytest
import torch
from tests import tensor_cameras
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from stadia.core.types import Camera
from stadia.geometry.segments import segments_from_instances, subsample_segments
from stadia.objectpose.instances import (
    center_from_translation,
    follow_directions,
    group_instances,
    translation_from_center,
    unit_directions,
    vote_center,
    vote_center_ransac,
)

HEIGHT, WIDTH, CLASSES = 48, 64, 4
STRIDES = pytest.mark.parametrize("stride", [1, 4])


def image(boxes: Sequence[tuple[int, int, int, int]]) -> Tensor:
    """(1, H, W) the boxes left, top, right, bottom; a later one hides what is below it."""
    instance = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.long)
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        instance[0, top:bottom, left:right] = number
    return instance


def directions(instance: Tensor, boxes: Sequence[tuple[int, int, int, int]], stride: int) -> Tensor:
    """(1, 2, h, w) of each pixel to the middle of its box, to the first one's where there is none; one of each stride
    by stride pixels.
    """
    box = torch.tensor(boxes).float()
    center = (box[:, :2] + box[:, 2:] - 1) / 2
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    towards = unit_directions(center[(instance - 1).clamp(min=0)], torch.stack((x, y), -1).float())
    return towards.movedim(-1, 1)[:, :, stride // 2 :: stride, stride // 2 :: stride].contiguous()


def logits(class_map: Tensor, firmness: float = 10) -> Tensor:
    """(1, C, H, W) of which the class's own is larger by `firmness`, and the background's far below at an object's
    pixels.
    """
    class_logits = firmness * F.one_hot(class_map, CLASSES).movedim(-1, 1).float()
    class_logits[:, 0] += torch.where(class_map == 0, 20.0, -20.0)
    return class_logits


def same_partition(found: Tensor, true: Tensor, share: float = 0.97) -> bool:
    """Whether as many objects are found, and nearly all pixels of each have a number that is its own."""
    pairs = torch.bincount((found * 20 + true).flatten(), minlength=400).view(20, 20)[1:, 1:]
    best = pairs.max(0).values
    there = true.flatten().bincount(minlength=20)[1:]
    return int(found.max()) == int((there > 0).sum()) and bool((best[: len(there)] >= share * there).all())


@STRIDES
def test_two_of_one_class_that_touch_are_two(stride: int) -> None:
    boxes = [(4, 8, 28, 36), (28, 8, 56, 36)]
    true = image(boxes)
    found = group_instances(logits((true > 0).long()), directions(true, boxes, stride))
    assert same_partition(found, true, 0.9)


@pytest.mark.parametrize("center", [(7.0, 5.0), (7.5, 5.5), (10.25, 4.75)])
def test_a_walk_ends_at_the_center(center: tuple[float, float]) -> None:
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    place = torch.stack((x, y), -1).view(-1, 2)
    end = follow_directions(unit_directions(torch.tensor(center), place).T.reshape(1, 2, 12, 16))
    off = (torch.stack((end % 16, end // 16), -1) - torch.tensor(center)).abs()
    assert off[(place - torch.tensor(center)).norm(dim=-1) < 6].max() <= 0.5


def test_firm_classes_part_what_directions_do_not_and_join_what_they_part() -> None:
    boxes = [(4, 8, 28, 36), (28, 8, 56, 36)]
    true = image(boxes)
    one_center = directions(image([(4, 8, 56, 36)]), [(4, 8, 56, 36)], 4)
    assert torch.equal(group_instances(logits(true, firmness=3), one_center), true)
    assert torch.equal(group_instances(logits(true, firmness=1), one_center), (true > 0).long()), "not firm"
    wrong = directions(
        image([(4, 8, 34, 36), (34, 8, 56, 36)]), [(4, 8, 34, 36), (34, 8, 56, 36)], 4
    )  # six columns too far
    assert torch.equal(group_instances(logits(true), wrong), true), "the six columns go to the object of their class"


def test_each_image_counts_from_one_and_small_ones_are_none() -> None:
    boxes = [(4, 8, 24, 28), (40, 30, 43, 33), (44, 4, 60, 20)]
    true = image(boxes)
    both, towards = torch.cat((true, torch.zeros_like(true), true)), directions(true, boxes, 1).repeat(3, 1, 1, 1)
    found = group_instances(logits((both > 0).long()), towards, min_px=10)
    assert [one.unique().tolist() for one in found] == [[0, 1, 2], [0], [0, 1, 2]]
    assert (found[0] > 0).sum() == 400 + 256
    assert torch.equal(found[0], found[2])
    assert found.dtype == torch.int64
    assert segments_from_instances(found).image.tolist() == [0, 0, 2, 2]


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


def test_gradients_are_exact():
    pixels, directions, segment = voters(20, torch.float64)
    directions, weights = turned(directions, 10).requires_grad_(), torch.rand(20, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda d, w: vote_center(pixels, d, segment, 3, w).pixel, (directions, weights))


def test_translation_of_a_center():
    camera = tensor_cameras.intrinsics(500, 510, 320, 240, height=480, width=640, dtype=torch.float32)
    t = translation_from_center(torch.tensor([[370.0, 138.0]]), torch.tensor([2.0]), camera)
    assert_close(t, torch.tensor([[0.2, -0.4, 2.0]]))
    many = torch.rand(5, 3, dtype=torch.float64) + 0.5
    depth_m = many[:, 2]
    assert_close(translation_from_center(center_from_translation(many, camera), depth_m, camera), many)
    of_each = Camera(camera.K.expand(5, 3, 3), 480, 640)
    assert_close(translation_from_center(center_from_translation(many, of_each), depth_m, of_each), many)


def test_thinned_objects_keep_their_rows_and_are_still_visible_all_over() -> None:
    instances = torch.zeros(2, 40, 50, dtype=torch.long)
    instances[0, 2:38, 3:45], instances[1, 5:9, 6:9] = 4, 2
    whole = segments_from_instances(instances)
    few = subsample_segments(whole, 100)
    assert torch.equal(few.image, whole.image)
    assert torch.equal(few.instance, whole.instance)
    assert few.segment.bincount().tolist() == [95, 12]
    large = few.pixel[few.segment == 0]
    assert large.min() == 2 * 50 + 3
    assert large.max() > 36 * 50, "down to the last rows"
    assert all(instances.flatten()[few.pixel] == few.instance[few.segment])
