"""Keep files that stadia did not write: an output replaces an earlier output of its kind, and nothing else.

Each kind of output file carries a mark, by which it is recognized. Outputs that are folders must be new or empty.
Text files of camera paths are written into such folders alone, and need no mark.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.files.atomic_files import (
    atomic_folder,
    explain_write_error,
    hold_folder,
    is_empty,
    make_temporary_folder,
    open_atomic,
    remove_stale_files,
    sync_later,
)
from stadia.files.image_io import PNG_SIGNATURE
from stadia.files.input_files import open_input
from stadia.files.paths import check_no_links, check_writable, expand_home, is_existing_path
from stadia.files.run_facts import RUN_FILES

_END_BYTES = 1 << 16  # at either end of a file, where its mark is

PREVIEWED = ("roadworld", "roomworld", "tableworld", "cutouts")
"""Kinds of rendered data sets, which have a preview.png."""

MARKS: Mapping[str, bytes] = {
    "report": rb'<meta name="generator" content="stadia-report">|<footer>Written by stadia ',
    "journal": rb"\A<!-- stadia-journal -->",
    "score file": rb'\A\s*\{\s*"format":\s*"stadia-scores"',
    "list of findings": rb'\A\{"code": "[A-Z][0-9]{2}", ',
    "camera": rb'\A\s*\{\s*"format":\s*"stadia-camera"',
    "camera height": rb'\A\s*\{\s*"format":\s*"stadia-camera-height"',
    "comparison": rb"tEXtSoftware\0stadia-comparison|>stadia-comparison<",
    "drawing of paths": rb"tEXtSoftware\0stadia-paths|>stadia-paths<",
    "overview": rb"tEXtSoftware\0stadia-overview",
    "video of activations": rb"stadia-activations",
    "exported network": rb"stadia-depth|stadia\.json",
    **{f"preview of {name}": b"tEXtSoftware\0stadia-preview-" + name.encode() for name in PREVIEWED},
}
"""Kind of output -> what its first or last bytes hold: a key of JSON, a meta tag of HTML, a text chunk of PNG, the
comment of an mp4, the metadata of ONNX and .pt2. The second mark of reports is that of versions before 0.2.
"""


RECORDS: Mapping[str, str] = {
    "run.json": "a run",
    "predictions.json": "predictions",
    "batch.json": "predictions of many videos",
    "study.yaml": "a study",
    "sweep.json": "a sweep",
    "recording.json": "a recording",
    "dataset.json": "a data set",
    "foregrounds.json": "a set of cut-outs",
    "prepared.json": "masks",
    "camera_height.json": "a measured camera height",
    "findings.jsonl": "findings of a data check",
}
"""File that marks the folder of a command -> what the folder holds. No other command writes into it."""


def check_replaceable(path: Path, kind: str, *, inputs: Iterable[Path | None], force: bool = False) -> Path:
    """Raise StadiaError where a file stands at `path` that stadia did not write as this kind of output.

    Called before the work starts. A symbolic link is no output of stadia, whatever it points to. Returns the path to
    write to, with `~` expanded.

    Args:
        kind: row of MARKS.
        inputs: of the same command. They are never replaced. Nor is a file in a folder of them, or a file that a run
            among them is made of, unless it is empty or of `kind`.
        force: also replace any other file, and a link itself; never a folder or a device.
    """
    path, inputs = expand_home(path), list(inputs)
    for given in inputs:
        if given is not None and _is_input(path, expand_home(given), kind):
            found = "an input of this command" if given.is_file() else f"a file of {given}, an input of this command"
            raise StadiaError(path, found=found, expected="a file for its output", fix="choose another name")
    check_writable(path.parent)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    if stat.S_ISDIR(mode) or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        found = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise StadiaError(path, found=found, expected="a file's name", fix="choose another name")
    if _is_of_another_run(path, inputs):
        found, expected = "a file of another run", "a new file, or one of the run that is read"
        raise StadiaError(path, found=found, expected=expected, fix="choose another name")
    if force:
        return path
    if stat.S_ISLNK(mode):
        found = "a symbolic link"
    elif path.stat().st_size == 0 or has_mark(path, kind):
        return path
    else:
        found = f"something there already, and no {kind} of stadia's"
    expected, fix = f"a new file, or an earlier {kind}", "choose another name, or pass --force to replace it"
    raise StadiaError(path, found=found, expected=expected, fix=fix)


def check_output_folder(
    folder: Path, record: str, kind: str, *, inputs: Iterable[Path | None], force: bool = False
) -> Path:
    """Raise StadiaError where a folder is neither new nor empty, and stadia did not write its `record`; as above.

    inputs: no file of them may be in the folder. Returns the folder with `~` expanded.
    """
    folder = expand_home(folder)
    for given in inputs:
        if given is None or not is_existing_path(file := expand_home(given)) or not file.is_file():
            continue
        if Path(os.path.realpath(folder)) in Path(os.path.realpath(file)).parents:
            found, expected = f"{given}, an input of this command, in it", "a folder of its own"
            raise StadiaError(folder, found=found, expected=expected, fix="choose another folder")
    check_writable(folder)
    if folder.is_dir():
        remove_stale_files(folder)  # all that a command leaves that was killed before its first file was whole
    check_foreign_folder(folder, record)
    if force or not folder.is_dir() or is_empty(folder):
        return folder
    if not (folder / record).exists():
        found, expected = f"files in it, and no {kind} of stadia's", f"a new or an empty folder, or an earlier {kind}"
        fix = "choose another folder, or pass --force to write into it"
        raise StadiaError(folder, found=found, expected=expected, fix=fix)
    check_replaceable(folder / record, kind, inputs=())
    check_no_links(folder)
    return folder


def check_foreign_folder(folder: Path, *own: str) -> None:
    """Raise StadiaError where a folder is that of another command: it has a record of RECORDS, and none is its own.

    own: the records of the command that is about to write. Those of a run and of its data check are both in a run.
    """
    for record, content in RECORDS.items():
        if record not in own and os.path.lexists(folder / record):
            expected, fix = "a folder that no other command writes", "choose another folder"
            raise StadiaError(folder, found=f"{content} in it ({record})", expected=expected, fix=fix)


def check_own_folder(
    folder: Path, record: str, kind: str, names: Container[str], fix: str = "choose another folder"
) -> None:
    """Raise StadiaError where a folder lacks the record that stadia writes first, and has one of the later `names`.

    Also where it is another command's.
    """
    check_foreign_folder(folder, record)
    if not folder.is_dir() or (folder / record).exists():
        return
    remove_stale_files(folder)
    if others := sorted(one.name for one in folder.iterdir() if one.name in names):
        found = f"{', '.join(others)} in it, and no {record}"
        raise StadiaError(folder, found=found, expected=f"a new folder, or an earlier {kind} of stadia's", fix=fix)


@contextmanager
def hold_new_folder(out: Path) -> Iterator[Path]:
    """Hold the lock of a new or empty folder, whose files appear one by one, and sync them at the end of the block.

    Raises StadiaError for a folder with files, and where another process writes it.
    """
    with hold_folder(out):
        if not is_empty(out):
            fix = "choose another --out: nothing is overwritten"
            raise StadiaError(out, found="something there already", expected="a new or an empty folder", fix=fix)
        with sync_later(out):
            yield out


@contextmanager
def fill_new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder whose content is that of `path` after a clean exit; after an error nothing of it is there.

    What a killed process left is removed by the next one. A folder that exists stays itself: it may be the current
    one, a link to one, or a disk. Raises StadiaError where `path` is neither new nor empty, cannot be written to, or
    another process fills it.
    """
    path = expand_home(path)
    if not path.exists():
        with atomic_folder(path) as folder:
            yield folder
        return
    if not path.is_dir():
        raise StadiaError(path, found="a file", expected="a new folder", fix="choose another --out")
    with hold_folder(path):
        remove_stale_files(path)
        if not is_empty(path):
            fix = "choose another --out: nothing is overwritten"
            raise StadiaError(path, found="files in it", expected="a new folder", fix=fix)
        content: Path | None = None
        moved: list[Path] = []
        try:
            content = make_temporary_folder(path, "content")
            with sync_later(content):
                yield content
            for file in sorted(content.iterdir()):
                moved.append(file.rename(path / file.name))
        except BaseException as error:
            for file in moved:
                shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
            if isinstance(error, OSError):
                explain_write_error(error, path)
            raise
        finally:
            if content is not None:
                shutil.rmtree(content, ignore_errors=True)


def _is_input(path: Path, given: Path, kind: str) -> bool:
    """Return whether a file is an input, or in a folder that is one, with content of another kind than the output."""
    if not path.is_file() or not given.exists():
        return False
    if path.samefile(given):
        return True
    file, folder = Path(os.path.realpath(path)), Path(os.path.realpath(given))
    if not given.is_dir() or not file.is_relative_to(folder) or path.stat().st_size == 0 or has_mark(path, kind):
        return False
    inside = file.relative_to(folder).parts
    is_run = (given / "run.json").is_file()
    return not is_run or len(inside) > 1 or inside[0] in RUN_FILES


def _is_of_another_run(path: Path, inputs: Iterable[Path | None]) -> bool:
    """Return whether a file is one that a run writes into its folder, and this run is no input."""
    if path.name not in (*RUN_FILES, "report.html") or not (path.parent / "run.json").is_file():
        return False
    folders = (expand_home(given) for given in inputs if given is not None)
    return not any(folder.exists() and folder.samefile(path.parent) for folder in folders)


def is_own_file(path: Path, kind: str) -> bool:
    """Return whether a file itself, and no link, is of this kind of output."""
    return path.is_file() and not path.is_symlink() and has_mark(path, kind)


def has_mark(path: Path, kind: str) -> bool:
    """Return whether stadia wrote a file as this kind of output. Raises DataError where it cannot be read."""
    with open_input(path, expected=f"a {kind}", max_bytes=1 << 50) as stream:
        ends = stream.read(_END_BYTES)
        size = stream.seek(0, 2)
        stream.seek(max(size - _END_BYTES, min(size, _END_BYTES)))
        ends += stream.read()
    return re.search(MARKS[kind], ends) is not None


def write_marked_png(path: Path, image: NDArray[Any], mark: str) -> None:
    """Write (H, W) or (H, W, 3) in cv2's order (BGR) as PNG with a text chunk `Software`, whole or not at all."""
    is_encoded, encoded = cv2.imencode(".png", np.ascontiguousarray(image))
    if not is_encoded:
        raise OSError(f"{path} could not be encoded")
    data, at = encoded.tobytes(), len(PNG_SIGNATURE) + 25  # behind the header
    chunk = b"tEXtSoftware\0" + mark.encode("ascii")
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with open_atomic(path) as stream:
        stream.write(data[:at] + whole + data[at:])
