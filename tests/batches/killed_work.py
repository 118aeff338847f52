"""Work that processes can import: it does nothing, and one item ends its process."""

import os
from collections.abc import Callable


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
