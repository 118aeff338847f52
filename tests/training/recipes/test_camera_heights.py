"""The camera's height over frames and epochs: averages (V12), guards, groups (V16), resumed and shared exactly."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stadia.training.loop import checkpoint
from stadia.training.recipes.metric.camera_heights import CameraHeights
from stadia.training.recipes.metric.config import CameraHeightsConfig

NAN = math.nan


def epoch_of(
    heights: CameraHeights,
    camera_m: float = 1.65,
    *,
    frames: int = 40,
    group: int = 0,
    recording: str = "drive",
    spread: float = 0.03,
    bad: float = 0.0,
    horizon_m: float | None = None,
    height_mismatch: float = 0.0,
    seed: int = 0,
) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(frames // 4):
        by_depth = camera_m * np.exp(rng.normal(0, spread, 8)) * np.where(rng.random(8) < bad, 2.0, 1.0)
        by_horizon = by_depth if horizon_m is None else by_depth * horizon_m / camera_m
        heights.add(
            recordings=[recording] * 4,
            group=torch.full((4,), group),
            road_m=torch.full((4,), camera_m),
            height_mismatch=torch.full((4,), height_mismatch),
            image=torch.arange(4).repeat_interleave(2),
            camera_m=torch.from_numpy(by_depth),
            horizon_m=torch.from_numpy(0.97 * by_horizon),
        )


def trained(estimates: list[float], **config: Any) -> CameraHeights:
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0, max_change=100, **config))
    for number, camera_m in enumerate(estimates):
        epoch_of(heights, camera_m, spread=0)
        heights.begin(number + 1)
    return heights


def test_v12_the_average_has_weights_that_grow_with_the_epoch():
    estimates = [1.5, 1.6, 1.9, 1.4, 1.7]
    for count in range(1, 6):
        expected = np.average(estimates[:count], weights=range(1, count + 1))
        height = trained(estimates[:count]).heights[0]
        assert height.metres == pytest.approx(expected, abs=1e-9)
        assert height.epochs == count


def test_the_first_height_is_taken_at_the_end_of_the_second_epoch():
    heights = CameraHeights()
    for epoch in range(3):
        heights.begin(epoch)
        assert heights.known_heights(torch.tensor([0, 4])).isfinite().tolist() == [epoch == 2, False]
        assert heights.reference_heights(torch.tensor([0])).isfinite().item() == (epoch == 2)
        epoch_of(heights)
    assert heights.known_heights(torch.tensor([0])).item() == pytest.approx(1.65, rel=0.02)
    assert heights.reference_heights(torch.tensor([0])).item() == pytest.approx(0.97 * 1.65, rel=0.02)


@pytest.mark.parametrize(
    ("test", "known_m", "kept", "locked_height"),
    [
        ("absolute", 1.65, 0.8, ""),
        ("absolute", 3.3, 0.2, "3.30"),
        ("centered", 1.65, 0.8, ""),
        ("centered", 3.3, 0.8, ""),
    ],
)
def test_absolute_test_confirms_a_wrong_height(test, known_m, kept, locked_height):
    config = CameraHeightsConfig(known_m={0: known_m}, first_epoch=0, test_from_epoch=0, test=test, max_change=100)
    heights, reference_m = CameraHeights(config), known_m if test == "absolute" else NAN
    assert heights.reference_heights(torch.tensor([0])).item() == pytest.approx(reference_m, nan_ok=True)
    epoch_of(heights, bad=0.2, seed=4, frames=400)
    estimate = heights.begin(1)[0]
    assert estimate.kept == pytest.approx(kept, abs=0.02)
    assert locked_height in estimate.locked_height
    assert bool(estimate.locked_height) == bool(locked_height) == bool(estimate.refused)
    expected = known_m if locked_height else (known_m + 2 * 1.65) / 3
    assert heights.heights[0].metres == pytest.approx(expected, rel=0.02)


# -- guards


@pytest.mark.parametrize(
    ("epoch", "reason"),
    [
        ({}, ""),
        ({"frames": 4}, "4 of 4 frames"),
        ({"spread": 0.6, "horizon_m": None}, "objects agree"),
        ({"horizon_m": 2.1}, "by the horizon"),
        ({"bad": 0.3}, ""),
    ],
    ids=["as it should be", "few frames", "objects disagree", "the horizon disagrees", "bad objects"],
)
def test_a_refused_epoch_changes_nothing(epoch, reason):
    heights = trained([1.65] * 2)
    epoch_of(heights, **epoch)
    estimate = heights.begin(3)[0]
    assert reason in estimate.refused
    assert bool(estimate.refused) == bool(reason)
    assert heights.heights[0].epochs == (2 if reason else 3)
    assert heights.heights[0].metres == pytest.approx(1.65, rel=0.02 if not reason else 1e-6)


@pytest.mark.parametrize(
    ("epochs", "reason"),
    [
        ([{"spread": 0.8}], "quartiles"),
        ([{"height_mismatch": 0.04}], ""),
        ([{"height_mismatch": NAN}], ""),
        ([{"height_mismatch": -0.06}], "differ by 6%"),
        ([{"height_mismatch": 0.2}], "differ by 22%"),
        ([{"height_mismatch": 0.3, "frames": 20}, {"height_mismatch": -0.3, "frames": 20}], "road pixels differ"),
    ],
    ids=["frames differ", "nearly plane", "no plane known", "below", "above", "to both sides: they do not cancel"],
)
def test_frames_that_differ_and_a_road_that_is_no_plane_give_no_height(epochs, reason):
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    for frames in epochs:
        epoch_of(heights, **frames)
    refused = heights.begin(1)[0].refused
    assert reason in refused
    assert bool(refused) == bool(reason)
    assert heights.known_heights(torch.tensor([0])).isnan().item() == bool(reason)


def test_a_height_that_jumps_goes_half_the_way():
    heights = CameraHeights(CameraHeightsConfig(known_m={0: 1.5}, first_epoch=0))
    epoch_of(heights, 3.0, spread=0)
    heights.begin(1)
    assert heights.heights[0].metres == pytest.approx(1.5 + 0.5 * 2 / 3 * 1.5)


@pytest.mark.parametrize("start", [0.6, 1.6, 3.0])
def test_wrong_start_rejects_no_object(start):
    heights = CameraHeights(CameraHeightsConfig(known_m={0: start * 1.65}, first_epoch=0))
    for epoch in range(30):
        heights.begin(epoch)
        epoch_of(heights, bad=0.2, seed=epoch)
    assert heights.begin(30)[0].camera_m == pytest.approx(1.65, rel=0.02)
    assert heights.heights[0].metres == pytest.approx(1.65, rel=0.06)


# -- groups


@pytest.mark.parametrize(("low", "high"), [(1, 1), (4, 1), (1, 4)])
def test_v16_a_merged_group_fails_and_names_its_recordings(low, high):
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    for name, metres, number in [*(("low", 1.2, at) for at in range(low)), *(("high", 1.65, at) for at in range(high))]:
        epoch_of(heights, metres, recording=f"{name}{number}", seed=number, bad=0.2)
    epoch_of(heights, 1.9, group=7)
    estimates = heights.begin(1)
    assert re.search(r"1\.2\d m .*'low.*1\.6\d m .*'high.*into different groups", estimates[0].apart)
    assert estimates[7].apart == ""
    assert heights.known_heights(torch.tensor([0, 7])).isnan().tolist() == [True, False], "the other group goes on"


@pytest.mark.parametrize(
    ("known_m", "height_mismatch", "apart"),
    [
        (NAN, 0, True),
        (NAN, NAN, True),
        (NAN, 0.2, False),
        (1, 0, False),
        (1.7, 0, True),
        (3.3, 0, True),
        (4.5, 0, False),
    ],
    ids=["gap", "no plane known", "a road that is no plane yet", "below both", "at one", "at the other", "above both"],
)
def test_a_gap_between_recordings_is_a_second_mount(known_m, height_mismatch, apart):
    known = {} if math.isnan(known_m) else {0: known_m}
    heights = CameraHeights(CameraHeightsConfig(known_m=known, first_epoch=0))
    epoch_of(heights, recording="near", frames=80)
    epoch_of(heights, 3.3, recording="far", height_mismatch=height_mismatch)
    assert bool(heights.begin(1)[0].apart) == apart


# -- resumed and shared


def test_it_is_resumed_exactly_in_the_middle_of_an_epoch(tmp_path: Path):
    undisturbed, interrupted = (trained([1.5, 1.7]) for _ in range(2))
    for heights in (undisturbed, interrupted):
        epoch_of(heights, frames=20, seed=1)
    header = checkpoint.CheckpointHeader(recipe="small", config={}, kind="training", step=1, epoch=2, metrics={})
    checkpoint.write_checkpoint(tmp_path / "last.safetensors", header, {"camera_heights": interrupted.state_dict()})
    resumed = CameraHeights(interrupted.config)
    resumed.load_state_dict(checkpoint.Checkpoint.open(tmp_path / "last.safetensors").state()["camera_heights"])
    for heights in (undisturbed, resumed):
        epoch_of(heights, frames=20, recording="other", seed=2)
    assert resumed.begin(3) == undisturbed.begin(3)
    assert resumed.heights == undisturbed.heights


def half(rank: int, root: Path) -> None:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    epoch_of(heights, (1.5, 1.6)[rank], frames=(20, 32)[rank], seed=rank)
    resumed = CameraHeights(heights.config)
    resumed.load_state_dict(heights.state_dict(), rank=rank)
    estimate, again = heights.begin(1)[0], resumed.begin(1)[0]
    (root / f"{rank}.txt").write_text(repr((estimate == again, estimate, heights.heights)))


@pytest.mark.parametrize(("camera_m", "used"), [(1.65, True), (1.9, False), (1.4, False)])
def test_depth_may_not_say_what_silhouettes_exclude(camera_m, used):
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0, known_m={0: 1.7}, between_m={0: (1.6, 1.75)}))
    epoch_of(heights, camera_m, spread=0.01)
    estimate = heights.begin(1)[0]
    assert (estimate.refused == "") == used
    if used:
        assert 1.6 < heights.known_heights(torch.tensor([0])).item() < 1.7
    else:
        assert "1.60 to 1.75 m by silhouettes alone" in estimate.refused
        assert heights.known_heights(torch.tensor([0])).item() == pytest.approx(1.7)


# -- how the height follows the epochs


def observe(heights: CameraHeights, epoch: int, metres: float, *, tail_m: float | None = None) -> None:
    heights.begin(epoch)
    camera_m = torch.full((300,), metres)
    if tail_m is not None:
        camera_m[:60] = tail_m
    zeros = torch.zeros(300, dtype=torch.int64)
    heights.add(["drive"] * 300, zeros, camera_m, torch.zeros(300), torch.arange(300), camera_m, camera_m)


def follow(config: CameraHeightsConfig, *metres: float) -> list[float]:
    heights = CameraHeights(config)
    found = []
    for epoch, height_m in enumerate(metres):
        observe(heights, epoch, height_m)
        heights.begin(epoch + 1)
        found.append(round(heights.height_m(0), 4))
    return found


FREE = {"first_epoch": 0, "test_from_epoch": 99, "min_frames": 5, "max_spread": 99.0}


def test_a_height_is_updated_every_few_epochs():
    config = CameraHeightsConfig(**FREE, update_every=2, momentum=0.0)
    found = follow(config, 1.0, 1.2, 1.4, 1.6, 1.8)
    assert [str(value) for value in found] == ["nan", "1.2", "1.2", "1.6", "1.6"]


def test_new_weights_hold_the_height_and_a_resume_remembers_it():
    heights = CameraHeights(CameraHeightsConfig(**FREE, hold_epochs=2, momentum=0.0))
    observe(heights, 0, 1.0)
    for epoch in (1, 2, 3):
        observe(heights, epoch, 1.5)
    heights.hold(3)
    resumed = CameraHeights(heights.config)
    resumed.load_state_dict(heights.state_dict())
    for one in (heights, resumed):
        one.begin(4)
        assert one.height_m(0) == pytest.approx(1.0)


@pytest.mark.parametrize(("pool", "camera_m"), [("median", 1.0), ("mean", 1.2), ("weighted", 1.5)])
def test_a_weighted_epoch_counts_the_objects_of_each_frame(pool, camera_m):
    heights, image = CameraHeights(CameraHeightsConfig(**FREE, pool=pool)), torch.tensor([0, 1, 2, 3, 4, 4, 4, 4])
    metres = torch.where(image == 4, 2.0, 1.0)
    heights.add(["a"] * 5, torch.zeros(5, dtype=torch.int64), torch.ones(5), torch.zeros(5), image, metres, metres)
    heights.begin(1)
    assert heights.height_m(0) == pytest.approx(camera_m)
