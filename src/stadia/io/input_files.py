"""Read files that others wrote: regular files of limited size, with one-line errors that name the file.

Every reader uses these functions. `docs/explanation/security.md` lists what they guarantee.
"""

import codecs
import contextlib
import csv
import errno
import glob
import io
import itertools
import json
import math
import os
import re
import stat
import struct
import sys
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import platformdirs

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.core.registry import find_nearest_name
from stadia.io.atomic_files import explain_write_error

MAX_TEXT_BYTES = 64 << 20
MAX_CSV_CELLS = 5_000_000
CHUNK_BYTES = 1 << 20
COPY_AGAIN = "write or copy the file again"
LFS_POINTER, MAX_POINTER_BYTES = b"version https://git-lfs", 1024

PARSER_ERRORS = (
    ValueError,  # includes UnicodeError and json.JSONDecodeError
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,  # includes RecursionError and NotImplementedError
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    csv.Error,
    SyntaxError,  # largest header of an .npy file
    tokenize.TokenError,
)
"""Exceptions that parsers (of JSON, NumPy files, archives and so on) raise for damaged content."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_input_file(
    path: Path, *, expected: str, max_bytes: int | None = None, fix: str | None = "check the path"
) -> int:
    """Return the size of a regular file in bytes, after checking that it can be read.

    path: the file.
    expected: description of a valid file, for messages.
    max_bytes: largest accepted size; None for no limit.
    fix: what the user can do, for messages.

    Raises DataError if the file is missing, a folder or device, too large, or a pointer of Git LFS.
    """
    with _name_os_errors(path, expected, fix):
        status = os.stat(path)
        size = _check_status(path, status, expected, max_bytes, fix)
        if len(LFS_POINTER) < size < MAX_POINTER_BYTES:
            with open(path, "rb", opener=_open_without_waiting) as stream:
                if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                    found, fetch = "a pointer of Git LFS instead of the file", "fetch the file: git lfs pull"
                    raise DataError(path, found=found, expected=expected, fix=fetch)
        return size


@contextmanager
def open_input(path: Path, *, expected: str, max_bytes: int, fix: str | None = "check the path") -> Iterator[BinaryIO]:
    """Open a regular file to read bytes, in a `with` block.

    Takes the same arguments and raises the same exceptions as `check_input_file`.
    """
    check_input_file(path, expected=expected, max_bytes=max_bytes, fix=fix)
    with _name_os_errors(path, expected, fix), open(path, "rb", opener=_open_without_waiting) as stream:
        _check_status(path, os.fstat(stream.fileno()), expected, max_bytes, fix)  # it may have changed
        yield stream


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_status(path: Path, status: os.stat_result, expected: str, max_bytes: int | None, fix: str | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        found = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "a special file")
        raise DataError(path, found=found, expected=f"{expected} in a regular file", fix=fix)
    if max_bytes is not None and status.st_size > max_bytes:
        raise make_size_error(path, f"{status.st_size} bytes", max_bytes)
    return status.st_size


def make_size_error(path: Path, found: str, max_bytes: int) -> DataError:
    """Return the error for a file that is too large.

    path: the file.
    found: description of its size.
    max_bytes: largest accepted size.
    """
    return DataError(path, found=found, expected=f"at most {max_bytes} bytes", fix="check that this is the right file")


@contextmanager
def _name_os_errors(path: Path, expected: str, fix: str | None) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(path, found="no such file", expected=expected, fix=fix) from error
    except OSError as error:
        found = error.strerror or summarize_exception(error)
        raise DataError(path, found=f"a file that cannot be read ({found})", expected=expected, fix=fix) from error
    except ValueError as error:
        if "null byte" not in str(error) and not isinstance(error, UnicodeEncodeError):
            raise
        raise DataError(repr(str(path)), found="a name that no file can have", expected=expected, fix=fix) from error


@contextmanager
def name_parser_errors(path: object, *, expected: str, fix: str = COPY_AGAIN) -> Iterator[None]:
    """Convert exceptions that a parser raises for damaged content, in the `with` block, to DataError.

    path: the parsed file, which an error message names.
    expected: description of a valid file.
    fix: what the user can do.
    """
    try:
        yield
    except StadiaError:
        raise
    except PARSER_ERRORS as error:
        found = f"a damaged file ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=expected, fix=fix) from error


def read_bytes(path: Path, *, expected: str, max_bytes: int, fix: str | None = "check the path") -> bytes:
    """Read the bytes of a regular file; reading stops if there are more than `max_bytes`.

    Takes the same arguments and raises the same exceptions as `check_input_file`.
    """
    with open_input(path, expected=expected, max_bytes=max_bytes, fix=fix) as stream:
        chunks = [stream.read(os.fstat(stream.fileno()).st_size + 1)]
        size = len(chunks[0])
        while size <= max_bytes and (chunk := stream.read(CHUNK_BYTES)):
            chunks.append(chunk)
            size += len(chunk)
    if size > max_bytes:
        raise make_size_error(path, f"more than {max_bytes} bytes", max_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(
    path: Path, *, expected: str, fix: str | None = "check the path or the download", max_bytes: int = MAX_TEXT_BYTES
) -> str:
    """Read the text of a UTF-8 file without its byte order mark, or of a UTF-16 file with one, as PowerShell writes it.

    path: the file.
    expected: description of a valid file, for messages.
    fix: what the user can do, for messages.
    max_bytes: largest accepted size.

    Raises DataError if the file cannot be read or is not UTF-8.
    """
    data = read_bytes(path, expected=expected, max_bytes=max_bytes, fix=fix)
    try:
        return data.decode("utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        fix = "check that this is the right file"
        raise DataError(path, found="bytes that are not text", expected=expected, fix=fix) from error


def read_lines(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> list[str]:
    """Read the lines of a UTF-8 file that are not blank. Raises DataError as `read_text` does."""
    return [line for line in read_text(path, expected=expected, max_bytes=max_bytes).splitlines() if line.strip()]


def read_csv(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> list[dict[str, str]]:
    """Read the rows of a CSV file with a header, each as a mapping from column name to text.

    Raises DataError for rows that are shorter or longer than the header.
    """
    return parse_csv(path, read_text(path, expected=expected, max_bytes=max_bytes), expected)


def read_list(
    path: Path, *, columns: Collection[str], expected: str, max_rows: int
) -> list[tuple[str, dict[str, str]]]:
    """Read a CSV of inputs, one a row: return the place of each row for messages, and its cells by column.

    path: the file.
    columns: names of all columns that it may have.
    expected: description of a valid file, for messages.
    max_rows: most rows.

    Raises DataError for another column, a row that is shorter or longer than the header, or more rows.
    """
    rows = read_csv(path, expected=expected)
    if len(rows) > max_rows:
        raise DataError(path, found=f"{len(rows)} rows", expected=f"at most {max_rows}", fix="split the list")
    names = [(name or "").strip() for name in (rows[0] if rows else ())]
    if wrong := [name for name in names if name not in columns]:
        near = find_nearest_name(wrong[0], list(columns))
        fix = f"did you mean '{near}'?" if near else "rename or remove it"
        raise DataError(path, found=f"a column '{wrong[0]}'", expected=expected, fix=fix)
    return [
        (f"{path}, row {number}", {key.strip(): value.strip() for key, value in row.items()})
        for number, row in enumerate(rows, start=2)
    ]


def join_listed_path(list_file: Path, where: str, text: str) -> Path:
    """Return the path that a row of a list names, which may be relative to the list.

    list_file: the list.
    where: place of the row, for messages.
    text: the path as written.

    Raises DataError if it does not exist.
    """
    with contextlib.suppress(OSError, ValueError):
        path = list_file.parent / expand_home(text)
        if path.exists():
            return path
    raise DataError(
        where, found=f"'{text[:200]}', which does not exist", expected="a path that exists", fix="check the path"
    )


def parse_csv(path: object, text: str, expected: str) -> list[dict[str, str]]:
    r"""Parse CSV text with a header; return its rows, each as a mapping from column name to text.

    path: the file, for messages.
    text: its content.
    expected: description of a valid file, for messages.

    Raises DataError for rows that are shorter or longer than the header.

    Examples:
        >>> parse_csv("rows.csv", "step,loss\n1,0.5\n", "a table")
        [{'step': '1', 'loss': '0.5'}]
    """
    rows = list(_iterate_rows(path, text, expected, strict=True))
    for number, row in enumerate(rows, start=2):
        if _is_damaged(row):
            found = f"row {number}, which is shorter or longer than the header"
            raise DataError(path, found=found, expected=expected, fix="write the file again")
    return rows


def iterate_csv(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file with a header, each as a mapping from column name to text. Damaged rows are left
    out.
    """
    text = read_text(path, expected=expected, max_bytes=max_bytes)
    return (row for row in _iterate_rows(path, text, expected, strict=False) if not _is_damaged(row))


def _iterate_rows(path: object, text: str, expected: str, *, strict: bool) -> Iterator[dict[str, str]]:
    cells = 0
    with name_parser_errors(path, expected=expected):
        for row in csv.DictReader(io.StringIO(text, newline=""), strict=strict):
            cells += 4 + len(row)  # an empty row takes the memory of four cells
            if cells > MAX_CSV_CELLS:
                raise ValueError(f"more than {MAX_CSV_CELLS} cells")
            yield row


def _is_damaged(row: dict[str, str]) -> bool:
    return None in row or None in row.values()


MAX_INTEGER_DIGITS = 308
"""Integers with more digits are refused, because they cannot be converted to float."""

LONG_INTEGER = f"a whole number of more than {MAX_INTEGER_DIGITS} digits"


def parse_integer(text: str, *, most: int) -> int | None:
    """Convert ASCII digits to a number from 0 to `most`; return None for any other text, such as '²'."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) and int(text) <= most else None


def is_existing_path(path: str | Path) -> bool:
    """Return whether a file or folder exists at a path. It is false for names that no file can have."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


MAX_LISTED = 20  # files of a folder whose suffix is compared
ARCHIVES = {".tar": "tar xf {} -C frames", ".tar.gz": "tar xf {} -C frames", ".tgz": "tar xf {} -C frames"}
ARCHIVES |= {".zip": "unzip -q {} -d frames", ".7z": "7z x {} -oframes"}
"""Commands that extract an archive to the folder frames, by suffix. webdataset writes datasets as .tar: shards."""


_TO_8_BITS = """of a photo, write 8 bits: OPENCV_IO_ENABLE_OPENEXR=1 python -c 'import cv2; x = cv2.imread("{0}", -1);
 cv2.imwrite("photo.png", 255 * (x / x.max()).clip(0, 1) ** (1 / 2.2))'""".replace("\n", "")
_FLOATS = "a picture of floats (linear light)"
_SAVE_ROWS = "row['image'].save(f'{{k:06d}}.png') for each k, row of enumerate(datasets.load_dataset(FOLDER)['train'])"
_RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf")
OTHER_FILES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys((".exr", ".hdr", ".pfm"), (_FLOATS, _TO_8_BITS)),
    **dict.fromkeys((".jp2", ".j2k"), ("a JPEG 2000", "convert it: ffmpeg -i {0} photo.png")),
    **dict.fromkeys(_RAW_SUFFIXES, ("a raw photo", "develop it: darktable-cli {0} photo.jpg")),
    **dict.fromkeys((".mat", ".h5", ".hdf5"), ("an HDF5 or MATLAB file", "write images as .png, depth as .npy")),
    **dict.fromkeys((".parquet", ".arrow"), ("a table of Hugging Face datasets", f"write its images: {_SAVE_ROWS}")),
    ".mpo": ("a photo of two lenses", "write its pictures: exiftool -b -MPImage2 {0} > right.jpg, and {0} as left.jpg"),
    **dict.fromkeys(
        (".h264", ".264", ".h265", ".265", ".hevc"),
        ("a video without a container", "put it into one: ffmpeg -r 30 -i {0} -c copy video.mp4 (30: its frame rate)"),
    ),
    **dict.fromkeys((".svo", ".svo2"), ("a recording of a ZED", "export it as .mp4 or images by ZED's SVO_Export")),
    ".sens": ("a recording of ScanNet", "write its images and poses: reader.py --filename {0} of ScanNet's SensReader"),
    ".feather": ("a table of Apache Arrow", "write it as text: pandas.read_feather('{0}').to_csv('table.csv')"),
    **dict.fromkeys(
        (".mjpg", ".mjpeg"),
        ("a stream of JPEG pictures", "copy it into a video: ffmpeg -f mjpeg -i {0} -c copy video.mkv"),
    ),
    ".mds": ("a shard of MosaicML", "write its images to a folder with streaming.StreamingDataset"),
    ".zarr": ("a Zarr store", "write its images to a folder with zarr.open and cv2.imwrite"),
    ".y4m": ("a raw video", "convert it: ffmpeg -i {0} -crf 12 video.mp4"),
    ".mdb": ("a database of LMDB", "write its images to a folder with lmdb.open(FOLDER).begin().cursor()"),
    ".tfrecord": ("a TFRecord", "write its images to a folder with tf.data.TFRecordDataset"),
}
"""What other files are that people pass as images or data, and how to convert them, by suffix."""


def check_no_archive(path: Path) -> None:
    """Raise DataError if a path is an archive, a pattern `a-{000..009}.tar` of archives, a folder of archives, or a
    file of OTHER_FILES.
    """
    files = str(path)
    if os.path.isdir(path) and path.suffix != ".zarr":
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            kinds = {Path(entry.name).suffix for entry in itertools.islice(entries, MAX_LISTED)} - {".json"}
            files = (
                f"{path}/*{kinds.pop()}"
                if len(kinds) == 1 and kinds <= {".tar", ".parquet", ".tfrecord", ".mdb", ".mds"}
                else ""
            )
    if (other := OTHER_FILES.get(Path(files).suffix.lower())) is not None:
        what, fix = other
        raise DataError(path, found=what, expected="a photo, a video, or images in a folder", fix=fix.format(path))
    suffix = next((suffix for suffix in ARCHIVES if files.lower().endswith(suffix)), _find_archive_suffix(path))
    if suffix is None:
        return
    if suffix in _UNPACK:
        fix = f"unpack it: {_UNPACK[suffix]} {path}"
        raise DataError(path, found=f"a compressed file ({suffix})", expected="the file in it", fix=fix)
    command, found = ARCHIVES[suffix].format(files), "an archive, such as a shard of webdataset"
    if files != str(path) or "{" in path.name:
        found = "archives, such as shards of webdataset"
        command = f"for file in {files}; do {ARCHIVES[suffix].format('$file')}; done"
    fix = f"mkdir frames && {command}, then pass the folder frames"
    raise DataError(path, found=found, expected="files in a folder", fix=fix)


_ARCHIVE_BYTES = {b"PK\x03\x04": ".zip", b"7z\xbc\xaf": ".7z", b"\x1f\x8b": ".gz", b"BZh": ".bz2",
                  b"(\xb5/\xfd": ".zst", b"\xfd7zX": ".xz"}  # fmt: skip
_UNPACK = {".gz": "gunzip -k", ".bz2": "bunzip2 -k", ".zst": "unzstd", ".xz": "unxz -k"}
_ZIPPED_SUFFIXES = (".npz", ".pt", ".pth", ".ckpt")  # formats of their own


def _find_archive_suffix(path: Path) -> str | None:
    """Return the suffix of an archive by its first bytes, such as ".zip" of Record3D's .r3d; None for other files."""
    if path.suffix.lower() in _ZIPPED_SUFFIXES or not os.path.isfile(path):
        return None
    with contextlib.suppress(OSError), open(path, "rb", opener=_open_without_waiting) as stream:
        first = stream.read(4)
        return next((suffix for start, suffix in _ARCHIVE_BYTES.items() if first.startswith(start)), None)
    return None


def check_path_exists(path: Path) -> None:
    """Raise DataError if a path does not exist, or is an archive."""
    if not is_url(path):
        check_no_archive(path)
    try:
        if not is_glob(path) and not is_url(path):
            path.stat()
    except (OSError, ValueError) as error:
        what: object = path
        found = "no such file or folder"
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            what, found = repr(str(path)[:200]), f"a path that cannot be read ({summarize_exception(error)})"
        expected = "a path that exists, of a folder, a video, an image or another file"
        raise DataError(what, found=found, expected=expected, fix="check the path") from error


def is_glob(path: str | Path) -> bool:
    """Return whether a path is a pattern of file names, such as `drives/*/front.mp4`, and no file of this name exists.

    Examples:
        >>> is_glob("drives/*/front.mp4"), is_glob("drives")
        (True, False)
    """
    return any(mark in str(path) for mark in "*?[") and not is_existing_path(path)


def find_glob(pattern: str | Path) -> list[Path]:
    """Return the paths that match a pattern such as `drives/*/front.mp4`, in natural order (drive2 before drive10)."""
    return sorted(
        map(Path, glob.glob(str(pattern), recursive=True)), key=lambda path: natural_sort_key(path, whole=True)
    )


def expand_home(path: str | Path) -> Path:
    """Return a path with `~` expanded. An unknown `~name` is kept."""
    return Path(os.path.expanduser(path))


def make_absolute(path: str | Path) -> Path:
    """Return an absolute path without `..`. Links are followed before `..` is applied, as the system does."""
    parts = expand_home(path).absolute().parts
    last = max((number for number, part in enumerate(parts, start=1) if part == ".."), default=0)
    return Path(os.path.realpath(Path(*parts[:last])), *parts[last:]) if last else Path(*parts)


def check_writable(folder: Path) -> None:
    """Raise StadiaError if a folder cannot be written to, or does not exist and cannot be created.

    Nothing is created.
    """
    folder = expand_home(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        explain_write_error(error, folder)
        if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):  # /proc refuses files like this.
            found, expected = "a folder that refuses new files", "a writable folder"
            raise StadiaError(folder, found=found, expected=expected, fix="choose another place to write to") from error
        raise


def check_no_links(folder: Path, skip: Collection[str] = ("wandb",)) -> None:
    """Raise StadiaError if an output folder contains a symbolic link at any depth.

    Folders named `skip` are not searched.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                found, expected = "a symbolic link in an output folder", "files and folders only"
                raise StadiaError(path, found=found, expected=expected, fix="remove it, or replace it by a copy")
        folders[:] = [name for name in folders if name not in skip]


def natural_sort_key(path: Path, *, whole: bool = False) -> tuple[tuple[int, int | str], ...]:
    """Return a key for sorting paths so that `frame2` comes before `frame10`.

    path: the path.
    whole: compare the whole path, not only the file name.

    Examples:
        >>> sorted([Path("frame10.png"), Path("frame2.png")], key=natural_sort_key)[0].name
        'frame2.png'
    """
    text = path.as_posix() if whole else path.name
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


def join_name(folder: str | Path, name: str) -> str:
    """Return the path of a file in a folder as text.

    folder: the folder.
    name: name of the file.

    Raises DataError if `name` leads out of the folder, or no file can have this name.

    Examples:
        >>> join_name("depth", "frame.000001.npz")
        'depth/frame.000001.npz'
    """
    marks = {"\0", os.sep, os.altsep or os.sep} | ({":"} if os.name == "nt" else set())
    is_valid = name not in ("", os.curdir, os.pardir) and not any(mark in name for mark in marks)
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        is_valid = False
    if not is_valid:
        found = "a name that leaves its folder, or that no file can have"
        raise DataError(repr(name[:60]), found=found, expected="the name of one file", fix="rename the image")
    return os.path.join(folder, name)


def safe_join(folder: Path, name: str) -> Path:
    """Return the path of a file below a folder, whose name comes from a file that others wrote.

    folder: the folder.
    name: relative path in it.

    Raises DataError if the path leads out of the folder, or if no file can have this name.

    Examples:
        >>> safe_join(Path("run"), "images/0.png").name
        '0.png'
    """
    try:
        path = (Path(folder) / name).resolve()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a lone surrogate, a loop of links
        found, expected = "a name that no file can have", f"a path inside {folder}"
        raise DataError(repr(name[:60]), found=found, expected=expected) from error
    if not path.is_relative_to(Path(folder).resolve()):
        raise DataError(name, found="a path outside its folder", expected=f"a path inside {folder}")
    return path


# -- private folders: `docs/explanation/security.md` has the rules

PRIVATE_MODE = 0o700
CLOSED_MODE = 0o755


def make_closed_folder(folder: Path) -> None:
    """Create a folder, if it is missing, that only this user can write to."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=CLOSED_MODE)


def find_cache_folder(folder: str | None = None) -> Path:
    """Return the folder of the cache: the configured folder, otherwise $STADIA_CACHE, otherwise the user's cache
    folder.
    """
    return expand_home(folder or os.environ.get("STADIA_CACHE") or platformdirs.user_cache_dir("stadia"))


def find_private_folder(name: str) -> Path | None:
    """Return the folder `stadia/NAME` in the user's cache, created if missing, or None if not private.

    Only this user may write to `stadia` and read `stadia/NAME`. No link and no folder above them may allow others to
    rename them.

    name: name of the folder.
    """
    parent = Path(platformdirs.user_cache_dir()).absolute()
    shared, private = parent / "stadia", parent / "stadia" / name
    try:
        make_closed_folder(shared)
        with contextlib.suppress(FileExistsError):
            private.mkdir(mode=PRIVATE_MODE)
        if sys.platform == "win32":  # a user profile of Windows is private, and its files have no modes
            return private
        real = Path(os.path.realpath(parent))
        above = [real, *real.parents]
        is_private = _is_own(shared, closed=0o022) and _is_own(private, closed=0o077)
        return private if is_private and not any(map(_is_open_to_others, above)) else None
    except OSError:
        return None


def _is_own(folder: Path, *, closed: int) -> bool:
    """Return whether a folder belongs to this user and denies others the permissions `closed`."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & closed


def _is_open_to_others(folder: Path) -> bool:
    """Return whether any user can rename a folder's entries."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


# -- URLs of stores

_URL = re.compile(r"([a-z][a-z0-9+]+):/{1,2}(?=[^/])(.*)", re.DOTALL)
SCHEMES = ("s3", "gs", "gcs", "http", "https", "memory")
"""Schemes that identify a path as a URL. All other paths are local folders."""


def is_url(path: str | Path) -> bool:
    """Return whether a path is the URL of a store, such as s3://BUCKET/NAME.

    It is also recognized if `Path` has joined its two slashes.
    """
    match = _URL.fullmatch(str(path))
    return match is not None and match[1] in SCHEMES


def restore_url(path: str | Path) -> str:
    """Return a URL as text with both slashes, because `Path` removes one; other paths are returned unchanged."""
    match = _URL.fullmatch(str(path))
    return str(path) if match is None else f"{match[1]}://{match[2]}"


EntryT = TypeVar("EntryT")

MAX_JSON_VALUES = 5_000_000
MAX_JSON_ENTRY = 8 << 20
"""Largest number of characters of a streamed value. Parsing takes 27 times the memory of the text."""

_JSON, _NO_SPACE = json.JSONDecoder(), re.compile(r"[^ \t\n\r]")
_LONG_NUMBER = re.compile(rf"(?<![0-9])[0-9]{{{MAX_INTEGER_DIGITS + 1}}}")


def read_json(
    path: Path, *, expected: str = "a JSON file", fix: str = "check the path", max_bytes: int = MAX_TEXT_BYTES
) -> Any:
    """Read a JSON file and return its content.

    path: the file.
    expected: description of a valid file, for messages.
    fix: what the user can do, for messages.
    max_bytes: largest accepted size.

    Raises DataError, which names the file, if it is missing or damaged.
    """
    return parse_json(path, read_text(path, expected=expected, fix=fix, max_bytes=max_bytes), expected)


def parse_json(path: object, text: str, expected: str, *, fix: str = COPY_AGAIN) -> Any:
    """Parse JSON text and return its value.

    path: the file, for messages.
    text: its content.
    expected: description of a valid file, for messages.
    fix: what the user can do, for messages.

    Raises DataError for invalid text, or if there are too many values.
    """
    check_json_values(path, text)
    return _parse_json(path, text, expected, fix)


def parse_json_lines(path: object, text: str, expected: str, *, fix: str = COPY_AGAIN) -> Iterator[Any | DataError]:
    """Parse text with one JSON value per line; yield each value, or the DataError of an invalid line.

    Takes the same arguments as `parse_json`. Raises DataError if there are too many values.
    """
    check_json_values(path, text)
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            yield _parse_json(f"{path}:{number}", line, expected, fix)
        except DataError as error:
            yield error


def read_json_objects(path: Path, *, expected: str, fix: str) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line; return the objects in order. Raises DataError for an invalid line."""
    text = "\n".join(read_lines(path, expected=expected))
    rows = list[dict[str, Any]]()
    for number, row in enumerate(parse_json_lines(path, text, expected, fix=fix), start=1):
        if isinstance(row, DataError):
            raise row
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}", found=f"a {type(row).__name__}", expected=expected, fix=fix)
        rows.append(row)
    return rows


def replace_nan(value: Any) -> Any:
    """Return a copy of a nested value with None for numbers that are not finite, as JSON requires.

    Examples:
        >>> replace_nan({"rmse": [1.5, float("nan")]})
        {'rmse': [1.5, None]}
    """
    if isinstance(value, dict):
        return {key: replace_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_json_values(path: object, text: str) -> None:
    """Raise DataError if JSON text has more than MAX_JSON_VALUES values, which would take too much memory."""
    if (values := sum(map(text.count, "[{,"))) > MAX_JSON_VALUES:
        found, fix = f"about {values} values", "check that this is the right file"
        raise DataError(path, found=found, expected=f"at most {MAX_JSON_VALUES}", fix=fix)


def load_json(text: str, **hooks: Any) -> Any:
    """Parse JSON text like `json.loads`, but raise ValueError for integers that are too long.

    hooks: arguments of `json.loads`.
    """
    if _LONG_NUMBER.search(text):  # the hook doubles the time, so it is used only for long digits
        hooks["parse_int"] = _parse_integer
    return json.loads(text, **hooks)


def _parse_integer(text: str) -> int:
    if len(text.removeprefix("-")) > MAX_INTEGER_DIGITS:
        raise ValueError(LONG_INTEGER)
    return int(text)


def _parse_json(path: object, text: str, expected: str, fix: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(path, found=f"invalid JSON ({error})", expected=expected, fix=fix) from error


class _JsonWindow:
    """A part of a JSON file with values to parse one by one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._is_end = "", 0, False

    def _read_on(self) -> None:
        left = len(self._text) - self._at
        if left > MAX_JSON_ENTRY:
            raise ValueError(f"a value of more than {MAX_JSON_ENTRY} characters, or a damaged one")
        data = self._stream.read(max(CHUNK_BYTES, left))  # doubling, so that a long value is parsed few times
        self._is_end = not data
        self._text, self._at = self._text[self._at :] + self._decoder.decode(data, self._is_end), 0

    def peek(self) -> str:
        """Return the next character that is not a space; "" at the end."""
        while True:
            found = _NO_SPACE.search(self._text, self._at)
            self._at = found.start() if found else len(self._text)
            if found or self._is_end:
                return found[0] if found else ""
            self._read_on()

    def take(self, expected: str) -> str:
        """Consume and return the next character. Raises ValueError if it is not in `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"'{found}' instead of one of '{expected}'")
        self._at += 1
        return found

    def take_value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except ValueError:
                if self._is_end:
                    raise
            else:
                if end < len(self._text) or self._is_end:
                    if _LONG_NUMBER.search(self._text, self._at, end):
                        load_json(self._text[self._at : end])
                    self._at = end
                    return value
            self._read_on()  # the value may be cut off


def stream_json_lists(
    path: Path, names: Collection[str], *, expected: str, max_bytes: int, fix: str = COPY_AGAIN
) -> Iterator[tuple[str, Any]]:
    """Yield the entries of some lists of a JSON object, one at a time, as pairs (name of the list, entry).

    The file may be larger than memory.

    path: the file.
    names: names (keys) of the lists.
    expected: description of a valid file, for messages.
    max_bytes: largest accepted size.
    fix: what the user can do, for messages.

    Raises DataError for damaged content, or if a list is missing.
    """
    with open_input(path, expected=expected, max_bytes=max_bytes) as stream:
        yield from _name_json_errors(path, _parse_json_lists(_JsonWindow(stream), names), expected, fix)


def stream_json_rows(path: Path, *, expected: str, max_bytes: int, fix: str = COPY_AGAIN) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON list, one at a time; the file may be larger than memory.

    Takes the same arguments as `stream_json_lists`. Raises DataError for damaged content.
    """
    with open_input(path, expected=expected, max_bytes=max_bytes) as stream:
        yield from _name_json_errors(path, _parse_json_rows(_JsonWindow(stream)), expected, fix)


def _name_json_errors(path: Path, entries: Iterator[EntryT], expected: str, fix: str) -> Iterator[EntryT]:
    while True:
        try:
            entry = next(entries, None)
        except (ValueError, RecursionError, MemoryError) as error:
            raise DataError(path, found=f"invalid JSON ({error})", expected=expected, fix=fix) from error
        if entry is None:
            return
        yield entry


def _parse_json_rows(window: _JsonWindow) -> Iterator[dict[str, Any]]:
    for row in _parse_list(window):
        if not isinstance(row, dict):
            raise ValueError(f"a {type(row).__name__} instead of an object")
        yield row
    if window.peek():
        raise ValueError("text after its end")


def _parse_list(window: _JsonWindow) -> Iterator[Any]:
    window.take("[")
    is_open = window.peek() != "]" or not window.take("]")
    while is_open:
        yield window.take_value()
        is_open = window.take(",]") == ","


def _parse_json_lists(window: _JsonWindow, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    missing = set(names)
    window.take("{")
    is_open = window.peek() != "}" or not window.take("}")
    while is_open:
        name = window.take_value()
        window.take(":")
        if name in missing:
            missing.remove(name)
            yield from ((name, entry) for entry in _parse_list(window))
        else:
            window.take_value()
        is_open = window.take(",}") == ","
    if window.peek():
        raise ValueError("text after its end")
    if missing:
        raise ValueError(f"no list '{min(missing)}'")
