"""Work on many items: an item whose process dies is lost alone, and every other one has one result."""

import importlib.util
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.batches.killed_work import make_killed_work, make_noted_work
from tests.refusals import refuses

from stadia.batches.engines import ENGINES, check_engine, run_items
from stadia.core.errors import ConfigError, StadiaError


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    library = ENGINES[request.param].library or "concurrent.futures"
    pytest.importorskip(library, reason=f"{library} is not installed: pip install 'stadia[{request.param}]'")
    return str(request.param)


def test_no_process_works_in_this_one() -> None:
    assert list(run_items(["a", "b"], make_killed_work, 0)) == [("a", os.getpid()), ("b", os.getpid())]


@pytest.mark.parametrize("engine", ["slurm", "local:10.0.0.1"])
def test_an_unknown_engine_is_refused(engine: str) -> None:
    with refuses(ConfigError, where="--engine", found=engine):
        next(run_items(["a"], make_killed_work, 1, engine))


@pytest.mark.parametrize("engine", [name for name, one in ENGINES.items() if one.library])
def test_an_engine_without_its_library_is_refused(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with refuses(StadiaError, where="--engine", fix=f"stadia[{engine}]"):
        check_engine(engine)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it looks for processes in /proc")
def test_the_processes_of_a_killed_command_end(tmp_path: Path) -> None:
    code = "from tests.batches.killed_work import wait_in_processes as wait; wait(sys.argv[1])"
    command = [sys.executable, "-c", f"import sys; {code}", str(tmp_path)]
    parent = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(Path(f"/proc/{file.name}").exists() for file in tmp_path.iterdir()))


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    stop_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < stop_s
        time.sleep(0.05)


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
