"""Paths are checked before they are used, and an output has one writer."""

import errno
import subprocess
import sys
from unittest.mock import Mock

import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError, RunError, StadiaError
from stadia.io.atomic_files import LOCK_FILE, hold_folder, hold_lock, is_empty
from stadia.io.input_files import check_no_links, check_writable, make_absolute, safe_join


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


def test_an_unwritable_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "er")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with refuses(StadiaError, where="file/runs"):
        check_writable(tmp_path / "file" / "runs")
    for error in (OSError(errno.ENOENT, "No such file", "/proc/tmp3x"), OSError(errno.EROFS, "Read-only file system")):
        monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=error))
        with refuses(StadiaError, where="runs"):
            check_writable(tmp_path / "runs")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "link/x"])
def test_names_that_leave_their_folder(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(DataError):
        safe_join(folder, name)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(DataError) as caught:
        safe_join(tmp_path, name)
    assert str(caught.value).isprintable()


def test_only_the_named_folders_may_hold_links(tmp_path):
    (tmp_path / "study" / "runs").mkdir(parents=True)
    (tmp_path / "study" / "runs" / "a").symlink_to(tmp_path)
    check_no_links(tmp_path / "study", skip=("runs",))
    with refuses(StadiaError, where="runs/a"):
        check_no_links(tmp_path / "study")
    (tmp_path / "linked").symlink_to("study")
    check_no_links(tmp_path / "linked", skip=("runs",))


# -- Locks.


@pytest.mark.slow
def test_a_lock_is_held_by_one_at_a_time_and_leaves_nothing(tmp_path):
    out = tmp_path / "new" / "out"
    refused = refuses(StadiaError, where="new/out")
    with hold_folder(out), refused, hold_folder(out):
        pass
    refusal = RunError(out, found="a training", expected="none", fix="wait")
    with hold_folder(out), refuses(RunError, where="out"), hold_lock(out / LOCK_FILE, out, refusal):
        pass
    with hold_folder(out), hold_folder(out / "inner"):
        assert not is_empty(out)
    (out / "inner").rmdir()
    assert not list(out.iterdir())


def test_a_killed_process_holds_no_lock(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from stadia.io.atomic_files import hold_folder\n"
        "with hold_folder(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    assert is_empty(tmp_path)
    with hold_folder(tmp_path):
        pass


def test_a_lock_is_no_link(tmp_path):
    (tmp_path / "mine").touch()
    (tmp_path / LOCK_FILE).symlink_to("mine")
    with refuses(StadiaError, where=".lock"), hold_folder(tmp_path):
        pass
    assert (tmp_path / "mine").read_bytes() == b""
