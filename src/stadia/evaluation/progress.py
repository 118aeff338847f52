"""Report the progress of long loops to whoever runs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class TrackProgress(Protocol):
    """Pass items through and show the progress of `what` over `count` items, if known."""

    def __call__(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]: ...


def no_progress(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
    """Show nothing."""
    return items
