"""The command line in a fresh interpreter, and the fixtures of the evaluation."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.evaluation.conftest import checkpoint as checkpoint
from tests.evaluation.conftest import drive as drive
from tests.evaluation.conftest import drive_folder as drive_folder
from tests.evaluation.conftest import red_reader as red_reader
from tests.evaluation.conftest import red_recipe as red_recipe
from tests.evaluation.conftest import truth_m as truth_m
from tests.evaluation.conftest import video as video
from tests.evaluation.conftest import write_maps as write_maps


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a fresh interpreter, with the words of its command line."""

    def call(program: str, *words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", program, *words]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    return call
