"""Few files are entered on the way of each command, so that a reader can follow it."""

from pathlib import Path

import pytest
from benchmarks.entered_files import MAP_LIMIT, ROUTES, list_entered_files, record_command
from tests.sfm.textured_room import TexturedRoom, find_arc_pose, write_images

NOT_OPENED = {"predict photo": ("data/open_dataset.py", "training/loop/checkpoint.py", "data/video/static_parts.py")}
"""A command opens no file of these, which belong to other inputs."""


def mark_route(name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a row: only `make test-all` measures the trainings, which are traced for half a minute."""
    return [pytest.mark.slow, pytest.mark.exhaustive] if ROUTES[name].is_slow else [pytest.mark.slow]


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=mark_route(name)) for name in ROUTES])
def test_a_command_enters_few_files(name: str) -> None:
    files = list_entered_files(name)
    assert len(files) > 10, "the measure sees the command"
    assert len(files) <= ROUTES[name].limit, files
    assert not {*files}.intersection(NOT_OPENED.get(name, ()))


@pytest.mark.slow
def test_a_map_of_six_frames_enters_few_files_and_no_reader_of_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    room = TexturedRoom()
    images = write_images(tmp_path / "room", [room.draw(*find_arc_pose(index)) for index in range(0, 24, 4)])
    files, code = record_command(["map", str(images), "--out", str(tmp_path / "out")])
    assert code == 0
    assert (tmp_path / "out" / "map.json").is_file()
    assert not [name for name in files if name.startswith(("data/formats/", "data/open_dataset"))]
    assert len(files) <= MAP_LIMIT, files
