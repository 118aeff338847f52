"""No secret of an address reaches what a command prints or writes, whatever the command and its option."""

import base64
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
import typer

from stadia.cli.main import app
from stadia.core.errors import DataError, mask_secrets
from stadia.judge.finding import Finding, Severity, Stage
from stadia.predict.live.sources import LiveSource
from stadia.training.loop.run_folder import Run

SECRET = "Secret123"
ADDRESSES = (
    f"rtsp://admin:{SECRET}*@@127.0.0.1:9/cam?channel=1",
    f"http://admin:{SECRET}@127.0.0.1:9/video.mp4?token={SECRET}",
    f"s3://key:{SECRET}@127.0.0.1:9/drives",
)
LONG = {"app", "live", "ros2", "demo", "roadworld", "tableworld", "foregrounds", "overlay"}
"""Commands that run for long; of these only `live` reads an address, and has a test of its own."""


def list_lines(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield a line for each command, and for each of its options, with {} in place of an address."""
    for word, inner in getattr(command, "commands", {}).items():
        yield from list_lines(inner, (*words, word))
    if hasattr(command, "commands") or LONG & set(words):
        return
    given = tuple("{}" for one in command.params if one.param_type_name == "argument" and one.nargs == 1)
    yield (*words, *given)
    for option in command.params:
        if option.param_type_name == "option" and not option.is_flag and option.name != "help":
            yield (*words, *given, option.opts[0], "{}")


LINES = [*list_lines(typer.main.get_command(app))]


@pytest.fixture
def no_store_is_kept() -> Iterator[None]:
    """A store that was opened without credentials is not opened again by other tests."""
    yield
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.slow
@pytest.mark.usefixtures("no_store_is_kept")
def test_no_command_shows_the_secret_of_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("stadia.io.remote_store.ATTEMPTS", 1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert len(LINES) > 100
    shown = []
    for number, line in enumerate(LINES):
        address = ADDRESSES[number % len(ADDRESSES)]
        _, out, err = stadia("--traceback", *(word.replace("{}", address) for word in line))
        if SECRET in out + err:
            shown.append((line, address))
    assert shown == []
    files = [path for path in tmp_path.rglob("*") if SECRET in path.name or path.is_file()]
    assert [path for path in files if SECRET in path.name or SECRET.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_live_shows_the_host_and_not_the_password(address: str, stadia: Callable[..., tuple[int, str, str]]) -> None:
    _, out, err = stadia("live", address, "--seconds", 0.2, "--network", "fake")
    assert SECRET not in out + err


@pytest.mark.parametrize("address", ADDRESSES)
def test_run_folders_and_findings_have_no_secret(tmp_path: Path, address: str) -> None:
    config = {"data": {"path": address, "videos": [address]}}
    run = Run.create(tmp_path, "a", config, recipe="selfsup", seed=0, data={"train": address}, command=f"x {address}")
    run.failed(OSError(f"no connection to {address}"))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text()] == []
    assert SECRET not in str(run.config)
    finding = Finding("K03", Severity.WARN, Stage.DATA, address, address, address, address, where=(address,))
    assert SECRET not in str(finding.to_dict())


def test_a_mask_takes_no_more_than_the_address() -> None:
    text = '{"a": "http://me:x@host/b", "c": "d@e"} s3://drives/a@2.mp4 https://host/@user'
    masked = mask_secrets(text)
    assert masked == '{"a": "http://***@host/b", "c": "d@e"} s3://drives/a@2.mp4 https://***@user'
    assert mask_secrets(masked) == masked
    assert mask_secrets("10,admin:12345@10.0.0.1") == "10,***@10.0.0.1"
    for length in ("point=640,200:12.3@000010", "distance=120,300..480,310:2.1@IMG_1", "object=car:1.5@boxes.csv"):
        assert mask_secrets(length) == length


class Camera(BaseHTTPRequestHandler):
    """A camera that shows a web page at /, and an image with the password at /video."""

    def do_GET(self) -> None:
        is_page = self.path == "/"
        account = "Basic " + base64.b64encode(f"admin:{SECRET}@".encode()).decode()
        if not is_page and self.headers.get("Authorization") != account:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        kind = "text/html; charset=utf-8" if is_page else "multipart/x-mixed-replace; boundary=a"
        self.send_header("Content-Type", kind)
        self.end_headers()
        image = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        self.wfile.write(b"<html></html>" if is_page else b"--a\r\n\r\n" + image + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def camera() -> Iterator[str]:
    """The host and port of a camera on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_page_of_a_camera_is_named(camera: str) -> None:
    source = LiveSource(f"http://{camera}/")
    with pytest.raises(DataError, match="web page"):
        next(source.kind.open(source.address))


@pytest.mark.parametrize("password", [f"{SECRET}%40", f"{SECRET}@"])
def test_a_password_in_an_address_opens_the_camera(camera: str, password: str) -> None:
    source = LiveSource(f"http://admin:{password}@{camera}/video")
    assert next(source.kind.open(source.address))[1].shape == (48, 64, 3)
