"""Masks of classes alone: single cars stay, a queue shows the rears that can be seen, and parts of something are left
out.
"""

from __future__ import annotations

import numpy as np
import pytest

from stadia.datasets import mask_objects

HEIGHT, WIDTH = 120, 300


def scene(*boxes: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A mask with boxes (left, top, right, bottom), ends left out, on ground from row 50 down."""
    mask, ground = np.zeros((HEIGHT, WIDTH), bool), np.zeros((HEIGHT, WIDTH), bool)
    ground[50:] = True
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask, ground & ~mask


def split_instances(mask: np.ndarray, ground: np.ndarray) -> list[np.ndarray]:
    """The objects as masks of the whole image."""
    found = []
    for window, piece in mask_objects.split_instances(mask, ground):
        found.append(np.zeros(mask.shape, bool))
        found[-1][window] = piece
    return found


def rows(mask: np.ndarray) -> tuple[int, int]:
    shown = np.flatnonzero(mask.any(1))
    return int(shown[0]), int(shown[-1]) + 1


def test_cars_that_do_not_touch_stay_as_they_are():
    mask, ground = scene((20, 40, 70, 90), (120, 45, 230, 85))
    found = split_instances(mask, ground)
    assert len(found) == 2
    np.testing.assert_array_equal(found[0] | found[1], mask)


def test_nearest_rear_of_a_queue_has_its_true_height():
    """Farther cars are visible over the roof and beside it; a shadow lies on one side."""
    mask, ground = scene((88, 40, 160, 100), (112, 35, 136, 40), (160, 38, 175, 58), (152, 100, 160, 112))
    (found,) = split_instances(mask, ground)
    assert rows(found) == (40, pytest.approx(100, abs=1))
    assert found[:, 160:].sum() == 0


def test_wheels_below_a_bumper_are_the_foot():
    mask, ground = scene((88, 40, 160, 94), (88, 94, 98, 100), (150, 94, 160, 100), (160, 38, 175, 58))
    (found,) = split_instances(mask, ground)
    assert rows(found)[1] == pytest.approx(100, abs=1)


def test_part_without_a_foot_is_left_out():
    mask, ground = scene((100, 5, 140, 40))
    assert split_instances(mask, ground) == []
    assert len(split_instances(mask, np.zeros_like(ground))) == 1  # without any ground
