"""Runs of a folder: a thousand of them, one that trains, one that was killed; stop, resume, report, two beside."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import Browser

from stadia.core.config import ValueChange
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.report.run_comparison import diff_runs
from stadia.report.run_files import read_run
from stadia.web import run_list
from stadia.web.run_list import draw_curves
from stadia.web.server import make_app
from stadia.web.trainings import is_locked

METRICS = "step,epoch,train/loss,val/abs_rel\n1,0,0.5,\n2,0,0.4,0.3\n3,1,nan,0.2\n"


def make_run(root: Path, name: str, **facts: object) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    started = "2026-01-31T12:00:00+00:00"
    write_run_facts(folder, replace(UNKNOWN_FACTS, name=name, recipe="selfsup", started=started, **facts))
    (folder / "config.json").write_text('{"recipe": "selfsup"}')
    (folder / "metrics.csv").write_text(METRICS)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    make_run(root, "2026-01-31-120000-good", status="finished", predictions="usable")
    make_run(root, "2026-01-31-130000-killed", status="running")
    (root / "notes").mkdir()
    return root


@pytest.fixture
def browser(runs: Path) -> Iterator[Browser]:
    with TestClient(make_app([], runs=runs), base_url="http://127.0.0.1") as client:
        yield Browser(client)


def test_the_list_has_state_and_verdict(browser: Browser) -> None:
    rows = {row["name"]: row for row in browser.client.get("/api/runs").json()["runs"]}
    good, killed = rows["2026-01-31-120000-good"], rows["2026-01-31-130000-killed"]
    assert (good["status"], good["verdict"], good["is_training"]) == ("finished", "usable", False)
    assert (killed["status"], killed["is_training"]) == ("ended without a record", False)
    page = browser.client.get(f"/api/runs/{killed['name']}").json()
    assert page["verdict"]["word"] == "not finished", "its record still has it as running"
    assert len(rows) == 2
    for name in ("..", "notes", "%2e%2e", "..%2f..%2fetc"):
        assert browser.client.get(f"/api/runs/{name}").status_code in (404, 422)
        assert browser.client.get(f"/api/runs/{name}/report").status_code in (404, 422)


def test_one_run_has_curves_and_quality(browser: Browser) -> None:
    run = browser.client.get("/api/runs/2026-01-31-120000-good").json()
    assert ["AbsRel" in run["charts"][0], "Loss" in run["charts"][1]] == [True, True], "validation first"
    assert all("<svg" in chart and "style=" not in chart for chart in run["charts"]), "the page's policy"
    assert run["verdict"]["word"] == "usable"
    assert run["quality"]
    assert browser.client.get("/api/runs/other").status_code == 422


def test_a_report_cannot_reach_the_page(browser: Browser) -> None:
    reply = browser.client.get("/api/runs/2026-01-31-120000-good/report")
    assert reply.status_code == 200
    assert reply.headers["content-security-policy"].startswith("sandbox allow-scripts allow-downloads;")
    assert "allow-same-origin" not in reply.headers["content-security-policy"]


def test_an_image_of_a_run_is_one_of_its_list(browser: Browser, runs: Path) -> None:
    folder = runs / "2026-01-31-120000-good"
    (folder / "images").mkdir()
    (folder / "images" / "step-1.png").write_bytes(b"\x89PNG")
    (folder / "images" / "step-2.png").symlink_to("/etc/passwd")
    base = "/api/runs/2026-01-31-120000-good/images"
    assert browser.client.get(f"{base}/step-1.png").content == b"\x89PNG"
    for name in ("step-2.png", "step-3.png", "..%2frun.json"):
        assert browser.client.get(f"{base}/{name}").status_code in (404, 422)


def test_two_runs_beside_each_other(browser: Browser) -> None:
    reply = browser.client.get("/api/compare?first=2026-01-31-120000-good&second=2026-01-31-130000-killed").json()
    assert "abs_rel" in reply["text"]
    assert [run["name"][-6:] for run in reply["runs"]] == ["0-good", "killed"]
    assert reply["scores"] == [["AbsRel ↓", "0.200", "0.200", None]]
    assert reply["better"] == "Equal key validation scores."
    assert any("One run each" in caution for caution in reply["cautions"])
    assert len(reply["charts"]) == 2
    assert all("good" in chart and "killed" in chart for chart in reply["charts"]), "both runs in each chart"


@pytest.mark.parametrize(
    ("close", "has_same_data", "better", "sentence"),
    [
        ("0.9", True, [0, 0], "is better in 2 of 2"),
        ("0.7", True, [0, 1], "Mixed"),
        ("0.9", False, [0, 0], "Their data or recipes differ"),
    ],
)
def test_the_better_of_two_runs_is_named(
    browser: Browser,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    close: str,
    has_same_data: bool,
    better: list[int],
    sentence: str,
) -> None:
    """A lower AbsRel and a larger share of close pixels are better; runs on other data are not ordered."""
    names = "2026-01-31-120000-good", "2026-01-31-130000-killed"
    for name, row in zip(names, (f"0.1,{close}", "0.2,0.8"), strict=True):
        (runs / name / "metrics.csv").write_text(f"step,epoch,val/abs_rel,val/d1\n1,0,{row}\n")
    data = [] if has_same_data else [ValueChange("data.drive.fingerprint", "a", "b")]
    monkeypatch.setattr(run_list, "diff_runs", lambda *runs: replace(diff_runs(*runs), data=data))
    reply = browser.client.get(f"/api/compare?first={names[0]}&second={names[1]}").json()
    assert sentence in reply["better"]
    assert [row[-1] for row in reply["scores"]] == better


TRAINING = """
import sys, time
from pathlib import Path
from filelock import FileLock
run = Path(sys.argv[1])
with FileLock(run / ".lock"):
    print("locked", flush=True)
    time.sleep(600)
"""


class TestTraining:
    @pytest.fixture
    def training(self, runs: Path) -> Iterator[subprocess.Popen[str]]:
        """A process that holds the lock of a run, as a training does."""
        words = [sys.executable, "-c", TRAINING, str(runs / "2026-01-31-130000-killed"), "stadia", "train"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()
        process.wait()
        process.stdout.close()

    @pytest.mark.slow
    def test_it_is_shown_as_such_and_stopped(
        self, browser: Browser, runs: Path, training: subprocess.Popen[str]
    ) -> None:
        name = "2026-01-31-130000-killed"
        assert browser.client.get(f"/api/runs/{name}").json()["is_training"]
        assert browser.client.post(f"/api/runs/{name}/stop").status_code == 403, "a request of another page"
        assert browser.post(f"/api/runs/{name}/stop").status_code == 200
        assert training.wait(600) != 0
        assert not is_locked(runs / name)


def test_names_of_charts_are_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "run", status="finished")
    (folder / "metrics.csv").write_text("step,val/<script>x\n1,1\n2,3\n")
    (chart,) = draw_curves(read_run(folder))
    assert "<script>" not in chart.replace("<wbr>", "")
