"""A file appears whole under its name, or not at all; files from outside are checked before use."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stadia.core.errors import DataError, StadiaError
from stadia.files.atomic_files import (
    atomic_folder,
    atomic_write,
    check_no_links,
    check_writable,
    hold_lock,
    make_absolute,
    open_to_append,
    remove_stale_files,
    safe_join,
    sync_later,
    write_json,
    write_text,
)
from stadia.files.json_files import read_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_absolute_paths_have_no_parents_in_them(tmp_path, monkeypatch):
    """A run stores them: `data/../other` needs a `data` that nothing else reads. A link before `..` is followed."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "far" / "data").symlink_to(tmp_path / "near")
    monkeypatch.chdir(tmp_path / "near")
    for written, place in {
        "../far/data": "far/data",
        "link/../data": "far/data",
        "link": "near/link",
        "a": "near/a",
    }.items():
        assert make_absolute(written) == tmp_path / place
        assert make_absolute(make_absolute(written)) == make_absolute(written)


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


@pytest.mark.parametrize(("code", "found"), [(errno.ENOSPC, "a full disk"), (errno.EACCES, ".* .Permission denied.;")])
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


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "gone" / "away")
    with pytest.raises(StadiaError, match=r"a\.txt: found a link to a place that is missing"):
        write_text(tmp_path / "out" / "a.txt", "text")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("limit", [100, 4096])
def test_a_limit_of_file_sizes_is_named(tmp_path, limit):
    resource = pytest.importorskip("resource")

    def write() -> None:
        with atomic_write(tmp_path / "a.npy") as temporary:
            np.save(temporary, np.zeros(100_000))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StadiaError, match=r"a\.npy: found .*Fix: .*(ulimit -f|free some space)"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


def test_an_unwritable_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "er")
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(StadiaError, match=r"file/runs: found a file where a folder should be"):
        check_writable(tmp_path / "file" / "runs")

    def vanish(**_: object) -> None:  # as of /proc, where no file can be made
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/proc/tmp3x")

    monkeypatch.setattr("tempfile.TemporaryFile", vanish)
    with pytest.raises(StadiaError, match=r"runs: found a place where no file"):
        check_writable(tmp_path / "runs")

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(
        StadiaError, match=r"runs: found a place that cannot be written to .Read-only file system.*choose another place"
    ):
        check_writable(tmp_path / "runs")


@pytest.mark.parametrize("context", [atomic_write, atomic_folder])
@pytest.mark.parametrize("error", [OSError(errno.EIO, os.strerror(errno.EIO)), OSError("libpng: Input/output error")])
def test_an_error_of_the_disk_names_the_file(tmp_path, context, error):
    with (
        pytest.raises(StadiaError, match=r"a\.png: found .*Input/output error.*Fix: check the disk"),
        context(tmp_path / "a.png"),
    ):
        raise error
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", ["chmod", "replace"])
def test_an_error_of_the_temporary_file_names_the_file(tmp_path, monkeypatch, call):
    def fail(path: str, *_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StadiaError, match=r"a\.png: found a file that cannot be written .*Fix: check the disk"):
        write_text(tmp_path / "a.png", "text")
    assert names(tmp_path) == []


def test_an_error_of_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="input"), atomic_write(tmp_path / "a"):
        (tmp_path / "input").read_text(encoding="utf-8")
    assert names(tmp_path) == []


def test_a_folder_that_fails_takes_its_new_parents_along(tmp_path):
    (tmp_path / "o").mkdir()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "o" / "new" / "er"):
        raise ZeroDivisionError
    assert names(tmp_path / "o") == []


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
    with pytest.raises(DataError, match=r"a\.json: found (invalid JSON|bytes that are not text)"):
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


# -- What a killed process leaves.


def _make_stale(folder: Path, name: str) -> Path:
    """Leave a temporary file as a process does that is killed while it writes."""
    script = (
        "import os, sys; from pathlib import Path; from stadia.files.atomic_files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary: temporary.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(folder / name)], check=False).returncode == 9
    (left,) = (path for path in folder.iterdir() if path.name.startswith("."))
    return left


@pytest.mark.slow
def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    assert _make_stale(tmp_path, "side_by_side.mp4").suffix == ".mp4"
    (tmp_path / ".mine.partial").touch()  # of somebody else: another kind of name
    write_text(tmp_path / "other.txt", "text")
    assert names(tmp_path) == [".mine.partial", "other.txt"]


def test_a_temporary_file_that_is_being_written_stays(tmp_path, monkeypatch):
    with atomic_write(tmp_path / "a.txt") as temporary:
        monkeypatch.setattr("stadia.files.atomic_files._CLEANED", set())
        remove_stale_files(tmp_path)
        assert temporary.exists()
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["n" * 250 + ".txt", "é" * 120 + ".png", os.fsdecode(b"caf\xe9.txt")])
def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert names(tmp_path) == [name]


def test_a_folder_that_another_process_writes_is_refused(tmp_path):
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "file").touch()
        with (
            pytest.raises(StadiaError, match=r"a: found another process that writes it"),
            atomic_folder(tmp_path / "a"),
        ):
            pass
        assert names(temporary) == ["file"]
    assert names(tmp_path / "a") == ["file"]


def test_a_folder_of_a_killed_process_is_written_anew(tmp_path):
    (tmp_path / ".a.partial" / "inner").mkdir(parents=True)
    with atomic_folder(tmp_path / "a") as temporary:
        assert names(temporary) == []
    assert names(tmp_path) == ["a"]


def test_a_link_in_the_place_of_a_half_written_folder_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("years of work")
    (tmp_path / ".new.partial").symlink_to("mine")
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path) == ["mine", "new"]
    assert names(tmp_path / "mine") == ["thesis"]


def test_only_the_named_folders_may_hold_links(tmp_path):
    (tmp_path / "study" / "runs").mkdir(parents=True)
    (tmp_path / "study" / "runs" / "a").symlink_to(tmp_path)
    check_no_links(tmp_path / "study", skip=("runs",))
    with pytest.raises(StadiaError, match=r"runs/a: found a symbolic link"):
        check_no_links(tmp_path / "study")
    (tmp_path / "linked").symlink_to("study")
    check_no_links(tmp_path / "linked", skip=("runs",))


def test_what_is_appended_does_not_follow_a_link(tmp_path):
    for text in (b"1", b"2"):
        with open_to_append(tmp_path / "log") as stream:
            stream.write(text)
    assert (tmp_path / "log").read_bytes() == b"12"
    (tmp_path / "link").symlink_to("log")
    with pytest.raises(OSError, match="symbolic"):
        open_to_append(tmp_path / "link")


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    with hold_lock(tmp_path), pytest.raises(StadiaError, match="one process at a time"), hold_lock(tmp_path):
        pass
    with hold_lock(tmp_path):
        pass


def test_file_and_folder_are_synced(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        "os.fsync", lambda number: (synced.append(stat.S_ISDIR(os.fstat(number).st_mode)), fsync(number))
    )
    write_text(tmp_path / "a.txt", "text")
    assert synced == [False, True]  # first the content, then its name


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files come from /proc")
def test_files_of_a_block_are_synced_once_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of other threads; files of other folders are synced at once, and nothing is after an error."""
    synced: list[str] = []
    monkeypatch.setattr("os.fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").resolve().name))
    out = tmp_path / "out"
    with sync_later(out), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: write_text(out / "maps" / name, "-"), ("a", "b")))
        assert synced == []
        write_text(tmp_path / "c", "-")
        assert synced[1:] == [tmp_path.name], "the file, under its temporary name, and its folder"
        synced.clear()
    assert sorted(synced) == ["a", "b", "maps", "out"]
    synced.clear()
    with pytest.raises(ZeroDivisionError), sync_later(out):
        write_text(out / "d", str(1 // len(synced)))
    assert synced == []
    write_text(out / "e", "-")
    assert len(synced) == 2, "after the block each file is synced by itself"
