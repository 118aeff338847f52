"""Objects of masks as boxes: edges, fragments, classes, and what stands before them."""

from __future__ import annotations

import numpy as np

from stadia.core.recording import RoadMasks
from stadia.datasets.mask_objects import find_mask_boxes, find_windows

CLASSES = {1: "road", 9: "car", 8: "person"}


def masks(*objects: tuple[int, int, int, int, int, int]) -> RoadMasks:
    """(number, class, left, top, right, bottom), the last ones before the others; right and bottom are outside."""
    semantic, instance = np.ones((100, 200), np.uint8), np.zeros((100, 200), np.uint16)
    for number, kind, left, top, right, bottom in objects:
        semantic[top:bottom, left:right], instance[top:bottom, left:right] = kind, number
    return RoadMasks(semantic, instance)


def test_windows_are_the_bounding_boxes():
    instance = np.random.default_rng(0).integers(0, 40, (30, 50)) * (np.indices((30, 50))[1] > 5)
    windows = find_windows(instance)
    assert list(windows) == sorted(set(instance.ravel().tolist()) - {0})
    for number, (rows, columns) in windows.items():
        row, column = np.nonzero(instance == number)
        assert (rows.start, rows.stop) == (row.min(), row.max() + 1)
        assert (columns.start, columns.stop) == (column.min(), column.max() + 1)


def test_box_spans_the_mask_and_has_the_commonest_class():
    seen = masks((3, 9, 20, 30, 60, 50))
    seen.semantic[30:35, 20:60] = 8
    (found,) = find_mask_boxes(seen, CLASSES)
    assert (found.number, found.class_name, found.box_px, found.hidden) == (3, "car", (19.5, 29.5, 59.5, 49.5), False)


def test_box_ignores_fragments_and_small_objects():
    found = find_mask_boxes(masks((3, 9, 20, 30, 60, 50), (3, 9, 150, 90, 155, 95), (4, 8, 100, 10, 105, 20)), CLASSES)
    assert [one.box_px for one in found] == [(19.5, 29.5, 59.5, 49.5)]


def test_nearer_object_at_foot_or_top_hides_and_farther_does_not():
    behind, before = (1, 9, 20, 30, 60, 50), (2, 9, 15, 45, 70, 70)
    assert [one.hidden for one in find_mask_boxes(masks(behind, before), CLASSES)] == [True, False]
    assert not any(
        one.hidden for one in find_mask_boxes(masks(behind, (2, 9, 25, 45, 70, 70)), CLASSES)
    )  # one wheel is seen
    beside = (2, 9, 58, 30, 90, 55)
    assert [one.hidden for one in find_mask_boxes(masks(behind, beside), CLASSES)] == [False, False]
    bridge = (3, 9, 15, 20, 65, 36)  # over the top of what stands farther down: behind it
    assert not find_mask_boxes(masks(behind, bridge), CLASSES)[0].hidden
    hood = (4, 9, 0, 25, 100, 36), (4, 9, 80, 25, 100, 80)
    assert find_mask_boxes(masks(behind, *hood), CLASSES)[0].hidden


def test_object_near_the_border_counts_as_cut():
    for box, cut in (
        ((20, 30, 60, 50), False),
        ((4, 30, 60, 50), True),
        ((20, 30, 196, 50), True),
        ((20, 30, 60, 96), True),
    ):
        (found,) = find_mask_boxes(masks((1, 9, *box)), CLASSES)
        assert found.cut is cut
