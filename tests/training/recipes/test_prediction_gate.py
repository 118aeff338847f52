"""Frames that the prediction checks keep: few, spread over the input, each with a frame that has moved."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.core.errors import VerdictError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame
from stadia.data.video.video_map import MapVerdictRecord
from stadia.judge.depth import TrainingRecord
from stadia.predict import verdict
from stadia.predict.trust import describe_trust
from stadia.predict.verdict import MAX_SAMPLES, MIN_FLOW_PX, PredictionGate, find_judging_map, refuse_unusable

K = np.array([[60.0, 0, 47.5], [0, 60, 15.5], [0, 0, 1]])


def frame(number: int, **changes: Any) -> Frame:
    return Frame(f"{number:06d}", np.full((32, 96, 3), number % 256, np.uint8), K, **changes)


def take(gate: PredictionGate, frames: Iterable[Frame]) -> list[int]:
    inverse_depth: NDArray[np.float32] = np.ones((8, 24), np.float32)
    for one in frames:
        gate.take(one, lambda: inverse_depth)
    return [int(sample.image[0, 0, 0]) for sample in gate.samples]


@pytest.fixture
def gate() -> PredictionGate:
    return PredictionGate(DepthScale.METRES, TrainingRecord(steps=1000))


def test_a_long_input_keeps_few_samples_over_all_of_it(gate: PredictionGate) -> None:
    kept = take(gate, [frame(number, frames_since=None) for number in range(250)])
    assert MAX_SAMPLES <= len(kept) < 2 * MAX_SAMPLES
    assert kept[0] == 0
    assert kept[-1] >= 230
    assert len(set(np.diff(kept))) == 1


@pytest.fixture
def motion(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:

    def move(flow_px: float) -> None:
        monkeypatch.setattr(verdict, "shrink_to_gray", lambda image: image.astype(int))
        monkeypatch.setattr(verdict, "median_flow_px", lambda first, second: flow_px * (second - first)[0, 0, 0])

    return move


def partners(gate: PredictionGate) -> dict[int, int]:
    pairs = [(int(one.image[0, 0, 0]), one.following) for one in gate.samples]
    return {number: int(following[0, 0, 0]) for number, following in pairs if following is not None}


def skipping(every: int, count: int, read: list[int] | None = None) -> Iterator[Frame]:

    def read_skipped(first: int, after: int) -> Iterator[Frame]:
        for number in range(first, after):
            if read is not None:
                read.append(number)
            yield frame(number)

    for number in range(0, count, every):
        skipped = partial(read_skipped, number + 1, min(number + every, count))
        yield frame(number, frames_since=every, skipped=skipped)


@pytest.mark.parametrize("every", [2, 3, 5, 12, 40])
def test_skipped_frames_are_partners_as_any_other(
    gate: PredictionGate, motion: Callable[[float], None], every: int
) -> None:
    motion(MIN_FLOW_PX / 4)
    read: list[int] = []
    take(gate, skipping(every, 200, read))
    found = partners(gate)
    assert found
    assert all(second == first + 4 for first, second in found.items() if first + 4 < 200)
    near = {number + later for number in range(0, 200, every) for later in range(1, 5)}
    assert set(read) <= near, "no more are read than are compared"


def checks(verdict: str, *codes: str, severity: str = "warn") -> dict[str, Any]:
    findings = [{"code": code, "severity": severity} for code in codes]
    return {"verdict": verdict, "findings": findings, "not_checked": {}}


def test_only_unusable_predictions_are_refused() -> None:
    refuse_unusable({"a": checks("usable"), "b": checks("doubtful", "T40"), "c": checks("not judged")})
    with refuses(VerdictError, found=("M30", "S30")):
        refuse_unusable({"a": checks("usable"), "b": checks("unusable", "M30"), "d": checks("unusable", "S30")})


def test_what_a_finding_does_not_affect_is_not_doubted() -> None:
    near_sky = describe_trust(DepthScale.METRES, checks("doubtful", "M32")).text
    assert "Do not rely on the depth of the sky" in near_sky
    assert near_sky.endswith("(M32).")
    two_cameras = describe_trust(DepthScale.UP_TO_SCALE, checks("doubtful", "K30")).text
    assert two_cameras.endswith("(K30).")
    assert "lengths" in two_cameras
    length = checks("doubtful", "M38")
    length["findings"][0]["evidence"] = {"deviation": 0.15}
    scaled = describe_trust(DepthScale.METRES, length)
    assert scaled.short == "± 15 %"
    assert "a standard deviation of 15 %." in scaled.text
    lens = checks("usable", "K30", severity="note")
    assert describe_trust(DepthScale.METRES, lens).text.endswith("(K30).")


@pytest.mark.parametrize(("grade", "judges"), [("usable", True), ("doubtful", False), (None, True)])
def test_only_a_usable_map_judges_depth(grade: str | None, judges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    record = None if grade is None else MapVerdictRecord(grade=grade)
    stored = SimpleNamespace(verdict=record, geometry="points")
    monkeypatch.setattr(verdict, "find_usable_map", lambda source: stored)
    mapped, why = find_judging_map(Path("video.mp4"))
    assert (mapped is not None, why == "") == (judges, judges)
    judged = PredictionGate(DepthScale.UP_TO_SCALE, TrainingRecord(), unused_map=why).judge()
    assert judged.not_checked.get("M35", "") == why
