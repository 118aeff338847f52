"""Report the progress of a long loop to its caller. Nothing is shown here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Watch(Protocol):
    """Pass items through and show the progress of `what` over `count` items, if known."""

    def __call__(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]: ...


def unwatched(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
    """Show nothing."""
    return items
