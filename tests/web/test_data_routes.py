"""Listed data alone are checked, in a process, and trained on, one training at a time."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import Browser
from tests.web.test_videos import make_video

from stadia.web import trainings
from stadia.web.run_routes import list_data, run_check
from stadia.web.server import make_app
from stadia.web.trainings import STADIA, TrainingStarter


def end_training(starter: TrainingStarter) -> None:
    if starter._training is not None:
        starter._training._process.kill()
        starter._training._process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    (tmp_path / "drive.mp4").write_bytes(b"")
    return tmp_path


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingStarter]:
    """Returns one whose trainings are a short script."""
    monkeypatch.setattr(trainings, "MIN_FREE_BYTES", 1)
    starter = TrainingStarter((sys.executable, "-c", "import sys, time; time.sleep(600)"))
    yield starter
    end_training(starter)
    starter.close()


@pytest.fixture
def browser(folder: Path, starter: TrainingStarter) -> Iterator[Browser]:
    app = make_app([], runs=folder / "runs", data=folder)
    app.state.shared.starter = starter
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Browser(client)
        end_training(starter)


def start(browser: Browser, **changes: Any) -> Any:
    return browser.post("/api/trainings", json={"name": "drive.mp4", "preset": "auto", "minutes": 5, **changes})


def test_one_training_starts_at_a_time(browser: Browser, folder: Path) -> None:
    about = browser.client.get("/api/trainings").json()
    assert about["state"] == "none"
    assert "drive.mp4" in about["data"]
    assert start(browser).json()["state"] == "training"
    assert ": a running one" in start(browser).json()["error"]


@pytest.mark.parametrize(
    "changes", [{"name": "../drive.mp4"}, {"name": "other"}, {"preset": "/etc/x.yaml"}, {"minutes": 0}]
)
def test_data_and_presets_are_those_of_the_lists(
    browser: Browser, changes: dict[str, Any], starter: TrainingStarter
) -> None:
    assert start(browser, **changes).status_code == 422
    assert starter.describe()["state"] == "none"


def test_a_training_that_fails_names_its_last_line(starter: TrainingStarter, folder: Path) -> None:
    starter.stadia = (sys.executable, "-c", "import sys; sys.exit('stadia: drive.mp4: found nothing')")
    starter.start(folder / "drive.mp4", "auto", 5, folder / "runs")
    deadline = time.monotonic() + 600
    while starter.describe()["state"] == "training" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert starter.describe()["error"] == "drive.mp4: found nothing"


# -- checks


@pytest.fixture
def check_in_this_process(stadia: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command line of a check without a process of its own, which takes seconds to start."""
    start_process = subprocess.run

    def run(command: Sequence[str], **options: Any) -> Any:
        if tuple(command[: len(STADIA)]) != STADIA:
            return start_process(command, **options)
        code, out, err = stadia(*command[len(STADIA) :])
        return subprocess.CompletedProcess(command, code, out.encode(), err.encode())

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture
def checking(worlds: Path) -> Iterator[Browser]:
    with TestClient(make_app([], data=worlds.parent), base_url="http://127.0.0.1") as client:
        yield Browser(client)


def test_only_data_are_listed(tmp_path: Path) -> None:
    for name in ("drive.mp4", "notes.txt", ".hidden.mp4", "photo.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "drives").mkdir()
    assert list_data(tmp_path) == ["drive.mp4", "drives", "photo.jpg"]
    assert list_data(None) == []


@pytest.mark.slow
def test_findings_come_with_the_command(worlds: Path) -> None:
    with TestClient(make_app([], data=worlds), base_url="http://127.0.0.1") as client:
        reply = Browser(client).post("/api/check", json={"name": "train-000"})
    assert reply.status_code == 200, reply.text
    result = reply.json()
    assert result["command"].startswith("stadia check ")
    assert all({"code", "severity", "measured", "fix", "picture"} <= set(finding) for finding in result["findings"])


@pytest.mark.slow
@pytest.mark.usefixtures("check_in_this_process")
def test_a_check_names_what_needs_the_field_of_view(tmp_path: Path) -> None:
    make_video(tmp_path / "drive.mp4", 12)
    assert "intrinsics" in run_check(tmp_path / "drive.mp4", None, tmp_path)["needs_camera"][0]
    assert run_check(tmp_path / "drive.mp4", 70.0, tmp_path)["needs_camera"] == []


def test_a_folder_of_runs_that_is_not_there_is_refused(
    stadia: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, error = stadia("app", "--runs", tmp_path / "none", "--port", 0)
    assert (code, "--runs" in error) == (2, True)


@pytest.mark.usefixtures("check_in_this_process")
def test_data_that_cannot_be_opened_are_one_line_of_the_check(tmp_path: Path) -> None:
    """The line names the file and its own fix, and no folder of the machine."""
    (tmp_path / "drive").mkdir()
    result = run_check(tmp_path / "drive", None, tmp_path)
    assert result["error"].startswith("drive: ")
    assert str(tmp_path) not in result["error"]
