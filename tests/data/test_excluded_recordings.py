"""`data.exclude`: recordings that a text file names are left out, before any is opened."""

import logging
from pathlib import Path

import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.config import SourceOptions
from stadia.data.open_dataset import select_recordings
from stadia.data.video.video_list import VideoList
from stadia.io.input_files import MAX_TEXT_BYTES

NAMES = ["a/1", "a/2", "b/1"]


def select(tmp_path: Path, text: str, **options: object) -> list[str]:
    (tmp_path / "exclude.txt").write_text(text)
    chosen = SourceOptions.model_validate({"exclude": str(tmp_path / "exclude.txt"), **options})
    return select_recordings(NAMES, chosen, Path("dataset"))


def test_named_recordings_are_left_out(tmp_path: Path) -> None:
    assert select(tmp_path, "# bad items\n\na/1\n") == ["a/2", "b/1"]
    assert select(tmp_path, "# none\n") == NAMES
    assert select(tmp_path, "a/1\n", recordings=("1",)) == ["b/1"]


def test_a_name_is_no_end_of_another_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Names of an audit of another folder are reported."""
    with caplog.at_level(logging.WARNING):
        assert select(tmp_path, "1\n") == NAMES
    assert "1 names are not in dataset" in caplog.text


def test_no_recording_is_left(tmp_path: Path) -> None:
    with refuses(DataError, found="all 3 recordings", fix="data.exclude"):
        select(tmp_path, "\n".join(NAMES))


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with refuses(DataError, where="nowhere.txt"):
        select_recordings(NAMES, SourceOptions(exclude=str(tmp_path / "nowhere.txt")), Path("dataset"))
    with (tmp_path / "large.txt").open("wb") as stream:
        stream.truncate(MAX_TEXT_BYTES + 1)
    with refuses(DataError, where="large.txt"):
        select_recordings(NAMES, SourceOptions(exclude=str(tmp_path / "large.txt")), Path("dataset"))


def test_an_excluded_video_is_not_opened(tmp_path: Path) -> None:
    for name in ("bad", "worse"):
        (tmp_path / f"{name}.mp4").write_bytes(b"no video")
    (tmp_path / "exclude.txt").write_text("bad\n")
    options = SourceOptions(exclude=str(tmp_path / "exclude.txt"))
    with refuses(DataError, where="worse.mp4") as raised:
        VideoList().open(tmp_path, options)
    assert "bad" not in str(raised.value)
