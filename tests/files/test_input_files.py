"""Files from outside are read whole or refused in one line that names them."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stadia.core.errors import DataError, GeometryError
from stadia.files import array_files
from stadia.files.array_files import list_npz_arrays, read_npy, read_npz
from stadia.files.input_files import name_parser_errors, parse_integer, read_bytes, read_csv, read_lines, read_text
from stadia.files.json_files import read_json, stream_json_lists
from stadia.files.yaml_files import read_yaml


def _refused(call, *words: str) -> str:
    with pytest.raises(DataError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line
    return line


def _write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# -- Regular files only.


@pytest.mark.parametrize(
    "kind", ["pipe", "socket", "folder", "missing", "device", "nul", "long", "below a file", "loop"]
)
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calib.txt"
    found = "no such file"
    match kind:
        case "pipe":
            os.mkfifo(path)
            found = "a pipe"
        case "socket":
            found = "a socket"
            monkeypatch.chdir(tmp_path)  # a socket's name has at most 108 bytes
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("calib.txt")
        case "folder":
            path.mkdir()
            found = "a folder"
        case "device":
            path, found = Path("/dev/zero"), "a device"
        case "nul":
            path, found = Path("a\0b"), "a name that no file can have"
        case "long":
            path, found = tmp_path / ("n" * 300), "File name too long"
        case "below a file":
            path = _write(path, "1") / "inner"
        case "loop":
            path.symlink_to(path)
            found = "symbolic links"
    _refused(lambda: read_text(path, expected="a calibration"), found, "a calibration")


def test_a_name_of_any_bytes_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    assert read_text(_write(path, "1 2"), expected="numbers") == "1 2"


def test_reading_stops_at_the_limit_whatever_size_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.txt", "x" * 100)
    assert len(read_bytes(path, expected="text", max_bytes=100)) == 100
    _refused(lambda: read_bytes(path, expected="text", max_bytes=99), "100 bytes", "at most 99")
    endless = Path("/proc/self/maps")  # its reported size is 0
    if endless.exists():
        _refused(lambda: read_bytes(endless, expected="text", max_bytes=10), "more than 10 bytes")


# -- Text, JSON, YAML, CSV.


def test_text_loses_its_byte_order_mark_and_refuses_other_bytes(tmp_path: Path) -> None:
    assert read_text(_write(tmp_path / "a.txt", b"\xef\xbb\xbfP2: 1"), expected="a calibration") == "P2: 1"
    assert read_lines(_write(tmp_path / "a.txt", "a\n\n  \nb\n"), expected="lines") == ["a", "b"]
    _refused(lambda: read_text(_write(tmp_path / "a.txt", b"\xff\xfe\0"), expected="a calibration"), "not text")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5000, '{"a": 1,}', ""])
def test_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    _refused(lambda: read_json(_write(tmp_path / "a.json", text)), "a.json", "invalid JSON")


@pytest.mark.parametrize("text", ["9" * 309, "-" + "9" * 400, '{"a": [1, 1' + "0" * 308 + "]}"])
def test_a_whole_number_of_more_than_308_digits_is_refused(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path / "a.json", text)
    _refused(lambda: read_json(path), "a.json", "a whole number of more than 308 digits")
    lines = _write(tmp_path / "b.json", '{"a": [' + text + "]}")
    _refused(
        lambda: list(stream_json_lists(lines, ["a"], expected="lists", max_bytes=1000)), "b.json", "a whole number"
    )


def test_long_numbers_that_a_float_holds_are_read(tmp_path: Path) -> None:
    text = '{"digits": "' + "9" * 400 + '", "third": 0.' + "3" * 400 + ', "large": ' + "9" * 308 + "}"
    values = read_json(_write(tmp_path / "a.json", text))
    assert values["third"] == pytest.approx(1 / 3)
    assert values["large"] == 10**308 - 1


def test_json_is_read_as_written(tmp_path: Path) -> None:
    assert read_json(_write(tmp_path / "a.json", json.dumps({"a": [1, 2.5, None]}))) == {"a": [1, 2.5, None]}


def test_yaml_is_read_as_plain_values(tmp_path: Path) -> None:
    text = "base: &b {lr: 1e-4, size: [96, 320]}\nchanged:\n  <<: *b\n  lr: 0.1\nday: 2026-02-31\n"
    values = read_yaml(_write(tmp_path / "a.yaml", text), expected="a study")
    assert values["changed"] == {"lr": 0.1, "size": [96, 320]}
    assert values["day"] == "2026-02-31"  # no such date: it is text
    assert read_yaml(_write(tmp_path / "a.yaml", ""), expected="a study") is None


def _nested_aliases(levels: int, width: int = 9) -> str:
    lines = ["a0: &a0 [" + ", ".join(["lol"] * width) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * width) + "]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (_nested_aliases(9), "aliases that expand"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ('a: !!int "abc"', "invalid YAML"),
        ("a: " + "9" * 5000, "invalid YAML"),
        ("a: " + "9" * 320, "a whole number of more than 308 digits"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!timestamp 2026-02-31", "invalid YAML"),
        ("[" * 50_000, "nested too deep"),
        ("a: 1\na: 2", "'a' stands twice"),
        ("? [1]\n: 2", "unhashable"),
        ("a: {", "line 1"),
        ("a: \0", "invalid YAML"),
        ("--- 1\n--- 2\n", "another document"),
        ("a: *nobody", "undefined alias"),
        ("<<: 3", "invalid YAML"),
        ("a: 0x" + "f" * 5000, "a number of 5002 characters"),
        ("a: 1" + ":59" * 5000, "a number of 15001 characters"),
        ('a: "\\ud800"', "invalid YAML"),
        ("a: !!binary aGFsbG8=", "could not determine a constructor"),
        ("a: !!set {b}", "could not determine a constructor"),
    ],
    ids=lambda value: value[:20].replace("\n", " "),
)
def test_hostile_yaml_is_refused(tmp_path: Path, text: str, word: str) -> None:
    _refused(lambda: read_yaml(_write(tmp_path / "study.yaml", text), expected="a study"), "study.yaml", word)


def test_csv_needs_rows_of_one_length(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert read_csv(_write(path, "step,loss\n1,.5\n"), expected="metrics") == [{"step": "1", "loss": ".5"}]
    _refused(lambda: read_csv(_write(path, "step,loss\n1\n"), expected="metrics"), "row 2")
    _refused(lambda: read_csv(_write(path, "step,loss\n1,2,3\n"), expected="metrics"), "row 2")
    _refused(lambda: read_csv(_write(path, 'step,loss\n1,"' + "x" * 200_000 + '"\n'), expected="metrics"), "field")


# -- Arrays.


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_survives_its_round_trip(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.asarray(np.arange(12).reshape(3, 4), dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", depth_m=values, other=values[0])
    for found in (read_npy(tmp_path / "a.npy", shape=(3, 4)), read_npz(tmp_path / "a.npz")["depth_m"]):
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
        found[0, 0] = 1  # the caller owns it
    assert list_npz_arrays(tmp_path / "a.npz") == ("depth_m", "other")
    assert set(read_npz(tmp_path / "a.npz", only=("other", "absent"))) == {"other"}


def test_an_empty_array_survives_its_round_trip(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 3)))
    assert read_npy(tmp_path / "a.npy").shape == (0, 3)


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "damaged"),
        (b"\x93NUMPY", "damaged"),
        (b"\x93NUMPY\x09\x00", "version 9.0"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999)}"), "claims shape"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", b"\0" * 8), "claims shape"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", b"\0" * 64), "expected"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, " + "9" * 400 + ")}"), "damaged"),
        (_npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8), "complex64"),
        (_npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", b"\0" * 16), "<U4"),
        (_npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8), "datetime64"),
        (_npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", b"\0" * 4), "'a'"),
        (_npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8), "object"),
        (_npy("{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", b"\0" * 16), "float128"),
        (_npy("__import__('os').system('touch /tmp/owned')"), "damaged"),
        (_npy("(" * 9000), "damaged"),
    ],
    ids=range(15),
)
def test_a_hostile_npy_is_refused_before_its_data_are_read(tmp_path: Path, content: bytes, word: str) -> None:
    _refused(lambda: read_npy(_write(tmp_path / "a.npy", content)), "a.npy", word)


def test_an_array_of_another_shape_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    _refused(lambda: read_npy(tmp_path / "a.npy", shape=(4, 3)), "shape (3, 4)", "shape (4, 3)")


def _zip(name: str = "a.npy", *, method: int = zipfile.ZIP_DEFLATED, data: bytes | None = None) -> bytes:
    stream = io.BytesIO()
    if data is None:
        array = io.BytesIO()
        np.save(array, np.zeros(1000))
        data = array.getvalue()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def _encrypted() -> bytes:
    data = bytearray(_zip(method=zipfile.ZIP_STORED))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _many_members() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(1001):
            archive.writestr(f"{number}.npy", b"")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no zip archive"),
        (b"PK\x05\x06", "no zip archive"),
        (_zip()[:-30], "no zip archive"),
        (_zip(method=zipfile.ZIP_LZMA), "another method"),
        (_zip(method=zipfile.ZIP_BZIP2), "another method"),
        (_encrypted(), "encrypted"),
        (_zip(data=b"\0" * (3 << 20)), "unpacked"),
        (_zip(data=b"no array"), "damaged"),
        (_many_members(), "1001 arrays"),
        (_zip("n" * 60_000, data=b"") + b"", "damaged"),
    ],
    ids=range(10),
)
def test_a_hostile_npz_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = _write(tmp_path / "a.npz", content)
    _refused(lambda: read_npz(path, max_bytes=2 << 20), "a.npz", word)


def test_a_list_of_members_is_measured_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "_DIRECTORY_BYTES", 40)
    _refused(lambda: read_npz(_write(tmp_path / "a.npz", _zip())), "a list of members")


# -- Parsers.


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), MemoryError(), RecursionError("deep"), EOFError()])
def test_parser_errors_name_the_file(error: Exception) -> None:
    def parse() -> None:
        with name_parser_errors("pose.txt", expected="poses"):
            raise error

    _refused(parse, "pose.txt", type(error).__name__)


def test_an_error_of_stadia_passes_a_parser_unchanged() -> None:
    with pytest.raises(GeometryError), name_parser_errors("pose.txt", expected="poses"):
        raise GeometryError("K", found="1", expected="2", fix="3")


def test_only_ascii_digits_are_a_number() -> None:
    assert parse_integer("0012", most=12) == 12
    assert [parse_integer(text, most=12) for text in ("13", "1²", "٣", "", "-1", "9" * 400)] == [None] * 6
