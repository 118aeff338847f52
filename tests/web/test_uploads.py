"""Uploads of strangers: one line each, the server stays, nothing stays on disk."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.web.conftest import Browser, encode, make_picture

from stadia.web import forms


def make_png(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size, without its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def list_hostile() -> dict[str, bytes]:
    whole, jpeg = encode(make_picture()), encode(make_picture(), "JPEG")
    return {
        "empty": b"",
        "short": b"\x89PNG",
        "text": b"<script>alert(1)</script>" * 10,
        "cut off": whole[: len(whole) // 2],
        "cut off JPEG": jpeg[: len(jpeg) // 2],
        "damaged": whole[:60] + bytes(20) + whole[80:],
        "huge claim": make_png(60000, 60000),
        "many pixels": make_png(8000, 8000),
        "no pixels": make_png(100, 100),
        "tiny": encode(np.zeros((3, 3, 3), np.uint8)),
        "heic": b"\x00\x00\x00\x18ftypheic" + bytes(50),
        "zip": b"PK\x03\x04" + bytes(200),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", list(list_hostile()))
def test_a_hostile_upload_is_one_line(browser: Browser, app: Any, name: str) -> None:
    reply = browser.upload(list_hostile()[name])
    assert reply.status_code == 422
    error = reply.json()["error"]
    assert "\n" not in error
    assert "Needed: " in error
    folder = str(app.state.shared.folder)
    assert folder not in error
    assert list(Path(folder).iterdir()) == []
    assert browser.upload(encode(make_picture())).status_code == 200


def test_a_large_upload_ends_at_the_limit(browser: Browser, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MAX_PHOTO_BYTES", 10_000)
    reply = browser.upload(encode(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)))
    assert reply.status_code == 422
    assert "more than" in reply.json()["error"]
    assert list(app.state.shared.folder.iterdir()) == []


@pytest.mark.slow
def test_files_go_with_the_server(app: Any) -> None:
    from starlette.testclient import TestClient

    folder: Path = app.state.shared.folder
    with TestClient(app, base_url="http://127.0.0.1") as client:
        Browser(client).upload(encode(make_picture()))
        assert folder.is_dir()
    assert not folder.exists()


def test_folders_of_killed_servers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stadia.web.app_state import make_upload_folder

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    stale, other = tmp_path / "stadia-app-999999999-abc", tmp_path / "stadia-app-notes"
    for folder in (stale, other):
        folder.mkdir()
    kept = make_upload_folder()
    assert {path.name for path in tmp_path.iterdir()} == {kept.name, other.name}
    assert kept.stat().st_mode & 0o077 == 0


def test_a_full_disk_is_one_line() -> None:
    import asyncio
    import errno
    import json

    async def write(request: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    reply = asyncio.run(forms.one_line(write)(None))
    assert reply.status_code == 507
    assert "full" in json.loads(reply.body)["error"]
