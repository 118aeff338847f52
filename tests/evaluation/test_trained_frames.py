"""What of the scored frames trained the checkpoint: told by `stadia evaluate` in numbers and notes, and left out where
asked.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stadia.data.frame_preparation import frame_name
from stadia.data.open_dataset import open_recordings
from stadia.io.image_files import hash_file, join_hashes
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.predict.training_overlap import TrainedInput, TrainingOverlap

Stadia = Callable[..., tuple[int, str, str]]


def mistake(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    for word in words:
        assert word in err.splitlines()[-1]


@pytest.mark.slow
def test_frames_that_trained_are_counted_and_can_be_left_out(
    checkpoint: Path, drive_folder: Path, stadia: Stadia
) -> None:
    run, words = checkpoint.parent.parent, ("evaluate", checkpoint, drive_folder)
    mistake(stadia(*words, "--held-out"), "no record of the frames that trained", "leave --held-out out")
    assert json.loads(stadia(*words, "--json")[1])["trained_on"] is None
    (recording,) = open_recordings(drive_folder)
    facts = {
        "fingerprints": {"elsewhere/a": f"{recording.fingerprint()}[0:5]"},
        "train_frames": {"elsewhere/a": [[0, 2], [4, 5]]},
    }
    write_run_facts(run, replace(UNKNOWN_FACTS, data=facts))
    scores = json.loads(stadia(*words, "--json")[1])
    assert (scores["trained_on"], scores["images"]) == (3, 6)
    assert any(note.startswith("3 of the 6 frames trained this network") for note in scores["notes"])
    code, _, err = stadia(*words, "--held-out", "--json", "data.frames=[1,6]")
    assert code == 0, err
    stored = json.loads((run / "scores" / "world-metric-test-held-out.json").read_text())
    assert [image["name"] for image in stored["per_image"]] == ["world/a/000002", "world/a/000003", "world/a/000005"]
    assert (stored["trained_on"], stored["of_trained_drives"]) == (0, 3)
    (said,) = [note for note in stored["notes"] if "trained" in note]
    assert said.startswith(
        "3 of the 3 frames are others of drives that trained it (world/a): not a score on unseen places"
    )
    mistake(stadia(*words, "--held-out", "data.frames=[0,2]"), "only frames that trained")


@pytest.mark.slow
def test_a_renamed_copy_of_what_trained_is_known(checkpoint: Path, drive_folder: Path, stadia: Stadia) -> None:
    """D-14: by what its file holds, in another recording of another name, camera and frame number."""
    run = checkpoint.parent.parent
    first = hash_file(drive_folder / "a" / "left" / "000001.png")
    facts = {
        "fingerprints": {"elsewhere/b": "0123"},
        "train_frames": {"elsewhere/b": [[7, 8]]},
        "train_images": {"elsewhere/b": join_hashes([first, "f" * 12])},
        "train_sessions": ["elsewhere/b"],
    }
    write_run_facts(run, replace(UNKNOWN_FACTS, data=facts))
    scores = json.loads(stadia("evaluate", checkpoint, drive_folder, "--json")[1])
    assert (scores["trained_on"], scores["of_trained_drives"]) == (1, 5)
    _, camera, *notes = scores["notes"]
    assert camera.startswith("camera: ")
    assert notes[0].startswith(
        "1 of the 6 frames trained this network (1 of them copies by another name): not a score on"
    )
    assert notes[1].startswith("5 of the 6 frames are others of drives that trained it (world/a)")
    facts["train_images"] = {"elsewhere/b": "f" * 12}
    write_run_facts(run, replace(UNKNOWN_FACTS, data=facts))
    scores = json.loads(stadia("evaluate", checkpoint, drive_folder, "--json")[1])
    assert (scores["trained_on"], scores["of_trained_drives"]) == (0, 0)
    assert not any("trained" in note for note in scores["notes"])


CAMERA = ("data.camera.horizontal_fov_deg=60", "data.stride=1")


def write_facts(checkpoint: Path, **facts: object) -> None:
    given = {"fingerprints": {"video/drive": "0123"}, "train_frames": {"video/drive": [[0, 3], [5, 6]]}}
    given |= {"train_images": {"video/drive": ""}, "train_sessions": ["video/drive"], **facts}
    write_run_facts(checkpoint.parent.parent, replace(UNKNOWN_FACTS, data=given))


DAMAGED = ['{"data": {"tr', "[1]", '{"data": null}', '{"data": {"train_videos": {"h": [0, 50]}}}', '{"data": [1]}']
DAMAGED += [
    '{"data": {"extra_datasets": null}}',
    '{"data": {"extra_datasets": {"a": 3}}}',
    '{"data": {"train_frames": 3}}',
]


@pytest.mark.parametrize(("start", "trained"), [(1, {"000001", "000002"}), (3, set())])
def test_held_out_frames_of_a_trained_video_are_of_the_training_and_trained_nothing(
    start: int, trained: set[str], checkpoint: Path, drive_folder: Path
) -> None:
    """Of a recording and of a video file: only the predicted frames count, and the others explain its verdict."""
    run, (recording,) = checkpoint.parent.parent, open_recordings(drive_folder)
    facts = {"fingerprints": {recording.name: recording.fingerprint()}, "train_frames": {recording.name: [[0, 3]]}}
    write_facts(checkpoint, **facts, train_videos={"4567": [[0, 3]]}, train_sessions=[recording.session])
    indices = range(start, 6)
    names = tuple(f"{index:06d}" for index in indices)
    by_file = TrainingOverlap.find_input(run, recording=recording, indices=indices, video_hash="", names=names)
    by_video = TrainingOverlap.find_input(run, recording=None, indices=(), video_hash="4567", names=names)
    assert by_file.names == {frame_name(recording, int(name)) for name in trained}
    assert by_video.names == trained
    assert by_file.is_of_training
    assert by_video.is_of_training
    other = TrainingOverlap.find_input(run, recording=None, indices=(), video_hash="89", names=names)
    assert other == TrainedInput(frozenset(), is_of_training=False)
