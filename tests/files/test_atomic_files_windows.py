"""Files are written and locked by the rules of Windows, which a fixture imposes on this system."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stadia.core.errors import StadiaError
from stadia.files import atomic_files as files
from stadia.files.atomic_files import atomic_folder, atomic_write, hold_lock, remove_stale_files, try_lock, write_text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds open files in /proc")


def is_open(path: Any) -> bool:
    """Whether this process has the file, or a file of the folder, open."""
    opened = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    return any(file.is_relative_to(Path(path).resolve()) for file in opened)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def rules_of_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No open file is moved or removed, no folder is opened, only what can be written to is synced, msvcrt locks."""
    real_open, real_sync = os.open, os.fsync

    def refuse_open(call: Callable[..., None]) -> Callable[..., None]:
        def move(source: Any, *rest: Any, **options: Any) -> None:
            if "dir_fd" not in options and is_open(source):
                raise PermissionError(errno.EACCES, "The process cannot access the file", str(source))
            if call.__name__ == "rename" and Path(rest[0]).exists():
                raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", str(source))
            call(source, *rest, **options)

        return move

    def open_file(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None and Path(path).is_dir() and sys._getframe(1).f_globals is vars(files):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def sync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real_sync(descriptor)

    def lock(descriptor: int, mode: int, size: int) -> None:
        assert (mode, size) == (2, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    for name in ("replace", "rename", "unlink"):
        monkeypatch.setattr(os, name, refuse_open(getattr(os, name)))
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=lock, LK_NBLCK=2))
    monkeypatch.setattr(files, "IS_WINDOWS", True)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    for text in ("old", "new"):
        write_text(folder / "a.txt", text)
    assert (folder / "a.txt").read_text(encoding="utf-8") == "new"
    assert names(folder) == ["a.txt"]


def test_a_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "new" / "a.txt"):
        raise KeyboardInterrupt
    assert names(tmp_path / "new") == []


def test_a_folder_is_written_to_a_new_and_to_an_empty_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with atomic_folder(tmp_path / name) as temporary:
            (temporary / "a").write_text("1", encoding="utf-8")
        assert names(tmp_path / name) == ["a"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    refused = pytest.raises(StadiaError, match="a: found another process that writes it")
    with atomic_folder(tmp_path / "a"), refused, atomic_folder(tmp_path / "a"):
        pass
    with hold_lock(tmp_path), pytest.raises(StadiaError, match="one process at a time"), hold_lock(tmp_path):
        pass
    with hold_lock(tmp_path), hold_lock(tmp_path / "a"):
        pass


def test_a_locked_file_is_not_locked_again(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as one, (tmp_path / "a").open("rb") as two:
        assert try_lock(one.fileno())
        assert not try_lock(two.fileno())


def test_temporary_files_are_removed_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold no lock: age shows that no process writes them."""
    for name, hours in (("old", 25), ("fresh", 23)):
        file = tmp_path / f".{name}.abcdefgh.partial.txt"
        file.touch()
        os.utime(file, (time.time() - hours * 3600,) * 2)
    monkeypatch.setattr(files, "_CLEANED", set())
    remove_stale_files(tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".fresh.abcdefgh.partial.txt"]
