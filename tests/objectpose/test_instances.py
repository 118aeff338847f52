"""Objects of directions to their centers and of classes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.geometry.segments import segments_from_instances
from stadia.objectpose.instances import follow_directions, group_instances, unit_directions

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
def test_an_object_that_is_half_of_another_class_is_one(stride: int) -> None:
    boxes = [(8, 8, 40, 32)]
    true = image(boxes)
    classes = true.clone()
    classes[0, :, 26:] *= 2
    found = group_instances(logits(classes, firmness=1), directions(true, boxes, stride))
    assert torch.equal(found, true)


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


def test_an_object_whose_pixels_do_not_quite_agree_on_a_center_is_one() -> None:
    """They are led to two cells that touch at a corner."""
    true, both = image([(8, 8, 40, 32)]), [(8, 8, 39, 31), (10, 10, 39, 31)]
    left, right = (directions(torch.zeros_like(true), [box], 1) for box in both)
    parted = torch.where(torch.arange(WIDTH) < 24, left, right)
    assert torch.equal(group_instances(logits(true), parted), true)


@STRIDES
def test_one_that_another_cuts_in_two_is_one(stride: int) -> None:
    boxes = [(4, 20, 60, 32), (28, 4, 36, 44)]
    true = image(boxes)
    found = group_instances(logits(true), directions(true, boxes, stride))
    assert same_partition(found, true)
    assert found[0, 26, 6] == found[0, 26, 58]


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


def test_an_image_of_nothing_has_none() -> None:
    nothing = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.long)
    assert not group_instances(logits(nothing), torch.zeros(2, 2, 12, 16)).any()
