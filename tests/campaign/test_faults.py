"""A sample of failed calls and of kills in every run of the suite; `make faults` and `make kills` run all."""

import json
import queue
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.campaign.faults import COMMANDS, Workplace, _read_safetensors
from tests.campaign.harness import Server
from tests.campaign.run_faults import choose_calls, run_command
from tests.campaign.run_kills import plan_kills, run_kills
from tests.combinations import mark_others

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")]
_SAMPLED = {"check": 24, "scores": 8, "prepare": 160, "predict-images": 480}
"""Commands of the sample, and that each n-th of their calls fails."""


@pytest.fixture(scope="module")
def places(
    sound: Path, shim: Path | None, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> queue.Queue[Workplace]:
    if shim is None:
        pytest.skip("no C compiler, which the shim of failing calls needs")
    opened: queue.Queue[Workplace] = queue.Queue()
    opened.put(Workplace(sound, tmp_path_factory.mktemp("faults"), server))
    return opened


@pytest.mark.parametrize("name", mark_others(list(_SAMPLED), ["check", "predict-images"]))
def test_a_rerun_after_a_failed_call_gives_the_undisturbed_result(name: str, places: queue.Queue[Workplace]) -> None:
    (command,) = (command for command in COMMANDS if command.name == name)
    first, *rows = run_command(places, command, most=1, every=_SAMPLED[name])
    assert first.calls > 5
    assert rows
    assert not [fault for row in rows for fault in row.faults]


def test_a_rerun_after_a_kill_gives_the_undisturbed_result(places: queue.Queue[Workplace]) -> None:
    plan = [one for one in plan_kills(200, seed=1) if one[0].name in ("predict-video", "odometry", "report", "check")]
    kills = list(run_kills(places, plan[:1]))
    assert len(kills) == 1
    assert not [fault for kill in kills for fault in kill.faults]


def test_each_call_fails_once_with_an_error_and_once_with_a_kill() -> None:
    calls = [
        "open /.a.0a1b2c3d-12.aaaaaaaa.partial.png",
        "write /.a.0a1b2c3d-12.aaaaaaaa.partial.png",
        "write /.a.0a1b2c3d-12.aaaaaaaa.partial.png",
    ]
    assert [number for number, _ in choose_calls(calls, most=None, every=1)] == [1, 1, 2, 2, 3, 3]
    assert [error == 0 for _, error in choose_calls(calls, most=None, every=1)] == [False, True] * 3
    assert [number for number, _ in choose_calls(calls, most=1, every=1)] == [1, 1, 2, 2]
    assert [(number, error == 0) for number, error in choose_calls(calls, most=None, every=2)] == [
        *((1, False), (1, True), (3, False), (3, True))
    ]
    calls = [f"write /run{number}.json" for number in range(9)]
    assert [number for number, _ in choose_calls(calls, most=3, every=1)][::2] == [1, 5, 9]
    chosen = choose_calls(calls, most=None, every=1, matching=r"write .*run[45]")
    assert [number for number, _ in chosen] == [5, 5, 6, 6]


def test_checkpoints_that_differ_in_time_alone_are_equal(sound: Path, tmp_path: Path) -> None:
    """A file that its reader cannot read counts by its bytes, which differ in every run."""
    data = (sound / "run/checkpoints/last.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    state = json.loads(header["__metadata__"]["stadia"])
    changes: dict[str, Callable[[], object]] = {
        "spent_s": lambda: state["state"].update(spent_s=1e6),
        "step": lambda: state["state"].update(step=state["state"]["step"] + 1),
    }
    plain = _read_safetensors(data)
    for name, change in changes.items():
        change()
        header["__metadata__"]["stadia"] = json.dumps(state)
        text = json.dumps(header).encode()
        changed = struct.pack("<Q", len(text)) + text + data[8 + length :]
        assert (_read_safetensors(changed) == plain) == (name == "spent_s")
