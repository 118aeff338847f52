"""How far a long loop is: told to whoever runs it, shown by nothing here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Watch(Protocol):
    """Passes items through and shows how far they are: of `count`, if known, doing `what`."""

    def __call__(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]: ...


def unwatched(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
    """Shows nothing."""
    return items
