"""Train the runs of a study: processes of this machine, of a Ray cluster, or SLURM jobs. Imports no torch."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from stadia.apps.ray_cluster import connect_ray
from stadia.apps.studies.config import read_json_mapping
from stadia.core.errors import ConfigError, RunError
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


class TrainingProcess(Protocol):
    """A started training, as subprocess.Popen."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""

    def terminate(self) -> None:
        """Request it to save and stop."""

    def wait(self) -> int:
        """Wait until it has ended; return the exit code."""


JobEnded = Callable[[Job, int], None]


Launch = Callable[[Sequence[Job], JobEnded], None]
"""Runs jobs and calls `ended` with the exit code as each one ends. Ctrl-C raises KeyboardInterrupt."""


def run_here(jobs: Sequence[Job], ended: JobEnded, *, at_once: int = 1) -> None:
    """Run jobs in processes of this machine, `at_once` of them in parallel, each with its share of the cores.

    If CUDA_VISIBLE_DEVICES lists several GPUs, processes use them in turn.
    """
    run_in_slots(jobs, ended, at_once, lambda job, slot: job.start(_make_environment(slot, at_once)))


def run_in_slots(
    jobs: Sequence[Job], ended: JobEnded, at_once: int, start: Callable[[Job, int], TrainingProcess]
) -> None:
    """Run `at_once` jobs at a time. `start` starts a job in a slot, a number below `at_once`."""
    waiting, running = deque(jobs), dict[int, tuple[Job, TrainingProcess]]()
    with interrupt_on_termination():
        try:
            while waiting or running:
                for slot in range(at_once):
                    if slot not in running and waiting:
                        job = waiting.popleft()
                        running[slot] = job, start(job, slot)
                time.sleep(POLL_S)
                for slot, (job, process) in list(running.items()):
                    if (code := process.poll()) is not None:
                        del running[slot]
                        ended(job, code)
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


def _stop(processes: Sequence[TrainingProcess]) -> None:
    """Request each process to save and stop, and wait; a second Ctrl-C stops it at once.

    SIGTERM has the effect of Ctrl-C on a training, and background processes of scripts do not ignore it.
    """
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def run_on_ray(jobs: Sequence[Job], ended: JobEnded, *, at_once: int = 1) -> None:
    """Run jobs on Ray, `at_once` of them in parallel: on the cluster of RAY_ADDRESS, else on this machine.

    A run takes one GPU where the cluster has some. The folder of the study is on a shared file system.
    """
    run_in_slots(jobs, ended, at_once, lambda job, _: start_on_ray(job, at_once=at_once))


class _TrainingActor:
    """A training in a process of its own, on a machine of a Ray cluster."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, job: Job) -> int:
        """Train to the end; return the exit code."""
        self._process = job.start()
        return self._process.wait()

    def stop(self) -> None:
        """Request the training to save and stop."""
        if self._process is not None:
            self._process.terminate()


class RayProcess:
    """A training on a Ray cluster, as `TrainingProcess`. A machine that is lost ends it as a kill does."""

    def __init__(self, ray: Any, actor: Any, job: Job) -> None:
        self._returncode: int | None = None
        self._ray, self._actor = ray, actor
        self._code = actor.run.remote(job)

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        if self._returncode is None and self._ray.wait([self._code], timeout=0)[0]:
            self.wait()
        return self._returncode

    def terminate(self) -> None:
        """Request it to save and stop."""
        self._actor.stop.remote()

    def wait(self) -> int:
        """Wait until it has ended; return the exit code."""
        if self._returncode is None:
            try:
                self._returncode = int(self._ray.get(self._code))
            except self._ray.exceptions.RayError:
                self._returncode = -int(signal.SIGKILL)
            self._ray.kill(self._actor)
        return self._returncode


def start_on_ray(job: Job, *, at_once: int = 1) -> RayProcess:
    """Start a job on Ray. It waits there for free cores. Raises RunError without the package.

    Args:
        at_once: jobs that share the cores of this machine, where RAY_ADDRESS names no cluster.
    """
    ray = connect_ray("--engine ray", cores=count_cores_per_process(1))
    on_cluster = "RAY_ADDRESS" in os.environ
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    cores = 1 if on_cluster else count_cores_per_process(at_once)
    options = {"num_cpus": cores, "num_gpus": gpus, "max_concurrency": 2, "max_restarts": 0}
    actor = ray.remote(**options)(_TrainingActor).remote()
    return RayProcess(ray, actor, replace(job, log=job.log.absolute()))  # its folder there may be another one


STUDY_ENGINES = ("local", "ray", "slurm")


def check_study_engine(name: str | None, slurm: Sequence[str] | None) -> str:
    """Return the engine of a study: slurm with its options, else local by default. Raises ConfigError."""
    engine = name or ("slurm" if slurm is not None else "local")
    if engine not in STUDY_ENGINES:
        expected, fix = f"one of {', '.join(STUDY_ENGINES)}", "choose one of them"
        raise ConfigError("--engine", found=f"'{engine}'", expected=expected, fix=fix)
    if slurm is not None and engine != "slurm":
        found, fix = f"used together with --engine {engine}", "leave it out"
        raise ConfigError("--slurm", found=found, expected="--engine slurm", fix=fix)
    return engine


def run_on_slurm(jobs: Sequence[Job], ended: JobEnded, *, folder: Path, options: Mapping[str, Any]) -> None:
    """Run a SLURM job for each training through submitit, all submitted together.

    Ctrl-C ends the wait, not the jobs. Their numbers are in jobs.json, so a restarted study waits for them and submits
    none twice.

    Args:
        folder: of scripts and logs, on a shared file system.
        options: of submitit (slurm_partition, timeout_min, gpus_per_node, cpus_per_task, ...).
    """
    try:
        import submitit
    except ImportError as error:
        fix = "pip install 'stadia[slurm]'"
        raise RunError("--slurm", found="no submitit", expected="the extra 'slurm'", fix=fix) from error
    numbers = folder / "jobs.json"
    known = read_json_mapping(numbers, "numbers of jobs by run") if numbers.exists() else {}
    if submitit.SlurmExecutor.affinity() < 0:
        expected, fix = "a machine that submits to SLURM", "run without --slurm, or there"
        raise RunError("--slurm", found="no sbatch", expected=expected, fix=fix)
    python = f"{shlex.quote(sys.executable)} -P"
    executor = submitit.AutoExecutor(folder=folder / "%j", cluster="slurm", slurm_python=python)
    executor.update_parameters(**options)
    waiting: list[tuple[Job, Any]] = []
    for job in jobs:
        submitted: Any = None
        if job.name in known:
            submitted = submitit.SlurmJob(folder=folder / "%j", job_id=known[job.name])
        if submitted is None or submitted.done():
            submitted = executor.submit(submitit.helpers.CommandFunction(job.command))
            write_json(numbers, known := {**known, job.name: str(submitted.job_id)})
        waiting.append((job, submitted))
    while waiting:
        for job, submitted in [entry for entry in waiting if entry[1].done()]:
            waiting.remove((job, submitted))
            ended(job, 0 if submitted.exception() is None else 1)
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
