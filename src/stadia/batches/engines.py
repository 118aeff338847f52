"""Work on many items: in processes of this machine, or of a cluster by Ray or Dask.

A process that dies loses no item, and no item has two results.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import signal
import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from stadia.core.errors import ConfigError, StadiaError

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

Item = TypeVar("Item")
Result = TypeVar("Result")
MakeWork = Callable[[], Callable[[Item], Result]]
"""Function that a process calls once. It returns the function from an item to its result."""

LOST = "its process was killed, maybe by a lack of memory"
"""Error text of an item whose process died each time that it was in work."""

RETRIES = 2
"""Number of times that Ray and Dask hand an item out again whose process died."""

AHEAD = 2
"""Number of items of each worker of Ray and Dask that are handed out at one time, so that no worker waits."""


def run_items(
    items: Iterable[Item], make_work: MakeWork, workers: int, engine: str = "local"
) -> Iterator[tuple[Item, Result | None]]:
    """Work on items in processes, and yield each item with its result, in any order.

    If a process dies, the items that it had are tried again. The result is None for an item whose processes died each
    time.

    items: the items, which can be pickled.
    make_work: creates the function that works on an item; it can be pickled.
    workers: number of processes; 0 works in this process.
    engine: "local", "ray" or "dask" for processes of this machine, or "ray:ADDRESS" or "dask:ADDRESS" for those of a
        running cluster, which has the same version of stadia and sees the same files.

    Raises ConfigError for another engine, StadiaError if its library is not installed.
    """
    check_engine(engine)
    name, _, address = engine.partition(":")
    if workers == 0 and name == "local":
        work = make_work()
        yield from ((item, work(item)) for item in items)
        return
    yield from ENGINES[name].run(items, make_work, max(workers, 1), address)


def check_engine(engine: str) -> None:
    """Raise ConfigError for an engine that does not exist, and StadiaError if its library is not installed."""
    name, _, address = engine.partition(":")
    if name not in ENGINES or (address and name == "local"):
        expected = "local, ray, dask, ray:ADDRESS or dask:ADDRESS"
        raise ConfigError("--engine", found=engine, expected=expected, fix="choose an engine")
    library = ENGINES[name].library
    if library and importlib.util.find_spec(library) is None:
        fix = f"pip install 'stadia[{name}]'"
        raise StadiaError("--engine", found=f"no {library}", expected="an installed library", fix=fix)


# -- a pool of processes


def _run_local(
    items: Iterable[Item], make_work: MakeWork, workers: int, _: str
) -> Iterator[tuple[Item, Result | None]]:
    """Work in a pool; after a process died, each item that was in work then is tried in a process of its own."""
    waiting = deque(items)
    while waiting:
        for item in (yield from _run_pool(waiting, make_work, workers)):
            for lost in (yield from _run_pool(deque([item]), make_work, 1)):
                yield lost, None


def _run_pool(
    waiting: deque[Item], make_work: MakeWork, workers: int
) -> Generator[tuple[Item, Result], None, list[Item]]:
    """Yield results until `waiting` is empty or a process dies. Return the items that were handed out then."""
    context = multiprocessing.get_context("spawn")
    started: SimpleQueue[int] = context.SimpleQueue()
    running: dict[Future[Result], Item] = {}
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, _start_process, (started,))
    batch, is_broken = uuid.uuid4().hex, False
    try:
        while (waiting or running) and not is_broken:
            while waiting and len(running) < workers:
                item = waiting.popleft()
                try:
                    running[pool.submit(_work, batch, make_work, item)] = item
                except BrokenProcessPool:  # a process died between two items
                    return [*running.values(), item]
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    result = future.result()
                except BrokenProcessPool:
                    is_broken = True
                    continue
                yield running.pop(future), result
        return list(running.values())
    except BaseException:  # the caller was interrupted, or stopped reading results
        while not started.empty():
            with contextlib.suppress(ProcessLookupError):
                os.kill(started.get(), signal.SIGTERM)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_process(started: SimpleQueue[int]) -> None:
    """Record this process, and end it as soon as the one that started it ends, even if that is killed."""
    started.put(os.getpid())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


_KEPT: dict[str, Callable[[Any], Any]] = {}
"""The work of this process, by the batch that it belongs to."""


def _work(batch: str, make_work: MakeWork, item: Any) -> Any:
    """Work on an item in a process; the first item of a batch creates the work."""
    if batch not in _KEPT:
        _KEPT.clear()
        _KEPT[batch] = make_work()
    return _KEPT[batch](item)


# -- clusters


def _hand_out(
    items: Iterable[Item],
    most: int,
    submit: Callable[[Item], Any],
    find_done: Callable[[list[Any]], Iterable[Any]],
    collect: Callable[[Any], Result | None],
) -> Iterator[tuple[Item, Result | None]]:
    """Keep at most `most` items handed out, and yield each one with its result.

    submit: hands an item out, and returns its task.
    find_done: waits for a task to end, and returns those that ended.
    collect: returns the result of a task that ended; None if its processes died.
    """
    waiting, running = iter(items), dict[Any, Item]()
    while True:
        running.update((submit(item), item) for item in islice(waiting, most - len(running)))
        if not running:
            return
        for task in find_done(list(running)):
            yield running.pop(task), collect(task)


def _run_ray(
    items: Iterable[Item], make_work: MakeWork, workers: int, address: str
) -> Iterator[tuple[Item, Result | None]]:
    ray = importlib.import_module("ray")
    where = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    ray.init(log_to_driver=False, **where)
    batch, work = uuid.uuid4().hex, ray.remote(max_retries=RETRIES)(_work)
    handed = ray.put(make_work)

    def collect(task: Any) -> Any:
        try:
            return ray.get(task)
        except ray.exceptions.RayTaskError:  # the work raised an error
            raise
        except ray.exceptions.RayError:
            return None

    try:
        yield from _hand_out(
            items,
            AHEAD * workers,
            lambda item: work.remote(batch, handed, item),
            lambda tasks: ray.wait(tasks)[0],
            collect,
        )
    finally:
        ray.shutdown()


def _run_dask(
    items: Iterable[Item], make_work: MakeWork, workers: int, address: str
) -> Iterator[tuple[Item, Result | None]]:
    distributed = importlib.import_module("distributed")
    batch = uuid.uuid4().hex
    with contextlib.ExitStack() as opened:
        if not address:
            local = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            address = opened.enter_context(local).scheduler_address
        client = opened.enter_context(distributed.Client(address))

        def collect(task: Any) -> Any:
            try:
                return task.result()
            except distributed.KilledWorker:
                return None

        yield from _hand_out(
            items,
            AHEAD * workers,
            lambda item: client.submit(_work, batch, make_work, item, pure=False),
            lambda tasks: distributed.wait(tasks, return_when="FIRST_COMPLETED").done,
            collect,
        )


@dataclass(frozen=True)
class Engine:
    """What runs the processes.

    run: function of items, `make_work`, the number of workers and an address.
    library: the library that it imports; "" for none.
    """

    run: Callable[..., Iterator[Any]]
    library: str = ""


ENGINES: Mapping[str, Engine] = {
    "local": Engine(_run_local),
    "ray": Engine(_run_ray, "ray"),
    "dask": Engine(_run_dask, "distributed"),
}
