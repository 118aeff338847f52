"""Data of a folder are checked by `stadia check` in a process; other paths are not reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import Browser

from stadia.web.run_routes import list_data, run_check
from stadia.web.server import make_app


@pytest.fixture
def browser(worlds: Path) -> Iterator[Browser]:
    with TestClient(make_app([], data=worlds.parent), base_url="http://127.0.0.1") as client:
        yield Browser(client)


def test_only_data_are_listed(tmp_path: Path) -> None:
    for name in ("drive.mp4", "notes.txt", ".hidden.mp4", "photo.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "drives").mkdir()
    assert list_data(tmp_path) == ["drive.mp4", "drives", "photo.jpg"]
    assert list_data(None) == []


@pytest.mark.slow
def test_findings_come_with_the_command(browser: Browser) -> None:
    reply = browser.post("/api/check", json={"name": "tiny"})
    assert reply.status_code == 200, reply.text
    result = reply.json()
    assert result["command"].startswith("stadia check ")
    assert all({"code", "severity", "measured", "fix", "picture"} <= set(finding) for finding in result["findings"])


@pytest.mark.parametrize("name", ["..", "/etc", "tiny/../..", "other"])
def test_a_name_that_is_not_listed_is_refused(browser: Browser, name: str) -> None:
    reply = browser.post("/api/check", json={"name": name})
    assert reply.status_code == 422
    assert "one of the list" in reply.json()["error"]


@pytest.mark.slow
def test_data_that_cannot_be_opened_are_one_line_of_the_check(tmp_path: Path) -> None:
    """The line names the file and its own fix, and no folder of the machine."""
    (tmp_path / "drive").mkdir()
    result = run_check(tmp_path / "drive", None, tmp_path)
    assert result["error"].count("Fix: ") == 1
    assert str(tmp_path) not in result["error"]
