"""Train the runs of a study: in processes of this machine. Imports no torch."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stadia.core.signals import interrupt_on_termination
from stadia.io.atomic_files import open_to_append
from stadia.io.input_files import open_input

POLL_S = 0.2  # interval at which running jobs are looked at
_MAX_LOG_BYTES = 1 << 40  # a log of any length is opened
_LAST_BYTES = 1 << 14  # of its end, which has the error


@dataclass(frozen=True)
class Job:
    """Describe the process that trains one run: the command `stadia WORDS...`.

    name: name of the run.
    words: arguments of the command `stadia`.
    log: file that its output is written to.
    """

    name: str
    words: tuple[str, ...]
    log: Path

    @property
    def command(self) -> list[str]:
        """Return the command line of the training."""
        return [sys.executable, "-P", "-m", "stadia", *self.words]  # -P: no module of the current folder

    def start(self, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process in its own session, which stops when this one ends. Ctrl-C reaches only this process."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(self.log) as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def explain_failure(self, code: int) -> str:
        """Return why the process ended: its signal, or the last line of its log."""
        if code < 0:
            return f"its process was killed by signal {-code}"
        lines = []
        if self.log.exists():
            with open_input(self.log, expected="a log", max_bytes=_MAX_LOG_BYTES) as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LAST_BYTES))
                lines = stream.read().decode("utf-8", "replace").rstrip().splitlines()
        return lines[-1].removeprefix("stadia: ") if lines else f"exit code {code}; see {self.log}"


JobEnded = Callable[[Job, int], None]
Launch = Callable[[Sequence[Job], JobEnded], None]
"""Type of a function that trains jobs and calls a second function with each job and its exit code when it has ended.

Ctrl-C raises KeyboardInterrupt in it.
"""


def run_here(jobs: Sequence[Job], ended: JobEnded, *, at_once: int = 1) -> None:
    """Run jobs in processes of this machine, `at_once` in parallel, each with its share of the cores.

    If CUDA_VISIBLE_DEVICES lists several GPUs, processes use them in turn.
    """
    waiting, running = deque(jobs), dict[int, tuple[Job, subprocess.Popen[bytes]]]()
    with interrupt_on_termination():
        try:
            while waiting or running:
                for slot in range(at_once):
                    if slot not in running and waiting:
                        job = waiting.popleft()
                        running[slot] = job, job.start(_make_environment(slot, at_once))
                time.sleep(POLL_S)
                for slot, (job, process) in list(running.items()):
                    if (code := process.poll()) is not None:
                        del running[slot]
                        ended(job, code)
        finally:
            _stop([process for _, process in running.values()])


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for _ in range(2):  # a second Ctrl-C while they save stops them at once
        for process in processes:
            process.terminate()  # background processes of scripts ignore SIGINT
        try:
            for process in processes:
                process.wait()
            return
        except KeyboardInterrupt:
            continue
    for process in processes:
        process.wait()


def count_cores_per_process(at_once: int) -> int:
    """Return how many CPU threads each process may use if several run in parallel on this machine; at least 1.

    at_once: number of processes that run in parallel.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // at_once)


def _make_environment(slot: int, at_once: int) -> dict[str, str]:
    environment = {"OMP_NUM_THREADS": str(count_cores_per_process(at_once)), **os.environ}
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if len(gpus) > 1 and at_once > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment
