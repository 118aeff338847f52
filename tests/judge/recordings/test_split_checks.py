"""D13: other frames of what is held out train. Frames and neighbors in common have codes of their own."""

import pytest
from tests.mutations.split_drives import Drive, found

from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.preflight_runner import run_preflight

PNG = b"\x89PNG"


def drawn(train: dict[Drive, range], val: dict[Drive, range], caplog: pytest.LogCaptureFixture) -> Finding:
    (finding,) = run_preflight([], {"train": list(train.items()), "val": list(val.items())})
    assert "no image" not in caplog.text
    return finding


@pytest.mark.slow
def test_image_shows_the_held_out_and_the_nearest_training_frame(caplog: pytest.LogCaptureFixture) -> None:
    a, b = Drive("drive a"), Drive("b")
    finding = drawn({a: range(30), b: range(40)}, {a: range(35, 40)}, caplog)
    assert finding.evidence == {"val": ["drive a 35"], "train": ["drive a 29"]}
    assert finding.image.startswith(PNG)


@pytest.mark.slow
def test_blocks_of_recordings_are_a_note() -> None:
    a, b = Drive("a"), Drive("b")
    (finding,) = found({a: range(30), b: range(40)}, {a: range(35, 40)})
    assert (finding.code, finding.severity, finding.where) == ("D13", Severity.NOTE, ("a",))
    assert finding.measured.startswith("1 of the 1 recordings of 'val'")


@pytest.mark.slow
def test_a_single_recording_has_no_other_way() -> None:
    recording = Drive("own")
    assert found({recording: range(20)}, {recording: range(30, 40)}) == []
