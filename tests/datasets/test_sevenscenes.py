"""7-Scenes' layout: millimetres with two values for none, a pose file a frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.datasets.open_dataset import find_held_out_split, open_recordings

OneLine = Callable[..., None]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    scene = tmp_path / "kitchen"
    for sequence in ("seq-01", "seq-02"):
        (scene / sequence).mkdir(parents=True)
        for index in range(2):
            stem = scene / sequence / f"frame-{index:06d}"
            cv2.imwrite(f"{stem}.color.png", np.full((480, 640, 3), 40 * index, np.uint8))
            depth = np.full((480, 640), 1500, np.uint16)
            depth[0, :2] = 0, 65535
            cv2.imwrite(f"{stem}.depth.png", depth)
            T = np.eye(4)
            T[0, 3] = index
            np.savetxt(f"{stem}.pose.txt", T)
    return scene


def test_everything_is_read(scene: Path) -> None:
    one, two = open_recordings(scene)
    assert one.name == "sevenscenes/kitchen/seq-01"
    assert len(two) == 2
    assert open_recordings(scene.parent, recordings=("seq-02",))[0].name == two.name
    assert open_recordings(scene / "seq-02")[0].name == two.name
    np.testing.assert_array_equal(one.camera(0).K.numpy(), [[525, 0, 320], [0, 525, 240], [0, 0, 1]])
    assert one.T_world_camera(1)[0, 3] == pytest.approx(1.025)
    assert one.image(1).max() == 40


def test_depth_is_that_of_the_color_image(scene: Path) -> None:
    """A plane 1.5 m ahead fills 525 / 585 of the image, 9 px to the left; a point keeps its place in the world."""
    depth_m = open_recordings(scene)[0].depth_m(0)
    rows, columns = np.nonzero(depth_m)
    assert set(np.unique(depth_m)) == {0, 1.5}
    assert (rows.min(), rows.max()) == (25, 454)
    assert (columns.min(), columns.max()) == (24, 598)
    assert np.mean(depth_m[rows.min() : rows.max(), columns.min() : columns.max()] > 0) > 0.99


def test_official_splits_are_read(scene: Path, one_line: OneLine) -> None:
    (scene / "TrainSplit.txt").write_text("sequence1\n")
    (scene / "TestSplit.txt").write_text("sequence2\n")
    assert [r.name for r in open_recordings(scene, split="test")] == ["sevenscenes/kitchen/seq-02"]
    assert find_held_out_split(scene) == "test"
    assert find_held_out_split(scene / "seq-01") is None  # a single sequence has no split
    assert find_held_out_split(scene / "seq-02") is None
    (scene / "TestSplit.txt").write_text("2\n")
    with pytest.raises(DataError) as caught:
        open_recordings(scene, split="test")
    one_line(caught.value, "TestSplit.txt", "'2'")


def test_wrong_or_missing_files_are_refused(scene: Path, one_line: OneLine) -> None:
    frame = scene / "seq-01" / "frame-000001"
    Path(f"{frame}.depth.png").unlink()
    pose = Path(f"{frame}.pose.txt")
    pose.unlink()
    recording = open_recordings(scene)[0]
    assert recording.depth_m(1) is None
    Path(f"{frame}.depth.jpg").touch()
    with refuses(DataError, where="depth.jpg", found="JPEG"):
        recording.depth_m(1)
    assert recording.T_world_camera(1) is None
    assert recording.T_world_camera(0) is not None
    np.savetxt(pose, np.ones((3, 4)))
    with pytest.raises(DataError) as caught:
        open_recordings(scene)
    one_line(caught.value, pose, "3 rows")
    cv2.imwrite(str(scene / "seq-01" / "frame-000000.color.png"), np.zeros((240, 320, 3), np.uint8))
    with refuses(DataError, where="frame-000000.color.png", expected="640x480"):
        open_recordings(scene)
