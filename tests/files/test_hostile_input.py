"""Attacks on the readers of `core`: files that are small, or well-formed, and cost memory, time or a wrong decoder."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.core.errors import ConfigMistakes, DataError
from stadia.files import image_io, input_files, json_files
from stadia.files.array_files import read_npy, read_npz
from stadia.files.image_io import PNG_END, PNG_SIGNATURE, decode_image, find_image_fault, parse_image_header
from stadia.files.input_files import open_input, read_bytes, read_csv
from stadia.files.json_files import read_json
from stadia.files.yaml_files import parse_yaml

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8), (9, 9), 3)


def _refuse(call, word: str) -> str:
    with pytest.raises(DataError, match=word) as caught:
        call()
    return str(caught.value)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# -- Messages


def test_no_message_holds_what_a_terminal_obeys() -> None:
    line = str(DataError("a\x1b[31m.txt", found="\x1b]0;title\x07 \u202e", expected="\udcff", fix="\x9b2J"))
    assert line.isprintable()
    assert r"a\x1b[31m.txt" in line
    assert ConfigMistakes(["'\x1b[2J' is no key"], fix="a").mistakes == (r"'\x1b[2J' is no key",)


def test_a_message_is_short_whatever_the_file_holds() -> None:
    assert len(str(DataError("a", found="x" * 10**7, expected="y", fix="z"))) < 1100


# -- Files


def test_a_pipe_that_replaces_the_checked_file_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    os.mkfifo(path)
    monkeypatch.setattr(input_files, "check_input_file", lambda *_, **__: 0)

    def read() -> None:
        with pytest.raises(DataError, match="a pipe"), open_input(path, expected="text", max_bytes=9):
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(5)
    is_blocked = reader.is_alive()
    if is_blocked:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    assert not is_blocked


def test_a_file_of_unknown_size_is_read_in_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1 << 20)
    monkeypatch.setattr(input_files, "CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(input_files.os, "fstat", lambda _: os.stat_result((0o100644, *[0] * 9)))
    assert read_bytes(_write(tmp_path / "a", data), expected="bytes", max_bytes=1 << 20) == data


# -- JSON, YAML, CSV


@pytest.mark.parametrize("piece", ["[],", "{},", "1,"])
def test_json_of_too_many_values_is_refused_unread(tmp_path: Path, piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MAX_JSON_VALUES", 1000)
    path = _write(tmp_path / "a.json", f"[{piece * 1000}0]".encode())
    assert "values" in _refuse(lambda: read_json(path), "at most 1000")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: !!timestamp abc", "timestamp"),
        ("a: !!timestamp 2020-01-01", "timestamp"),
        ("a: !!set {b}", "set"),
        ("a: !!binary aGk=", "binary"),
        ("a: 0x" + "f" * 10_000, "a number of 10002 characters"),
        ("a: " + ":".join(["1"] * 5000), "a number of 9999 characters"),
        ("a: !!float " + "1" * 5000, "a number of 5000 characters"),
        ("{" + "".join(f"k{number}: 1, " for number in range(2000)) + "k7: 2}", "stands twice"),
    ],
)
def test_yaml_is_of_plain_values(text: str, word: str) -> None:
    _refuse(lambda: parse_yaml("a.yaml", text, "a mapping"), word)


@pytest.mark.slow
def test_yaml_of_too_many_values_is_refused_before_it_is_composed() -> None:
    start = time.perf_counter()
    _refuse(lambda: parse_yaml("a.yaml", "[" + "a," * 500_000 + "]", "a mapping"), "more than 100000 values")
    assert time.perf_counter() - start < 20


def test_yaml_numbers_stay_what_they_were() -> None:
    values = parse_yaml("a.yaml", "[1, 0x1f, 1_000, 0b11, 1.5, 1.0e-3, .inf, -2, ~, yes, 2020-01-01, '1']", "a list")
    assert values == [1, 31, 1000, 3, 1.5, 1e-3, float("inf"), -2, None, True, "2020-01-01", "1"]


def test_a_csv_of_too_many_cells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "MAX_CSV_CELLS", 1000)
    _refuse(lambda: read_csv(_write(tmp_path / "a.csv", b"a\n" + b"1\n" * 1000), expected="a table"), "1000 cells")


# -- Arrays


def _npy(header: bytes, data: bytes = b"", version: int = 2, claimed: int | None = None) -> bytes:
    size = len(header) if claimed is None else claimed
    return b"\x93NUMPY" + bytes((version, 0)) + size.to_bytes(4 if version == 2 else 2, "little") + header + data


def test_a_long_header_of_an_array_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", _npy(b" " * (50 << 20)))
    assert path.stat().st_size < 100_000
    most = 0
    read = zipfile.ZipExtFile.read

    def count(self: zipfile.ZipExtFile, size: int = -1) -> bytes:
        nonlocal most
        most = max(most, len(data := read(self, size)))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", count)
    _refuse(lambda: read_npz(path), "a header of 52428800 bytes")
    assert most <= 1 << 20


def test_a_bool_that_is_neither_0_nor_1_becomes_1(tmp_path: Path) -> None:
    head = b"{'descr': '|b1', 'fortran_order': False, 'shape': (4,), }\n"
    mask = read_npy(_write(tmp_path / "a.npy", _npy(head, b"\0\1\2\xff")))
    assert mask.dtype == bool
    assert mask.tobytes() == b"\0\1\1\1"


def test_an_escape_in_a_header_is_refused(tmp_path: Path) -> None:
    head = b"{'descr': '\\d', 'fortran_order': False, 'shape': (4,), }\n"
    _refuse(lambda: read_npy(_write(tmp_path / "a.npy", _npy(head, bytes(16)))), "backslash")


def test_a_zip64_directory_is_refused(tmp_path: Path) -> None:
    """Its own size of the list of members is 64 bits, and replaces the one that is checked."""
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(2))
    data = stream.getvalue()
    at = data.rindex(b"PK\5\6")
    size, start = struct.unpack_from("<II", data, at + 12)
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    _refuse(lambda: read_npz(_write(tmp_path / "a.npz", data[:at] + end64 + locator + data[at:])), "zip64")


# -- Images: what the header check reads must be what the decoder reads.


def _png(*chunks: bytes) -> bytes:
    return PNG_SIGNATURE + b"".join(chunks) + PNG_END


def test_a_png_of_two_headers_is_refused() -> None:
    def header(side: int) -> bytes:
        return _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))

    data = _chunk(b"IDAT", zlib.compress(bytes(5 * 4)))
    assert decode_image("a", _png(header(4), data), cv2.IMREAD_UNCHANGED).shape == (4, 4)
    for chunks in ((header(4), header(30_000), data), (_chunk(b"tEXt", b"a\0b"), header(4), data), (data,)):
        assert find_image_fault(_png(*chunks)) == "a header that is not the first chunk"


@pytest.mark.parametrize("unlike", [b"\xff\x01", b"\xff\x00", b"\xff\xd0", b"\xff\xd7"])
def test_no_jpeg_hides_its_frame_header(unlike: bytes) -> None:
    """Libjpeg reads these markers without a length, or skips them: what follows is its header, and must be ours."""
    data = bytes(cv2.imencode(".jpg", IMAGE)[1].tobytes())
    at = data.index(b"\xff\xc0")
    decoy, large = data[at : at + 19], struct.pack(">HH", 60_000, 60_000)
    padding = bytearray(65533)  # of the segment that libjpeg skips, and in which a reader of a length would land
    padding[0xFFE2 - 4 : 0xFFE2 - 4 + len(decoy)] = decoy
    real = data[2:].replace(struct.pack(">HH", 48, 64), large, 1)
    hidden = data[:2] + unlike + b"\xff\xe2\xff\xff" + bytes(padding) + real
    header = parse_image_header(hidden)
    assert header is None or (header.height, header.width) == (60_000, 60_000)
    _refuse(lambda: decode_image("a", hidden, cv2.IMREAD_COLOR), "expected")


def test_a_progressive_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = bytes(cv2.imencode(".jpg", IMAGE, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1].tobytes())
    assert decode_image("a", data, cv2.IMREAD_COLOR).shape == IMAGE.shape
    last = data.rindex(b"\xff\xda")
    assert "scans" in str(find_image_fault(data[:-2] + data[last:-2] * 300 + data[-2:]))


@pytest.mark.parametrize("is_png", [True, False])
def test_an_image_of_millions_of_empty_parts_is_refused(is_png: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_io, "_MAX_PARTS", 1000)
    if is_png:
        data = bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
        data = data[:33] + _chunk(b"tEXt", b"") * 2000 + data[33:]
    else:
        data = bytes(cv2.imencode(".jpg", IMAGE)[1].tobytes())
        data = data[:2] + b"\xff\xfe\x00\x02" * 2000 + data[2:]
    assert "more than" in str(find_image_fault(data))
    if not is_png:
        assert parse_image_header(data) is None


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_of_many_compressed_texts_is_refused(kind: bytes) -> None:
    """Libpng unpacks each to 8 MB: a thousand of them, an image of 8 MB, took 48 s."""
    data = bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    text = _chunk(kind, b"key\0\0" + zlib.compress(bytes(1000)))
    assert find_image_fault(data[:33] + text * 30 + data[33:]) is None
    assert "compressed texts" in str(find_image_fault(data[:33] + text * 40 + data[33:]))


def test_an_animated_png_is_refused() -> None:
    """OpenCV keeps several copies of its canvas: 8192x8192 of 16 bits took more than 2 GB."""
    data = bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    frame = struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 100, 0, 0)
    chunks = _chunk(b"acTL", struct.pack(">II", 1, 0)) + _chunk(b"fcTL", frame)
    animated = data[:33] + chunks + data[33:]
    assert cv2.imdecode(np.frombuffer(animated, np.uint8), cv2.IMREAD_COLOR).shape == IMAGE.shape
    _refuse(lambda: decode_image("a", animated, cv2.IMREAD_COLOR), "an animated PNG")
