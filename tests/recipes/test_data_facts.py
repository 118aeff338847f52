"""A resume finds that moved data hold other labels: poses, depth and frames of the split are in run.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stadia import recipes
from stadia.core.config import resolve_config
from stadia.core.errors import RunError
from stadia.core.recording import Recording
from stadia.datasets.open_dataset import open_recordings
from stadia.recipes.base.data_facts import hash_depth_files, hash_poses
from stadia.recipes.base.data_locations import list_movable_keys
from stadia.recipes.selfsup.config import SelfsupConfig
from stadia.training.run_folder import Run


def scale_depth(world: Path) -> None:
    for file in (world / "depth" / "left").glob("*.npy"):
        np.save(file, np.load(file) * np.float32(1.5))


def remove_one_map(world: Path) -> None:
    sorted((world / "depth" / "left").glob("*.npy"))[1].unlink()


def scale_poses(world: Path) -> None:
    poses = np.loadtxt(world / "poses.txt").reshape(-1, 3, 4)
    poses[..., 3] *= 3
    np.savetxt(world / "poses.txt", poses.reshape(len(poses), 12))


def open_one(world: Path) -> Recording:
    (recording,) = open_recordings(world)
    return recording


@pytest.fixture
def world(worlds: Path, tmp_path: Path) -> Path:
    return shutil.copytree(worlds / "train-000", tmp_path / "train-000")


@pytest.mark.parametrize(
    ("change", "has_depth", "has_poses"),
    [(scale_depth, False, True), (remove_one_map, False, True), (scale_poses, True, False)],
)
def test_other_labels_have_another_hash(
    change: Callable[[Path], None], has_depth: bool, has_poses: bool, world: Path, tmp_path: Path
) -> None:
    """And the same labels in another folder have the same hash."""
    moved = open_one(shutil.copytree(world, tmp_path / "moved" / world.name))
    before = open_one(world)
    marks = hash_depth_files(before), hash_poses(before)
    assert None not in marks
    assert (hash_depth_files(moved), hash_poses(moved)) == marks
    change(world)
    after = open_one(world)
    assert (hash_depth_files(after) == marks[0], hash_poses(after) == marks[1]) == (has_depth, has_poses)


def test_data_without_labels_have_no_hash(world: Path) -> None:
    shutil.rmtree(world / "depth")
    (world / "poses.txt").unlink()
    recording = open_one(world)
    assert (hash_depth_files(recording), hash_poses(recording)) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize(("change", "fact"), [(scale_depth, "depth"), (scale_poses, "poses")])
def test_a_resume_with_other_labels_is_refused(
    change: Callable[[Path], None], fact: str, small: SelfsupConfig, trained_small: Path, tmp_path: Path
) -> None:
    run, place = tmp_path / "run", tmp_path / "moved" / Path(str(small.data.path)).name
    shutil.copytree(trained_small, run)
    shutil.copytree(str(small.data.path), place)
    change(place / "val-000")
    before = {name: (run / name).read_bytes() for name in ("config.json", "run.json", "metrics.csv")}
    moved = small.model_copy(update={"data": small.data.model_copy(update={"path": str(place)})})
    with pytest.raises(RunError, match=rf"other data than the run was trained on \({fact}\."):
        recipes.train(moved, resume=run)
    assert {name: (run / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_a_resume_with_other_validation_frames_is_refused(small: SelfsupConfig, worlds: Path, tmp_path: Path) -> None:
    """The file that lists them may have another path; the same frames in it go on."""
    lists = {name: tmp_path / f"{name}.txt" for name in ("train", "val", "moved", "other")}
    images = worlds / "train-000" / "left"
    for name, frames in {"train": [1, 2], "val": [3], "moved": [3], "other": [4]}.items():
        lists[name].write_text("".join(f"left {frame} l\n" for frame in frames))
    split = [f"data.split_by.{key}_file={lists[key]}" for key in ("train", "val")]
    words = [f"data.path={images}", "data.offsets=[-1]", "data.camera.horizontal_fov_deg=80", *split]
    config = resolve_config(SelfsupConfig, small.model_dump(mode="json"), words)
    run = recipes.train(config, out=tmp_path / "runs").folder
    for name in ("other", "moved"):
        values = json.loads((run / "config.json").read_text())
        changed = resolve_config(SelfsupConfig, values, [f"data.split_by.val_file={lists[name]}"])
        if name == "moved":
            recipes.train(changed, resume=run)
        else:
            with pytest.raises(RunError, match=r"other data than the run was trained on \(val_frames\."):
                recipes.train(changed, resume=run)


def test_a_key_is_free_where_the_run_recorded_what_it_names(small: SelfsupConfig, trained_small: Path) -> None:
    """Runs of earlier versions recorded neither poses nor depth nor the frames that validate."""
    facts = Run.open(trained_small).facts["data"]
    every = {"data.path", "data.cache", "data.camera.K_file", "data.ground_truth_path", "data.poses"}
    assert every <= set(list_movable_keys(small, facts))
    earlier = {key: facts[key] for key in ("path", "fingerprints")}
    free = set(list_movable_keys(small, earlier))
    assert {"data.path", "data.cache", "data.camera.K_file"} <= free
    assert not {"data.ground_truth_path", "data.poses", "data.split_by.val_file"} & free
