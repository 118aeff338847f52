"""Nearly right files never break a parser; STADIA_FUZZ_EXAMPLES=10000 looks longer than the suite does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz import run_atheris
from tests.fuzz.inputs import make_inputs
from tests.fuzz.seeds import make_seeds
from tests.fuzz.targets import CORPUS, TARGETS, BrokenPromiseError, check_target, prepare_target

EXAMPLES = int(os.environ.get("STADIA_FUZZ_EXAMPLES", "30"))
MAX_CORPUS_BYTES = 300_000
REFUSED = {"dataset_json", "objects_json", "split"}
"""Targets whose seeds name what is not beside them."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with what stands beside a target's input."""
    name = request.getfixturevalue("name")
    inner = tmp_path / "of" / "target"  # other tests look for data sets below the folder of all tests
    inner.mkdir(parents=True)
    prepare_target(name, inner)
    with contextlib.suppress(BrokenPromiseError):  # imports take seconds
        check_target(name, next(iter(make_seeds()[name].values())), inner)
    return inner


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_file_of_the_corpus_is_read_or_refused(name: str, folder: Path) -> None:
    for path in sorted((CORPUS / name).glob("*")):
        is_accepted = check_target(name, path.read_bytes(), folder)
        assert is_accepted or path.name.startswith("crash-") or name in REFUSED, path


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nearly_right_files_are_read_or_refused(name: str, folder: Path) -> None:
    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(data=make_inputs(name))
    def check(data: bytes) -> None:
        check_target(name, data, folder)

    check()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_files_beside_an_input_can_be_written_again(name: str, tmp_path: Path) -> None:
    """The search does so where it starts a process again."""
    prepare_target(name, tmp_path)
    first = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    prepare_target(name, tmp_path)
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} == first


def test_the_corpus_is_small_and_of_known_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MAX_CORPUS_BYTES


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2J", "x" * 10_000])
def test_an_error_that_is_no_line_is_found(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import targets

    class Unprintable(targets.StadiaError):
        def __str__(self) -> str:
            return text

    def read(path: Path) -> None:
        raise Unprintable(path, found="a", expected="b", fix="c")

    monkeypatch.setitem(TARGETS, "json", targets.Target("a.json", read))
    with pytest.raises(BrokenPromiseError, match="no line to print"):
        check_target("json", b"", tmp_path)


def test_minutes_and_executions_add_up_over_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that has had its minutes is skipped; the inputs of one run are those that the next starts from.

    The minutes are of the processor: a process that has half of it is started again.
    """
    monkeypatch.setattr(run_atheris, "_processor_seconds", lambda: clock[0])
    monkeypatch.setattr(run_atheris.importlib.util, "find_spec", lambda name: name)
    clock, started = [0.0], []

    def run(result: run_atheris.FuzzResult, work: Path, seconds: float, inputs: Path) -> None:
        clock[0] += seconds / 2
        started.append((result.name, seconds, result.seed, len(list(inputs.iterdir()))))
        result.executions, result.edges = result.executions + 10, 7
        (inputs / f"{result.seed}").write_bytes(b"[1]")

    monkeypatch.setattr(run_atheris, "_run_process", run)
    for minutes in ("0.5", "0.5", "2"):
        monkeypatch.setattr("sys.argv", ["fuzz", "json", "npy", "--minutes", minutes, "--folder", str(tmp_path)])
        assert run_atheris.main() == 0
    names = [name for name, *_ in started]
    assert names == [*["json"] * 2, *["npy"] * 2, *["json"] * 4, *["npy"] * 4]
    assert [rest for name, *rest in started if name == "json"] == [
        *([30, 1, 0], [15, 2, 1], [97.5, 3, 2], [48.75, 4, 3], [24.375, 5, 4], [12.1875, 6, 5])
    ]
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(row["name"], row["executions"], row["edges"], row["seconds"]) for row in rows] == [
        ("json", 60, 7, 113.90625),
        ("npy", 60, 7, 113.90625),
    ]


def test_a_search_that_is_killed_keeps_its_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(result: run_atheris.FuzzResult, seconds: float, inputs: Path) -> None:
        if result.executions == 2:
            raise KeyboardInterrupt
        result.executions, result.seconds = result.executions + 1, result.seconds + seconds

    monkeypatch.setattr(run_atheris.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(run_atheris, "fuzz_target", search)
    monkeypatch.setattr("sys.argv", ["fuzz", "json", "--minutes", "30", "--folder", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        run_atheris.main()
    kept = run_atheris.read_results(tmp_path / "results.jsonl")["json"]
    assert (kept.executions, kept.seconds) == (2, 600)


def test_runs_beside_each_other_keep_the_rows_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, other = tmp_path / "results.jsonl", run_atheris.FuzzResult("npy", executions=3)
    monkeypatch.setattr(run_atheris.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(run_atheris, "fuzz_target", lambda *_: run_atheris.write_results(table, {"npy": other}))
    monkeypatch.setattr("sys.argv", ["fuzz", "json", "--folder", str(tmp_path)])
    assert run_atheris.main() == 0
    assert list(run_atheris.read_results(table)) == ["json", "npy"]


@given(data=st.data())
@settings(max_examples=20, derandomize=True, deadline=None, database=None)
def test_the_inputs_differ(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TARGETS)))
    assert isinstance(data.draw(make_inputs(name)), bytes)


@pytest.mark.parametrize(
    ("kind", "alone", "found"), [("oom", 0, 0), ("oom", 71, 1), ("crash", 0, 1), ("timeout", 0, 0)]
)
def test_memory_and_time_of_the_search_itself_are_no_finding(
    kind: str, alone: int, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an input takes little of both alone, the search is what grew: atheris keeps what numpy compares."""

    def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[bytes]:
        if command[-1].startswith("-dict"):
            (tmp_path / f"artifact-{kind}-1").write_bytes(b"Car")
            return subprocess.CompletedProcess(command, 71)
        assert command[-1] == f"{tmp_path}/artifact-{kind}-1"
        return subprocess.CompletedProcess(command, alone)

    monkeypatch.setattr(run_atheris.subprocess, "run", run)
    result = run_atheris.FuzzResult("kitti_boxes")
    run_atheris._run_process(result, tmp_path, 60, tmp_path)
    assert len(result.findings) == found
