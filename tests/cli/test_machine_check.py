"""`stadia doctor`: what is installed and works, the cure of each gap, and no private paths."""

import json
import socket
import tomllib
from pathlib import Path

import pytest

from stadia.cli import machine_check
from stadia.cli.machine_check import EXTRAS, examine_machine, find_write_fault
from stadia.core.floors import FLOORS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail every connection attempt."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a connection was attempted")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
def test_everything_is_listed_with_a_cure_for_each_gap() -> None:
    entries = examine_machine()
    names = {entry.name for entry in entries}
    expected = {"stadia", "Python", "platform", "cores", "memory", "disk", "torch", "precisions", "decoders", "encoder"}
    assert expected | {"packaged weights", "hub", "hub cache", "images", *EXTRAS} <= names
    assert [entry for entry in entries if (entry.state == "works") != (entry.cure == "")] == []


@pytest.mark.usefixtures("no_network")
def test_no_private_path_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret-project" / "cache"
    secret.mkdir(parents=True)
    monkeypatch.setenv("STADIA_CACHE", str(secret))
    shown = json.dumps([entry.to_dict() for entry in examine_machine()])
    assert "secret-project" not in shown
    assert str(Path.home()) not in shown
    assert str(secret) in json.dumps([entry.to_dict() for entry in examine_machine(private=True)])


def test_every_extra_is_known() -> None:
    """Those for users; the others are for developers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) - {"dev", "docs", "fuzz", "audit", "all"} == {*EXTRAS, *FLOORS}


def test_a_missing_extra_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_check, "find_spec", lambda name: None if name == "optuna" else object())
    (missing,) = (entry for entry in machine_check._examine_extras() if entry.state != "works")
    assert (missing.name, missing.found, missing.cure) == ("sweep", "without optuna", "pip install 'stadia[sweep]'")


def test_a_folder_that_cannot_be_written_is_a_gap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_write_fault(tmp_path / "not" / "there") == ""
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path))

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine_check.tempfile, "TemporaryFile", refuse)
    (images,) = (entry for entry in machine_check._examine_caches(str) if entry.name == "images")
    assert (images.state, images.found) == ("gap", f"{tmp_path}: Permission denied")
    assert "STADIA_CACHE" in images.cure


def test_the_command_prints_lines_or_json_and_exits_with_1_at_a_gap(stadia, monkeypatch: pytest.MonkeyPatch) -> None:
    gap = machine_check.MachineEntry("torch", "torch", "gap", "cannot be imported", "pip install torch")
    monkeypatch.setattr(machine_check, "examine_machine", lambda **_: [gap])
    code, out, _ = stadia("doctor")
    assert (code, out.splitlines()[0]) == (1, "! torch: cannot be imported. Fix: pip install torch")
    code, out, _ = stadia("doctor", "--json")
    assert (code, json.loads(out)) == (1, [gap.to_dict()])
    monkeypatch.setattr(machine_check, "examine_machine", lambda **_: [])
    assert stadia("doctor")[0] == 0
