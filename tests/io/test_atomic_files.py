"""A file appears whole under its name, or not at all."""

import errno
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.processes import leave_stale_folder
from tests.refusals import refuses

from stadia.core.errors import StadiaError
from stadia.io import atomic_files
from stadia.io.atomic_files import (
    THIS_MACHINE,
    atomic_folder,
    atomic_write,
    open_to_append,
    remove_stale_files,
    sync_later,
    write_json,
    write_text,
)
from stadia.io.input_files import read_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.txt", "n" * 250 + ".txt", "é" * 120 + ".png", os.fsdecode(b"caf\xe9.txt")])
def test_file_appears_whole_and_nothing_else_is_left(tmp_path, name):
    write_text(tmp_path / "new" / name, "héllo\n")
    assert (tmp_path / "new" / name).read_text(encoding="utf-8") == "héllo\n"
    assert names(tmp_path / "new") == [name]


def test_old_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            assert (temporary.suffix, temporary.parent) == (".txt", tmp_path)
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("context", [atomic_write, atomic_folder])
@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(errno.ENOSPC, "No space left"), ("a.png",)),
        (OSError(errno.EACCES, "Permission denied"), ("a.png", "Permission denied")),
        (OSError(errno.EIO, "Input/output error"), ("a.png", "Input/output")),
        (OSError("libpng: Input/output error"), ("a.png", "Input/output")),
    ],
)
def test_an_error_of_writing_names_the_file(tmp_path, context, error, parts):
    with refuses(StadiaError, names=parts), context(tmp_path / "a.png"):
        raise error
    assert names(tmp_path) == []


def test_an_error_of_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="input"), atomic_write(tmp_path / "a"):
        (tmp_path / "input").read_text(encoding="utf-8")
    assert names(tmp_path) == []


@pytest.mark.parametrize("limit", [100, 4096])
def test_a_limit_of_file_sizes_is_named(tmp_path, limit):
    resource = pytest.importorskip("resource")

    def write() -> None:
        with atomic_write(tmp_path / "a.npy") as temporary:
            np.save(temporary, np.zeros(100_000))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with refuses(StadiaError, where="a.npy", fix="ulimit -f"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


def test_json_is_written_in_its_order_and_without_nan(tmp_path):
    value = {"b": [1, 2.5, None], "a": "ü"}
    write_json(tmp_path / "a.json", value)
    assert list(read_json(tmp_path / "a.json").items()) == list(value.items())
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert names(tmp_path) == ["a.json"]


def test_what_is_appended_does_not_follow_a_link(tmp_path):
    for text in (b"1", b"2"):
        with open_to_append(tmp_path / "log") as stream:
            stream.write(text)
    assert (tmp_path / "log").read_bytes() == b"12"
    (tmp_path / "link").symlink_to("log")
    with pytest.raises(OSError):
        open_to_append(tmp_path / "link")


# -- Folders.


@pytest.mark.parametrize("existing", ["nothing", "an empty folder", "a half-written folder", "a link"])
def test_folder_appears_whole(tmp_path, existing):
    """A half-written folder is what a killed process left. What a link in its place leads to is none."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    left = []
    match existing:
        case "an empty folder":
            (tmp_path / "world").mkdir()
        case "a half-written folder":
            leave_stale_folder(tmp_path / "world")
        case "a link":
            link = leave_stale_folder(tmp_path / "world")
            shutil.rmtree(link)
            link.symlink_to("mine")
            left = [link.name]
    with atomic_folder(tmp_path / "world") as temporary:
        (temporary / "a").touch()
        assert names(temporary) == ["a"]
        assert existing == "an empty folder" or not (tmp_path / "world").exists()
    assert names(tmp_path) == [*left, "mine", "world"]
    assert names(tmp_path / "world") == ["a"]
    assert names(tmp_path / "mine") == ["thesis"]


def test_a_file_of_the_user_in_the_place_of_a_lock_stays(tmp_path):
    (tmp_path / ".world.lock").write_text("mine")
    with refuses(StadiaError, where=".world.lock"), atomic_folder(tmp_path / "world"):
        pass
    assert (tmp_path / ".world.lock").read_text() == "mine"


@pytest.mark.slow
def test_a_folder_that_another_process_writes_is_refused(tmp_path):
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "file").touch()
        refused = refuses(StadiaError, where="a")
        with refused, atomic_folder(tmp_path / "a"):
            pass
        assert names(temporary) == ["file"]
    assert names(tmp_path / "a") == ["file"]


# -- What a killed process leaves.


@pytest.mark.slow
def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from stadia.io.atomic_files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary: temporary.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.mp4")], check=False).returncode == 9
    assert len(names(tmp_path)) == 1
    (tmp_path / ".mine.partial").touch()  # of somebody else: another kind of name
    write_text(tmp_path / "other.txt", "text")
    assert names(tmp_path) == [".mine.partial", "other.txt"]


def test_a_temporary_file_that_is_being_written_stays(tmp_path, monkeypatch):
    with atomic_write(tmp_path / "a.txt") as temporary:
        monkeypatch.setattr(atomic_files, "_CLEANED", set())
        remove_stale_files(tmp_path)
        assert temporary.exists()
    assert names(tmp_path) == ["a.txt"]


def test_stale_files_are_of_processes_that_ended_or_a_day_old(tmp_path):
    other_machine = "0" * 8
    assert other_machine != THIS_MACHINE
    ended = 999_999_999  # Linux numbers processes up to 4 million
    for machine, process, hours, name in (
        (THIS_MACHINE, ended, 0, "ended"),
        (THIS_MACHINE, os.getpid(), 48, "written"),
        (other_machine, ended, 23, "fresh"),
        (other_machine, os.getpid(), 25, "old"),
    ):
        file = tmp_path / f".{name}.{machine}-{process}.abcdefgh.partial.txt"
        file.touch()
        os.utime(file, (time.time() - hours * 3600,) * 2)
    remove_stale_files(tmp_path)
    assert [name.split(".")[1] for name in names(tmp_path)] == ["fresh", "written"]


# -- Syncs.


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
