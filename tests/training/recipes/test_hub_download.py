"""Downloads from a hub on loopback: progress, a broken connection, a wrong byte, no connection, and a copied folder."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import huggingface_hub
import numpy as np
import pytest
from tests.refusals import refuses
from tests.training.recipes.published_folders import write_network

from stadia.core.errors import CheckpointError
from stadia.networks.hub import is_reachable
from stadia.networks.hub_download import UNFINISHED, count_downloaded_bytes, find_cache
from stadia.networks.published_files import find_published_files
from stadia.predict.networks.published_networks import list_network_rows

Stadia = Callable[..., tuple[int, str, str]]
NAME, WEIGHTS = "depth-anything-v2-small", "model.safetensors"
REPOSITORY = "depth-anything/Depth-Anything-V2-Small-hf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The replies of the hub. `breaks` connections end after half of the weights; `flips` flips a byte."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.breaks, self.flips, self.ranges = folder, 0, False, list[int]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def describe(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    entry = {"size": len(data), "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    large = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    large["oid"] = large["sha256"]
    return entry | {"blobId": entry["oid"]} | ({"lfs": large} if path.name == WEIGHTS else {})


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        place = self.path.partition("?")[0]
        files = sorted(self.server.folder.iterdir())
        if place.startswith(f"/api/models/{REPOSITORY}/tree/"):
            self.send(json.dumps([{"type": "file", "path": path.name, **describe(path)} for path in files]).encode())
        elif place.startswith(f"/api/models/{REPOSITORY}"):
            siblings = [{"rfilename": path.name, **describe(path)} for path in files]
            self.send(json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode())
        elif place.startswith(f"/{REPOSITORY}/resolve/"):
            self.send_file(self.server.folder / Path(place).name)
        else:
            self.send_error(404)

    def send_file(self, path: Path) -> None:
        about, data = describe(path), bytearray(path.read_bytes())
        etag = about["lfs"]["sha256"] if "lfs" in about else about["oid"]
        first, is_read = 0, self.command == "GET" and path.name == WEIGHTS
        if given := self.headers.get("Range"):
            first = int(given.removeprefix("bytes=").partition("-")[0])
        if is_read:
            self.server.ranges.append(first)
            data[-1] ^= self.server.flips
        cut = len(data)
        if is_read and self.server.breaks:
            self.server.breaks -= 1
            cut = first + (len(data) - first) // 2
        self.send(bytes(data[first:]), etag=str(etag), sent=cut - first, first=first, whole=len(data))

    def send(self, data: bytes, *, etag: str = "", sent: int | None = None, first: int = 0, whole: int = 0) -> None:
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(data)))
        if etag:
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:sent])
        self.close_connection = sent is not None and sent < len(data)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a small network, an empty cache, and no wait between tries."""
    server = Hub(write_network(tmp_path / "hub", "depth_anything"))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    is_reachable.cache_clear()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
    is_reachable.cache_clear()


def list_cache(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache").glob("models--*/blobs/*")]


@pytest.mark.slow
def test_a_photo_is_predicted_by_a_name(
    hub: Hub, tmp_path: Path, stadia: Stadia, caplog: pytest.LogCaptureFixture
) -> None:
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    for out in ("first", "second"):
        code, _, err = stadia("predict", photo, "--network", NAME, "--out", tmp_path / out)
        assert code == 0, err
        assert len(list((tmp_path / out).glob("**/depth/*.npz"))) == 1
        assert (hub.address in caplog.text) == (out == "first")
        caplog.clear()
    assert hub.ranges == [0]
    assert [row.is_here for row in list_network_rows() if row.name == NAME] == [True]
    hub.server_close()
    is_reachable.cache_clear()
    assert find_published_files(NAME).revision == COMMIT
    copied = Path(shutil.copytree(find_cache(REPOSITORY), tmp_path / "copied"))
    assert find_published_files(str(copied)).list_weight_files()


def test_a_broken_connection_resumes(hub: Hub) -> None:
    hub.breaks = 2
    folder = find_published_files(NAME).folder
    assert (folder / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    assert len(hub.ranges) == 3
    assert hub.ranges == sorted(set(hub.ranges))


def test_another_process_resumes(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = 50
    with refuses(CheckpointError, where=NAME, found=WEIGHTS):
        find_published_files(NAME)
    (partial,) = (tmp_path / "cache").glob(f"*/blobs/*{UNFINISHED}")
    done = partial.stat().st_size
    assert done > 0
    assert count_downloaded_bytes(REPOSITORY) >= done
    hub.breaks, hub.ranges = 0, []
    assert find_published_files(NAME).list_weight_files()
    assert hub.ranges == [done]
    assert not any(UNFINISHED in name for name in list_cache(tmp_path))


def test_a_wrong_byte_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.flips = True
    with refuses(CheckpointError, where=NAME, expected=hashlib.sha256((hub.folder / WEIGHTS).read_bytes()).hexdigest()):
        find_published_files(NAME)
    assert not any(WEIGHTS in path.name for path in (tmp_path / "cache").rglob("*"))
    assert not any(UNFINISHED in name for name in list_cache(tmp_path))


def test_without_a_connection_the_files_and_their_source_are_named(hub: Hub, stadia: Stadia, tmp_path: Path) -> None:
    hub.server_close()
    with refuses(CheckpointError, where=NAME, expected=WEIGHTS, names=(f"{hub.address}/{REPOSITORY}",)):
        find_published_files(NAME)
    code, _, err = stadia("predict", "--network", NAME, tmp_path / "photo.jpg", "--out", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
