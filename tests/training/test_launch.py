"""Where a study's runs are trained: in processes of this machine."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import stadia
from stadia.training.studies.launch import Job, count_cores_per_process, run_here

SOURCE = Path(stadia.__file__).parents[1]


@dataclass(frozen=True)
class Program(Job):
    @property
    def command(self):
        return [sys.executable, "-c", self.words[0]]


@pytest.mark.slow
def test_local_processes_share_the_cores(tmp_path):
    """All of them run, two in parallel; output is kept; exit codes are reported."""
    program = (
        "import os, sys; print(os.environ['OMP_NUM_THREADS'], flush=True); sys.exit(int(sys.argv[0] != '-c') or {0})"
    )
    jobs = [Program(f"j{k}", (program.format(k),), tmp_path / "logs" / f"j{k}.log") for k in range(3)]
    codes = {}
    run_here(jobs, lambda job, code: codes.update({job.name: code}), at_once=2)
    assert codes == {"j0": 0, "j1": 1, "j2": 2}
    expected = os.environ.get("OMP_NUM_THREADS", str(count_cores_per_process(2)))
    assert (tmp_path / "logs/j0.log").read_text().strip() == expected


def test_ctrl_c_stops_each_process_and_waits(tmp_path):
    listen = "import signal, time\nsignal.signal(signal.SIGTERM, signal.default_int_handler)\n"  # as a training does
    program = (
        listen
        + "open({0!r}, 'w')\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print('saved', flush=True)\n"
    )
    marks = [tmp_path / f"started{k}" for k in range(2)]
    jobs = [Program(f"j{k}", (program.format(str(marks[k])),), tmp_path / f"j{k}.log") for k in range(2)]

    def interrupt():
        while not all(mark.exists() for mark in marks):
            threading.Event().wait(0.05)
        threading.Event().wait(0.2)
        os.kill(os.getpid(), signal.SIGTERM)  # as a cluster's end of time; Ctrl-C is the same exception

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_here(jobs, lambda job, code: None, at_once=2)
    thread.join()
    assert [(tmp_path / f"j{k}.log").read_text().strip() for k in range(2)] == ["saved", "saved"]


def wait_until(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_no_module_of_the_current_folder_is_loaded(tmp_path, monkeypatch):
    """A folder of data from outside may hold a `yaml.py`, and be the current folder."""
    (tmp_path / "yaml.py").write_text("open('code-was-run', 'w')\n")
    (tmp_path / "typer.py").write_text("open('code-was-run', 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    job, codes = Job("a", ("--version",), tmp_path / "a.log"), []
    run_here([job], lambda _, code: codes.append(code))
    assert codes == [0], job.log.read_text()
    assert not (tmp_path / "code-was-run").exists()
