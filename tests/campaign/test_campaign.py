"""A sample of the campaign in every run of the suite; `make campaign` runs all of it."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from tests.campaign.cases import copy_sound, list_cases
from tests.campaign.harness import Case, Outcome, Server
from tests.campaign.sound import CAMERA, write_large_video

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="forks")]


def choose_cases(cases: Sequence[Case]) -> Iterator[Case]:
    """Yield a case of each kind of input; of each kind another damage."""

    def kind(case: Case) -> str:
        return case.name.partition("/")[0]

    kinds = [list(some) for _, some in groupby(sorted(cases, key=kind), key=kind)]
    for number, some in enumerate(kinds):
        yield some[len(some) * number // len(kinds)]


def test_hostile_inputs_are_refused_or_survived(sound: Path, server: Server, tmp_path: Path) -> None:
    chosen = list(choose_cases(list_cases(sound)))
    outcomes = [server.run(case, tmp_path / str(number)) for number, case in enumerate(chosen)]
    failed = [f"{outcome.name}: {outcome.faults}: {outcome.said[-300:]}" for outcome in outcomes if outcome.faults]
    assert len(outcomes) >= 30
    assert not failed, "\n".join(failed)


@pytest.mark.exhaustive
def test_the_largest_prediction_takes_less_than_2_gb(sound: Path, server: Server, tmp_path: Path) -> None:
    """8K video is the largest that is read, 2048x2048 the largest size of a network."""

    def write(folder: Path) -> None:
        copy_sound(sound, folder, ["run"])
        write_large_video(folder / "8k.mp4", frames=2)

    line = ["predict", "run", "8k.mp4", *CAMERA, "--size", "2048x2048", "--out", "out"]
    outcome = server.run(Case("size", write, line, accepted=True, changes=("out",), seconds=300.0), tmp_path)
    assert (outcome.code, outcome.faults) == (0, ()), outcome


@pytest.fixture(scope="module")
def bare_server() -> Iterator[Server]:
    """A server that imports nothing ahead, for Python in the place of stadia's command line."""
    with Server({"CAMPAIGN_CODE": ""}) as opened:
        yield opened


def _run(code: str, server: Server, tmp_path: Path, **limits: float) -> Outcome:
    """Run Python in the place of stadia's command line, as one case."""

    def write(folder: Path) -> None:
        (folder / "mine").write_text("years of work")
        (folder.parent / "beside").mkdir()
        (folder.parent / "beside" / "mine").write_text("years of work")
        (folder / "link").symlink_to("../beside")

    case = Case("a", write, ["--python"], env={"CAMPAIGN_CODE": code}, **limits)  # type: ignore[arg-type]
    return server.run(case, tmp_path)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("os._exit(70)", "exit code 70"),
        ("os._exit(0)", "accepted"),
        ("os.kill(os.getpid(), 11)", "crashed with signal 11"),
        ("raise ValueError", "exit code 71"),
        ("sys.exit(2)", "refused without"),
        ("print('Traceback (most recent call last)'); sys.exit(2)", "traceback"),
        ("time.sleep(3600)", "hangs"),
        ("bytearray(600 << 20); sys.exit(2)", "GiB of memory"),
        ("open('mine', 'w').close(); sys.exit(2)", "changed: mine"),
        ("os.unlink('mine'); sys.exit(2)", "removed: mine"),
        ("open('new', 'w').close(); sys.exit(2)", "created: new"),
        ("open('.new-1', 'w').close(); sys.exit(2)", "litter: .new-1"),
        ("os.unlink('link/mine'); sys.exit(2)", "removed: link/mine"),
        ("print('\\x1b[31m'); sys.exit(2)", "control characters"),
        ("open(os.environ['STADIA_CANARY'], 'w').close(); sys.exit(2)", "code of the input was run"),
        ("subprocess.Popen(['sleep', '30']); sys.exit(2)", "left running"),
    ],
)
def test_every_fault_is_found(code: str, fault: str, bare_server: Server, tmp_path: Path) -> None:
    outcome = _run(code, bare_server, tmp_path, seconds=0.5 if fault == "hangs" else 120.0, max_bytes=600 << 20)
    assert any(fault in found for found in outcome.faults), outcome


def test_a_right_refusal_has_no_fault(bare_server: Server, tmp_path: Path) -> None:
    code = "print('stadia: a: found b; expected c. Fix: d.'); sys.exit(2)"
    assert _run(code, bare_server, tmp_path, seconds=120.0).faults == ()
