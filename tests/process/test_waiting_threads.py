"""OpenMP's threads wait for a moment and then sleep; what the user has set is kept."""

from __future__ import annotations

import os

import pytest

from stadia.process.waiting_threads import SPINS, choose_waiting


def test_threads_look_for_work_before_they_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    choose_waiting()
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_is_set_is_kept(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "environ", {name: "mine"})
    choose_waiting()
    assert os.environ == {name: "mine"}
