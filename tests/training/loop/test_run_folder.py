"""Run folders: never overwritten, and they say what was run."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.refusals import refuses

import stadia
from stadia.core.errors import RunError
from stadia.io.run_facts import CodeVersion
from stadia.training.loop import run_folder as run_module
from stadia.training.loop.run_folder import Run


def create(root: Path, name: str = "demo", **facts: Any) -> Run:
    return Run.create(root, name, {"training": {"max_steps": 3}}, recipe="small", seed=7, **facts)


def test_run_json_holds_command_code_and_environment(tmp_path: Path) -> None:
    run = create(tmp_path, command="stadia train small", data={"fingerprint": "abc"})
    facts = run.facts
    assert run.folder.name == facts.started[:19].replace("T", "-").replace(":", "") + "-demo"
    assert (facts.recipe, facts.seed, facts.command) == ("small", 7, "stadia train small")
    assert facts.data == {"fingerprint": "abc"}
    assert facts.version == stadia.__version__
    assert "torch" in facts.environment.packages
    assert (facts.status, facts.finished) == ("running", None)
    assert json.loads((run.folder / "config.json").read_text()) == {"training": {"max_steps": 3}}
    opened = Run.open(run.folder)
    assert opened == run


def test_status_follows_end_and_resume(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.end("failed", "RunError: loss")
    assert (run.facts.status, run.facts.error) == ("failed", "RunError: loss")
    run.resume()
    assert (run.facts.status, run.facts.error, len(run.facts.resumed)) == ("running", None, 1)
    run.end("finished")
    assert run.facts.status == "finished"
    assert run.facts.finished >= run.facts.started


def test_code_version_and_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"ls-files": "__init__.py\n", "rev-parse": "0123abc\n", "status": " M run.py\n", "diff": "--- a\n+++ b\n"}
    monkeypatch.setattr(run_module, "run_git", lambda *arguments: answers[arguments[0]])
    run = create(tmp_path)
    assert run.facts.code == CodeVersion(commit="0123abc", dirty=True)
    assert (run.folder / "diff.patch").read_text() == "--- a\n+++ b\n"


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "x" * 200])
def test_invalid_run_names_are_refused(tmp_path: Path, name: str) -> None:
    with refuses(RunError, where="run name"):
        create(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with refuses(RunError, found=("run.json", "config.json")):
        Run.open(tmp_path)
    run = create(tmp_path)
    (run.folder / "config.json").unlink()
    with refuses(RunError, found="config.json"):
        Run.open(run.folder)


def test_keys_that_may_differ(tmp_path: Path) -> None:
    run = Run.create(
        tmp_path, "demo", {"data": {"path": "/a", "paths": 1}, "training": {"workers": 1}}, recipe="small", seed=0
    )
    run.check_config({"data": {"path": "/b", "paths": 1}, "training": {"workers": 2}}, free=("data.path",))
    run.check_config({"data": {"path": "/b", "paths": 2}, "training": {"workers": 1}}, free=("data",))
    with refuses(RunError, found=("data.paths", "1", "->", "2")):
        run.check_config({"data": {"path": "/b", "paths": 2}, "training": {"workers": 1}}, free=("data.path",))


def test_other_data_is_refused(tmp_path: Path) -> None:
    run = create(tmp_path, data={"path": Path("/a").as_posix(), "fingerprints": {"drive": "abc"}, "size": (1, 2)})
    run.check_data({"path": "/b", "fingerprints": {"drive": "abc"}, "size": (1, 2)})
    with refuses(RunError, found=("fingerprints.drive", "->")):
        run.check_data({"path": "/a", "fingerprints": {"drive": "def"}, "size": (1, 2)})
    split = create(tmp_path / "split", data={"train_frames": {"drive": [[0, 3]]}})
    split.check_data({"train_frames": {"drive": [[0, 3]]}})
    with refuses(RunError, found="train_frames.drive"):
        split.check_data({"train_frames": {"drive": [[0, 4]]}})
    facts = {"train_videos": {"abc": [[0, 9]]}, "poses": {"drive": [9.0, 1.0]}}
    mapped = Run.create(tmp_path, "map", {"motion": "map"}, recipe="selfsup", seed=0, data=facts)
    with refuses(RunError, found="map", expected="map", fix="start_from"):
        mapped.check_data({**facts, "poses": {"drive": [9.0, 2.0]}})


def hold(folder: Path) -> None:
    with Run.open(folder).held():
        (folder / "held").touch()
        time.sleep(600)


@pytest.mark.slow
def test_killed_process_releases_the_run(tmp_path: Path) -> None:
    run = create(tmp_path)
    holder = multiprocessing.get_context("fork").Process(target=hold, args=(run.folder,))
    holder.start()
    while not (run.folder / "held").exists():
        assert holder.is_alive()
        time.sleep(0.01)
    with pytest.raises(RunError), run.held():
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with run.held():
        pass
