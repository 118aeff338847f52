"""Objects of masks as boxes: edges, fragments, classes, and what stands before them."""

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import RoadMasks
from stadia.data import mask_objects
from stadia.data.height_priors import PRIORS, check_scored_on, find_prior
from stadia.data.mask_objects import find_mask_boxes, find_windows
from stadia.synthetic.roadworld.street_models import MODEL_SHARES, MODELS

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


KITTI = PRIORS["kitti"]


@pytest.mark.parametrize(
    ("name", "mean_m"),
    [
        ("car", 1.526),
        ("Car", 1.526),
        ("Pedestrian", 1.763),
        ("person", 1.763),
        ("Person_sitting", 1.275),
        ("rider", 1.737),
        ("train", 3.531),
    ],
)
def test_class_aliases_of_coco_cityscapes_and_kitti_are_resolved(name, mean_m):
    assert find_prior(name, KITTI).mean_m == mean_m


def test_roadworld_prior_equals_its_generator():
    """The median of a thousand cars as their worlds draw them."""
    random = np.random.default_rng(0)
    means, shares = zip(*((model.size_hwl_m[0], MODEL_SHARES[name]) for name, model in MODELS.items()), strict=True)
    drawn = random.choice(means, 10_000, p=shares) * random.normal(1, 0.025, 10_000)
    prior = PRIORS["roadworld"]["car"]
    assert np.median(drawn) == pytest.approx(prior.mean_m, rel=0.005)
    assert np.std(drawn) == pytest.approx(prior.spread_m, rel=0.03)


@pytest.mark.parametrize("scored_on", ["kitti", "kitti_raw", "kitti_odometry"])
def test_kitti_priors_are_refused_for_scores_on_kitti(scored_on):
    with refuses(ConfigError, expected=scored_on):
        check_scored_on(KITTI, ["stadia", scored_on])
    check_scored_on(PRIORS["mixed"], [scored_on])
    check_scored_on(KITTI, ["cityscapes", "kittiwake"])
