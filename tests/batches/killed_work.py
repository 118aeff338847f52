"""Work that processes can import: it does nothing, and one item ends its process."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stadia.batches.engines import run_items


def make_killed_work() -> Callable[[str], int]:
    return work


def work(item: str) -> int:
    if item == "poison":
        os._exit(9)
    return os.getpid()


def make_noted_work() -> Callable[[str], tuple[int, int]]:
    """Work that returns its process, and how many items it worked on."""
    done = list[str]()

    def note(item: str) -> tuple[int, int]:
        done.append(item)
        return os.getpid(), len(done)

    return note


def wait_in_processes(folder: str) -> None:
    """Work in two processes that never end; each writes a file with its number as name."""
    list(run_items(["a", "b"], partial(make_waiting_work, folder), 2))


def make_waiting_work(folder: str) -> Callable[[str], None]:
    def wait(_: str) -> None:
        (Path(folder) / str(os.getpid())).touch()
        time.sleep(600)

    return wait
