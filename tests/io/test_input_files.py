"""Files from outside are read whole or refused in one line that names them, before they cost memory or time."""

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
from stadia.io import array_files, input_files
from stadia.io.array_files import list_npz_arrays, open_npy, open_npz, read_npy, read_npz
from stadia.io.input_files import (
    check_no_archive,
    name_parser_errors,
    parse_integer,
    read_bytes,
    read_csv,
    read_json,
    read_lines,
    read_text,
    stream_json_lists,
    stream_json_rows,
)
from stadia.io.yaml_files import parse_yaml, read_yaml


def _refused(call, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    line = str(caught.value)
    assert line.isprintable()
    assert all(word in line for word in words), line


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


def test_a_pointer_of_git_lfs_is_no_content(tmp_path: Path) -> None:
    path = _write(tmp_path / "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    _refused(lambda: read_bytes(path, expected="weights", max_bytes=1 << 20), "model.safetensors", "git lfs pull")


def test_reading_stops_at_the_limit_whatever_size_is_reported(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.txt", "x" * 100)
    assert len(read_bytes(path, expected="text", max_bytes=100)) == 100
    _refused(lambda: read_bytes(path, expected="text", max_bytes=99), "100 bytes", "at most 99")
    endless = Path("/proc/self/maps")  # its reported size is 0
    if endless.exists():
        _refused(lambda: read_bytes(endless, expected="text", max_bytes=10), "more than 10 bytes")


# -- Text and CSV.


def test_text_loses_its_byte_order_mark_and_refuses_other_bytes(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    assert read_text(_write(path, b"\xef\xbb\xbfP2: 1"), expected="a calibration") == "P2: 1"
    assert read_lines(_write(path, "a\n\n  \nb\n"), expected="lines") == ["a", "b"]
    _refused(lambda: read_text(_write(path, b"\xff\xfe\0"), expected="a calibration"), "not text")


def test_csv_needs_rows_of_one_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    assert read_csv(_write(path, "step,loss\n1,.5\n"), expected="metrics") == [{"step": "1", "loss": ".5"}]
    monkeypatch.setattr(input_files, "MAX_CSV_CELLS", 1000)
    for rows, word in (("1\n", "row 2"), ("1,2,3\n", "row 2"), ("1,2\n" * 1000, "1000 cells")):
        _refused(lambda rows=rows: read_csv(_write(path, f"step,loss\n{rows}"), expected="metrics"), word)


def test_only_ascii_digits_are_a_number() -> None:
    assert parse_integer("0012", most=12) == 12
    assert [parse_integer(text, most=12) for text in ("13", "1²", "٣", "", "-1", "9" * 400)] == [None] * 6


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), MemoryError(), RecursionError("deep"), EOFError()])
def test_parser_errors_name_the_file_and_errors_of_stadia_stay(error: Exception) -> None:
    def parse(error: Exception) -> None:
        with name_parser_errors("pose.txt", expected="poses"):
            raise error

    _refused(lambda: parse(error), "pose.txt", type(error).__name__)
    with pytest.raises(GeometryError):
        parse(GeometryError("K", found="1", expected="2", fix="3"))


# -- JSON.


def test_json_is_read_as_written(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "digits": "9" * 400, "large": 10**308 - 1}
    assert read_json(_write(tmp_path / "a.json", json.dumps(value))) == value


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5000, '{"a": 1,}', "", '{"a": [1, -1' + "0" * 308 + "]}"])
def test_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    _refused(lambda: read_json(_write(tmp_path / "a.json", text)), "a.json", "invalid JSON")
    lists = _write(tmp_path / "b.json", f'{{"a": [{text}]}}')
    if text:
        _refused(lambda: list(stream_json_lists(lists, ["a"], expected="lists", max_bytes=1 << 20)), "b.json")


@pytest.mark.parametrize("piece", ["[],", "{},", "1,"])
def test_json_of_too_many_values_is_refused_unread(tmp_path: Path, piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stadia.io.input_files.MAX_JSON_VALUES", 1000)
    path = _write(tmp_path / "a.json", f"[{piece * 1000}0]")
    _refused(lambda: read_json(path), "values", "at most 1000")
    _refused(lambda: read_json(path, max_bytes=10), "bytes", "at most 10")


# -- YAML.


def test_yaml_is_read_as_plain_values(tmp_path: Path) -> None:
    text = "base: &b {lr: 1e-4, size: [96, 320]}\nchanged:\n  <<: *b\n  lr: 0.1\nday: 2026-02-31\n"
    values = read_yaml(_write(tmp_path / "a.yaml", text), expected="a study")
    assert values["changed"] == {"lr": 0.1, "size": [96, 320]}
    assert values["day"] == "2026-02-31"  # no such date: it is text
    assert read_yaml(_write(tmp_path / "a.yaml", ""), expected="a study") is None
    numbers = "[1, 0x1f, 1_000, 0b11, 1.5, 1.0e-3, .inf, -2, ~, yes, '1']"
    assert parse_yaml("a.yaml", numbers, "a list") == [1, 31, 1000, 3, 1.5, 1e-3, float("inf"), -2, None, True, "1"]


def _nested_aliases(levels: int, width: int = 9) -> str:
    lines = ["a0: &a0 [" + ", ".join(["lol"] * width) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * width) + "]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "word"),
    [
        (_nested_aliases(9), "aliases that expand"),
        ("a: &a {b: *a}", "contains itself"),
        ("a: " + "9" * 320, "a whole number of more than 308 digits"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("[" * 5_000, "nested too deep"),
        pytest.param("[" + "a," * 100_000 + "]", "more than 100000 values", marks=pytest.mark.exhaustive),
        ("a: 1\na: 2", "'a' appears twice"),
        ("? [1]\n: 2", "unhashable"),
        ("a: {", "line 1"),
        ("--- 1\n--- 2\n", "another document"),
        ("a: 1" + ":59" * 5000, "a number of 15001 characters"),
        ('a: "\\ud800"', "invalid YAML"),
    ],
    ids=lambda value: value[:20].replace("\n", " "),
)
def test_hostile_yaml_is_refused(tmp_path: Path, text: str, word: str) -> None:
    _refused(lambda: read_yaml(_write(tmp_path / "study.yaml", text), expected="a study"), "study.yaml", word)


def test_yaml_of_more_values_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the program takes seconds to reach."""
    monkeypatch.setattr("stadia.io.yaml_files.MAX_YAML_NODES", 100)
    path = _write(tmp_path / "study.yaml", "[" + "a," * 99 + "]")
    assert read_yaml(path, expected="a study") == ["a"] * 99
    path = _write(tmp_path / "study.yaml", "[" + "a," * 100 + "]")
    with pytest.raises(DataError, match="more than 100 values") as refused:
        read_yaml(path, expected="a study")
    assert "aliases" not in refused.value.found, "before the tree is built, not after it"


# -- Arrays.


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_survives_its_round_trip(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.asarray(np.arange(12).reshape(3, 4), dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", depth_m=values, other=values[:0])
    for array in (read_npy(tmp_path / "a.npy", shape=(3, 4)), read_npz(tmp_path / "a.npz")["depth_m"]):
        assert array.dtype == values.dtype
        np.testing.assert_array_equal(array, values)
        array[0, 0] = 1  # the caller owns it
    assert list_npz_arrays(tmp_path / "a.npz") == ("depth_m", "other")
    assert read_npz(tmp_path / "a.npz", only=("other", "absent"))["other"].shape == (0, 4)
    _refused(lambda: read_npy(tmp_path / "a.npy", shape=(4, 3)), "shape (3, 4)", "shape (4, 3)")


def _npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + len(text).to_bytes(2 * version, "little") + text + data


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"\x93NUMPY", "damaged"),
        (_npy(" " * 70_000, version=2), "version 2.0"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999)}"), "claims shape"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", b"\0" * 64), "expected"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, " + "9" * 400 + ")}"), "damaged"),
        (_npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8), "complex64"),
        (_npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8), "object"),
        (_npy("{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", b"\0" * 16), "float128"),
        (_npy("__import__('os').system('touch /tmp/owned')"), "damaged"),
        (_npy("(" * 9000), "damaged"),
    ],
    ids=range(10),
)
def test_a_hostile_npy_is_refused_before_its_data_are_read(tmp_path: Path, content: bytes, word: str) -> None:
    _refused(lambda: read_npy(_write(tmp_path / "a.npy", content)), "a.npy", word)


def _zip(*, method: int = zipfile.ZIP_DEFLATED, data: bytes | None = None, members: int = 1) -> bytes:
    stream = io.BytesIO()
    if data is None:
        array = io.BytesIO()
        np.save(array, np.zeros(1000))
        data = array.getvalue()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for number in range(members):
            archive.writestr(f"{number}.npy", data)
    return stream.getvalue()


def _encrypted() -> bytes:
    data = bytearray(_zip(method=zipfile.ZIP_STORED))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _zip64() -> bytes:
    """Its own size of the list of members is 64 bits, and replaces the one that is checked."""
    data = _zip()
    at = data.rindex(b"PK\5\6")
    size, start = struct.unpack_from("<II", data, at + 12)
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, start)
    return data[:at] + end64 + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) + data[at:]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (_zip()[:-30], "no zip archive"),
        (_zip(method=zipfile.ZIP_LZMA), "another method"),
        (_encrypted(), "encrypted"),
        (_zip(data=b"\0" * (3 << 20)), "unpacked"),
        (_zip(data=b"no array"), "damaged"),
        (_zip(data=b"", members=1001), "1001 arrays"),
        (_zip64(), "zip64"),
    ],
    ids=range(7),
)
def test_a_hostile_npz_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = _write(tmp_path / "a.npz", content)
    _refused(lambda: read_npz(path, max_bytes=2 << 20), "a.npz", word)


def test_a_list_of_members_is_measured_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "_DIRECTORY_BYTES", 40)
    _refused(lambda: read_npz(_write(tmp_path / "a.npz", _zip())), "a list of members")


@pytest.mark.parametrize("kind", ["npy", "fortran", "npz", "compressed"])
def test_parts_of_a_stacked_array_are_those_of_numpy(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    path = tmp_path / ("a.npy" if kind in ("npy", "fortran") else "a.npz")
    match kind:
        case "npy":
            np.save(path, values)
        case "fortran":
            np.save(path, np.asfortranarray(values))
        case "npz":
            np.savez(path, other=np.ones(7), maps=values)
        case "compressed":
            np.savez_compressed(path, other=np.ones(7), maps=values)
    stack = open_npy(path) if path.suffix == ".npy" else open_npz(path, "maps")
    assert (len(stack), stack.shape, stack.dtype) == (5, (5, 3, 4), np.float32)
    for index in range(5):
        np.testing.assert_array_equal(stack.read(index), values[index])


def test_a_stacked_array_is_compared_with_the_size_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones((5, 30, 40), np.float32))
    stack = open_npy(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    _refused(lambda: open_npy(path), "a.npy", "claims shape (5, 30, 40)")
    _refused(lambda: stack.read(4), "a.npy", "4700 of 4800 bytes of part 4")
    assert stack.read(3).shape == (30, 40)


def test_rows_of_a_json_list_are_read_one_by_one_and_damage_is_named(tmp_path: Path) -> None:
    rows = [{"token": str(number), "nested": [{"a": [1, 2]}]} for number in range(20_000)]
    table = tmp_path / "sample.json"
    table.write_text(json.dumps(rows))
    assert list(stream_json_rows(table, expected="rows", max_bytes=1 << 24)) == rows
    for text in ("[1]", '[{"a": 1}] x', '[{"a": 1}', '{"a": 1}', "", '[{"a": 1} {"b": 2}]'):
        table.write_text(text)
        _refused(lambda: list(stream_json_rows(table, expected="rows", max_bytes=1 << 20)), "sample.json")
    table.write_text("[]")
    assert list(stream_json_rows(table, expected="rows", max_bytes=1 << 20)) == []


@pytest.mark.parametrize(
    ("name", "inside", "found"),
    [
        ("cam.mjpeg", None, "a stream of JPEG pictures"),
        ("shards", ("index.json", "shard.00000.mds"), "a shard of MosaicML"),
        ("images.zarr", (".zgroup", "0.0"), "a Zarr store"),
        ("photo.EXR", None, "a picture of floats (linear light)"),
    ],
)
def test_files_that_others_pass_as_images_are_named(tmp_path, name, inside, found):
    path = tmp_path / name
    if inside is None:
        path.write_bytes(b"0")
    else:
        path.mkdir()
        for member in inside:
            (path / member).write_bytes(b"0")
    with pytest.raises(DataError) as error:
        check_no_archive(path)
    assert error.value.found == found
    assert str(path) in error.value.fix or "folder" in error.value.fix
