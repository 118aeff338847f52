"""Files of a store: round trips through S3 on loopback, retries, and errors that name the file."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from tests.refusals import refuses
from tests.stores import s3_server as s3_server
from tests.stores import s3_url as s3_url

from stadia.core.errors import DataError
from stadia.io import remote_store
from stadia.io.input_files import is_url, restore_url
from stadia.io.remote_store import ATTEMPTS, RemoteStore


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits between attempts instead of waiting."""
    found: list[float] = []
    monkeypatch.setattr(remote_store.time, "sleep", found.append)
    return found


def check_round_trip(store: RemoteStore, folder: Path) -> None:
    store.write("a/b.bin", b"one")
    store.write("a/b.bin", b"other")
    (folder / "c").write_bytes(b"copied")
    store.upload(folder / "c", "a/c.bin")
    assert store.read("a/b.bin", max_bytes=5) == b"other"
    assert store.fetch("a/c.bin", max_bytes=6) == b"copied"
    assert store.exists("a/c.bin")
    assert not store.exists("a/d.bin")
    assert pickle.loads(pickle.dumps(store)).read("a/b.bin", max_bytes=5) == b"other"
    with refuses(DataError, found="5", expected="4"):
        store.read("a/b.bin", max_bytes=4)
    with refuses(DataError, where="a/absent"):
        store.read("a/absent", max_bytes=4)


def test_a_folder_is_a_store(tmp_path: Path) -> None:
    check_round_trip(RemoteStore(tmp_path / "store"), tmp_path)


@pytest.mark.slow
def test_s3_is_a_store(s3_url: str, tmp_path: Path) -> None:
    check_round_trip(RemoteStore(f"{s3_url}/prefix"), tmp_path)
    with refuses(DataError, where="s3://no-such-bucket/x"):
        RemoteStore("s3://no-such-bucket").write("x", b"")


@pytest.mark.parametrize("text", ["s3://bucket/a", "gs://bucket/a", "https://host/a"])
def test_a_url_survives_as_a_path(text: str) -> None:
    assert is_url(Path(text))
    assert restore_url(Path(text)) == restore_url(text) == text


@pytest.mark.parametrize("text", ["drives", "/data/s3", "C:/drives", "drives/s3:a"])
def test_a_path_is_no_url(text: str) -> None:
    assert not is_url(text)


def test_errors_that_may_pass_are_tried_again_with_growing_waits(
    tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RemoteStore(tmp_path)
    store.write("a", b"content")
    system, _ = store._open()
    real, failures = type(system).cat_file, [OSError(16, "503 Slow Down"), ConnectionResetError(), TimeoutError()]

    def fail(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return real(*arguments, **options)

    monkeypatch.setattr(type(system), "cat_file", fail)
    assert store.fetch("a", max_bytes=7) == b"content"
    assert len(waits) == 3
    assert waits[0] < waits[1] < 4 * waits[2]
    failures.extend([OSError(16, "503 Slow Down")] * ATTEMPTS)
    with refuses(DataError, where="/a", found=(ATTEMPTS, "503")):
        store.fetch("a", max_bytes=7)


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (PermissionError(13, "Access Denied"), ("a", "PermissionError")),
        (RuntimeError("An error occurred (ExpiredToken)"), ("a", "RuntimeError")),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate"), ("NoCredentialsError",)),
    ],
)
def test_refused_credentials_are_not_tried_again(
    tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch, error: Exception, names: tuple[str, ...]
) -> None:
    store = RemoteStore(tmp_path)
    system, _ = store._open()

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(type(system), "cat_file", fail)
    with refuses(DataError, names=names):
        store.fetch("a", max_bytes=1)
    assert waits == []
