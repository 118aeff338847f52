"""A function in a sandbox returns what it returns without, and hostile input costs one error."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import itertools
import math
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from tests.core import system_calls

from stadia.core import sandbox
from stadia.core import system_call_filter as filters
from stadia.core.errors import DataError, GeometryError
from stadia.core.image_io import decode_image, find_image_fault
from stadia.core.sandbox import iterate_limited, run_limited
from stadia.core.sandbox_messages import pack_message, read_message, unpack_message
from stadia.geometry.numpy_camera import focal_px_from_fov

LIMITS: dict[str, Any] = {"seconds": 20.0, "max_bytes": 512 << 20, "what": "a.png"}
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="system calls are filtered on Linux")


def _refuse(found: str, function: Any, *args: Any, **limits: Any) -> str:
    start = time.perf_counter()
    with pytest.raises(DataError, match=found) as caught:
        run_limited(function, *args, **LIMITS | limits)
    assert time.perf_counter() - start < 60
    line = str(caught.value)
    assert line.startswith("a.png: found")
    assert line.isprintable()
    assert not _list_sandboxes()
    return line


def _list_sandboxes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "stadia.core.sandbox" in " ".join(child.cmdline())]


# -- Equal to the direct call


def test_an_image_is_that_of_the_direct_call() -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    data = bytes(cv2.imencode(".png", image)[1].tobytes())
    decoded = run_limited(decode_image, Path("a.png"), data, cv2.IMREAD_COLOR, **LIMITS)
    np.testing.assert_array_equal(decoded, image)
    assert decoded.flags.writeable
    assert run_limited(find_image_fault, data, **LIMITS) is None


def test_an_error_is_that_of_the_direct_call() -> None:
    with pytest.raises(DataError) as direct:
        decode_image("a.png", b"\x89PNG", cv2.IMREAD_COLOR)
    with pytest.raises(DataError) as sandboxed:
        run_limited(decode_image, "a.png", b"\x89PNG", cv2.IMREAD_COLOR, **LIMITS)
    assert str(sandboxed.value) == str(direct.value)


@pytest.mark.slow
def test_files_are_read_and_values_of_every_kind_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert run_limited(math.gcd, 12, 18, **LIMITS) == 6
    assert run_limited(math.hypot, 3.0, 4.0, **LIMITS) == 5.0
    assert run_limited(os.path.split, "a/b", **LIMITS) == ("a", "b")
    assert run_limited(Path.read_bytes, path, **LIMITS) == b"abc"


def test_items_come_one_by_one_and_an_early_end_ends_the_process() -> None:
    items = iterate_limited(itertools.count, 5, **LIMITS)
    assert list(itertools.islice(items, 3)) == [5, 6, 7]
    items.close()  # type: ignore[attr-defined]
    assert not _list_sandboxes()
    assert list(iterate_limited(itertools.repeat, "a", 2, **LIMITS)) == ["a", "a"]


def test_a_function_that_no_process_can_import_is_refused() -> None:
    with pytest.raises(ValueError, match="imported"):
        run_limited(lambda: 1, **LIMITS)


# -- Hostile input


def test_a_crash_is_an_error() -> None:
    assert "signal 11" in _refuse("crashes its decoder", ctypes.string_at, 0)
    _refuse("crashes its decoder", os.abort)
    _refuse("ended early", os._exit, 0)


@pytest.mark.slow
def test_an_endless_loop_and_a_sleep_are_errors() -> None:
    _refuse("more than 1 s", math.factorial, 10**7, seconds=1.0)
    _refuse(r"more than 0\.3 s", time.sleep, 1000, seconds=0.3)
    with pytest.raises(DataError, match=r"more than 0\.3 s"):
        list(iterate_limited(itertools.repeat, b"a", seconds=0.3, max_bytes=1 << 28))


def test_a_memory_bomb_is_an_error() -> None:
    _refuse("more than 256 MiB of memory", bytearray, 10**10, max_bytes=256 << 20)
    _refuse("more than 256 MiB of memory", np.ones, 10**9, max_bytes=256 << 20)


def test_the_parent_also_watches_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on platforms without a limit of the address space."""
    monkeypatch.setattr(sandbox, "_measure_memory", lambda _: 1 << 40)
    _refuse("more than 512 MiB of memory", time.sleep, 1000)


def test_any_other_exception_is_an_error() -> None:
    assert "ValueError" in _refuse("decoder refuses", math.sqrt, -1.0)
    _refuse("decoder refuses", object)  # no message can hold it


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (os.fork, ()),
        (os.system, ("touch {}",)),
        (subprocess.check_call, (["touch", "{}"],)),
        (os.execv, ("/usr/bin/touch", ["touch", "{}"])),
        (os.posix_spawn, ("/usr/bin/touch", ["touch", "{}"], {})),
        (socket.create_connection, (("127.0.0.1", 9),)),
        (socket.socketpair, ()),
        (Path.write_text, (Path("{}"), "a")),
        (os.open, ("{}", os.O_CREAT | os.O_RDONLY)),
        (os.mkdir, ("{}",)),
        (os.truncate, ("{}-mine", 0)),
        (os.open, ("{}-mine", os.O_TRUNC)),
        (os.unlink, ("{}-mine",)),
        (os.rename, ("{}-mine", "{}")),
        (os.chmod, ("{}-mine", 0)),
        (os.symlink, ("a", "{}")),
        (shutil.rmtree, (Path("{}-folder"),)),
        (os.kill, (1, 0)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_process_no_connection_and_no_file_is_made(tmp_path: Path, function: Any, args: Any) -> None:
    name = str(tmp_path / "new")
    (tmp_path / "new-mine").write_text("mine")
    (tmp_path / "new-folder").mkdir()

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{}", name)
        if isinstance(value, list | tuple):
            return type(value)(map(fill, value))
        return Path(fill(str(value))) if isinstance(value, Path) else value

    if function is os.system:  # it returns the fault
        assert run_limited(function, *fill(args), **LIMITS) != 0
    else:
        assert "Error" in _refuse("decoder refuses", function, *fill(args))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new-folder", "new-mine"]
    assert (tmp_path / "new-mine").read_text() == "mine"


@needs_linux
@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_other_processes_and_files_are_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the child imports the attack
    file = tmp_path / "mine"
    file.write_text("mine")
    with subprocess.Popen(["sleep", "60"]) as other:
        errors = run_limited(system_calls.attack, other.pid, str(file), **LIMITS)
        assert other.poll() is None
        other.kill()
    assert set(errors.values()) <= {errno.EPERM, errno.ENOSYS}, errors


def _filter_call(machine: str, number: int, *args: int) -> int:
    """Return what the filter's program returns for a call by process 7."""
    rules, at = filters.list_rules(machine, 7), 0
    data = struct.pack("<IIQ6Q", number, filters._ARCHITECTURE[machine], 0, *(*args, *[0] * 6)[:6])
    tests = {filters._EQUAL: int.__eq__, filters._AT_LEAST: int.__ge__, filters._ANY_BIT: lambda a, b: a & b != 0}
    word = 0
    while True:
        code, skip, skip_else, value = rules[at]
        if code == filters._RETURN:
            return value
        if code == filters._LOAD:
            (word,) = struct.unpack_from("<I", data, value)
        else:
            at += skip if tests[code](word, value) else skip_else
        at += 1


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_only_calls_of_decoding_are_allowed(machine: str) -> None:
    """Whatever their arguments are: no call beyond the list, and no dangerous one."""
    dangerous = system_calls.DANGEROUS[machine]
    refused = {filters._ERRNO | errno.EPERM, filters._ERRNO | errno.ENOSYS}
    others = {*range(600), *dangerous.values()} - {*filters._ALLOWED[machine].values()}
    assert {_filter_call(machine, number) for number in others} == refused
    for name, number in dangerous.items():  # flags of fork; F_SETOWN, F_SETSIG, FS_IOC_SETFLAGS, PR_SET_PDEATHSIG
        for value in (17, 8, 10, 0x40086602, 0x00010000, 0x003D0F00 | 0x40000000):
            assert _filter_call(machine, number, value, value) in refused, (name, value)
    is_x32 = _filter_call(machine, 0x40000000) == filters._KILL_PROCESS
    assert is_x32 == (machine == "x86_64")
    openat, tgkill = (filters._ALLOWED[machine][name] for name in ("openat", "tgkill"))
    for flags, result in {os.O_RDONLY: {filters._ALLOW}, os.O_RDWR: refused, os.O_WRONLY: refused}.items():
        assert _filter_call(machine, openat, 0, 0, flags) in result
    assert _filter_call(machine, tgkill, 7) == filters._ALLOW
    assert _filter_call(machine, tgkill, 8) in refused


@needs_linux
def test_limits_cannot_be_raised_again() -> None:
    import resource

    _refuse("decoder refuses", resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_secrets_of_the_environment_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    assert run_limited(os.getenv, "SOME_TOKEN", **LIMITS) is None


def test_no_module_of_the_current_folder_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "numpy", "psutil", "stadia"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('code of the input')")
    monkeypatch.chdir(tmp_path)
    assert run_limited(math.gcd, 2, 4, **LIMITS) == 2


# -- What comes back is checked


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize(
    "data",
    [
        b"garbage" * 9,
        b"".join(pack_message(["result"])),
        b"".join(pack_message(["what", 1])),
        b"".join(pack_message(["error", ["ConfigMistakes"]])),
        b"\xff" * 16,
        (5).to_bytes(8, "little") * 2 + b"[[[[[",
        (2).to_bytes(8, "little") * 2 + b"{}",
    ],
)
def test_a_child_that_lies_is_an_error(data: bytes) -> None:
    _refuse("found", os.write, _find_result_descriptor(), data)


def _find_result_descriptor() -> int:
    return int(run_limited(os.listdir, "/proc/self/fd", **LIMITS)[-2])


def test_a_result_that_is_too_large_is_an_error() -> None:
    _refuse("bytes, where 10 are accepted", bytes, 10 << 20, max_result_bytes=10)


def test_an_error_keeps_its_kind() -> None:
    with pytest.raises(GeometryError, match="field of view"):
        run_limited(focal_px_from_fov, 500.0, 100, **LIMITS)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.builds(Path, st.text("abc/", min_size=1)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)


@pytest.mark.slow
@given(value=values)
@settings(deadline=None, derandomize=True)
def test_a_message_returns_what_was_packed(value: Any) -> None:
    prefix, header, *pieces = pack_message(value)
    assert unpack_message(header, bytearray(b"".join(pieces))) == value
    assert prefix == len(header).to_bytes(8, "little") + sum(map(len, (header, *pieces))).to_bytes(8, "little")


@pytest.mark.slow
@given(array=st_numpy.arrays(st.sampled_from(["<f4", ">f8", "<u2", "|b1", "<i8"]), st_numpy.array_shapes(min_side=0)))
@settings(deadline=None, derandomize=True)
def test_an_array_returns_with_its_type_and_bytes(array: np.ndarray) -> None:
    _, header, *pieces = pack_message((array, 1))
    found, one = unpack_message(header, bytearray(b"".join(pieces)))
    assert (found.dtype, found.shape, found.tobytes(), one) == (array.dtype, array.shape, array.tobytes(), 1)


@pytest.mark.slow
@given(data=st.binary(max_size=200), header=st.binary(max_size=50) | values.map(lambda one: pack_message(one)[1]))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_any_bytes_are_a_value_or_an_error(data: bytes, header: bytes) -> None:
    message = len(header).to_bytes(8, "little") + (len(header) + len(data)).to_bytes(8, "little") + header + data
    for stream in (io.BytesIO(message), io.BytesIO(header + data)):
        with contextlib.suppress(ValueError, TypeError, LookupError, OverflowError, RecursionError, EOFError):
            read_message(stream, 1000)
