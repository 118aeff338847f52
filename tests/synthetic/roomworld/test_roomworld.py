"""RoomWorld: depth that agrees between frames, cameras that touch nothing, and files that read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from stadia.cli.main import app
from stadia.core.types import Camera
from stadia.datasets import open_recordings
from stadia.geometry.warp import warp_image
from stadia.synthetic.config import ROOMWORLD_TINY
from stadia.synthetic.furniture import FURNITURE
from stadia.synthetic.room_scene import ROOMWORLD, RoomRenderer, make_room, write_roomworld

SMALL = ROOMWORLD_TINY.model_copy(update={"height": 64, "width": 96, "noise": False})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_roomworld(SMALL, tmp_path_factory.mktemp("rooms") / "data", seed=5, workers=2).parent


@pytest.mark.parametrize("kind", FURNITURE)
def test_furniture_stands_on_the_floor_and_is_of_a_plausible_size(kind: str) -> None:
    for seed in range(5):
        piece = FURNITURE[kind](np.random.default_rng(seed))
        vertices = np.concatenate([part.vertices for part in piece.mesh])
        low, high = vertices.min(0), vertices.max(0)
        assert high[1] == pytest.approx(0, abs=0.11)
        assert 0.1 < -low[1] < 2.6
        assert (high - low)[[0, 2]].max() < 2.7
        for x0, z0, x1, z1, height in piece.tops:
            assert x0 < x1
            assert z0 < z1
            assert height <= -low[1] + 1e-9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_frame_warped_by_its_depth_and_the_poses_is_its_neighbor(seed: int) -> None:
    config = SMALL.model_copy(update={"frames": 2, "height": 96, "width": 128})
    room = make_room(seed, config)
    renderer = RoomRenderer(room, config)
    target, source = renderer.render(0), renderer.render(1)
    T = np.linalg.inv(room.T_world_camera[1]) @ room.T_world_camera[0]
    K = Camera(torch.from_numpy(room.K)[None], config.height, config.width)
    image = torch.from_numpy(source.image.astype(np.float64) / 255).permute(2, 0, 1)[None]
    depth = torch.from_numpy(target.depth_m.astype(np.float64))[None, None]
    warped, seen = warp_image(image, depth, K, K, torch.from_numpy(T)[None])
    true = torch.from_numpy(target.image.astype(np.float64) / 255).permute(2, 0, 1)[None]
    valid = seen.expand_as(true)
    error = (warped - true).abs()[valid].median()
    unmoved = (image - true).abs()[valid].median()
    assert error < 0.012
    assert error < 0.6 * unmoved or unmoved < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_the_camera_touches_nothing(seed: int) -> None:
    config = SMALL.model_copy(update={"frames": 6})
    renderer = RoomRenderer(make_room(seed, config), config)
    for frame in range(0, 6, 5):
        depth = renderer.render(frame).depth_m
        assert (depth > 0).all()  # no hole in the walls
        assert depth.min() > 0.08
        assert depth.max() < 30


@pytest.mark.slow
def test_reading_returns_what_was_rendered(written: Path) -> None:
    recordings = open_recordings(str(written))
    assert len(recordings) == 4
    recording = next(one for one in recordings if one.name.endswith("train-00001"))
    jobs = ROOMWORLD.list_jobs(written, SMALL, 5)
    room = make_room(jobs[1].seed, SMALL)
    view = RoomRenderer(room, SMALL).render(2)
    np.testing.assert_array_equal(recording.image(2, "left"), view.image)
    np.testing.assert_array_equal(recording.camera(2, "left").K, room.K)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(written: Path, tmp_path: Path) -> None:
    write_roomworld(SMALL, tmp_path / "one", seed=5, workers=1)
    assert contents(tmp_path / "one") == contents(written)


@pytest.mark.slow
def test_command_renders_rooms(tmp_path: Path) -> None:
    words = ["data", "roomworld", "--out", str(tmp_path / "rooms"), "--preset", "tiny", "--rooms", "1,0,0", "frames=1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "rooms" / "train-00000" / "left" / "000000.png").exists()
