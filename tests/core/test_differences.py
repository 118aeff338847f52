"""What differs between two configurations: one implementation for resuming, the report and whoever compares runs."""

from __future__ import annotations

from stadia.core.differences import differences, that_matter


def test_each_key_that_differs() -> None:
    before = {"a": 1, "b": {"c": [1], "d": 2}, "gone": 0}
    assert differences(before, before) == []
    assert [str(change) for change in differences(before, {"a": 2, "b": {"c": [1, 2], "d": 2}, "new": None})] == [
        "a: 1 -> 2",
        "b.c: [1] -> [1, 2]",
        "gone: 0 -> not there",
        "new: not there -> None",
    ]


def test_a_group_that_is_turned_on_is_one_change() -> None:
    assert len(differences({"crop": None}, {"crop": {"left": 1, "top": 2}})) == 1


def test_what_changes_no_result_is_no_second_key() -> None:
    before = {
        "name": "a",
        "optimizer": {"lr": 1e-3, "name": "adam"},
        "training": {"workers": 1, "max_steps": 5},
        "data": {"path": "x"},
    }
    now = {
        "name": "b",
        "optimizer": {"lr": 2e-3, "name": "adam"},
        "training": {"workers": 4, "max_steps": 5},
        "data": {"path": "y"},
    }
    assert [change.key for change in that_matter(differences(before, now), ["data"])] == ["optimizer.lr"]
    now["optimizer"]["name"] = "sgd"
    assert [change.key for change in that_matter(differences(before, now))] == [
        "optimizer.lr",
        "optimizer.name",
        "data.path",
    ]
