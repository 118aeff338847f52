"""How far long work is, where nobody sees a bar."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from stadia.cli import progress_display


def test_a_log_gets_a_line_now_and_then_and_quick_work_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now[0])
    with progress_display.show_progress() as lines:
        for _ in lines.track(range(10), 10, "predicting"):
            now[0] += 12
        lines.progress("reading", 3, None)
    out, err = capsys.readouterr()
    assert out == ""
    expected, *lines = err.splitlines()
    assert re.fullmatch(r"expected: predicting, 10 in all: 88 s more; memory \d\.\d GB", expected)
    assert lines == ["predicting: 6 of 10", "predicting: 9 of 10"]


def test_what_follows_the_last_frame_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict, the end of the video and of the files: an expected time of the frames alone is too short."""
    now = [0.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now[0])
    with progress_display.show_progress() as lines:
        for _ in lines.track(range(30), 30, "predicting"):
            now[0] += 1.0
    (line,) = capsys.readouterr().err.splitlines()
    assert "30 in all: 23 s more" in line, "19 frames of 1 s, and 4 s after them"


def track_frames(monkeypatch: pytest.MonkeyPatch, count: int, duration_s: Callable[[int], float]) -> None:
    """Show the progress of frames by a clock that goes on by the duration of each."""
    now = [0.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now[0])
    with progress_display.show_progress() as lines:
        for number, _ in enumerate(lines.track(range(count), count, "predicting")):
            now[0] += duration_s(number)


def test_slow_first_frames_are_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They compile loops: odometry of 400 frames would take 20 minutes by them, and took 3."""
    track_frames(monkeypatch, 400, lambda number: 10.0 if number < 4 else 0.5)
    expected = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("expected"))
    assert "400 in all: 195 s more" in expected


def test_the_later_half_of_the_measured_time_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of small images many frames are measured, and the first of them are slow."""
    track_frames(monkeypatch, 600, lambda number: 0.3 if number < 16 else 0.05)
    (line,) = capsys.readouterr().err.splitlines()
    left_s = int(line.partition("in all: ")[2].partition(" s")[0])
    assert 25 <= left_s <= 33, "550 frames of 0.05 s, and 4 s after them; by the mean it were 53 s"


def test_short_work_has_no_expected_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now[0])
    with progress_display.show_progress() as lines:
        for _ in lines.track(range(10), 10, "predicting"):
            now[0] += 2
    assert capsys.readouterr().err == ""


def test_a_name_in_square_brackets_is_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_display.show_progress() as bars:
        assert list(bars.track(range(3), 3, "predicting ds[/r]")) == [0, 1, 2]
        bars.progress("reading [red]", 1, 2)
    assert "ds[/r]" in capsys.readouterr().err
