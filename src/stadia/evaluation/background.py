"""Decode ahead and write behind in threads, with few items in memory. This module does not import torch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

MAX_WAITING, MAX_WAITING_BYTES = 4, 128 << 20  # finished items that wait, and their bytes
LARGE_BYTES = 16 << 20  # a larger item (4K has 25 MB) is alone in memory


def bound_count(count: int, item_bytes: int) -> int:
    """Return how many items of this size may wait: at most `count`, and none if the items are large."""
    return 0 if item_bytes > LARGE_BYTES else max(min(count, MAX_WAITING_BYTES // max(item_bytes, 1)), 1)


def run_ahead(
    items: Iterable[T], count: int = MAX_WAITING, *, weigh: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Yield the items in order, while a thread computes up to `count` of the next ones.

    weigh: returns the number of bytes of an item. At most MAX_WAITING_BYTES may wait.

    If computing an item raises an exception, the exception is raised here in place of the item.
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="stadia-ahead")
    try:
        waiting: deque[Future[Any]] = deque([pool.submit(next, iterator, end)])
        while (item := waiting.popleft().result()) is not end:
            most = bound_count(count, weigh(item))
            while len(waiting) < most:
                waiting.append(pool.submit(next, iterator, end))
            yield item
            item = None
            if not waiting:
                waiting.append(pool.submit(next, iterator, end))
    finally:
        pool.shutdown(cancel_futures=True)
        if hasattr(iterator, "close"):
            iterator.close()


@contextmanager
def run_behind(
    functions: Sequence[Callable[[T], object]], count: int = MAX_WAITING, *, weigh: Callable[[T], int] = lambda item: 1
) -> Iterator[Callable[[T], None]]:
    """Yield a function that passes an item to all `functions`.

    Each runs in its own thread, at most `count` items behind.

    weigh: returns the number of bytes of an item. At most MAX_WAITING_BYTES may wait.

    A function that raises an exception gets no further items. The exception is raised by a later call, or when the
    block ends.
    """
    pools = [ThreadPoolExecutor(1, thread_name_prefix="stadia-behind") for _ in functions]
    waiting: deque[list[Future[object]]] = deque()
    failed: set[int] = set()

    def call(number: int, item: T) -> None:
        if number in failed:
            return
        try:
            functions[number](item)
        except BaseException:
            failed.add(number)
            raise

    def finish(most: int) -> None:
        while len(waiting) > most:
            for future in waiting.popleft():
                future.result()

    def add(item: T) -> None:
        most = bound_count(count, weigh(item))
        finish(max(most - 1, 0))
        if most:
            waiting.append([pool.submit(call, number, item) for number, pool in enumerate(pools)])
            return
        for function in functions:  # large items one after the other, to save gigabytes
            function(item)

    try:
        yield add
        finish(0)
    finally:
        for pool in pools:
            pool.shutdown()
