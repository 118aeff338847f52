"""Work on many items: an item whose process dies is lost alone, and every other one has one result."""

import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.batches.killed_work import make_killed_work, make_noted_work
from tests.refusals import refuses

from stadia.batches.engines import run_items
from stadia.core.errors import ConfigError

LIBRARIES = {"local": "concurrent.futures", "ray": "ray", "dask": "distributed"}


@pytest.fixture(params=LIBRARIES)
def engine(request: pytest.FixtureRequest) -> str:
    library = LIBRARIES[request.param]
    pytest.importorskip(library, reason=f"{library} is not installed: pip install 'stadia[{request.param}]'")
    return str(request.param)


def test_no_process_works_in_this_one() -> None:
    assert list(run_items(["a", "b"], make_killed_work, 0)) == [("a", os.getpid()), ("b", os.getpid())]


@pytest.mark.parametrize("engine", ["slurm", "local:10.0.0.1"])
def test_an_unknown_engine_is_refused(engine: str) -> None:
    with refuses(ConfigError, where="--engine", found=engine):
        next(run_items(["a"], make_killed_work, 1, engine))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_a_process_that_dies_loses_its_item_alone(engine: str) -> None:
    """No other child of this process ends."""
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    other.start()
    try:
        items = ("a", "b", "poison", "c", "d")
        found = list(run_items(items, make_killed_work, 2, engine))
        assert Counter(item for item, _ in found) == Counter(items), "each item once"
        assert dict(found)["poison"] is None
        assert {None, os.getpid()}.isdisjoint({result for item, result in found if item != "poison"})
        assert other.is_alive()
    finally:
        other.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_work_is_created_once_in_a_process(engine: str, tmp_path: Path) -> None:
    """And its state, such as a network, is kept for the items that follow."""
    items = [f"{tmp_path}/{number}" for number in range(12)]
    found = dict(run_items(items, make_noted_work, 2, engine))
    assert set(found) == set(items)
    created = Counter(process for process, _ in found.values())
    assert len(created) <= 2
    assert sorted(count for _, count in found.values())[-1] >= 6, "one work counts the items of its process"
