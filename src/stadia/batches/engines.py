"""Work on many items in processes. A process that dies loses no item, and no item has two results."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

Item = TypeVar("Item")
Result = TypeVar("Result")
MakeWork = Callable[[], Callable[[Item], Result]]
"""Function that a process calls once. It returns the function from an item to its result."""

LOST = "its process was killed, maybe by a lack of memory"
"""Error text of an item whose process died although it was the only one in work."""


def run_items(items: Iterable[Item], make_work: MakeWork, workers: int) -> Iterator[tuple[Item, Result | None]]:
    """Work on items in processes of this machine, and yield each item with its result, in any order.

    If a process dies, each item that was in work then is tried again in a process of its own. The result is None for an
    item whose own process dies too.

    items: the items, which can be pickled.
    make_work: creates the function that works on an item; it can be pickled.
    workers: number of processes; 0 works in this process.
    """
    if workers == 0:
        work = make_work()
        yield from ((item, work(item)) for item in items)
        return
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
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, _start_process, (make_work, started))
    is_broken = False
    try:
        while (waiting or running) and not is_broken:
            while waiting and len(running) < workers:
                item = waiting.popleft()
                try:
                    running[pool.submit(_work_in_process, item)] = item
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


_WORK: Callable[[Any], Any] | None = None


def _start_process(make_work: MakeWork, started: SimpleQueue[int]) -> None:
    global _WORK
    started.put(os.getpid())
    _WORK = make_work()


def _work_in_process(item: Any) -> Any:
    assert _WORK is not None
    return _WORK(item)
