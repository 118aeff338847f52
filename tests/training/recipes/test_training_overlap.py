"""What is scored after a training: the frames that validated, each once, not too many, and neighbors among them for the
path.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from stadia.core.config import resolve_config
from stadia.data.open_dataset import open_recordings
from stadia.data.splits import frame_indices
from stadia.evaluation.predictions_folder import Provenance
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.predict.training_overlap import TrainingOverlap
from stadia.training.prediction.validation import choose_window
from stadia.training.recipes.base.video_data import open_video
from stadia.training.recipes.selfsup.config import SelfsupConfig

pytestmark = pytest.mark.slow  # its fixtures train or compile

MADE_BY = Provenance(recipe="selfsup", config_hash="0")


def test_judged_frames_are_those_around_the_validation() -> None:
    every = [*range(90), *range(100, 300)]
    assert choose_window(every, [], 60) == every[:60]
    assert choose_window(every, [150, 151], 60) == [*range(121, 181)]
    assert choose_window(every, [298, 299], 60) == [*range(240, 300)]
    assert choose_window([3, 4, 5], [4], 60) == [3, 4, 5]
    assert choose_window([*range(100)], [*range(70)], 60) == [*range(60)]


@pytest.mark.parametrize("trains_depth", [False, True])
def test_ground_truth_is_optional_in_training_and_always_in_validation(
    small: SelfsupConfig, trains_depth: bool
) -> None:
    config = small.data.model_copy(update={"ground_truth_depth": trains_depth, "target_sides": ("left", "right")})
    data = open_video(config, small.training, seed=0, console=Console(quiet=True))
    assert (next(iter(data.train)).targets.depth_m is not None) == trains_depth
    assert data.val is not None
    assert next(iter(data.val)).targets.depth_m is not None
    assert [len(frames.indices) for frames in data.split.val] == [5, 5]
    assert list(frame_indices(data.split.val).values()) == [[0, 1, 2, 3, 4]]


def test_run_json_identifies_training_frames(small: SelfsupConfig, tmp_path: Path, worlds: Path) -> None:
    words = ['data.recordings=["train-000"]', "data.split_by.val_share=0.4", "data.split_by.gap=0"]
    config = resolve_config(SelfsupConfig, small.model_dump(mode="json"), words)
    data = open_video(config.data, config.training, seed=0, console=Console(quiet=True))
    (trained,) = frame_indices(data.split.train).values()
    assert 0 < len(trained) < 5
    write_run_facts(tmp_path, replace(UNKNOWN_FACTS, data=data.facts))
    other, val = open_recordings(worlds / "train-000", frames=(1, 5)), open_recordings(worlds / "val-000")
    found = TrainingOverlap.find(tmp_path, [*other, *val])
    assert found.trained == {"train-000": {index - 1 for index in trained if index}, "val-000": set()}
    assert found.copies == {"train-000": set(), "val-000": set()}
    assert found.sessions == {"train-000": "train-000"}
    assert found.count_same_session({"train-000": [0, 1, 2, 3], "val-000": [0, 1]}) == 4 - len(
        [index for index in trained if index]
    )
    renamed = tmp_path / "renamed"  # another name, other numbers, another camera, no right images
    (renamed / "left").mkdir(parents=True)
    for number in range(5):
        shutil.copy(worlds / "train-000" / "left" / f"{number:06d}.png", renamed / "left" / f"{number + 10:06d}.png")
    about = json.loads((worlds / "train-000" / "recording.json").read_text())
    left = {**about["cameras"]["left"], "K": [[99, 0, 50], [0, 99, 20], [0, 0, 1]]}
    (renamed / "recording.json").write_text(
        json.dumps({"cameras": {"left": left}, "T_right_left": None, "frame_rate_hz": 10})
    )
    assert TrainingOverlap.find(tmp_path, open_recordings(renamed)).copies == {"renamed": set(trained)}
    assert found.count({"train-000": [0, 1, 2, 3], "val-000": [0, 1]}) == len([index for index in trained if index])
