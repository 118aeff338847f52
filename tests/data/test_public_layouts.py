"""TUM RGB-D, nerfstudio, COLMAP and Cityscapes in generated miniatures: what is read, and wrong variants by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.combinations import mark_others
from tests.data.three_steps import check_three_steps
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.formats.rgbd_cameras import FREIBURG_CAMERAS, match_times
from stadia.data.open_dataset import detect_format, find_held_out_split, open_recordings, read_named_splits

OneLine = Callable[..., None]
FRAMES = 4


def to_quaternion(R: np.ndarray) -> np.ndarray:
    """(4,) x y z w of a rotation about y by a small angle, as the world's poses have."""
    half = np.arctan2(R[0, 2], R[0, 0]) / 2
    return np.array([0.0, np.sin(half), 0.0, np.cos(half)])


@pytest.fixture
def tum(tmp_path: Path, world: Any) -> Path:
    """A sequence whose depth images are 8 ms, and whose poses are 3 ms behind color."""
    folder = tmp_path / "tum" / "rgbd_dataset_freiburg1_desk"
    fx, fy, cx, cy = FREIBURG_CAMERAS["freiburg1"]
    rays = world.pinhole_rays(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), 480, 640)
    lines: dict[str, list[str]] = {"rgb": ["# color images"], "depth": [], "groundtruth": ["# ground truth trajectory"]}
    for index in range(FRAMES):
        pose, time_s = world.pose(index), 1305031910.0 + index / 30
        image, depth = world.paint(pose, rays)
        world.save(folder / "rgb" / f"{time_s:.6f}.png", image)
        (folder / "depth").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "depth" / f"{time_s + 0.008:.6f}.png"), np.uint16(np.clip(depth * 5000, 0, 65535)))
        lines["rgb"].append(f"{time_s:.6f} rgb/{time_s:.6f}.png")
        lines["depth"].append(f"{time_s + 0.008:.6f} depth/{time_s + 0.008:.6f}.png")
        row = [time_s + 0.003, *pose[:3, 3], *to_quaternion(pose[:3, :3])]
        lines["groundtruth"].append(" ".join(f"{value:.9f}" for value in row))
    for name, rows in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def nerf(tmp_path: Path, world: Any) -> Path:
    folder = tmp_path / "scene"
    frames = []
    for index in reversed(range(FRAMES)):
        world.save(folder / "images" / f"frame_{index}.png", world.render(index)[0])
        matrix = world.pose(index) @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"images/frame_{index}.png", "transform_matrix": matrix.tolist()})
    K = world.K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # the first pixel's center is at one half
    camera = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "w": world.width, "h": world.height}
    (folder / "transforms.json").write_text(json.dumps({**camera, "camera_model": "OPENCV", "frames": frames}))
    return folder


@pytest.fixture
def colmap(tmp_path: Path, world: Any) -> Path:
    folder = tmp_path / "reconstruction"
    rows = []
    for index in range(FRAMES):
        world.save(folder / "images" / f"frame {index}.png", world.render(index)[0])
        inverse = np.linalg.inv(world.pose(index))
        x, y, z, w = to_quaternion(inverse[:3, :3])
        numbers = " ".join(f"{value:.12g}" for value in (w, x, y, z, *inverse[:3, 3]))
        rows += [f"{index + 1} {numbers} 1 frame {index}.png", "10.5 20.5 -1 30.5 40.5 7"]
    (folder / "sparse" / "0").mkdir(parents=True)
    (folder / "sparse" / "0" / "images.txt").write_text("# Image list\n" + "\n".join(rows) + "\n")
    K = world.K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # the first pixel's center is at one half
    camera = f"1 PINHOLE {world.width} {world.height} {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}\n"
    (folder / "sparse" / "0" / "cameras.txt").write_text("# Camera list\n" + camera)
    return folder


@pytest.fixture
def city(tmp_path: Path, world: Any) -> Path:
    root = tmp_path / "cityscapes"
    for split, name in (("train", "aachen"), ("val", "lindau")):
        for index in range(FRAMES):
            for side in ("left", "right"):
                file = f"{name}_000003_{index + 17:06d}_{side}Img8bit.png"
                image = world.render(index + 10 * (split == "val"), side)[0]
                world.save(root / f"{side}Img8bit_sequence" / split / name / file, image)
        (root / "camera" / split / name).mkdir(parents=True)
        intrinsic = {"fx": 120.0, "fy": 120.0, "u0": 77.0, "v0": 41.0}
        extrinsic = {"baseline": world.baseline_m, "pitch": 0.03, "roll": 0.0, "x": 1.7, "y": 0.1, "yaw": 0, "z": 1.22}
        content = json.dumps({"intrinsic": intrinsic, "extrinsic": extrinsic})
        (root / "camera" / split / name / f"{name}_000003_000019_camera.json").write_text(content)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("fixture", mark_others(["tum", "nerf", "colmap", "city"], ["nerf", "city"]))
def test_miniature_passes_the_checks_and_trains_three_steps(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    check_three_steps(request.getfixturevalue(fixture), tmp_path / "runs")


@pytest.mark.slow
def test_tum_rgbd(tum: Path, world: Any) -> None:
    assert detect_format(tum) == detect_format(tum.parent) == "tum_rgbd"
    (recording,) = open_recordings(tum)
    assert recording.K(0)[0, 0] == 517.3
    assert recording.timestamp_s(1) == pytest.approx(1305031910 + 1 / 30, abs=1e-5)
    np.testing.assert_allclose(recording.T_world_camera(2), world.pose(2), atol=1e-6)
    depth = recording.depth_m(1)
    assert depth is not None
    assert float(depth.max()) == pytest.approx(12, abs=0.5)


def test_nerfstudio(nerf: Path, world: Any) -> None:
    assert detect_format(nerf) == "nerfstudio"
    (recording,) = open_recordings(nerf)
    assert np.array_equal(recording.image(3), world.render(3)[0]), "by the names' numbers"
    np.testing.assert_allclose(recording.T_world_camera(3), world.pose(3), atol=1e-9)
    np.testing.assert_allclose(recording.K(0), world.K)


def test_colmap(colmap: Path, world: Any) -> None:
    assert detect_format(colmap) == "colmap"
    (recording,) = open_recordings(colmap)
    assert len(recording) == FRAMES
    np.testing.assert_allclose(recording.T_world_camera(2), world.pose(2), atol=1e-6)
    np.testing.assert_allclose(recording.K(0)[0, 0], world.K[0, 0])
    assert not recording.has_metric_poses, "the unit of a reconstruction is its own"


def test_cityscapes(city: Path, world: Any) -> None:
    assert detect_format(city) == "cityscapes"
    recordings = open_recordings(city)
    assert [one.name for one in recordings] == ["cityscapes/train/aachen_000003", "cityscapes/val/lindau_000003"]
    assert read_named_splits(city) == {"train": ["train/aachen_000003"], "val": ["val/lindau_000003"]}
    first = recordings[0]
    assert first.sides == ("left", "right")
    np.testing.assert_allclose(first.T_right_left, world.T_right_left)
    assert (first.number(0), first.session) == (17, "cityscapes/aachen")
    assert first.timestamp_s(1) - first.timestamp_s(0) == pytest.approx(1 / 17)


def read_all(path: Path) -> None:
    for recording in open_recordings(path):
        for index in range(len(recording)):
            recording.image(index)


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "tum, wrong line": ("tum", lambda p: replace(p / "rgb.txt", "rgb/", "a b "), ("rgb.txt", "2")),
    "tum, missing image": ("tum", lambda p: next((p / "rgb").iterdir()).unlink(), ("rgb/1305031910",)),
    "tum, quaternion": ("tum", lambda p: (p / "groundtruth.txt").write_text("1305031910 0 0 0 0 0 0 3\n"), ("3", "1")),
    "nerfstudio, missing image": ("nerf", lambda p: (p / "images" / "frame_0.png").unlink(), ("frame_0.png",)),
    "nerfstudio, scaled pose": (
        "nerf",
        lambda p: change_json(
            p / "transforms.json", lambda c: c["frames"][0]["transform_matrix"][0].__setitem__(0, 2.0)
        ),
        ("frame_3.png",),
    ),
    "cityscapes, no camera": ("city", lambda p: next(p.glob("camera/train/*/*.json")).unlink(), ("aachen_000003",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_variant_is_named(name: str, request: pytest.FixtureRequest, one_line: OneLine) -> None:
    fixture, damage, names = WRONG[name]
    path = request.getfixturevalue(fixture)
    damage(path)
    with refuses(DataError, names=names) as caught:
        read_all(path)
    one_line(caught.value)


def test_times_are_matched_to_the_nearest_within_a_limit() -> None:
    random = np.random.default_rng(0)
    times, others = np.sort(random.random(50)), random.permutation(random.random(200))
    for time_s, index in zip(times, match_times(times, others), strict=True):
        apart = np.abs(others - time_s)
        assert index == (apart.argmin() if apart.min() <= 0.02 else -1)


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
    np.testing.assert_array_equal(one.camera(0).K, [[525, 0, 320], [0, 525, 240], [0, 0, 1]])
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
