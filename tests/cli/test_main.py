"""One line an error, the right exit code, and a help that imports nothing heavy."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stadia as package
from stadia.core.errors import DataError

COMMANDS = ("train", "evaluate", "predict", "data", "check", "report", "demo", "list")


def failing_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `stadia report` raise."""

    def build(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("stadia.report.build_report", build)


def test_version(stadia):
    assert stadia("--version") == (0, f"stadia {package.__version__}\n", "")


def test_help_names_every_command(stadia):
    code, out, _ = stadia("--help")
    assert code == 0
    for command in COMMANDS:
        assert f" {command} " in out


@pytest.mark.slow
def test_python_m_stadia():
    done = subprocess.run([sys.executable, "-m", "stadia", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"stadia {package.__version__}\n"


def test_its_processes_load_no_module_of_the_current_folder(stadia, monkeypatch):
    """DataLoader's workers, the processes of a distributed training and jobs of a cluster begin in that folder."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    stadia("--version")
    assert os.environ["PYTHONSAFEPATH"] == "1"


@pytest.mark.parametrize(
    "line", [("--traceback", "report", "x"), ("report", "x", "--traceback"), ("report", "--traceback", "x")]
)
def test_traceback_option(stadia, monkeypatch, line):
    failing_with(monkeypatch, DataError("a.png", found="nothing", expected="an image", fix="look again"))
    code, _, err = stadia(*line)
    assert code == 2
    assert err.startswith("Traceback")
    assert err.endswith("stadia: a.png: found nothing; expected an image. Fix: look again.\n")


def test_internal_error_is_one_line_with_the_fix(stadia, monkeypatch):
    failing_with(monkeypatch, KeyError("surprise\nof two lines"))
    code, _, err = stadia("report", "x")
    assert code == 70
    assert err.count("\n") == 1
    assert "internal error, KeyError" in err
    assert "--traceback" in err


def test_trouble_with_a_file_names_it(stadia, monkeypatch):
    failing_with(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/full.png"))
    code, _, err = stadia("report", "x")
    assert code == 2
    assert err.startswith(
        f"stadia: /data/full.png: found a path that cannot be used ({os.strerror(errno.ENOSPC)}); expected"
    )
    assert err.count("\n") == 1


def test_interrupted(stadia, monkeypatch):
    failing_with(monkeypatch, KeyboardInterrupt())
    assert stadia("report", "x") == (130, "", "stadia: interrupted\n")


@pytest.mark.parametrize("words", [("--out=~/page.html",), ("--out", "~/page.html")])
def test_the_home_folder_is_that_of_the_user_in_every_option(stadia, monkeypatch, tmp_path, words) -> None:
    """No shell expands these; a folder named ~ was made, and the removal of that one removes the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "run.json").write_text("{}")
    code, out, _ = stadia("report", ".", *words)
    assert (code, out) == (0, f"report: {tmp_path / 'home' / 'page.html'}\n")
    assert not (tmp_path / "~").exists()
    assert stadia("report", "~")[2].startswith(f"stadia: {tmp_path}/home: found")


@pytest.mark.slow
@pytest.mark.parametrize("line", [["list", "optimizers"], ["--help"], ["train", "--help"], []])
def test_reader_that_goes_away_is_no_error(line):
    """`stadia list datasets | head -0`; rich prints the help."""
    program = f"import sys, stadia.cli.main as m; sys.stdin.read(); m.run({line} )"
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    assert child.stdout
    assert child.stderr
    child.stdout.close()
    child.stdin.close()
    err = child.stderr.read()
    child.stderr.close()
    assert child.wait(600) in (0, 1)
    assert err == ""


@pytest.mark.slow
def test_help_of_every_command_imports_nothing_heavy(python):
    """`stadia --help` and `stadia X --help` stay instant; `benchmarks/start.py` measures them."""
    done = python(
        """
import contextlib, io, sys
from stadia.cli.main import app, run
for words in [["--help"], *([c, "--help"] for c in """
        + repr(COMMANDS)
        + """)]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        run(words)
    assert "Usage" in out.getvalue(), words
heavy = {
    "torch", "pydantic", "numpy", "cv2", "lightning_fabric", "matplotlib", "scipy", "numba", "timm", "jinja2", "av",
}
print(sorted(heavy & set(sys.modules)))
"""
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), ("memory: found no memory left", "smaller size or batch")),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), ("memory:", "batch")),
        (RuntimeError("could not create a primitive"), ("memory:", "batch")),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), ("memory:", "batch")),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), ("open files", "ulimit -n")),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), ("processes", "training.workers")),
        (RuntimeError("can't start new thread"), ("processes", "training.workers")),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ("system: found", "No space left")),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_limit_of_the_machine_is_no_internal_error(stadia, monkeypatch, error, words):
    failing_with(monkeypatch, error)
    code, _, err = stadia("report", "x")
    assert (code, err.count("\n")) == (2, 1)
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("prepare", "gone.mp4", "--masks"), ("masks", "gone.mp4")),
        (
            ("init", "gone.mp4", "b.mp4", "K.txt", "--out", "rig"),
            ("stereo", "gone.mp4", "b.mp4", "K.txt", "--out", "rig"),
        ),
        (("evaluate", "--trajectory", "a", "--image=a.gif"), ("evaluate", "--trajectory", "a", "--plot=a.gif")),
    ],
)
def test_a_former_name_does_what_the_new_one_does(old: tuple[str, ...], new: tuple[str, ...], stadia: Any) -> None:
    note, _, error = stadia(*old)[2].partition("\n")
    assert note.startswith("note: ")
    assert error == stadia(*new)[2]


def test_a_current_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stadia: Any) -> None:
    """A library that looks for its files there ended the process."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = stadia("doctor")
    monkeypatch.chdir(tmp_path)
    assert (code, err.startswith("stadia: current folder: found")) == (2, True)


@pytest.mark.slow
def test_a_wrong_argument_is_reported_before_torch_is_loaded(python, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"")
    lines = "predict nofile.jpg, predict norun photo.jpg, predict photo.jpg --size 12, odometry no.mp4, adapt no.mp4"
    program = """
import sys
from stadia.cli.main import run
for line in sys.argv[1].split(", "):
    try:
        run(line.split())
    except SystemExit as end:
        print(end.code, "torch" in sys.modules)
"""
    done = python(program, lines)
    assert done.stdout.splitlines() == ["2 False"] * 5, done.stderr
    assert done.stderr.count("\n") == 5
