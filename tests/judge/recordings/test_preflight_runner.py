"""The runner of checks: order, notes, errors, merging, time limit; and recordings that lack almost everything."""

import re
import time

import numpy as np
import pytest
from tests.mutations.recordings import Mutated

from stadia.core.errors import DataError
from stadia.core.types import Camera, Recording
from stadia.io.image_files import ImageSizeError
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings import preflight_runner
from stadia.judge.recordings.preflight_runner import (
    MAX_HELD_OUT,
    MAX_OF_A_SIZE,
    MAX_THUMBNAILS,
    check_splits,
    make_unreadable_finding,
    run_preflight,
)


class Few(Recording):
    """The first frames of the left camera: no rig, no poses, no ground truth, no files."""

    def __init__(self, recording: Recording, frames: int) -> None:
        self.recording, self.frames, self.name = recording, frames, "few"

    def __len__(self) -> int:
        return self.frames

    def image(self, index: int, side: str = "left") -> np.ndarray:
        return self.recording.image(index, side)

    def camera(self, index: int, side: str = "left") -> Camera:
        return self.recording.camera(index, side)


@pytest.mark.parametrize("frames", [1, 3])
def test_minimal_recording_has_a_reason_per_unchecked_item(frames: int, recording: Recording) -> None:
    findings = run_preflight([Few(recording, frames)])
    assert {finding.severity for finding in findings} == {Severity.NOTE}
    reported = " ".join(finding.measured for finding in findings)
    for check in (
        "resize:",
        "sides: one camera",
        "baseline: one camera",
        "poses: no poses",
        "ground_truth: no ground",
        "splits:",
    ):
        assert check in reported


def test_empty_recording_is_a_stop(recording: Recording) -> None:
    finding, *_ = run_preflight([Few(recording, 0)])
    assert (finding.code, finding.severity) == ("D01", Severity.STOP)


def test_an_image_of_another_size_than_its_camera_can_be_read() -> None:
    error = ImageSizeError("left/0.png", found="80x48", expected="160x96 of recording.json", fix="rescale the images")
    found = make_unreadable_finding("drive", error)
    assert (found.code, found.severity) == ("K04", Severity.STOP)
    assert "80x48" in found.measured
    assert "160x96 of recording.json" in found.expected


TRUNCATED = DataError("left/000002.png", found="a truncated image", expected="a whole one", fix="copy it again")


@pytest.mark.parametrize(
    ("error", "fix"),
    [(TRUNCATED, "copy it again"), (FileNotFoundError(2, "No such file", "left/000002.png"), "fetch it again")],
)
def test_what_cannot_be_read_is_a_stop_with_the_files_name(recording: Recording, error: Exception, fix: str) -> None:
    class Truncated(Few):
        def image(self, index: int, side: str = "left") -> np.ndarray:
            if index == 2:
                raise error
            return super().image(index, side)

    found = [finding for finding in run_preflight([Truncated(recording, 6)]) if finding.severity is not Severity.NOTE]
    assert [(finding.code, finding.severity, finding.fix) for finding in found] == [("D01", Severity.STOP, fix)]
    assert found[0].measured.startswith("left/000002.png: ")


def test_symptoms_of_a_stop_are_not_measured(recording: Recording) -> None:
    def doubled(camera: Camera) -> Camera:
        return Camera(np.array([[2.0], [2], [1]]) * camera.K, camera.height, camera.width)

    findings = run_preflight([Mutated(recording, camera=doubled)])
    assert [finding.code for finding in findings if finding.severity is Severity.STOP] == ["K04"]
    assert sum("K04 must be fixed first" in finding.measured for finding in findings) == 6


@pytest.mark.slow
def test_same_finding_of_several_recordings_is_merged(recording: Recording) -> None:
    broken = [Mutated(recording, rig=np.linalg.inv) for _ in range(3)]
    for number, drive in enumerate(broken):
        drive.name = f"drive {number}"
    findings = [finding for finding in run_preflight(broken) if finding.severity is Severity.STOP]
    assert [finding.code for finding in findings] == ["E01"]
    assert findings[0].where == ("drive 0", "drive 2", "drive 1")  # in the order of checking: far from each other first


def test_recordings_left_out_for_time_are_counted(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []
    findings = run_preflight(
        [recording, recording, recording],
        checks=["intrinsics"],
        seconds=0,
        progress=lambda what, done, total: began.append(what),
    )
    assert [finding.code for finding in findings] == ["N02"]
    assert findings[0].measured.startswith("sampled: 1 of 3 recordings")
    assert re.match(r"run `stadia check DATA --seconds \d+0` to check all of them", findings[0].fix)
    assert began == [recording.name, "splits"]


def test_splits_without_files_are_compared_by_pixels(recording: Recording) -> None:
    train, copy = Few(recording, 6), Few(recording, 2)
    copy.name = "copy"
    assert [
        finding.code for finding in run_preflight([], {"train": [(train, range(6))], "test": [(copy, range(2))]})
    ] == ["D09"]


def test_a_check_that_fails_is_no_reason_not_to_train(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> list[Finding]:
        raise np.linalg.LinAlgError("Singular")

    monkeypatch.setattr(preflight_runner.CHECKS, "load", lambda _: fails)
    (found,) = run_preflight([recording], checks=["poses"])
    assert (found.code, found.severity) == ("N01", Severity.NOTE)
    assert "the check itself failed (LinAlgError: Singular)" in found.measured


@pytest.mark.slow
def test_an_image_that_fails_loses_no_finding(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> bytes:
        raise TRUNCATED

    monkeypatch.setattr(preflight_runner, "draw_finding", fails)
    found = run_preflight([Mutated(recording, rig=np.linalg.inv)])
    assert [(finding.code, finding.image) for finding in found if finding.severity is Severity.STOP] == [("E01", b"")]
    assert "E01 has no image (DataError" in caplog.text


class Long(Recording):
    """Many small images, each another one, as a film has them: without files. Counts what is read."""

    def __init__(self, name: str, frames: int, *, film: int = 0, seconds: float = 0.0) -> None:
        self.name, self.frames, self.film, self.seconds, self.read = name, frames, film, seconds, 0

    def __len__(self) -> int:
        return self.frames

    def image(self, index: int, side: str = "left") -> np.ndarray:
        self.read += 1
        time.sleep(self.seconds)
        return np.random.default_rng((self.film, index)).integers(0, 255, (32, 64, 3), np.uint8)

    def camera(self, index: int, side: str = "left") -> Camera:
        raise NotImplementedError


@pytest.mark.slow
def test_large_splits_are_sampled_and_reported_as_such() -> None:
    train, held = Long("train", 50_000), Long("held", 3000, film=1)
    found = list(check_splits({"train": [(train, range(50_000))], "val": [(held, range(3000))]}))
    assert train.read <= MAX_OF_A_SIZE + MAX_THUMBNAILS + 6
    assert held.read <= MAX_HELD_OUT + 20
    (note,) = found
    assert note.code == "N02"
    assert note.measured == "splits, sampled: 1000 of 3000 frames of 'val' were compared with 400 of 50000 of 'train'"


@pytest.mark.slow
def test_splits_keep_their_time_where_images_are_slow() -> None:
    films = enumerate(("train", "val", "test"))
    named = {name: [(Long(name, 1000, film=film, seconds=0.02), range(1000))] for film, name in films}
    found = list(check_splits(named, seconds=0.5))
    assert sum(film.read for ((film, _),) in named.values()) < 300, "all of them would be 1400, for half a minute"
    assert [finding.code for finding in found] == ["N02"] * 3
