"""Engines of a batch: processes of this machine, Ray, or SLURM jobs. Each yields results as they come."""

import multiprocessing
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stadia.apps.batch_prediction.video_worker import BatchJob, VideoItem, VideoResult, VideoWorker
from stadia.core.errors import ConfigError, RunError, summarize_exception

SLURM_POLL_S = 5.0

LOST = "its process was killed, maybe by a lack of memory"


class Engine(Protocol):
    """Runs the videos of a batch."""

    def run(self, job: BatchJob, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """Yield the result of each video, in any order."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine; one that dies fails its video alone. `workers=0` predicts in this process."""

    workers: int = 1
    make_worker: Callable[[BatchJob], VideoWorker] = VideoWorker

    def run(self, job: BatchJob, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """Yield the result of each video."""
        if self.workers == 0:
            worker = self.make_worker(job)
            yield from (worker.predict(item) for item in items)
            return
        waiting = deque(items)
        suspects = deque[VideoItem]()
        while waiting:
            yield from self._run_pool(job, waiting, suspects, self.workers)
            while suspects:  # one of them killed its process: each gets a process of its own
                alone, again = deque([suspects.popleft()]), deque[VideoItem]()
                yield from self._run_pool(job, alone, again, 1)
                yield from (VideoResult(video=item.name, state="failed", error=LOST) for item in again)

    def _run_pool(
        self, job: BatchJob, waiting: deque[VideoItem], suspects: deque[VideoItem], workers: int
    ) -> Iterator[VideoResult]:
        context = multiprocessing.get_context("spawn")
        running: dict[Future[VideoResult], VideoItem] = {}
        start = _start_process, (self.make_worker, job)
        pool = ProcessPoolExecutor(workers, context, *start)
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    item = waiting.popleft()
                    running[pool.submit(_predict_in_process, item)] = item
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        continue
                    del running[future]
                    yield result
                if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                    break
        except BrokenProcessPool:  # a process died while a video was handed out: `run` predicts the suspects one by one
            pass
        finally:
            suspects.extend(running.values())
            if running:
                for child in multiprocessing.active_children():
                    child.terminate()
            pool.shutdown(wait=not running, cancel_futures=True)


_WORKER: VideoWorker | None = None


def _start_process(make_worker: Callable[[BatchJob], VideoWorker], job: BatchJob) -> None:
    global _WORKER
    _WORKER = make_worker(job)


def _predict_in_process(item: VideoItem) -> VideoResult:
    assert _WORKER is not None
    return _WORKER.predict(item)


@dataclass(frozen=True)
class RayEngine:
    """Actors of Ray, each with its network: on the cluster of RAY_ADDRESS, else on this machine."""

    workers: int = 1

    def run(self, job: BatchJob, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """Yield the result of each video."""
        ray = _connect_ray(self.workers)
        actor_class = ray.remote(max_restarts=0, num_cpus=1)(VideoWorker)
        shared = ray.put(job)
        waiting = deque(items)
        actors = [actor_class.remote(shared) for _ in range(min(max(self.workers, 1), len(items)))]
        running: dict[Any, tuple[VideoItem, Any]] = {}
        try:
            while waiting or running:
                while waiting and actors:
                    item, actor = waiting.popleft(), actors.pop()
                    running[actor.predict.remote(item)] = item, actor
                done, _ = ray.wait([*running], num_returns=1)
                item, actor = running.pop(done[0])
                try:
                    yield ray.get(done[0])
                except ray.exceptions.RayError as error:
                    yield VideoResult(video=item.name, state="failed", error=f"{LOST}: {type(error).__name__}")
                    actor = actor_class.remote(shared)
                actors.append(actor)
        finally:
            for actor in [*actors, *(actor for _, actor in running.values())]:
                ray.kill(actor)


def _connect_ray(cores: int) -> Any:
    try:
        import ray
    except ImportError as error:
        fix = "pip install 'stadia[ray]'"
        raise RunError("--engine ray", found="no ray", expected="the extra 'ray'", fix=fix) from error
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    num_cpus = None if address else max(cores, 1)
    try:
        if address and re.fullmatch(r"[^/]+:\d+", address):  # without an answer, Ray waits for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, num_cpus=num_cpus, include_dashboard=False, log_to_driver=False)
    except Exception as error:  # Ray raises Exception itself if a start takes too long
        fix = "start it first: ray start --head, and RAY_ADDRESS=auto"
        found = f"Ray does not start ({summarize_exception(error)})"
        raise RunError("--engine ray", found=found, expected="Ray on this machine or a cluster", fix=fix) from error
    return ray


@dataclass(frozen=True)
class SlurmEngine:
    """Jobs of SLURM through submitit, each with its part of the videos.

    folder: of scripts and logs, on a shared file system.
    options: of submitit; `cluster=local` and `cluster=debug` run without SLURM.
    """

    folder: Path
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, job: BatchJob, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """Yield the result of each video, when the job of its part has ended."""
        try:
            import submitit
        except ImportError as error:
            fix = "pip install 'stadia[slurm]'"
            raise RunError(
                "--engine slurm", found="no submitit", expected="an installed submitit (extra 'slurm')", fix=fix
            ) from error
        options = dict(self.options)
        cluster = options.pop("cluster", "slurm")
        if cluster == "slurm" and submitit.SlurmExecutor.affinity() < 0:
            expected, fix = "a machine that submits to SLURM", "use --engine local"
            raise RunError("--engine slurm", found="no sbatch", expected=expected, fix=fix)
        executor = submitit.AutoExecutor(folder=self.folder / "%j", cluster=cluster)
        try:
            executor.update_parameters(**({"timeout_min": 24 * 60} | options))
        except (AssertionError, NameError, TypeError, ValueError) as error:
            found, fix = summarize_exception(error), "see the parameters of submitit.AutoExecutor"
            raise ConfigError("--slurm", found=found, expected="parameters of submitit", fix=fix) from error
        parts = [list(items[start :: self.workers]) for start in range(min(self.workers, len(items)))]
        submitted = executor.map_array(predict_part, [job] * len(parts), parts)
        waiting = dict(zip(submitted, parts, strict=True))
        while waiting:
            for handle in [handle for handle in waiting if handle.done()]:
                part = waiting.pop(handle)
                failure = handle.exception()
                if failure is None:
                    yield from handle.result()
                    continue
                text = f"its job {handle.job_id} failed: {str(failure).strip().splitlines()[-1][:300]}"
                yield from (VideoResult(video=item.name, state="failed", error=text) for item in part)
            if waiting:
                time.sleep(SLURM_POLL_S if cluster == "slurm" else 0.1)


def predict_part(job: BatchJob, items: Sequence[VideoItem]) -> list[VideoResult]:
    """Predict some videos of a batch in a job of a cluster."""
    worker = VideoWorker(job)
    return [worker.predict(item) for item in items]


ENGINES = ("local", "ray", "slurm")


def make_engine(name: str, *, workers: int, folder: Path, options: Mapping[str, Any]) -> Engine:
    """Return an engine by its name. Raises ConfigError for an unknown name or unused options."""
    if name not in ENGINES:
        fix = "choose one of them"
        raise ConfigError("--engine", found=f"'{name}'", expected=f"one of {', '.join(ENGINES)}", fix=fix)
    if options and name != "slurm":
        fix = "remove --slurm, or pass --engine slurm"
        raise ConfigError("--slurm", found=f"--engine {name}", expected="--engine slurm", fix=fix)
    if name == "slurm":
        return SlurmEngine(folder, max(workers, 1), options)
    return RayEngine(workers) if name == "ray" else LocalEngine(workers)
