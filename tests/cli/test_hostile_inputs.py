"""One hostile input of each kind against the command line; `make campaign` runs thousands of them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from benchmarks.campaign.cases import copy_sound, list_cases
from benchmarks.campaign.harness import CANARY, Case, Server, judge_files, judge_output, prepare_case
from tests.sound import CAMERA, write_large_video

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="pipes, and links to /dev")]


def choose_cases(cases: Sequence[Case]) -> Iterator[Case]:
    """Yield a case of each kind of input; of each kind another damage."""

    def kind(case: Case) -> str:
        return case.name.partition("/")[0]

    kinds = [list(some) for _, some in groupby(sorted(cases, key=kind), key=kind)]
    for number, some in enumerate(kinds):
        yield some[len(some) * number // len(kinds)]


@pytest.mark.filterwarnings("default")
def test_hostile_inputs_are_refused_or_survived(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    faults = {}
    for number, case in enumerate(choose_cases(list_cases(sound))):
        folder = tmp_path / str(number)
        work, before = prepare_case(case, folder)
        for name, value in {"STADIA_CANARY": str(folder / CANARY), **case.env}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(work)
        code, out, err = stadia(*(word.replace("{dir}", str(work)) for word in case.argv))
        faults[case.name] = judge_output(case, code, out + err) + judge_files(case, folder, before)
    assert len(faults) >= 30
    assert {name: found for name, found in faults.items() if found} == {}


def test_code_that_an_input_runs_is_noticed(tmp_path: Path) -> None:
    case = Case("a", lambda folder: None, ["check", "a"])
    _, before = prepare_case(case, tmp_path)
    (tmp_path / "work" / ".new").touch()
    (tmp_path / CANARY).touch()
    assert len(judge_files(case, tmp_path, before)) == 2
    assert judge_output(case, 2, "stadia: a: found b; expected c. Fix: d.") == []
    assert judge_output(case, 2, "no file") != []


@pytest.mark.exhaustive
def test_the_largest_prediction_takes_less_than_2_gb(sound: Path, tmp_path: Path) -> None:
    """8K video is the largest that is read, 2048x2048 the largest size of a network."""

    def write(folder: Path) -> None:
        copy_sound(sound, folder, ["run"])
        write_large_video(folder / "8k.mp4", frames=2)

    line = ["predict", "run", "8k.mp4", *CAMERA, "--size", "2048x2048", "--out", "out"]
    with Server() as server:
        outcome = server.run(Case("size", write, line, accepted=True, changes=("out",), seconds=300.0), tmp_path)
    assert (outcome.code, outcome.faults) == (0, ()), outcome
