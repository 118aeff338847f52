"""Results on disk: they survive a restart with their settings, belong to one browser, and have a limit."""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import Browser, encode, make_network, make_picture

from stadia.web import drops, gallery, networks
from stadia.web.server import make_app


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(networks, "load_network", make_network)
    return tmp_path / "results"


@contextmanager
def start(
    results: Path, cookies: Any = None, names: tuple[str, ...] = ("metres", "up-to-scale"), **folders: Path
) -> Iterator[Browser]:
    """Start a server, with folders of runs and data, and open its page with the cookies of a browser."""
    app = make_app(names, results=results, **folders)
    with TestClient(app, base_url="http://127.0.0.1", cookies=cookies) as client:
        yield Browser(client)


def store_verdict(browser: Browser) -> str:
    """Store a verdict with a page and a corrected file; return its key."""
    key = browser.post("/api/drops", json={}).json()["drop"]
    app: Any = browser.client.app
    state = app.state.shared
    session = state.sessions.find(browser.client.cookies["stadia_session_80"])
    drop = session.drops[key]
    for name, data in {"transforms.json": b"{}", "1.png": encode(make_picture())}.items():
        assert browser.post(f"/api/drops/{key}/files?name={name}", content=data).status_code == 200
    for path in (drop.page, drop.corrected / "transforms.json"):
        path.parent.mkdir()
        path.write_text("<p>verdict</p>")
    drop.fixed = [drop.corrected / "transforms.json"]
    drops.store_check(state, session.key, key, drop)
    return str(key)


def list_results(browser: Browser) -> Any:
    return browser.client.get("/api/results").json()


@pytest.mark.slow
def test_a_picture_survives_a_restart_with_its_settings(results: Path) -> None:
    with start(results) as first:
        key = first.upload(encode(make_picture()), "?network=1&fov_deg=80&name=room.png").json()["photo"]
        known = [{"kind": "distance", "metres": 2, "x": 70, "y": 9, "x2": 99, "y2": 9}]
        first.post(f"/api/photos/{key}/predict", json={"network": 1, "fov_deg": 80, "known": known})
        before = first.client.get(f"/api/photos/{key}").json()
        cookies = first.client.cookies
    with start(results, cookies, ("up-to-scale", "metres")) as again:
        (one,) = list_results(again)["results"]
        assert (one["kind"], one["key"], one["name"]) == ("photo", key, "room.png")
        assert time.time() - one["time_s"] < 600
        assert all(again.client.get(path).content.startswith(b"\xff\xd8") for path in one["images"])
        after = again.client.get(f"/api/photos/{key}").json()
        assert after["settings"].pop("network") == 0, "the same network at another place of the list"
        assert before["settings"].pop("network") == 1
        assert after == before
        assert again.measure(f"/api/photos/{key}", (70, 9), (99, 9)).json()["value"] == pytest.approx(2, rel=0.02)
        with start(results) as other:
            assert list_results(other)["results"] == []
            assert other.client.get(f"/api/photos/{key}").status_code == 422
            assert other.client.get(one["images"][0]).status_code == 422
        assert again.post(f"/api/results/{key}/delete", json={}).status_code == 200
        assert list_results(again)["results"] == []
        assert not any(results.glob(f"*/{key}"))


@pytest.mark.slow
def test_results_above_the_limit_go_oldest_first(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MAX_STORED", 6)
    with start(results) as browser:
        keys = [browser.upload(encode(make_picture()), f"?name={number}.png").json()["photo"] for number in range(8)]
        assert [one["key"] for one in list_results(browser)["results"]] == keys[:1:-1]
        assert browser.client.get(f"/api/photos/{keys[2]}/values.f32").status_code == 200, "no longer in memory"
        monkeypatch.setattr(gallery, "MAX_STORED_BYTES", 1)
        browser.upload(encode(make_picture()))
        assert len(list_results(browser)["results"]) <= 1 + 4, "those in memory, and the newest on disk"
        assert len(list(results.glob("*/*/result.json"))) == 1


@pytest.mark.slow
def test_a_verdict_survives_a_restart_with_its_page_and_correction(results: Path, tmp_path: Path) -> None:
    with start(results) as first:
        key = store_verdict(first)
        cookies = first.client.cookies
    with start(results, cookies) as again:
        (one,) = list_results(again)["results"]
        assert (one["kind"], one["key"], one["name"]) == ("check", key, "transforms.json")
        assert again.client.get(one["images"][0]).content.startswith(b"\xff\xd8")
        job = again.client.get(f"/api/drops/{key}").json()
        assert (job["state"], job["has_fixed"], job["is_stored"], job["images"]) == ("done", True, True, 1)
        assert again.client.get(f"/api/drops/{key}/page").text == "<p>verdict</p>"
        assert again.client.get(f"/api/drops/{key}/fixed.zip").status_code == 200
        assert again.post(f"/api/drops/{key}/check", json={}).status_code == 422, "its files are gone"
        with zipfile.ZipFile(io.BytesIO(again.client.get("/api/results/all.zip").content)) as archive:
            assert "stadia-results/01-transforms/report/result.html" in archive.namelist()
        assert again.post(f"/api/results/{key}/delete", json={}).status_code == 200
        assert list_results(again)["results"] == []


@pytest.mark.slow
def test_all_results_are_one_archive(results: Path) -> None:
    with start(results) as browser:
        browser.upload(encode(make_picture()), "?name=../a b.png")
        data = browser.client.get("/api/results/all.zip").content
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            assert json.loads(archive.read("stadia-results/01-a_b/verdict.json"))["network"] == "metres"
        files = ("photo.png", "picture.png", "depth.png", "verdict.json")
        assert names == [f"stadia-results/01-a_b/{name}" for name in files]
