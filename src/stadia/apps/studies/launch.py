"""Train the runs of a study: processes of this machine, or SLURM jobs. Imports no torch."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stadia.apps.studies.config import read_json_mapping
from stadia.core.errors import RunError
from stadia.files.atomic_files import open_to_append, write_json
from stadia.files.input_files import open_input
from stadia.process.parent_process import PARENT_VARIABLE
from stadia.process.signals import interrupt_on_termination

POLL_S = 0.2
_MAX_LOG_BYTES, _LAST_BYTES = 1 << 40, 1 << 14
SLURM_POLL_S = 10.0


@dataclass(frozen=True)
class Job:
    """`stadia WORDS...` of run `name`; its output goes to `log`."""

    name: str
    words: tuple[str, ...]
    log: Path

    @property
    def command(self) -> list[str]:
        """Return the command line of the training."""
        return [sys.executable, "-P", "-m", "stadia", *self.words]  # -P: no module of the current folder

    def start(self, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process in its own session, so that Ctrl-C reaches only what started it; it stops with this one."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(self.log) as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**(os.environ if environment is None else environment), PARENT_VARIABLE: str(os.getpid())},
                start_new_session=True,
            )

    def explain_failure(self, code: int) -> str:
        """Return why the process ended with this exit code: its signal, or the last line of its log."""
        if code < 0:
            return f"its process was killed by signal {-code}"
        lines = []
        if self.log.exists():
            with open_input(self.log, expected="a log", max_bytes=_MAX_LOG_BYTES) as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LAST_BYTES))
                lines = stream.read().decode("utf-8", "replace").rstrip().splitlines()
        return lines[-1].removeprefix("stadia: ") if lines else f"exit code {code}; see {self.log}"


JobEnded = Callable[[Job, int], None]


class Launcher(Protocol):
    """Runs jobs and calls `ended` with the exit code as each one ends. Ctrl-C raises KeyboardInterrupt."""

    def run(self, jobs: Sequence[Job], ended: JobEnded) -> None:
        """Run the jobs; call `ended` with each that ends."""


@dataclass(frozen=True)
class LocalLauncher:
    """Processes of this machine, `at_once` of them in parallel, each with its share of the cores.

    If CUDA_VISIBLE_DEVICES lists several GPUs, processes use them in turn.
    """

    at_once: int = 1

    def run(self, jobs: Sequence[Job], ended: JobEnded) -> None:
        """Run the jobs in processes of this machine; call `ended` with each that ends."""
        waiting, running = deque(jobs), dict[int, tuple[Job, subprocess.Popen[bytes]]]()
        with interrupt_on_termination():
            try:
                while waiting or running:
                    for slot in range(self.at_once):
                        if slot not in running and waiting:
                            job = waiting.popleft()
                            running[slot] = job, job.start(_make_environment(slot, self.at_once))
                    time.sleep(POLL_S)
                    for slot, (job, process) in list(running.items()):
                        if process.poll() is not None:
                            del running[slot]
                            ended(job, process.returncode)
            finally:
                _stop([process for _, process in running.values()])


def count_cores_per_process(at_once: int) -> int:
    """Return the number of threads for each of `at_once` processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // at_once)


def _make_environment(slot: int, at_once: int) -> dict[str, str]:
    """Return the environment variables of a process: its share of the cores, and its GPU."""
    environment = {"OMP_NUM_THREADS": str(count_cores_per_process(at_once)), **os.environ}
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if len(gpus) > 1 and at_once > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Request each process to save and stop, and wait; a second Ctrl-C stops it at once.

    SIGTERM has the effect of Ctrl-C on a training, and background processes of scripts do not ignore it.
    """
    for process in processes:
        process.send_signal(signal.SIGTERM)
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()


@dataclass(frozen=True)
class SlurmLauncher:
    """SLURM jobs through submitit, one for each run, submitted together.

    folder: of scripts and logs, on a shared file system.
    options: of submitit (slurm_partition, timeout_min, gpus_per_node, cpus_per_task, ...).

    Ctrl-C ends the wait, not the jobs. Their numbers are in jobs.json, so a restarted study waits for them and submits
    none twice.
    """

    folder: Path
    options: dict[str, Any]

    def run(self, jobs: Sequence[Job], ended: JobEnded) -> None:
        """Submit the jobs to SLURM and wait; call `ended` with each that ends."""
        try:
            import submitit
        except ImportError as error:
            fix = "pip install 'stadia[slurm]'"
            raise RunError("--slurm", found="no submitit", expected="the extra 'slurm'", fix=fix) from error
        numbers = self.folder / "jobs.json"
        known = read_json_mapping(numbers, "numbers of jobs by run") if numbers.exists() else {}
        if submitit.SlurmExecutor.affinity() < 0:
            expected, fix = "a machine that submits to SLURM", "run without --slurm, or there"
            raise RunError("--slurm", found="no sbatch", expected=expected, fix=fix)
        python = f"{shlex.quote(sys.executable)} -P"
        executor = submitit.AutoExecutor(folder=self.folder / "%j", cluster="slurm", slurm_python=python)
        executor.update_parameters(**self.options)
        waiting: dict[str, Any] = {}
        for job in jobs:
            submitted: Any = None
            if job.name in known:
                submitted = submitit.SlurmJob(folder=self.folder / "%j", job_id=known[job.name])
            if submitted is None or submitted.done():
                submitted = executor.submit(submitit.helpers.CommandFunction(job.command))
                write_json(numbers, known := {**known, job.name: str(submitted.job_id)})
            waiting[job.name] = submitted
        named = {job.name: job for job in jobs}
        while waiting:
            for name, submitted in list(waiting.items()):
                if submitted.done():
                    del waiting[name]
                    ended(named[name], 0 if submitted.exception() is None else 1)
            if waiting:
                time.sleep(SLURM_POLL_S)


def slurm_options(words: Sequence[str]) -> dict[str, Any]:
    """Parse `slurm_partition=gpu timeout_min=600` into submitit's parameters. Raises RunError without "=".

    Examples:
        >>> slurm_options(["slurm_partition=gpu", "timeout_min=600"])
        {'slurm_partition': 'gpu', 'timeout_min': 600}
    """
    from stadia.core.config import parse_value

    if wrong := [word for word in words if "=" not in word]:
        fix = "for example slurm_partition=gpu timeout_min=600"
        raise RunError("--slurm", found=repr(wrong[0]), expected="KEY=VALUE of submitit", fix=fix)
    return {key: parse_value(value) for key, _, value in (word.partition("=") for word in words)}
