"""Commands and functions of a floor that is not installed name its extra in one line."""

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from stadia.core.floors import FLOORS, MissingFloorError, find_missing_floor

BLOCKED = [library for floor in FLOORS.values() for library in floor.libraries]
WITHOUT_FLOORS = f"""
import contextlib, io, json, sys
sys.modules |= dict.fromkeys({BLOCKED}, None)
from stadia.cli.main import run

def call(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(words)
        except SystemExit as ending:
            return ending.code, out.getvalue(), err.getvalue()

print(json.dumps([call(words) for words in json.loads(sys.argv[1])]))
"""
"""A program that runs each command line of its argument without the libraries of the higher floors."""
TRAIN = "Training needs the train floor. Install it: pip install 'stadia[train]'."


@pytest.fixture
def run_without_floors(python: Callable[..., CompletedProcess[str]]) -> Callable[..., list[tuple[int, str, str]]]:
    """Run command lines in one process on the first floor: exit code, stdout and stderr of each."""

    def call(*lines: str) -> list[tuple[int, str, str]]:
        done = python(WITHOUT_FLOORS, json.dumps([line.split() for line in lines]))
        assert done.returncode == 0, done.stderr
        return [(code, out, err) for code, out, err in json.loads(done.stdout.splitlines()[-1])]

    return call


@pytest.mark.slow
def test_a_command_of_a_missing_floor_names_the_extra(
    run_without_floors: Callable[..., list[tuple[int, str, str]]],
) -> None:
    lines = ["train selfsup .", "demo", "data roadworld --out world", "list encoders --filter resnet"]
    ended = [(code, err.splitlines()[-1]) for code, _, err in run_without_floors(*lines)]
    assert ended == [(2, f"stadia: {TRAIN}")] * len(lines)


@pytest.mark.slow
def test_the_first_floor_lists_parts_and_explains_and_examines_the_machine(
    run_without_floors: Callable[..., list[tuple[int, str, str]]],
) -> None:
    lists = ("datasets", "recipes", "networks", "losses", "metrics", "checks", "optimizers")
    doctor, explained, *listed = run_without_floors("doctor", "explain U01", *(f"list {kind}" for kind in lists))
    assert doctor[0] == 0, doctor
    assert "floors: judge and map installed\n" in doctor[1]
    assert "- train: not installed" in doctor[1]
    assert "pip install 'stadia[train]'" in doctor[1]
    assert [(code, bool(out), err) for code, out, err in (explained, *listed)] == [(0, True, "")] * (1 + len(lists))


@pytest.mark.slow
def test_a_function_of_a_missing_floor_raises_an_error_of_stadia(python: Callable[..., CompletedProcess[str]]) -> None:
    program = f"""
import sys
sys.modules |= dict.fromkeys({BLOCKED}, None)
import stadia
for name in ("train", "adapt"):
    try:
        getattr(stadia, name)("nothing", "nowhere")
    except stadia.StadiaError as error:
        print(error)
"""
    assert python(program).stdout.splitlines() == [TRAIN] * 2


def test_only_libraries_of_a_floor_are_explained() -> None:
    assert find_missing_floor(ModuleNotFoundError(name="mypackage")) is None
    assert find_missing_floor(ImportError(name="torch")) is None
    missing = find_missing_floor(ModuleNotFoundError(name="uvicorn.config"))
    assert isinstance(missing, MissingFloorError)
    assert (missing.where, missing.fix) == ("uvicorn", "pip install 'stadia[depth]'")
