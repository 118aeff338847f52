"""Protect files that stadia did not write: an output replaces only an earlier output of the same kind.

Each kind of output file contains a mark.
"""

import io
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.io.atomic_files import (
    LOCK_FILE,
    atomic_folder,
    explain_write_error,
    hold_folder,
    is_empty,
    make_temporary_folder,
    open_atomic,
    remove_stale_files,
    sync_later,
)
from stadia.io.image_io import PNG_SIGNATURE
from stadia.io.input_files import check_no_links, check_writable, expand_home, is_existing_path, open_input
from stadia.io.run_facts import RUN_FILES

_END_BYTES = 1 << 16  # bytes at each end of a file that may contain its mark

PREVIEWED = ("roadworld", "tableworld", "cutouts")
"""Names of the kinds of rendered datasets that have a preview.png."""

MARKS: Mapping[str, bytes] = {
    "report": rb'<meta name="generator" content="stadia-report">|<footer>Written by stadia ',
    "score file": rb'\A\s*\{\s*"format":\s*"stadia-scores"',
    "list of findings": rb'\A\{"code": "[A-Z][0-9]{2}", ',
    "camera": rb'\A\s*\{\s*"format":\s*"stadia-camera"',
    "camera height": rb'\A\s*\{\s*"format":\s*"stadia-camera-height"',
    "calibration": rb'\A\s*\{\s*"format":\s*"stadia-hand-eye"',
    "pinned rig": rb'\A\s*\{\s*"format":\s*"stadia-rig"',
    "log of a robot": rb"\A# poses of a hand, corrected by stadia",
    "map": rb'\A\s*\{\s*"format":\s*"stadia-(panorama-)?map"',
    "JUnit XML": rb'<testsuite name="stadia check ',
    "batch": rb'"format":\s*"stadia-batch"',
    "audit": rb'"format":\s*"stadia-audit"',
    "comparison": rb"tEXtSoftware\0stadia-comparison|>stadia-comparison<",
    "drawing of paths": rb"tEXtSoftware\0stadia-paths|>stadia-paths<",
    "overview": rb"tEXtSoftware\0stadia-overview",
    "video of activations": rb"stadia-activations",
    "exported network": rb"stadia-depth|stadia\.json",
    **{f"preview of {name}": b"tEXtSoftware\0stadia-preview-" + name.encode() for name in PREVIEWED},
}
"""Patterns that match the first or last bytes of each kind of output. The second one of reports is from before 0.2."""


OTHER_NAME_OR_FORCE = "choose another name, or pass --force to replace it"
ANOTHER_OUT = "choose another --out"
ANOTHER_OUT_OR_REMOVE = f"{ANOTHER_OUT}, or remove it"
"""Fixes of an output that is refused: of a command with --force; of another one; and if the old output may go."""

RECORDS: Mapping[str, str] = {
    "run.json": "a run",
    "predictions.json": "predictions",
    "batch.json": "results of many videos",
    "audit.json": "the audit of a dataset",
    "map.json": "the map of a video",
    "shards.json": "a dataset in shards",
    "study.yaml": "a study",
    "sweep.json": "a sweep",
    "recording.json": "a recording",
    "dataset.json": "a dataset",
    "foregrounds.json": "a set of cut-outs",
    "prepared.json": "masks",
    "camera_height.json": "a measured camera height",
    "rig.json": "the pinned views of fixed cameras",
    "findings.jsonl": "findings of a data check",
}
"""Record file of each kind of output folder, with a description of the folder. No other command writes into it."""


def check_replaceable(
    path: Path, kind: str, *, inputs: Iterable[Path | None], force: bool = False, fix: str = OTHER_NAME_OR_FORCE
) -> Path:
    """Return the path of an output file if writing there destroys nothing foreign to stadia.

    In the path `~` is expanded.

    path: path of the output.
    kind: kind of the output, a key of MARKS. An earlier output of this kind may be replaced.
    inputs: paths that are never replaced. In an input folder, only empty files and outputs of this kind are replaced.
        In the folder of a training run, files that the run did not write are replaced, too.
    force: replace any file or link, but no folder or device.
    fix: what the user can do about a file that is not replaced, for messages.

    Raises StadiaError if a link, or a file of another kind, is there, or the place is not writable.
    """
    path, inputs = expand_home(path), list(inputs)
    for given in inputs:
        if given is not None and _is_input(path, expand_home(given), kind):
            found = "an input of this command" if given.is_file() else f"a file of {given}, an input of this command"
            raise StadiaError(path, found=found, expected="another file for the output", fix="choose another name")
    check_writable(path.parent)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    if stat.S_ISDIR(mode) or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        found = "a folder" if stat.S_ISDIR(mode) else "a special file"
        raise StadiaError(path, found=found, expected="a file name", fix="choose another file name for --out")
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
        found = f"a file that is not stadia's {kind}"
    raise StadiaError(path, found=found, expected=f"a new file, or an earlier {kind}", fix=fix)


def check_output_folder(
    folder: Path,
    record: str,
    kind: str,
    *,
    inputs: Iterable[Path | None] = (),
    names: Container[str] | None = None,
    force: bool = False,
    fix: str | None = None,
) -> Path:
    """Return the path of an output folder if writing there destroys nothing foreign to stadia.

    In the path `~` is expanded.

    It must be new, empty, or the folder of an earlier result. Such a folder may contain other files, but no links,
    except for the images of maps. It must not contain the inputs.

    folder: path of the output folder.
    record: name of the record file that marks such folders. It contains the mark of its kind if MARKS has one.
    kind: kind of the output, for messages and as a key of MARKS.
    inputs: paths that the output must not replace.
    names: only files with these names make a folder without a record unacceptable; None means all names.
    force: also accept a folder without a record.
    fix: what the user can do, for messages; None for another folder, or --force.

    Raises StadiaError for any other folder.
    """
    folder = expand_home(folder)
    fix_of_record = fix or OTHER_NAME_OR_FORCE
    fix = fix or "choose another folder"
    for given in inputs:
        if given is None or not is_existing_path(file := expand_home(given)) or not file.is_file():
            continue
        if Path(os.path.realpath(folder)) in Path(os.path.realpath(file)).parents:
            found, expected = f"{given}, an input of this command, in it", "a separate folder"
            raise StadiaError(folder, found=found, expected=expected, fix=fix)
    check_writable(folder)
    if not folder.is_dir():
        return folder
    remove_stale_files(folder)
    check_foreign_folder(folder, record)
    inside = sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE)
    others = [name for name in inside if names is None or name in names]
    if not others or force:
        return folder
    if not os.path.lexists(folder / record):
        found = f"{', '.join(others[:3])} in it, but no {record} of stadia"
        raise StadiaError(folder, found=found, expected=f"a new or empty folder, or an earlier {kind}", fix=fix)
    if kind in MARKS:
        check_replaceable(folder / record, kind, inputs=(), fix=fix_of_record)
    check_no_links(folder, skip=("runs", "wandb", *["images"] * (kind in ("map", "batch"))))
    return folder


def check_foreign_folder(folder: Path, *own: str) -> None:
    """Raise StadiaError if a folder contains the record file of another command.

    own: names of the record files that are accepted.
    """
    for record, content in RECORDS.items():
        if record not in own and os.path.lexists(folder / record):
            found, expected = f"{content} in it ({record})", "a folder of this command"
            raise StadiaError(folder, found=found, expected=expected, fix="choose another folder")


@contextmanager
def hold_new_folder(out: Path) -> Iterator[Path]:
    """Hold the lock of a new or empty folder while the `with` block writes into it, and sync its files at the end.

    Raises StadiaError if the folder is not empty, or another process writes there.
    """
    with hold_folder(out):
        check_new_folder(out)
        with sync_later(out):
            yield out


@contextmanager
def fill_new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder whose content is moved to `path` when the `with` block ends without an error.

    An existing empty folder is not replaced itself, because it may be the current folder, a link, or a disk.

    Raises StadiaError if `path` is an address, is not new or empty, is read-only, or another process fills it.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise StadiaError(path, found="an address", expected="a folder of this machine", fix="name a folder")
    path = expand_home(path)
    if not path.exists():
        with atomic_folder(path) as folder:
            yield folder
        return
    if not path.is_dir():
        check_new_folder(path)
    with hold_folder(path):
        remove_stale_files(path)
        check_new_folder(path)
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


def check_new_folder(folder: Path) -> None:
    """Raise StadiaError for a file, or a folder with files, in the place of a new folder."""
    if folder.is_file():
        raise StadiaError(folder, found="a file", expected="a new folder", fix="choose another --out")
    if folder.is_dir() and not is_empty(folder):
        fix = "choose another --out: nothing is overwritten"
        raise StadiaError(folder, found="files in it", expected="a new or empty folder", fix=fix)


def _is_input(path: Path, given: Path, kind: str) -> bool:
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
    if path.name not in (*RUN_FILES, "report.html") or not (path.parent / "run.json").is_file():
        return False
    folders = (expand_home(given) for given in inputs if given is not None)
    return not any(folder.exists() and folder.samefile(path.parent) for folder in folders)


def is_own_file(path: Path, kind: str) -> bool:
    """Return whether a file is an earlier output of this kind (a key of MARKS), and not a link."""
    return path.is_file() and not path.is_symlink() and has_mark(path, kind)


def has_mark(path: Path, kind: str) -> bool:
    """Return whether a file has the mark that stadia writes into outputs of this kind (a key of MARKS).

    Raises DataError for an unreadable file.
    """
    with open_input(path, expected=f"a {kind}", max_bytes=1 << 50) as stream:
        ends = stream.read(_END_BYTES)
        size = stream.seek(0, 2)
        stream.seek(max(size - _END_BYTES, min(size, _END_BYTES)))
        ends += stream.read()
    return re.search(MARKS[kind], ends) is not None


def write_marked_png(path: Path, image: NDArray[Any], mark: str) -> None:
    """Write an image (H, W) or (H, W, 3) BGR as a PNG, atomically, with a mark that identifies it as stadia's output.

    path: the file.
    image: the image.
    mark: text of the chunk `Software`.
    """
    is_encoded, encoded = cv2.imencode(".png", np.ascontiguousarray(image))
    if not is_encoded:
        raise OSError(f"{path} could not be encoded")
    data, at = encoded.tobytes(), len(PNG_SIGNATURE) + 25  # The header ends here.
    chunk = b"tEXtSoftware\0" + mark.encode("ascii")
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with open_atomic(path) as stream:
        stream.write(data[:at] + whole + data[at:])


def pack_files(*paths: Path) -> bytes:
    """Return a .zip archive of files, and of the files in folders and their subfolders."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(path.parent))
    return stream.getvalue()
