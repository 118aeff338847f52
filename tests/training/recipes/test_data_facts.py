"""A resume finds that moved data hold other labels: poses, depth and frames of the split are in run.json."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.refusals import refuses

from stadia import training
from stadia.core.config import diff_mappings
from stadia.core.errors import RunError
from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.data.splits import all_frames
from stadia.io.run_facts import match_facts
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.video_data import describe_depth, measure_poses
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.training_data import list_movable_keys

pytestmark = pytest.mark.slow


def scale_depth(world: Path) -> None:
    for file in (world / "depth" / "left").glob("*.npy"):
        np.save(file, np.load(file) * np.float32(1.5))


def remove_one_map(world: Path) -> None:
    sorted((world / "depth" / "left").glob("*.npy"))[1].unlink()


def change_one_map(world: Path) -> None:
    file = sorted((world / "depth" / "left").glob("*.npy"))[1]
    np.save(file, np.load(file) * np.float32(3))


def add_unread_depth(world: Path) -> None:
    depth = world / "depth" / "left"
    file = sorted(depth.glob("*.npy"))[0]
    file.with_suffix(".png").write_bytes(b"another form of the map")
    np.save(depth / "999999.npy", np.load(file))


def scale_poses(world: Path) -> None:
    poses = np.loadtxt(world / "poses.txt").reshape(-1, 3, 4)
    poses[..., 3] *= 3
    np.savetxt(world / "poses.txt", poses.reshape(len(poses), 12))


def shift_one_pose(world: Path) -> None:
    poses = np.loadtxt(world / "poses.txt")
    poses[2, 11] += 0.001
    np.savetxt(world / "poses.txt", poses)


def swap_poses(world: Path) -> None:
    poses = np.loadtxt(world / "poses.txt")
    poses[[1, 2]] = poses[[2, 1]]
    np.savetxt(world / "poses.txt", poses)


def round_poses(world: Path) -> None:
    poses = np.loadtxt(world / "poses.txt")
    np.savetxt(world / "poses.txt", poses + np.random.default_rng(0).normal(size=poses.shape) * 1e-9, fmt="%.18e")


def open_one(world: Path) -> Recording:
    (recording,) = open_recordings(world)
    return recording


@pytest.fixture
def world(worlds: Path, tmp_path: Path) -> Path:
    return shutil.copytree(worlds / "train-000", tmp_path / "train-000")


def describe(world: Path) -> dict[str, Any]:
    recording = open_one(world)
    frames = all_frames(recording, recording.sides)
    facts = {"poses": {"one": measure_poses(recording)}, "depth": describe_depth(frames)}
    return dict(json.loads(json.dumps(facts)))


def list_differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {change.key.split(".")[0] for change in diff_mappings(before, match_facts(after, before))}


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (scale_depth, {"depth"}),
        (change_one_map, {"depth"}),
        (remove_one_map, {"depth"}),
        (scale_poses, {"poses"}),
        (shift_one_pose, {"poses"}),
        (swap_poses, {"poses"}),
        (round_poses, set()),
        (add_unread_depth, set()),
    ],
)
def test_facts_differ_where_labels_do(
    change: Callable[[Path], None], differing: set[str], world: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(world, tmp_path / "moved" / world.name)
    before = describe(world)
    assert describe(moved) == before
    change(world)
    assert list_differing(before, describe(world)) == differing


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
    with refuses(RunError, where="run", found=fact):
        training.train(moved, resume=run)
    assert {name: (run / name).read_bytes() for name in before} == before


def test_a_key_is_free_where_the_run_recorded_what_it_names(small: SelfsupConfig, trained_small: Path) -> None:
    every = {"data.path", "data.cache", "data.camera.K_file", "data.ground_truth_path", "data.poses"}
    assert every <= set(list_movable_keys(small, Run.open(trained_small)))
