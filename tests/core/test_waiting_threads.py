"""How OpenMP's threads wait follows the machine's load; what the user has set is kept."""

from __future__ import annotations

import os

import pytest

from stadia.core import waiting_threads
from stadia.core.waiting_threads import SPINS, choose_waiting, measure_idle_share


@pytest.mark.parametrize(
    ("is_training", "idle_share", "spins"), [(True, 0.95, SPINS), (True, 0.5, "0"), (False, 0.95, "0")]
)
def test_threads_look_for_work_in_a_training_on_an_idle_machine(
    monkeypatch: pytest.MonkeyPatch, is_training: bool, idle_share: float, spins: str
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(waiting_threads, "measure_idle_share", lambda: idle_share)
    choose_waiting(is_training=is_training)
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": spins}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_is_set_is_kept(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "environ", {name: "mine"})
    choose_waiting(is_training=True)
    assert os.environ == {name: "mine"}


def test_the_idle_share_is_a_share() -> None:
    assert 0 <= measure_idle_share() <= 1
