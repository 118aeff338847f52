"""A file appears whole under its name, or not at all; files from outside are checked before use."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from stadia.core.errors import DataError, StadiaError
from stadia.core.files import atomic_folder, atomic_write, check_writable, read_json, safe_join, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_whole_and_nothing_else_is_left(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "héllo\n")
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "héllo\n"
    assert names(tmp_path / "new") == ["a.txt"]


def test_old_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_temporary_name_keeps_the_suffix(tmp_path):
    with atomic_write(tmp_path / "a.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path


@pytest.mark.parametrize(("code", "found"), [(errno.ENOSPC, "a full disk"), (errno.EACCES, "Permission denied")])
@pytest.mark.parametrize("context", [atomic_write, atomic_folder])
def test_full_disk_and_closed_folder_are_named(tmp_path, code, found, context):
    def fail() -> None:
        with context(tmp_path / "a.png"):
            raise OSError(code, os.strerror(code))

    with pytest.raises(StadiaError, match=rf"a\.png: found {found}"):
        fail()
    assert names(tmp_path) == []


def test_a_folder_in_the_place_of_a_file_and_the_other_way_round(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StadiaError, match=rf"{tmp_path}: found a folder; expected a file's name"):
        write_text(tmp_path, "text")
    with pytest.raises(StadiaError, match=r"a file where a folder should be"):
        write_text(tmp_path / "file" / "a.txt", "text")
    assert names(tmp_path) == ["file"]


def test_an_unwritable_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "er")
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(StadiaError, match=r"file/runs: found a file where a folder should be"):
        check_writable(tmp_path / "file" / "runs")

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(StadiaError, match=r"runs: found Read-only file system.*choose another place"):
        check_writable(tmp_path / "runs")


def test_other_trouble_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="Input/output"), atomic_write(tmp_path / "a"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_folder_appears_whole(tmp_path):
    (tmp_path / ".world.partial").mkdir()  # left by a process that was killed
    (tmp_path / ".world.partial" / "stale").touch()
    with atomic_folder(tmp_path / "world") as temporary:
        (temporary / "a").write_text("1", encoding="utf-8")
        assert not (tmp_path / "world").exists()
    assert names(tmp_path) == ["world"]
    assert names(tmp_path / "world") == ["a"]


def test_json_round_trip(tmp_path):
    value = {"b": [1, 2.5, None], "a": "ü"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b'{"a": 1', b"\xff\xfe\x00", b"", b"1" * 5000, b"[" * 100_000])
def test_what_is_no_json_names_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: found invalid JSON"):
        read_json(tmp_path / "a.json")


def test_missing_and_large_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.json: found no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(json.dumps("x" * 100), encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.json: found 102 bytes; expected at most 10"):
        read_json(tmp_path / "b.json", max_bytes=10)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "link/x"])
def test_names_that_leave_their_folder(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="a path outside its folder"):
        safe_join(folder, name)


def test_names_that_stay(tmp_path):
    assert safe_join(tmp_path, "a/../b") == tmp_path.resolve() / "b"
