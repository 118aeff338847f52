"""A map as the frames of a video see it: one unit, points in pixels, and pairs of frames by parallax."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.mapped_images import FOCAL, FRAMES, STEP, WALL, H, W, write_images, write_map
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.open_dataset import open_recordings
from stadia.data.video.map_geometry import MEDIAN_DEPTH, MIN_PARALLAX, MapGeometry
from stadia.data.video.video_map import HEIGHTS_AHEAD, find_map, find_map_folder, find_map_geometry
from stadia.training.loading.samples import make_map_labels


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "room")


def open_mapped(images: Path, **options: object):
    (recording,) = open_recordings(
        images, poses="map", camera={"focal_px": FOCAL}, stride=1, cache={"enabled": False}, **options
    )
    return recording


@pytest.mark.parametrize("name", ["points", "relative_deviation", "track_length", "frames", "observed"])
@pytest.mark.parametrize(
    "change",
    [lambda array: None, lambda array: np.array(3), lambda array: array * np.nan],
    ids=["missing", "scalar", "nan"],
)
def test_points_that_were_changed_are_refused(images, tmp_path, name, change):
    write_map(tmp_path / "room.map")
    path = tmp_path / "room.map" / "points.npz"
    arrays = dict(np.load(path))
    arrays[name] = change(arrays[name])
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    mapped = find_map(images)
    assert mapped is not None
    with refuses(DataError, names=("map",)):
        mapped.make_geometry(range(FRAMES))


def test_poses_and_points_have_one_unit_and_points_lie_where_the_camera_sees_them(images, tmp_path):
    write_map(tmp_path / "room.map")
    recording = open_mapped(images)
    points = recording.map_points(3)
    np.testing.assert_allclose(points[:, 2], MEDIAN_DEPTH)
    moved = recording.T_world_camera(3)[0, 3]
    assert moved == pytest.approx(3 * STEP * MEDIAN_DEPTH / WALL)
    expected = 31.5 + FOCAL * (np.linspace(-1, 1, 9) - 3 * STEP) / WALL
    np.testing.assert_allclose(np.unique(points[:, 0].round(6)), expected, atol=1e-6)


def test_pairs_have_the_least_parallax_and_lie_inside(images, tmp_path):
    write_map(tmp_path / "room.map")
    recording = open_mapped(images)
    share = STEP / WALL * FOCAL / W
    steps = int(np.ceil(MIN_PARALLAX / share))
    assert steps > 1, "the fixture needs a small step"
    assert recording.map_neighbor(5, 1) == 5 + steps
    assert recording.map_neighbor(5, -1) == 5 - steps
    assert recording.map_neighbor(0, -1) is None
    assert recording.map_neighbor(FRAMES - 1, 1) is None
    assert recording.map_neighbor(5, 1) != 6


def test_what_the_masks_of_a_map_call_movable_trains_nothing(images, tmp_path):
    """A quarter of frame 5 in small masks: that quarter of its image trains nothing, and none of its points."""
    write_map(tmp_path / "room.map")
    assert open_mapped(images).map_movable(5) is None
    movable = np.zeros((FRAMES, 12, 16), bool)
    movable[5, :6, :8] = True
    np.savez(tmp_path / "room.map" / "movable.npz", movable=np.packbits(movable, axis=2))
    recording = open_mapped(images)
    expected = np.zeros((H, W), bool)
    expected[: H // 2, : W // 2] = True
    np.testing.assert_array_equal(recording.map_movable(5), expected)
    assert not recording.map_movable(4).any()
    np.testing.assert_array_equal(recording.select_frames([3, 5]).map_movable(1), expected)
    assert recording.geometry.movable.values is None, "single frames are read, not the whole file"
    assert find_map(images).measure_movable() == pytest.approx(1 / 4 / FRAMES)
    planar = [recording.image(index).transpose(2, 0, 1) for index in (5, 6)]
    T = np.linalg.inv(recording.T_world_camera(6)) @ recording.T_world_camera(5)
    depth, static = make_map_labels(recording, (5, "left"), planar, np.stack([recording.K(5)] * 2), T[None])
    assert not static[0][torch.from_numpy(expected)].any()
    assert static.float().mean() > 0.6
    assert depth[static].count_nonzero() == depth.count_nonzero() > 0
    for other in (np.packbits(movable[:3], axis=2), movable):  # of fewer frames, and of an earlier version
        np.savez(tmp_path / "room.map" / "movable.npz", movable=other)
        assert find_map_geometry(images) is not None, "points do not depend on masks"
        with refuses(DataError, where="movable.npz", found=other.shape[0], fix="stadia map"):
            open_mapped(images)


def test_points_below_the_road_are_of_what_moves(images, tmp_path):
    road = {"normal": [0, -1, 0], "height": 0.5, "height_deviation": 0.01, "pitch_deg": 0, "pitch_deviation_deg": 0.1}
    write_map(tmp_path / "room.map", road=road)
    recording = open_mapped(images)
    y = (recording.map_points(0)[:, 1] - 23.5) * WALL / FOCAL
    assert recording.map_points(0)[0, 2] == pytest.approx(WALL * MEDIAN_DEPTH / (0.5 * HEIGHTS_AHEAD))
    assert y.max() == pytest.approx(0.5, abs=0.01), "points at .75 and 1 lie below a road at .5"
    np.testing.assert_allclose(recording.map_road(), [0, -1, 0, MEDIAN_DEPTH / HEIGHTS_AHEAD])


def test_no_map_and_one_of_another_camera_are_refused(images, tmp_path):
    with refuses(DataError, where="room", expected="room.map"):
        open_mapped(images)
    write_map(tmp_path / "room.map", focal_px=60.0)
    with refuses(DataError, where="room.map", found="1.50"):
        open_mapped(images)


def test_points_that_train_and_points_that_judge_are_apart_and_the_same_in_any_unit():
    points = np.random.default_rng(0).normal(size=(3000, 3))
    geometry = MapGeometry(np.eye(4)[None], points, (np.arange(3000),), 0.8, None)
    parts = {held: geometry.select_points(is_held_out=held).seen[0] for held in (False, True)}
    np.testing.assert_array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(3000))
    assert 0.1 < len(parts[True]) / 3000 < 0.3
    for held, rows in parts.items():
        np.testing.assert_array_equal(geometry.scale(8.0).select_points(is_held_out=held).seen[0], rows)


def test_a_folder_called_by_a_dot_has_its_map_beside_it(tmp_path, monkeypatch):
    (tmp_path / "room").mkdir()
    monkeypatch.chdir(tmp_path / "room")
    assert find_map_folder(Path()).resolve() == find_map_folder(tmp_path / "room") == tmp_path / "room.map"
    assert find_map_folder(Path("/")).parent == Path("/")
