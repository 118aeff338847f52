"""Work on many items: an item whose process dies is lost alone, and every other one has one result."""

import multiprocessing
import os
import time
from collections import Counter

import pytest
from tests.batches.killed_work import make_killed_work

from stadia.batches.engines import run_items


def test_no_process_works_in_this_one() -> None:
    assert list(run_items(["a", "b"], make_killed_work, 0)) == [("a", os.getpid()), ("b", os.getpid())]


@pytest.mark.slow
def test_a_process_that_dies_loses_its_item_alone() -> None:
    """No other child of this process ends."""
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    other.start()
    try:
        items = ("a", "b", "poison", "c", "d")
        found = list(run_items(items, make_killed_work, 2))
        assert Counter(item for item, _ in found) == Counter(items), "each item once"
        assert dict(found)["poison"] is None
        assert {None, os.getpid()}.isdisjoint({result for item, result in found if item != "poison"})
        assert other.is_alive()
    finally:
        other.kill()
