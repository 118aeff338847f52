"""Start a training from a preset, one at a time, in a process that goes on when the server ends. Imports no torch."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from stadia.core.errors import RunError
from stadia.files.input_files import read_text
from stadia.recipes.presets import AUTO, FOLDER, SUFFIXES, preset_names, read_preset

RECIPE = "selfsup"
"""Trains on video without labels: what a page of data names can start without more settings."""

MIN_FREE_BYTES = 3 << 30
"""Free memory for a start: the presets of laptops take 1 to 2.5 GB with their loading processes."""


def list_start_presets() -> list[tuple[str, str]]:
    """Return the presets that a page offers: name, and its comment: data, hardware, time, memory, expected score."""
    names = [name for name in preset_names() if read_preset(name)["recipe"] == RECIPE]
    return [(AUTO, "Measures steps on this machine, and chooses."), *((name, _read_comment(name)) for name in names)]


def _read_comment(name: str) -> str:
    lines = read_text(FOLDER / f"{name}{SUFFIXES[0]}", expected="a preset").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line[:1] == "#", lines))


def make_training_command(data: Path, preset: str, minutes: float, runs: Path) -> list[str]:
    """Return the words of `stadia train`.

    Examples:
        >>> make_training_command(Path("drive.mp4"), "auto", 20, Path("runs"))
        ['train', 'selfsup', 'drive.mp4', '--preset', 'auto', '--minutes', '20', '--out', 'runs']
    """
    return ["train", RECIPE, str(data), "--preset", preset, "--minutes", f"{minutes:g}", "--out", str(runs)]


class TrainingStarter:
    """Starts a training, and refuses a second one while it goes.

    Args:
        python: words that start stadia; those of this program by default.
    """

    def __init__(self, python: tuple[str, ...] = (sys.executable, "-P", "-m", "stadia")) -> None:
        self.python = python
        self.command = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._lock = threading.Lock()

    def start(self, data: Path, preset: str, minutes: float, runs: Path) -> None:
        """Start a training. Raises RunError where one goes, or where little memory is free."""
        import psutil

        with self._lock:
            if self._process is not None and self._process.poll() is None:
                raise RunError("training", found="one that goes", expected="none", fix="stop it, or wait for its end")
            free = psutil.virtual_memory().available
            if free < MIN_FREE_BYTES:
                found, expected = f"{free / 2**30:.1f} GB of free memory", f"{MIN_FREE_BYTES >> 30} GB"
                raise RunError("training", found=found, expected=expected, fix="end other programs")
            words = make_training_command(data, preset, minutes, runs)
            self._close_errors()
            self.command = shlex.join(["stadia", *words])
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - read after the process has ended
            self._process = subprocess.Popen(
                [*self.python, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,
            )

    def describe(self) -> dict[str, Any]:
        """Return the state of the last start: none, training, ended or failed with its last line."""
        if self._process is None or self._errors is None:
            return {"state": "none", "command": "", "error": ""}
        code = self._process.poll()
        state = "training" if code is None else "ended" if code == 0 else "failed"
        error = ""
        if state == "failed":
            self._errors.seek(max(self._errors.seek(0, 2) - (1 << 14), 0))
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines() or ["no message"]
            error = lines[-1].removeprefix("stadia: ")
        return {"state": state, "command": self.command, "error": error}

    def close(self) -> None:
        """Forget the training, which goes on."""
        with self._lock:
            self._close_errors()
            self._process = None

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()
            self._errors = None
