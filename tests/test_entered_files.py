"""The way of a command through the code is short: the number of files in which a function runs."""

import pytest
from benchmarks.entered_files import ROUTES, list_entered_files


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if ROUTES[name].is_slow else name for name in ROUTES]
)
def test_a_command_enters_few_files(name: str) -> None:
    files = list_entered_files(name)
    assert len(files) > 10, "the measure sees the command"
    assert len(files) <= ROUTES[name].limit, files


def test_a_photo_opens_no_data_set_reader() -> None:
    files = list_entered_files("predict photo")
    others = ("datasets/open_dataset.py", "training/checkpoint.py", "datasets/video/static_parts.py")
    assert not [file for file in files if file in others or file.startswith("datasets/sharded")]
