"""Rules across items: each names the items that have the fault, and no right ones."""

from typing import Any

import numpy as np
import pytest

from stadia.audit.common_faults import CommonFault, average, find_common_faults
from stadia.audit.judge_item import ItemCause, ItemVerdict
from stadia.judge.error import Measured

CAMERA = {"fx": 600.0, "fy": 600.0, "cx": 319.5, "cy": 239.5, "width": 640.0, "height": 480.0}
INVERTED = ItemCause(name="convention", what="the poses are inverted", fix="invert each pose")


def make_verdicts(count: int, random: np.random.Generator, **changes: Any) -> list[ItemVerdict]:
    """Right items of two days and two cameras, whose measured focal lengths scatter by their deviations."""
    return [
        ItemVerdict(
            item=f"item-{row:03d}",
            grade="usable",
            certainty=0.99,
            camera=CAMERA,
            depth=float(3 * np.exp(random.normal(0, 0.2))),
            error={"focal_share": (float(random.normal(0, 0.004)), 0.004)},
            hashes=tuple(random.bytes(8).hex() for _ in range(16)),
            groups={"day": f"{1 + row * 3 // count}", "camera": "left" if row % 2 else "right"},
        )
        for row in range(count)
    ]


def change(verdict: ItemVerdict, **changes: Any) -> ItemVerdict:
    return verdict.model_copy(update=changes)


def find(verdicts: list[ItemVerdict]) -> list[CommonFault]:
    return find_common_faults(verdicts)


@pytest.fixture
def verdicts() -> list[ItemVerdict]:
    return make_verdicts(60, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(20))
def test_right_items_have_nothing_in_common(seed: int) -> None:
    assert find(make_verdicts(60, np.random.default_rng(seed))) == []


def test_a_batch_with_one_cause_is_named_by_its_group(verdicts: list[ItemVerdict]) -> None:
    wrong = [one.item for one in verdicts if one.groups["day"] == "2"][:16]
    changed = [change(one, causes=(INVERTED,)) if one.item in wrong else one for one in verdicts]
    (fault,) = find(changed)
    assert (fault.rule, fault.group, fault.items, fault.of) == ("cause", "day=2", tuple(wrong), 20)
    assert fault.what == INVERTED.what


def test_a_cause_of_most_items_belongs_to_all(verdicts: list[ItemVerdict]) -> None:
    (fault,) = find([change(one, causes=(INVERTED,)) for one in verdicts])
    assert (fault.group, len(fault.items)) == ("all items", 60)


def test_causes_that_are_spread_are_not_common(verdicts: list[ItemVerdict]) -> None:
    assert find([change(one, causes=(INVERTED,)) if row % 7 == 0 else one for row, one in enumerate(verdicts)]) == []


def test_two_items_of_a_small_batch_have_a_cause_in_common() -> None:
    """They are at least half of it, and chance does not explain them."""
    verdicts = make_verdicts(240, np.random.default_rng(0))

    def find_in_batch(size: int) -> list[CommonFault]:
        groups = [{"day": "2" if row < size else "1"} for row in range(len(verdicts))]
        causes = [(INVERTED,) if row < 2 else () for row in range(len(verdicts))]
        changed = zip(verdicts, groups, causes, strict=True)
        return find([change(one, groups=group, causes=own) for one, group, own in changed])

    (fault,) = find_in_batch(4)
    assert (fault.group, len(fault.items), fault.of) == ("day=2", 2, 4)
    assert find_in_batch(5) == []


def test_another_K_that_the_images_contradict_is_named_with_its_size(verdicts: list[ItemVerdict]) -> None:
    random = np.random.default_rng(1)
    wrong = [one.item for one in verdicts if one.groups["camera"] == "left"][:5]
    other = {**CAMERA, "fx": 618.0, "fy": 618.0}

    def exchange(one: ItemVerdict, shown: float) -> ItemVerdict:
        if one.item not in wrong:
            return one
        return change(one, camera=other, error={"focal_share": (shown + random.normal(0, 0.004), 0.004)})

    (fault,) = find([exchange(one, 0.03) for one in verdicts])
    assert (fault.rule, fault.items) == ("camera", tuple(wrong))
    assert fault.size is not None
    assert abs(fault.size.value - 0.03) < 3 * fault.size.deviation < 0.01
    assert find([exchange(one, 0.0) for one in verdicts]) == [], "the images show the other focal length: a zoom"


def test_a_camera_that_changed_behind_one_K_is_named(verdicts: list[ItemVerdict]) -> None:
    wrong = [one.item for one in verdicts if one.groups["day"] == "3" and one.groups["camera"] == "left"]
    changed = [
        change(one, error={"focal_share": (one.error["focal_share"][0] - 0.06, 0.004)}) if one.item in wrong else one
        for one in verdicts
    ]
    (fault,) = [one for one in find(changed) if one.rule == "focal-length"]
    assert set(fault.items) == set(wrong)
    assert fault.size is not None
    assert abs(fault.size.value + 0.06) < 3 * fault.size.deviation


@pytest.mark.parametrize(("factor", "unit"), [(1000, "millimetres in"), (0.01, "place of centimetres")])
def test_another_unit_is_named(verdicts: list[ItemVerdict], factor: float, unit: str) -> None:
    wrong = [one.item for one in verdicts[::11]]
    (fault,) = find([change(one, depth=one.depth * factor) if one.item in wrong else one for one in verdicts])
    assert (fault.rule, fault.items) == ("unit", tuple(wrong))
    assert unit in fault.what


def test_a_scene_that_is_twice_as_large_is_no_other_unit(verdicts: list[ItemVerdict]) -> None:
    assert find([change(one, depth=one.depth * 2) if row % 11 == 0 else one for row, one in enumerate(verdicts)]) == []


def test_items_with_the_same_images_are_named(verdicts: list[ItemVerdict]) -> None:
    copied = verdicts[7].hashes[:9] + verdicts[40].hashes[:7]
    (fault,) = find([change(one, hashes=copied) if row == 40 else one for row, one in enumerate(verdicts)])
    assert (fault.rule, fault.items) == ("same-images", ("item-007", "item-040"))
    same = [change(one, hashes=verdicts[7].hashes) if row in (9, 11) else one for row, one in enumerate(verdicts)]
    (fault,) = find(same)
    assert fault.items == ("item-007", "item-009", "item-011")


def test_a_mean_of_measurements_that_contradict_each_other_has_their_scatter() -> None:
    assert average([Measured(0.0, 0.01), Measured(1.0, 0.01)]).deviation == pytest.approx(0.5)
