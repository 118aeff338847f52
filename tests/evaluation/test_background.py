"""Items computed ahead and functions called behind: order, bounds, and errors at their place."""

import threading
from collections.abc import Iterator

import pytest

from stadia.data.frame_preparation import run_ahead, run_behind


def test_items_come_in_order_and_their_error_after_them() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise KeyError("end")

    iterator = run_ahead(items(), 3)
    assert [next(iterator) for _ in range(20)] == list(range(20))
    with pytest.raises(KeyError):
        next(iterator)


def test_no_more_is_computed_than_fits_and_nothing_after_an_early_end() -> None:
    begun: list[int] = []
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            for number in range(100):
                begun.append(number)
                yield number
        finally:
            closed.set()

    iterator = run_ahead(items(), 3)
    assert next(iterator) == 0
    iterator.close()
    assert closed.is_set()
    assert len(begun) <= 4


def test_an_error_is_raised_and_the_items_before_it_are_finished() -> None:
    done: list[int] = []

    def fail_at_second(number: int) -> None:
        if number == 1:
            raise OSError("disk full")

    def add_all() -> None:
        with run_behind([done.append, fail_at_second]) as add:
            for number in range(100):
                add(number)

    with pytest.raises(OSError, match="disk full"):
        add_all()
    assert done[:2] == [0, 1]
    assert len(done) < 10


def test_a_function_that_failed_gets_no_further_item() -> None:
    """Those that already wait for it, too."""
    release, seen, others = threading.Event(), list[int](), list[int]()

    def fail(number: int) -> None:
        release.wait(600)
        seen.append(number)
        raise OSError("disk full")

    def add_three() -> None:
        with run_behind([fail, others.append]) as add:
            for number in range(3):
                add(number)
            release.set()

    with pytest.raises(OSError, match="disk full"):
        add_three()
    assert seen == [0]
    assert others == [0, 1, 2]
