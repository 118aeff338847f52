"""The history of our ratios flags a regression against the median of earlier entries of the same machine kind."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import history
from history import Entry, add_entry, find_changes, read_entries

FAST = Entry(
    "peers", "320x96", "a processor", {"speed": 2.0, "memory": 0.7}, {"speed": "higher", "memory": "lower"}, "", ""
)


def entries(*speeds: float, **changes: object) -> list[Entry]:
    return [replace(FAST, ratios={"speed": speed, "memory": 0.7}, **changes) for speed in speeds]


def regressions(ones: list[Entry]) -> list[str]:
    return [change.name for change in find_changes(ones) if change.is_regression]


def test_a_fall_below_the_median_is_flagged() -> None:
    assert regressions(entries(2.0, 1.9, 2.1, 1.7)) == ["speed"]
    assert regressions(entries(2.0, 1.9, 2.1, 1.9)) == []
    assert regressions(entries(2.0, 1.9, 2.1, 9.0)) == [], "faster is no regression"


def test_a_rise_is_flagged_where_lower_is_better() -> None:
    worse = replace(FAST, ratios={"speed": 2.0, "memory": 0.8})
    assert regressions([*entries(2.0, 2.0), worse]) == ["memory"]


def test_two_earlier_entries_are_needed() -> None:
    assert regressions(entries(2.0, 1.0)) == []
    assert regressions(entries(2.0, 2.0, 1.0)) == ["speed"]


@pytest.mark.parametrize("changes", [{"machine": "another"}, {"settings": "640x192"}, {"benchmark": "step"}])
def test_entries_of_other_kinds_are_not_compared(changes: dict[str, str]) -> None:
    assert regressions([*entries(2.0, 2.0), *entries(1.0, **changes)]) == []


def test_entries_of_a_busy_machine_are_left_out() -> None:
    assert regressions([*entries(2.0, 2.0), *entries(1.0, is_busy=True)]) == []


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    written = add_entry(file, "peers", "320x96", {"speed": 1.23456}, {"speed": "higher"}, threads=2)
    assert read_entries(file) == [written]
    assert written.ratios == {"speed": 1.2346}
    assert written.machine.endswith("2 threads")
    with pytest.raises(ValueError, match="no direction of speed"):
        add_entry(file, "peers", "320x96", {"speed": 1.0}, {}, threads=2)


def test_the_command_exits_with_1_at_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history.jsonl"
    for speed in (2.0, 2.0, 1.0):
        add_entry(file, "peers", "320x96", {"speed": speed}, {"speed": "higher"}, threads=2)
    assert history.main(["--file", str(file)]) == 1
    assert "REGRESSION" in capsys.readouterr().out
    assert history.main(["--file", str(file), "--tolerance", "2"]) == 0
