"""Combinations of parts: the suite has each part, `make test-all` has all combinations."""

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any

import pytest


def mark_others(values: Sequence[Any], kept: Collection[Any]) -> list[Any]:
    """Return the cases of a test, of which all but `kept` are marked exhaustive.

    Raises ValueError for one in `kept` that is no case.
    """
    if unknown := [value for value in kept if value not in values]:
        raise ValueError(f"no cases: {unknown}")
    return [
        value if value in kept else pytest.param(*as_tuple(value), marks=pytest.mark.exhaustive) for value in values
    ]


def mark_repeats(values: Iterable[Any], kind: Callable[[Any], Hashable]) -> list[Any]:
    """Return the cases of a test, of which all but the first of each kind are marked exhaustive."""
    seen, cases = set[Hashable](), []
    for value in values:
        marks = [pytest.mark.exhaustive] * (kind(value) in seen)
        seen.add(kind(value))
        cases.append(pytest.param(*as_tuple(value), marks=marks))
    return cases


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return the values of one case: a tuple has several, for as many arguments."""
    return value if isinstance(value, tuple) else (value,)
