"""The way of a command through the code is short: the number of files in which a function runs."""

import pytest
from benchmarks.entered_files import ROUTES, list_entered_files

NOT_OPENED = {"predict photo": ("datasets/open_dataset.py", "training/checkpoint.py", "datasets/video/static_parts.py")}
"""A command opens no file of these, which belong to other inputs."""


@pytest.mark.parametrize("name", ROUTES)
def test_a_command_enters_few_files(name: str) -> None:
    files = [file for file in list_entered_files(name) if not file.startswith("process/")]
    assert len(files) > 10, "the measure sees the command"
    assert len(files) <= ROUTES[name].limit, files
    assert not {*files}.intersection(NOT_OPENED.get(name, ()))
