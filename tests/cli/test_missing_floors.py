"""Commands and functions of a floor that is not installed name its extra in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

from stadia.core.floors import FLOORS, MissingFloorError, find_missing_floor

BLOCKED = [library for floor in FLOORS.values() for library in floor.libraries]
BLOCK = f"""
import sys
from importlib.machinery import PathFinder

class FirstFloorFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED} else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [FirstFloorFinder if finder is PathFinder else finder for finder in sys.meta_path]
"""
"""Hide the libraries of the higher floors from the imports of a program, as if they were not installed."""

WITHOUT_FLOORS = f"""
{BLOCK}
import contextlib, io, json
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
TRAIN = "This needs the train floor of stadia. Install it: pip install 'stadia[train]'"


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


CAMERA = "fx=200,fy=200,cx=128,cy=120,width=256,height=240"
FIRST_FLOOR = {
    "camera photo.png --fov 60": 0,
    "check images data.camera.focal_px=200": 0,
    f"check poses.txt --images images --camera {CAMERA}": 1,  # a wall shows no parallax
    "evaluate --trajectory poses.txt --reference poses.txt --align none": 0,
    "evaluate --depth depth --reference depth": 0,
    "list protocols": 0,
    "data shard images shards data.camera.focal_px=200": 0,
    "map images data.camera.focal_px=200 --out wall.map": 0,
}
"""Command lines of the first floor, and their exit codes."""


@pytest.mark.slow
def test_commands_of_the_first_floor_need_no_higher_one(
    run_without_floors: Callable[..., list[tuple[int, str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.chdir(tmp_path)
    wall = cv2.resize(np.random.default_rng(0).integers(0, 255, (60, 200), np.uint8), (800, 240))
    (tmp_path / "images").mkdir()
    for index in range(6):
        shown = wall[:, 12 * index : 12 * index + 256, None].repeat(3, 2)
        cv2.imwrite(f"images/{index:06d}.png", shown)
    cv2.imwrite("photo.png", shown[:96, :128])
    T = np.eye(4)[None].repeat(6, 0)
    T[:, 0, 3] = np.arange(6) / 10
    np.savetxt("poses.txt", T[:, :3].reshape(6, 12))
    (tmp_path / "depth").mkdir()
    np.save("depth/0.npy", np.random.default_rng(1).uniform(4, 5, (20, 30)).astype(np.float32))
    ended = run_without_floors(*FIRST_FLOOR)
    assert {line: code for line, (code, _, _) in zip(FIRST_FLOOR, ended, strict=True)} == FIRST_FLOOR, ended


@pytest.mark.slow
def test_a_function_of_a_missing_floor_raises_an_error_of_stadia(python: Callable[..., CompletedProcess[str]]) -> None:
    program = f"""
{BLOCK}
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
    missing = find_missing_floor(ModuleNotFoundError(name="onnxruntime"))
    assert isinstance(missing, MissingFloorError)
    assert (missing.where, missing.fix) == ("onnxruntime", "pip install 'stadia[depth]'")


@pytest.mark.slow
def test_a_check_imports_no_library_that_draws_or_downloads(python: Callable[..., CompletedProcess[str]]) -> None:
    """So that it starts fast and fits into a small memory, also where everything is installed."""
    heavy = {"torch", "numba", "matplotlib", "tensorboard", "huggingface_hub", "timm"}
    program = (
        "import sys, stadia.cli.check_result, stadia.judge.reconstructions.check_reconstruction,"
        f" stadia.judge.recordings.preflight_runner; print(sorted({heavy} & sys.modules.keys()))"
    )
    done = python(program)
    assert done.stdout.strip() == "[]", done.stderr
