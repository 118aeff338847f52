"""Few files are entered on the way of each command, so that a reader can follow it."""

import pytest
from benchmarks.entered_files import ROUTES, list_entered_files

NOT_OPENED = {
    "predict photo": ("data/open_dataset", "training/", "data/video/static_parts"),
    "map": ("data/open_dataset", "data/formats/"),
    "check RESULT": ("data/open_dataset", "data/formats/"),
}
"""A command opens no file whose path starts like these, which belong to other inputs."""


def mark_route(name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a row: only `make test-all` measures the trainings, which are traced for half a minute."""
    return [pytest.mark.slow, pytest.mark.exhaustive] if ROUTES[name].is_slow else [pytest.mark.slow]


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=mark_route(name)) for name in ROUTES])
def test_a_command_enters_few_files(name: str) -> None:
    files = list_entered_files(name)
    assert len(files) > 10, "the measure sees the command"
    assert len(files) <= ROUTES[name].limit, files
    assert not [file for file in files if file.startswith(NOT_OPENED.get(name, ()))]
