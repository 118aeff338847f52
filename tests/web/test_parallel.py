"""Requests that come at the same time: a page that opens sends several, and two tabs may open the same result."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.web.conftest import Browser, encode, make_network, make_picture
from tests.web.test_audit_routes import write_audit
from tests.web.test_gallery import start, store_verdict
from tests.web.test_runs import make_run
from tests.web.test_videos import FAILING, make_video, wait_for

from stadia.web import networks, photo_routes, trainings
from stadia.web import video as videos
from stadia.web.photo import predict_decoded
from stadia.web.server import make_app

pytestmark = pytest.mark.slow

PARALLEL = 20


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(networks, "load_network", make_network)
    return tmp_path / "results"


def repeat(reply: Callable[[int], Any]) -> list[int]:
    """Call a function PARALLEL times at the same time, each with its number; return the status codes of the replies."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        return [one.status_code for one in pool.map(reply, range(PARALLEL))]


def ask(browser: Browser, paths: list[str], number: int) -> Any:
    return browser.client.get(paths[number % len(paths)])


def test_a_kept_picture_opens_by_any_request_and_is_predicted_once(results: Path, monkeypatch: Any) -> None:
    """After a restart: the picture is loaded and predicted by the first request, and the others wait for it."""
    with start(results) as before:
        keys = [before.upload(encode(make_picture()), f"?name={number}.png").json()["photo"] for number in range(3)]
        cookies = before.client.cookies
    counted = list[Any]()

    def predict(*given: Any) -> Any:
        counted.append(given)
        return predict_decoded(*given)

    monkeypatch.setattr(photo_routes, "predict_decoded", predict)
    with start(results, cookies) as again:
        for key in keys:
            paths = [f"/api/photos/{key}", f"/api/photos/{key}/image.jpg", f"/api/photos/{key}/cloud.bin"]
            assert set(repeat(partial(ask, again, paths))) == {200}
    assert len(counted) == len(keys)


def list_routes(app: Any) -> list[tuple[str, str]]:
    """Return method and path of all routes of an app, those that end something last; of each static folder, a file."""
    found = list[tuple[str, str]]()
    for route in app.routes:
        if isinstance(route, Mount):
            compressed: Any = route.app
            folder = compressed.app.directory
            found.append(("GET", f"{route.path}/{next(folder.glob('*.css')).name}"))
        else:
            found += [(method, route.path) for method in route.methods - {"HEAD"}]
    return sorted(found, key=lambda one: ("delete" in one[1], "cancel" in one[1], one))


NAMES = {"{drawn}": "depth", "{kind}": "image", "{number:int}": "0", "{image}": "000000.jpg"}
"""Values of the parameters of paths; `{key}` and `{name}` depend on the route."""

UNUSED = ("/api/videos/{key}/files/{name}", "/api/runs/{name}/images/{image}", "/api/runs/{name}/small.jpg")
"""Paths of files that the video and the run of the test do not have."""


def fill(path: str, keys: dict[str, str]) -> str:
    kind = path.split("/")[2] if path.startswith("/api/") else ""
    filled = path.replace("{key}", keys.get(kind, "none"))
    filled = filled.replace("{name}.jpg", "small.jpg" if kind == "results" else "image.jpg")
    filled = filled.replace("files/{name}", "files/verdict.json")
    for name, value in NAMES.items():
        filled = filled.replace(name, value)
    return filled.replace("{name}", keys.get(kind, "none"))


def test_every_route_bears_parallel_requests(results: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Each reply has a result or one line of text; the test's client raises what a handler does not catch."""
    monkeypatch.setattr(videos, "STADIA", FAILING)
    monkeypatch.setattr(trainings, "STADIA", FAILING)
    runs = [make_run(tmp_path / "runs", name, status="finished").name for name in ("one", "other")]
    page = write_audit(tmp_path / "runs" / "campus").name
    with start(results) as before:
        photo = before.upload(encode(make_picture()), "?name=a.png").json()["photo"]
        video = before.post("/api/videos", content=make_video(tmp_path / "drive.mp4", frames=3)).json()["video"]
        wait_for(before, video)
        drop = store_verdict(before)
        cookies = before.client.cookies
    with start(results, cookies, runs=tmp_path / "runs", data=tmp_path / "runs") as again:
        keys = {"photos": photo, "videos": video, "results": photo, "drops": drop, "runs": runs[0], "pages": page}
        measured = {"form": json.dumps({"points": [[70, 9], [99, 9]]})}
        queries = {"measure": measured, "compare": dict(zip(("first", "second"), runs, strict=True))}
        wrong = list[str]()
        for method, path in list_routes(again.client.app):
            url = fill(path, keys)
            send = partial(
                again.client.get if method == "GET" else again.post, url, params=queries.get(path.split("/")[-1], {})
            )
            codes = set(repeat(lambda _, send=send: send()))  # type: ignore[misc]
            if not codes <= ({200} if method == "GET" and path not in UNUSED else {200, 422}):
                wrong.append(f"{method} {url}: {codes}")
    assert wrong == []


def test_only_one_process_resumes_a_training(tmp_path: Path, monkeypatch: Any) -> None:
    """Of PARALLEL clicks on "Resume"; the process takes its time to lock the folder of the run."""
    started, refused, free = list[Any](), list[Any](), threading.Event()

    class SlowProcess:
        code = 0

        def __init__(self, words: Any) -> None:
            started.append(words)
            free.wait(20)

        def forget(self) -> None:
            pass

    monkeypatch.setattr(trainings, "TrainingProcess", SlowProcess)
    name = make_run(tmp_path, "one", status="interrupted").name
    with TestClient(make_app([], runs=tmp_path), base_url="http://127.0.0.1") as client:
        browser = Browser(client)

        def resume(_: int) -> Any:
            reply = browser.post(f"/api/runs/{name}/resume")
            refused.append(reply)
            if len(refused) == PARALLEL - 1:  # the process starts until all others have their refusal
                free.set()
            return reply

        codes = repeat(resume)
    assert len(started) == codes.count(200) == 1
    assert codes.count(422) == PARALLEL - 1


def test_results_are_listed_while_they_come_and_go(results: Path) -> None:
    with start(results) as browser:
        keys = [browser.upload(encode(make_picture())).json()["photo"] for _ in range(4)]

        def request(number: int) -> Any:
            if number % 3 == 0:
                return browser.client.get("/api/results")
            if number % 3 == 1:
                return browser.upload(encode(make_picture()))
            return browser.post(f"/api/results/{keys[number % 4]}/delete", json={})

        assert set(repeat(request)) <= {200, 422}
