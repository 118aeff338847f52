"""Start, stop and resume trainings in processes that outlive the server. Does not import PyTorch."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from stadia.core.errors import RunError
from stadia.io.atomic_files import LOCK_FILE
from stadia.predict import TRAIN_FLOOR

RECIPE = "selfsup"
"""Kind of training that the page starts: on video without labels."""

MIN_FREE_BYTES = 3 << 30
"""Free memory, bytes, that the start of a training needs."""

MIN_TRAINING_MINUTES = 3
"""Shortest training that the page starts: shorter ones end before their first step on a machine without a GPU."""

STARTED_S = 4.0
"""Seconds within which a training with a wrong configuration ends."""

TRAINING_COMMANDS = ("train", "demo", "adapt", "prior")

STADIA = (sys.executable, "-P", "-m", "stadia")
"""Words of a command line that start stadia; -P imports no module of the current folder."""


def read_last_line(errors: bytes) -> str:
    r"""Return the last line that a stadia command wrote to standard error.

    Examples:
        >>> read_last_line(b"loading ...\nstadia: drive.mp4: found nothing\n")
        'drive.mp4: found nothing'
    """
    lines = errors.decode("utf-8", "replace").strip().splitlines() or ["no message"]
    return lines[-1].removeprefix("stadia: ")


class TrainingProcess:
    """A process that trains and outlives this one.

    words: its command line.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - read after the process has ended
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors, start_new_session=True
        )

    @property
    def code(self) -> int | None:
        """Return the exit code of the process; None while it runs."""
        return self._process.poll()

    def read_error(self) -> str:
        """Return the last line that the process wrote to standard error."""
        self._errors.seek(max(self._errors.seek(0, 2) - (1 << 14), 0))
        return read_last_line(self._errors.read())

    def forget(self) -> None:
        """Close the log of the process, which continues."""
        self._errors.close()


def list_start_presets() -> list[tuple[str, str]]:
    """Return the presets that a page can start a training from: name and comment."""
    presets: list[tuple[str, str]] = TRAIN_FLOOR.load("list_presets_of")(RECIPE)
    return presets


def name_camera(fov_deg: float | None) -> list[str]:
    """Return the words of a command line that give a horizontal field of view; an empty text for None.

    Examples:
        >>> name_camera(69.0), name_camera(None)
        (['data.camera.horizontal_fov_deg=69'], [])
    """
    return [] if fov_deg is None else [f"data.camera.horizontal_fov_deg={fov_deg:g}"]


def make_training_command(data: Path, preset: str, minutes: float, runs: Path, fov_deg: float | None) -> list[str]:
    """Return the words of a command line `stadia train`.

    data: the video or dataset.
    preset: name of the preset.
    minutes: how long to train.
    runs: folder for the run.
    fov_deg: horizontal field of view of a video whose camera is unknown; else None.

    Examples:
        >>> make_training_command(Path("drive.mp4"), "auto", 20, Path("runs"), 69)[5:]
        ['--minutes', '20', '--out', 'runs', 'data.camera.horizontal_fov_deg=69']
    """
    how = ["--preset", preset, "--minutes", f"{minutes:g}", "--out", str(runs)]
    return ["train", RECIPE, str(data), *how, *name_camera(fov_deg)]


def check_free_memory() -> None:
    """Raise RunError if too little memory is free to train."""
    free = psutil.virtual_memory().available
    if free < MIN_FREE_BYTES:
        found, expected = f"{free / 2**30:.1f} GB of free memory", f"{MIN_FREE_BYTES >> 30} GB"
        raise RunError("training", found=found, expected=expected, fix="end other programs")


class TrainingStarter:
    """Start trainings, one at a time.

    stadia: words of a command line that start stadia.
    """

    def __init__(self, stadia: Sequence[str] = STADIA) -> None:
        self.stadia = stadia
        self._training: TrainingProcess | None = None
        self._lock = threading.Lock()

    def start(self, data: Path, preset: str, minutes: float, runs: Path, fov_deg: float | None = None) -> None:
        """Start a training; the arguments are the same as for `make_training_command`.

        Raises RunError if a training runs already, or too little memory is free.
        """
        with self._lock:
            if self._training is not None and self._training.code is None:
                raise RunError(
                    "training",
                    found="a running one",
                    expected="none",
                    fix="stop the running training, or wait until it ends",
                )
            check_free_memory()
            if self._training is not None:
                self._training.forget()
            words = make_training_command(data, preset, minutes, runs, fov_deg)
            self._training = TrainingProcess([*self.stadia, *words])

    def describe(self) -> dict[str, Any]:
        """Return the state of the last start: none, training, ended, or failed with the last line of its errors."""
        if self._training is None:
            return {"state": "none", "error": ""}
        code = self._training.code
        state = "training" if code is None else "ended" if code == 0 else "failed"
        error = self._training.read_error() if state == "failed" else ""
        return {"state": state, "error": error}

    def close(self) -> None:
        """Forget the training, which continues."""
        with self._lock:
            if self._training is not None:
                self._training.forget()
            self._training = None


def is_locked(run: Path) -> bool:
    """Return whether a process trains in the folder of a run."""
    path = run / LOCK_FILE
    if path.is_symlink() or not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def stop_training(run: Path) -> None:
    """Interrupt the training of a run as Ctrl-C does: it writes a checkpoint and ends.

    Raises RunError if no process of this user trains there.
    """
    lock = run.resolve() / LOCK_FILE
    for process in psutil.process_iter(["pid"]) if is_locked(run) else ():
        with suppress(psutil.Error):
            is_other = process.pid != os.getpid() and any(Path(file.path) == lock for file in process.open_files())
            if is_other and _is_stadia(process.cmdline()):
                process.send_signal(signal.SIGTERM)
                return
    raise RunError(run.name, found="no training", expected="a running training", fix="reload the page")


def _is_stadia(words: Sequence[str]) -> bool:
    r"""Return whether a process is a command of stadia that trains.

    Examples:
        >>> _is_stadia(["/usr/bin/python", "-P", "-m", "stadia", "train", "selfsup"]), _is_stadia(["vim", "stadia"])
        (True, False)
    """
    programs = [Path(word).stem for word in words]
    commands = {(first, second) for first, second in itertools.pairwise(programs)}
    return bool(commands & {("stadia", name) for name in TRAINING_COMMANDS})


_RESUMING = threading.Lock()
"""Held while a training is resumed: of two clicks at the same time, only one starts a process."""


def resume_training(run: Path) -> None:
    """Start a process that resumes the training of a run.

    Raises RunError if the process ends at once, or if another training is being resumed.
    """
    if not _RESUMING.acquire(blocking=False):
        raise RunError(
            "training", found="one that is being resumed", expected="none", fix="reload the page in a moment"
        )
    try:
        _start_again(run)
    finally:
        _RESUMING.release()


def _start_again(run: Path) -> None:
    if is_locked(run):
        raise RunError(run.name, found="a running training", expected="a stopped one", fix="stop the training first")
    training = TrainingProcess([*STADIA, "train", "--resume", str(run.absolute())])
    try:
        deadline = time.monotonic() + STARTED_S
        while training.code is None and time.monotonic() < deadline and not is_locked(run):
            time.sleep(0.1)
        if training.code not in (None, 0):
            raise RunError(run.name, found=training.read_error(), expected="a training")
    finally:
        training.forget()
