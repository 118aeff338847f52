"""Where a study's runs are trained: processes of this machine, and jobs of a SLURM that is made up."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import stadia
from stadia.apps.studies.launch import Job, count_cores_per_process, run_here, run_on_slurm

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
        + "open({0!r}, 'w')\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('saved', flush=True)\n"
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
    end = time.monotonic() + 120
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


class Cluster:
    """submitit, as far as it is used: jobs end when `done` returns true."""

    def __init__(self):
        self.submitted, self.done, self.failed = [], set(), set()
        cluster = self

        class SlurmJob:
            def __init__(self, folder, job_id):
                self.job_id = job_id

            def done(self):
                return self.job_id in cluster.done

            def exception(self):
                return RuntimeError() if self.job_id in cluster.failed else None

        class AutoExecutor:
            def __init__(self, folder, cluster, slurm_python):
                assert cluster == "slurm"
                assert slurm_python.endswith(" -P")  # no module of the current folder

            def update_parameters(self, **options):
                cluster.options = options

            def submit(self, command):
                cluster.submitted.append(command)
                return SlurmJob(None, str(len(cluster.submitted)))

        self.SlurmJob, self.AutoExecutor = SlurmJob, AutoExecutor
        self.SlurmExecutor = SimpleNamespace(affinity=lambda: 2)
        self.helpers = SimpleNamespace(CommandFunction=lambda command: tuple(command))


def test_jobs_of_slurm_are_submitted_once_and_waited_for_again(tmp_path, monkeypatch):
    cluster, ended = Cluster(), []
    monkeypatch.setitem(sys.modules, "submitit", cluster)
    jobs = [Job(f"j{k}", ("train", str(k)), tmp_path / f"j{k}.log") for k in range(3)]
    slurm = partial(run_on_slurm, folder=tmp_path / "slurm", options={"timeout_min": 60})

    def first_ends(_):
        if "1" in cluster.done:
            raise KeyboardInterrupt
        cluster.done.add("1")

    monkeypatch.setattr("time.sleep", first_ends)
    with pytest.raises(KeyboardInterrupt):
        slurm(jobs, lambda job, code: ended.append((job.name, code)))
    assert cluster.submitted == [tuple(job.command) for job in jobs]
    assert (ended, cluster.options) == ([("j0", 0)], {"timeout_min": 60})
    monkeypatch.setattr("time.sleep", lambda _: (cluster.done.update("23456"), cluster.failed.add("3")))
    slurm(jobs[1:], lambda job, code: ended.append((job.name, code)))
    assert len(cluster.submitted) == 3  # none twice
    assert ended[1:] == [("j1", 0), ("j2", 1)]
    slurm(jobs[2:], lambda job, code: None)  # it had ended, and is submitted again
    assert len(cluster.submitted) == 4
