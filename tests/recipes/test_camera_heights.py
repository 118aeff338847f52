"""The camera's height over frames and epochs: averages (V12), guards, groups (V16), resumed and shared exactly."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stadia.recipes.metric.camera_heights import CameraHeights, update_average
from stadia.recipes.metric.config import CameraHeightsConfig
from stadia.recipes.metric.epoch_height import compute_frame_medians
from stadia.training import checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from test_distributed import needs_gloo, run_in_two_processes

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
    """One epoch's frames, a batch of four at a time, with two objects each."""
    rng = np.random.default_rng(seed)
    for _ in range(frames // 4):
        said = camera_m * np.exp(rng.normal(0, spread, 8)) * np.where(rng.random(8) < bad, 2.0, 1.0)
        ratio = said if horizon_m is None else said * horizon_m / camera_m
        image = torch.arange(4).repeat_interleave(2)
        of_frames = (
            [recording] * 4,
            torch.full((4,), group),
            torch.full((4,), camera_m),
            torch.full((4,), height_mismatch),
        )
        heights.add(*of_frames, image, torch.from_numpy(said), torch.from_numpy(0.97 * ratio))


def trained(estimates: list[float], **config: Any) -> CameraHeights:
    """The heights after epochs that say this."""
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0, max_change=100, **config))
    for number, camera_m in enumerate(estimates):
        epoch_of(heights, camera_m, spread=0)
        heights.begin(number + 1)
    return heights


@pytest.mark.parametrize(
    ("wrong", "left"),
    [
        (1, {1: 1, 5: 1 / 15, 10: 1 / 55, 20: 1 / 210}),
        (5, {5: 5 / 15, 10: 5 / 55, 20: 5 / 210}),
        (10, {10: 10 / 55, 20: 10 / 210}),
    ],
)
def test_v12_one_wrong_epoch_decays_as_published(wrong, left):
    """At the k-th twice too high: 6.7 % are left at 5, 1.8 % at 10 and 0.5 % at 20 of k = 1, and so on."""
    value = NAN
    for epoch in range(1, 21):
        value = update_average(value, epoch - 1, 2.0 if epoch == wrong else 1.0)
        if epoch in left:
            assert value - 1 == pytest.approx(left[epoch], abs=1e-6)


def test_v12_the_average_has_weights_that_grow_with_the_epoch():
    estimates = [1.5, 1.6, 1.9, 1.4, 1.7]
    for count in range(1, 6):
        expected = np.average(estimates[:count], weights=range(1, count + 1))
        height = trained(estimates[:count]).heights[0]
        assert height.metres == pytest.approx(expected, abs=1e-9)
        assert height.epochs == count


def test_medians_of_frames():
    frames, medians = compute_frame_medians(np.array([7, 2, 7, 2, 7, 5]), np.array([3.0, 1, 100, 2, 1, 9]))
    assert frames.tolist() == [2, 5, 7]
    assert medians.tolist() == [1.5, 9, 3]


def test_the_first_height_is_taken_at_the_end_of_the_second_epoch():
    heights = CameraHeights()
    for epoch in range(3):
        heights.begin(epoch)
        assert heights.known_heights(torch.tensor([0, 4])).isfinite().tolist() == [epoch == 2, False]
        assert heights.reference_heights(torch.tensor([0])).isfinite().item() == (epoch == 2)
        epoch_of(heights)
    assert heights.known_heights(torch.tensor([0])).item() == pytest.approx(1.65, rel=0.02)
    assert heights.reference_heights(torch.tensor([0])).item() == pytest.approx(0.97 * 1.65, rel=0.02)


def test_an_epoch_with_fewer_frames_forgets_the_last():
    """F-33: 40 frames at 2 m, then 8 at 1.6 m: the second epoch says 1.6 m."""
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    epoch_of(heights, 2.0)
    heights.begin(1)
    epoch_of(heights, 1.6, frames=8, spread=0)
    assert heights.begin(2)[0].camera_m == pytest.approx(1.6)


def test_known_heights_supervise_from_the_start():
    for last, expected in ((None, (1.2 + 2 * 1.3) / 3), (-1, 1.2)):
        heights = CameraHeights(CameraHeightsConfig(known_m={3: 1.2}, last_epoch=last, first_epoch=0))
        assert heights.known_heights(torch.tensor([3])).item() == pytest.approx(1.2)
        epoch_of(heights, 1.3, group=3, spread=0)
        heights.begin(1)
        assert heights.known_heights(torch.tensor([3])).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="there is never a height"):
        CameraHeightsConfig(last_epoch=-1)


@pytest.mark.parametrize(
    ("test", "known_m", "kept", "locked_height"),
    [
        ("absolute", 1.65, 0.8, ""),
        ("absolute", 3.3, 0.2, "of the objects agree with the known 3.30 m, and the median of all is 1.6"),
        ("centered", 1.65, 0.8, ""),
        ("centered", 3.3, 0.8, ""),
    ],
)
def test_absolute_test_confirms_a_wrong_height(test, known_m, kept, locked_height):
    """A fifth of the objects say twice the height: from there the absolute test holds to them, and the centered one
    comes back.
    """
    heights = CameraHeights(
        CameraHeightsConfig(known_m={0: known_m}, first_epoch=0, test_from_epoch=0, test=test, max_change=100)
    )
    assert heights.reference_heights(torch.tensor([0])).item() == pytest.approx(
        known_m if test == "absolute" else NAN, nan_ok=True
    )
    epoch_of(heights, bad=0.2, seed=4, frames=400)
    found = heights.begin(1)[0]
    assert found.kept == pytest.approx(kept, abs=0.02)
    assert locked_height in found.locked_height
    assert bool(found.locked_height) == bool(locked_height) == bool(found.refused)
    expected = known_m if locked_height else (known_m + 2 * 1.65) / 3
    assert heights.heights[0].metres == pytest.approx(expected, rel=0.02)


def test_absolute_test_keeps_all_objects_without_a_height():
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0, test_from_epoch=0, test="absolute"))
    epoch_of(heights, bad=0.2, seed=4, frames=400)
    assert heights.begin(1)[0].kept == 1
    epoch_of(heights, bad=0.2, seed=4, frames=400)
    assert heights.begin(2)[0].kept == pytest.approx(0.8, abs=0.02)


def test_frames_without_objects_count_without_a_height():
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    none, nan = torch.zeros(0), torch.tensor([NAN])
    heights.add(
        ["drive"] * 8,
        torch.zeros(8, dtype=torch.long),
        torch.full((8,), NAN),
        torch.full((8,), NAN),
        none.long(),
        none,
        none,
    )
    heights.add(["drive"], torch.zeros(1, dtype=torch.long), nan, nan, torch.zeros(1, dtype=torch.long), nan, nan)
    found = heights.begin(1)[0]
    assert (found.frames, found.frames_seen) == (0, 9)
    assert "0 of 9 frames" in found.refused
    assert heights.known_heights(torch.tensor([0])).isnan().all()


# -------------------------------------------------------------------------------------------------------------------
# guards


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
    found = heights.begin(3)[0]
    assert reason in found.refused
    assert bool(found.refused) == bool(reason)
    assert heights.heights[0].epochs == (2 if reason else 3)
    assert heights.heights[0].metres == pytest.approx(1.65, rel=0.02 if not reason else 1e-6)


def test_objects_are_held_against_no_horizon_that_most_of_them_contradict():
    """Depth that has not learnt the road yet has a horizon anywhere: a test against it would leave out nearly all."""
    heights = CameraHeights()
    epoch_of(heights, spread=0.6)
    heights.begin(1)
    epoch_of(heights, spread=0.6, seed=1)
    heights.begin(2)
    assert heights.reference_heights(torch.zeros(1, dtype=torch.long)).isnan().all()
    epoch_of(heights, spread=0.03)
    heights.begin(3)
    assert heights.reference_heights(torch.zeros(1, dtype=torch.long)).item() == pytest.approx(0.97 * 1.65, rel=0.02)


def test_frames_that_differ_too_much_are_refused():
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    epoch_of(heights, spread=0.8)
    assert "quartiles" in heights.begin(1)[0].refused


def test_a_height_that_jumps_goes_half_the_way():
    heights = CameraHeights(CameraHeightsConfig(known_m={0: 1.5}, first_epoch=0))
    epoch_of(heights, 3.0, spread=0)
    heights.begin(1)
    assert heights.heights[0].metres == pytest.approx(1.5 + 0.5 * 2 / 3 * 1.5)


@pytest.mark.parametrize("start", [0.6, 1.6, 3.0])
def test_wrong_start_rejects_no_object(start):
    """Objects are held against each other, not against the last height: it is the right one's share of the average."""
    heights = CameraHeights(CameraHeightsConfig(known_m={0: start * 1.65}, first_epoch=0))
    for epoch in range(30):
        heights.begin(epoch)
        epoch_of(heights, bad=0.2, seed=epoch)
    assert heights.begin(30)[0].camera_m == pytest.approx(1.65, rel=0.02)
    assert heights.heights[0].metres == pytest.approx(1.65, rel=0.06)


# -------------------------------------------------------------------------------------------------------------------
# groups


def test_v16_groups_have_heights_of_their_own():
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    for number in range(4):
        epoch_of(heights, 1.2, group=0, recording=f"low{number}", seed=number)
        epoch_of(heights, 1.65, group=7, recording=f"high{number}", seed=number)
    heights.begin(1)
    assert heights.known_heights(torch.tensor([7, 0, 7, 1])).tolist() == pytest.approx(
        [1.65, 1.2, 1.65, NAN], rel=0.02, nan_ok=True
    )


@pytest.mark.parametrize(("low", "high"), [(1, 1), (4, 1), (1, 4)])
def test_v16_a_merged_group_fails_and_names_its_recordings(low, high):
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    for number in range(low):
        epoch_of(heights, 1.2, recording=f"low{number}", seed=number, bad=0.2)
    for number in range(high):
        epoch_of(heights, 1.65, recording=f"high{number}", seed=number, bad=0.2)
    epoch_of(heights, 1.9, group=7)
    found = heights.begin(1)
    assert re.search(r"1\.2\d m .*'low.*1\.6\d m .*'high.*into different groups", found[0].apart)
    assert found[7].apart == ""
    assert heights.known_heights(torch.tensor([0, 7])).isnan().tolist() == [True, False], "the other group goes on"


def test_a_height_that_stays_is_not_forgotten_where_recordings_disagree():
    """It teaches on; no metres are claimed of it, since depth then says no one height of the group."""
    heights = CameraHeights(CameraHeightsConfig(known_m={0: 1.4}, last_epoch=-1, first_epoch=0))
    epoch_of(heights, 1.2, recording="low")
    epoch_of(heights, 1.65, recording="high")
    found = heights.begin(1)[0]
    assert found.apart
    assert np.isnan(found.road_m)
    assert heights.known_heights(torch.tensor([0])).item() == pytest.approx(1.4)


def test_recordings_that_differ_a_little_are_one_mount():
    """Twelve from 1.4 to 1.9 m without a gap, and one of few frames far away."""
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    for number, camera_m in enumerate(np.linspace(1.4, 1.9, 12)):
        epoch_of(heights, camera_m, recording=f"drive{number}", seed=number)
    epoch_of(heights, 3.3, recording="vans", frames=8)
    assert heights.begin(1)[0].refused == ""


@pytest.mark.parametrize(("height_mismatch", "apart"), [(0.0, True), (NAN, True), (0.2, False)])
def test_a_road_that_is_no_plane_yet_is_no_other_mount(height_mismatch, apart):
    """In the first epochs depth differs by drive; the road of some is a bowl, and a height over it is none."""
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    epoch_of(heights, recording="learnt", frames=80)
    epoch_of(heights, 3.3, recording="bowl", height_mismatch=height_mismatch)
    found = heights.begin(1)[0]
    assert bool(found.apart) == apart


@pytest.mark.parametrize(("known_m", "apart"), [(1.0, False), (1.7, True), (2.3, True), (3.3, True), (4.5, False)])
def test_gap_beside_the_known_height_is_no_second_mount(known_m, apart):
    """What is known of two mounts together lies between them."""
    heights = CameraHeights(CameraHeightsConfig(known_m={0: known_m}, first_epoch=0))
    epoch_of(heights)
    epoch_of(heights, 3.3, recording="far")
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
    found = [each.begin(1)[0] for each in (heights, resumed)]
    (root / f"{rank}.txt").write_text(repr((found[0] == found[1], found[0], heights.heights)))


@pytest.mark.slow
@needs_gloo
def test_processes_agree_on_the_heights_of_all_observations(tmp_path: Path):
    assert run_in_two_processes(half, tmp_path) == [0, 0]
    alone = CameraHeights(CameraHeightsConfig(first_epoch=0))
    epoch_of(alone, 1.5, frames=20, seed=0)
    epoch_of(alone, 1.6, frames=32, seed=1)
    expected = repr((True, alone.begin(1)[0], alone.heights))
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [expected] * 2


@pytest.mark.parametrize(
    ("height_mismatch", "refused"), [(0.0, False), (0.04, False), (-0.06, True), (0.2, True), (NAN, False)]
)
def test_a_road_that_is_no_plane_yet_has_no_height(height_mismatch, refused):
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    epoch_of(heights, height_mismatch=height_mismatch)
    found = heights.begin(1)[0]
    assert bool(found.refused) == refused
    assert heights.known_heights(torch.tensor([0])).isnan().item() == refused
    if refused:
        assert f"differ by {np.expm1(abs(height_mismatch)):.0%}" in found.refused


@pytest.mark.parametrize(("camera_m", "used"), [(1.65, True), (1.9, False), (1.4, False)])
def test_depth_may_not_say_what_silhouettes_exclude(camera_m, used):
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0, known_m={0: 1.7}, between_m={0: (1.6, 1.75)}))
    epoch_of(heights, camera_m, spread=0.01)
    found = heights.begin(1)[0]
    assert (found.refused == "") == used
    if used:
        assert 1.6 < heights.known_heights(torch.tensor([0])).item() < 1.7
    else:
        assert "1.60 to 1.75 m by silhouettes alone" in found.refused
        assert heights.known_heights(torch.tensor([0])).item() == pytest.approx(1.7)


def test_frames_that_part_to_both_sides_do_not_cancel():
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0))
    epoch_of(heights, height_mismatch=0.3, frames=20)
    epoch_of(heights, height_mismatch=-0.3, frames=20)
    assert "not a road yet" in heights.begin(1)[0].refused
