"""Text of files is printed without what a terminal obeys, and progress is shown where nobody sees a bar."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.table import Table

from stadia.cli import output
from stadia.cli.output import echo
from stadia.core.progress import SHOWN_PROGRESS
from stadia.core.terminal import Terminal, make_progress


@pytest.fixture(autouse=True)
def _lines_of_slow_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times that the suite takes away: here the clock is the test's own."""
    monkeypatch.setattr(output, "PHASE_S", 2.0)
    monkeypatch.setattr(output, "PAUSE_S", 30.0)


HOSTILE = "a\x1b]0;pwn\x07\x9b31m\u202etxt.exe\nb\tc"
ESCAPED = "a\\x1b]0;pwn\\x07\\x9b31m\\u202etxt.exe\nb\tc"


def test_lines_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    echo(HOSTILE, nl=False)
    assert capsys.readouterr().out == ESCAPED
    echo(HOSTILE, err=True)
    assert capsys.readouterr().err == f"{ESCAPED}\n"


def test_consoles_print_no_control_characters_and_keep_their_colors() -> None:
    stream = io.StringIO()
    terminal = Terminal(file=stream, force_terminal=True, color_system="standard", width=120)
    table = Table("x\x1b[2J")
    table.add_row("\u202ecell")
    terminal.print(f"[red]{HOSTILE.partition(']')[0]}\x9b[/red]")
    terminal.print(table)
    text = stream.getvalue()
    assert "\x1b[31ma\\x1b" in text
    assert "x\\x1" in text  # the column is as wide as the text that would be shown
    assert not set("\x9b\u202e\x07") & set(text)
    assert "\x1b[2J" not in text


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(SHOWN_PROGRESS, "is_silent", False)
    monkeypatch.setattr(SHOWN_PROGRESS, "shown_s", clock[0])
    return clock


def test_a_log_gets_a_line_now_and_then_and_quick_work_none(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with output.show_progress() as lines:
        for _ in lines.track(range(10), 10, "predicting"):
            now[0] += 12
        lines.progress("reading", 3, None)
    out, err = capsys.readouterr()
    assert out == ""
    left = [(3, 84), (6, 48), (9, 12)]
    assert err.splitlines() == [
        f"predicting: {done} of 10, {12 * done} s so far, about {left_s} s left" for done, left_s in left
    ]


def test_nothing_is_silent_while_a_stage_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SHOWN_PROGRESS, "is_silent", False)
    monkeypatch.setattr(output, "SILENCE_S", 0.05)
    monkeypatch.setattr(output, "WATCH_S", 0.01)
    with output.show_progress() as lines:
        for number in lines.track(range(3), 3, "mapping"):
            time.sleep(0.3 if number == 1 else 0)
        time.sleep(0.2)
    printed = capsys.readouterr().err.splitlines()
    assert printed.count("mapping: 1 of 3, 0 s so far, about 0 s left") >= 2
    assert printed[-1] in ("working: 0 s so far", "working: 1 s so far")
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_log_names_each_phase_that_begins_after_a_while(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for what, duration_s in (("choosing keyframes", 6), ("matching", 1), ("mapping", 600), ("placing frames", 1)):
        for _ in output.track_loop(range(1), 1, what):
            now[0] += duration_s
    assert capsys.readouterr().err.splitlines() == ["matching ...", "placing frames ..."]
    now[0] += 60  # a training, whose last line is this
    Terminal(stderr=True).print("measuring the depth of the adapted network ...")
    assert list(output.track_loop(range(1), 1, "frames measured")) == [0]
    assert capsys.readouterr().err.splitlines() == ["measuring the depth of the adapted network ..."]


@pytest.mark.parametrize(("line", "is_silent"), [(("--quiet",), True), (("--json",), True), ((), False)])
def test_quiet_and_json_silence_the_progress_of_their_command_alone(
    line: tuple[str, ...],
    is_silent: bool,
    stadia: Callable[..., object],
    now: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stadia("diagnose", "--quiet", "nothing")
    stadia("diagnose", *line, "nothing")
    assert SHOWN_PROGRESS.is_silent is is_silent
    now[0] += 60
    assert list(output.track_loop(range(3), 3, "predicting")) == [0, 1, 2]
    assert capfd.readouterr().err == ("" if is_silent else "predicting ...\n")


def test_a_bar_has_speed_elapsed_and_remaining_time_and_the_last_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stream = [0.0], io.StringIO()
    monkeypatch.setattr(SHOWN_PROGRESS, "finding", "warn K03")
    console = Console(file=stream, force_terminal=True, width=120, color_system=None, get_time=lambda: now[0])
    with make_progress(console, "frames", transient=False) as bars:
        task = bars.add_task("predicting", total=100)
        for done in range(1, 51):
            now[0] += 0.5
            bars.update(task, completed=done)
    assert re.search(r"predicting .* 50/100 2 frames/s 0:00:25 0:00:25 warn K03", stream.getvalue())
