"""How OpenMP's threads wait follows the machine's load; what the user has set is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stadia.core import waiting_threads
from stadia.core.waiting_threads import SPINS, choose_waiting, measure_idle_share


@pytest.mark.parametrize(
    ("is_long", "idle_share", "spins"), [(True, 0.95, SPINS), (True, 0.5, "0"), (False, 0.95, "0")]
)
def test_threads_look_for_work_in_a_long_command_on_an_idle_machine(
    monkeypatch: pytest.MonkeyPatch, is_long: bool, idle_share: float, spins: str
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(waiting_threads, "measure_idle_share", lambda: idle_share)
    choose_waiting(is_long=is_long)
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": spins}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_is_set_is_kept(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "environ", {name: "mine"})
    choose_waiting(is_long=True)
    assert os.environ == {name: "mine"}


@pytest.mark.parametrize(("running", "idle_share"), [(1, 1.0), (2, 0.5), (3, 0.0), (9, 0.0)])
def test_the_idle_share_counts_the_other_threads_that_run_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: int, idle_share: float
) -> None:
    load = tmp_path / "loadavg"
    load.write_text(f"1.90 1.50 1.20 {running}/103 4711\n", encoding="ascii")  # a busy minute before
    monkeypatch.setattr(waiting_threads, "LOAD_FILE", load)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)  # of the machine; a container may use two
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert measure_idle_share() == idle_share


def test_without_linux_no_machine_is_idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(waiting_threads, "LOAD_FILE", tmp_path / "missing")
    assert measure_idle_share() == 0
