"""Text of files is printed without what a terminal obeys."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.table import Table

from stadia.cli.printing import echo
from stadia.process.terminal import Terminal

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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_lines_for_a_closed_terminal_are_no_error() -> None:
    """A command that was disowned ends well."""
    reads, writes = os.openpty()
    os.close(reads)
    try:
        words = "from stadia.cli.printing import echo; echo('a'); echo('b', err=True); print('c')"
        done = subprocess.run([sys.executable, "-c", words], stdout=writes, stderr=writes, check=False)
    finally:
        os.close(writes)
    assert done.returncode == 0
