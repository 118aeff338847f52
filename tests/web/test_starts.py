"""A calibration sets the field of view, and a training starts from the page: one at a time, of listed data alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.refusals import refuses
from tests.web.conftest import Browser

from stadia.core.errors import RunError
from stadia.web import trainings
from stadia.web.server import make_app
from stadia.web.trainings import TrainingStarter, list_start_presets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    (tmp_path / "drive.mp4").write_bytes(b"")
    return tmp_path


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingStarter]:
    """Returns one whose trainings are a short script."""
    monkeypatch.setattr(trainings, "MIN_FREE_BYTES", 1)
    starter = TrainingStarter((sys.executable, "-c", "import sys, time; time.sleep(60)"))
    yield starter
    if starter._training is not None:
        starter._training._process.kill()
        starter._training._process.wait()
    starter.close()


@pytest.fixture
def browser(folder: Path, starter: TrainingStarter) -> Iterator[Browser]:
    app = make_app([], runs=folder / "runs", data=folder)
    app.state.shared.starter = starter
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Browser(client)
        if starter._training is not None:
            starter._training._process.kill()
            starter._training._process.wait()


def test_a_calibration_gives_the_field_of_view(browser: Browser) -> None:
    reply = browser.post("/api/calibration", json={"suffix": ".txt", "text": "320 0 320\n0 320 240\n0 0 1\n"})
    assert reply.status_code == 200, reply.json()
    assert reply.json()["fov_deg"] == pytest.approx(90.0)
    assert "centered" in reply.json()["about"]


@pytest.mark.parametrize(
    ("suffix", "text"), [(".txt", "no matrix"), (".json", "{"), (".yaml", "a: &a [*a]"), (".exe", "x"), (".txt", "")]
)
def test_another_file_is_refused_in_a_line_without_paths(
    browser: Browser, folder: Path, suffix: str, text: str
) -> None:
    reply = browser.post("/api/calibration", json={"suffix": suffix, "text": text})
    assert reply.status_code == 422
    assert "\n" not in reply.json()["error"]
    assert "stadia-app-" not in reply.json()["error"], "the folder of uploads"


def start(browser: Browser, **changes: Any) -> Any:
    return browser.post("/api/trainings", json={"name": "drive.mp4", "preset": "auto", "minutes": 5, **changes})


def test_one_training_starts_at_a_time(browser: Browser, folder: Path) -> None:
    about = browser.client.get("/api/trainings").json()
    assert about["state"] == "none"
    assert "drive.mp4" in about["data"]
    assert start(browser).json()["state"] == "training"
    assert "--preset auto --minutes 5" in browser.client.get("/api/trainings").json()["command"]
    assert "found one that goes" in start(browser).json()["error"]


@pytest.mark.parametrize(
    "changes", [{"name": "../drive.mp4"}, {"name": "other"}, {"preset": "/etc/x.yaml"}, {"minutes": 0}]
)
def test_data_and_presets_are_those_of_the_lists(
    browser: Browser, changes: dict[str, Any], starter: TrainingStarter
) -> None:
    assert start(browser, **changes).status_code == 422
    assert starter.describe()["state"] == "none"


def test_a_start_without_the_secret_of_the_page_is_refused(browser: Browser) -> None:
    assert browser.client.post("/api/trainings", json={}).status_code == 403


def test_a_training_that_fails_names_its_last_line(starter: TrainingStarter, folder: Path) -> None:
    starter.stadia = (sys.executable, "-c", "import sys; sys.exit('stadia: drive.mp4: found nothing')")
    starter.start(folder / "drive.mp4", "auto", 5, folder / "runs")
    deadline = time.monotonic() + 60
    while starter.describe()["state"] == "training" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert starter.describe()["error"] == "drive.mp4: found nothing"


def test_little_memory_refuses_a_start(starter: TrainingStarter, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "MIN_FREE_BYTES", 1 << 60)
    with refuses(RunError, where="training", found="GB"):
        starter.start(folder, "auto", 5, folder)


def test_the_presets_are_of_one_recipe() -> None:
    names = dict(list_start_presets())
    assert {"auto", "tiny-laptop"} <= set(names)
    assert "metric-demo" not in names
