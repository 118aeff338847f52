"""A mistake on the command line is one line with what was found, what is expected, and what to do."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

REFUSALS = {
    "train selfsup --dat x": ("train: No such option '--dat'", "one of --data, --out,", "did you mean '--data'?"),
    "report x -q": (
        "report: No such option '-q'",
        "one of --out, --private, --force, --help, --traceback, --quiet",
        "see `stadia report --help`",
    ),
    "train selfsup --lr 1e-4": (
        "train: No such option '--lr'",
        "one of --data, --out,",
        "write a setting as KEY=VALUE; see `stadia train --help`",
    ),
    "predict a b --fov 69 --out c": (
        "predict: No such option '--fov'",
        "one of --out,",
        "run once: stadia camera INPUT --fov VALUE",
    ),
    "train": ("train: found no recipe", "stadia train RECIPE", "`stadia list recipes` lists them"),
    "train selfsupp": ("recipe: found 'selfsupp'", "one of selfsup", "did you mean 'selfsup'?"),
    "report a b": ("report: Got unexpected extra", "stadia report [OPTIONS]", "see `stadia report --help`"),
    "report none": ("none: found no such folder", "a run's folder", "pass runs/"),
    "report study": ("study: found a study", "a run's folder", "read its table.md, or pass one of its runs/"),
    "train selfsup --out": ("command line: Option '--out' requires an argument", "", "see `stadia --help`"),
    "export x": ("export: Missing option '--out'", "stadia export [OPTIONS]", "see `stadia export --help`"),
    "predict a b --every x": ("predict: Invalid value for '--every'", "a valid integer", "see `stadia predict --help`"),
    "evalute": ("command line: No such command 'evalute'", "one of predict, live,", "did you mean 'evaluate'?"),
    "data.height=192": (
        "command line: No such command 'data.height=192'",
        "one of predict, live,",
        "see `stadia --help`",
    ),
    "data roadwrld": ("data: No such command 'roadwrld'", "one of roadworld", "did you mean 'roadworld'?"),
    "list los": ("kind of part: found 'los'", "one of recipes", "did you mean 'losses'?"),
    "explain U99": ("finding: found 'U99'", "a code of the catalog", "`stadia explain` lists the families"),
    "evaluate": ("stadia evaluate: found nothing to score", "one of: CHECKPOINT DATA, --depth DIR", "see stadia"),
    "evaluate --depth study": ("stadia evaluate: found no --reference", "--depth DIR", "pass the path"),
    "evaluate study": ("stadia evaluate: found no DATA", "CHECKPOINT DATA", "pass the path of the ground truth"),
    "evaluate --depth study --trajectory study --reference study": (
        "stadia evaluate: found --depth DIR --reference DIR and --trajectory",
        "one of",
        "see stadia",
    ),
    "compare a.txt b.txt": (
        "compare: found camera paths",
        "two runs, networks and a video, two drives",
        "stadia evaluate --trajectory a.txt --reference b.txt",
    ),
    "check study --only nope": ("--only: found 'nope'", "one of frames,", "see `stadia list checks`"),
    "check study --only pose": ("--only: found 'pose'", "one of frames,", "did you mean 'poses'?"),
    "check a.txt --images study --fix new.txt --force": (
        "--force: found no effect on --fix",
        "--report",
        "leave it out",
    ),
    "check none.mp4": ("none.mp4: found no such file or folder", "a path that exists", "check the path"),
    "live 99": ("/dev/video99: found no such camera", "a camera of this machine", "connect it"),
    "app missing/run": ("missing/run: found no such run or network", "a run", "see `stadia list networks`"),
    "app --host 0.0.0.0 --no-token": ("--no-token: found --host 0.0.0.0, open to other", "a token", "remove"),
    "app --no-token --token random": ("--no-token: found --token", "one of the two", "remove one of them"),
    "app --token short": ("--token: found 5 characters", "at least 16", "remove --token"),
}
"""Command line -> where and what was found, what is expected, and the start of the fix."""


@pytest.mark.slow
@pytest.mark.parametrize("line", REFUSALS)
def test_a_mistake_is_one_line_with_the_fix(
    line: str, stadia: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    (tmp_path / "study" / "study.yaml").touch()
    found, expected, fix = map(re.escape, REFUSALS[line])
    code, out, err = stadia(*line.split())
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"stadia: {found}.*{expected}.*\. Fix: {fix}.*\n", err), err


@pytest.mark.parametrize(
    "line",
    [
        "camera images --focal-px",
        "stereo left right K.txt --out out --fps",
        "evaluate --trajectory a.txt --reference a.txt --max-difference",
        "ablate --margin",
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_refused(
    line: str, value: str, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    """`--focal-px inf` and `--fps inf` were internal errors, and `--max-difference nan` blamed the file."""
    code, _, err = stadia(*f"{line}={value}".split())
    option = line.rpartition(" ")[2]
    assert (code, err.count("\n")) == (2, 1)
    assert f"{option}: found {value}; expected a finite number" in err or f"'{option}'" in err


def test_a_map_that_names_no_source_asks_for_the_images(
    tmp_path: Path, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    """It was an internal error: Invalid name ''."""
    camera = {"origin": "given", "focal_px": 100.0, "center_px": [50.0, 30.0], "distortion": [0.0] * 4}
    camera |= {"height": 60, "width": 100, "intervals_95": {}}
    record = {"format": "stadia-map", "fingerprint": "0", "camera": camera, "frames": []}
    (tmp_path / "room.map").mkdir()
    (tmp_path / "room.map" / "map.json").write_text(json.dumps(record))
    code, _, err = stadia("check", tmp_path / "room.map")
    assert code == 2
    assert "names no source" in err
    assert "room.map --images VIDEO" in err
