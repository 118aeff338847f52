"""What differs between two configurations: one implementation for resuming, the report and whoever compares runs."""

from __future__ import annotations

from stadia.core.config import diff_mappings, select_relevant_changes


def test_each_key_that_differs() -> None:
    before = {"a": 1, "b": {"c": [1], "d": 2}, "gone": 0}
    assert diff_mappings(before, before) == []
    assert [str(change) for change in diff_mappings(before, {"a": 2, "b": {"c": [1, 2], "d": 2}, "new": None})] == [
        "a: 1 -> 2",
        "b.c: [1] -> [1, 2]",
        "gone: 0 -> not there",
        "new: not there -> None",
    ]


def test_a_group_that_is_turned_on_is_one_change() -> None:
    assert len(diff_mappings({"crop": None}, {"crop": {"left": 1, "top": 2}})) == 1


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
    assert [change.key for change in select_relevant_changes(diff_mappings(before, now), ["data"])] == ["optimizer.lr"]
    now["optimizer"]["name"] = "sgd"
    assert [change.key for change in select_relevant_changes(diff_mappings(before, now))] == [
        "optimizer.lr",
        "optimizer.name",
        "data.path",
    ]
