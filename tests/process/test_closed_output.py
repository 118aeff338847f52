"""Output that is closed is discarded, and only that; a disk that fails is an error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stadia.process import closed_output
from stadia.process.closed_output import OutputClosedError, discard_closed_output, handle_output_error

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither such pipes nor such terminals")


@pytest.fixture(params=["pipe", "terminal"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Both ends: read, and write."""
    ends = os.pipe() if request.param == "pipe" else os.openpty()
    yield ends
    for descriptor in ends:
        with suppress(OSError):
            os.close(descriptor)


@pytest.fixture(autouse=True)
def no_nohup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_output, "is_hangup_ignored", lambda: False)


def test_what_somebody_reads_is_kept(pair: tuple[int, int], tmp_path: Path) -> None:
    reads, writes = pair
    assert not discard_closed_output(writes)
    os.write(writes, b"a")
    assert os.read(reads, 1) == b"a"
    with (tmp_path / "log").open("wb") as file, Path(os.devnull).open("wb") as null:
        assert not discard_closed_output(file.fileno(), null.fileno())
        file.write(b"a")
    assert (tmp_path / "log").read_bytes() == b"a"


def test_what_nobody_reads_is_discarded(pair: tuple[int, int]) -> None:
    reads, writes = pair
    os.close(reads)
    assert discard_closed_output(writes)
    os.write(writes, b"a")
    assert not discard_closed_output(writes)


def test_a_closed_pipe_ends_a_command_and_a_closed_terminal_does_not(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, writes = pair
    os.close(reads)
    with pytest.raises(OSError) as caught:
        os.write(writes, b"a")
    if caught.value.errno == errno.EPIPE:
        with pytest.raises(OutputClosedError):
            handle_output_error(caught.value, writes)
        monkeypatch.setattr(closed_output, "is_hangup_ignored", lambda: True)
    handle_output_error(caught.value, writes)
    os.write(writes, b"a")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_is_an_error(tmp_path: Path, number: int) -> None:
    with (tmp_path / "log").open("wb") as file, pytest.raises(OSError, match="disk") as caught:
        handle_output_error(OSError(number, "disk"), file.fileno())
    assert caught.value.errno == number
