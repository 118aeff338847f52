"""ReDWeb, HRWSI and BlendedMVS in their own layouts, as miniatures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.open_dataset import detect_format, open_recordings, read_named_splits
from stadia.losses.config import SparseDepthConfig
from stadia.losses.sparse_depth import SparseDepthLoss

RANDOM = np.random.default_rng(0)


def write_image(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), RANDOM.integers(0, 255, (height, width, 3)).astype(np.uint8))


def write_map(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values)


def test_redweb_has_images_of_any_size_with_relative_depth(tmp_path: Path) -> None:
    for name, size in (("a", (40, 60)), ("b", (40, 60)), ("c", (50, 50))):
        write_image(tmp_path / "Imgs" / f"{name}.jpg", *size)
        ramp = np.linspace(0, 255, size[1]).astype(np.uint8)[None].repeat(size[0], 0)
        write_map(tmp_path / "RDs" / f"{name}.png", ramp)
    assert detect_format(tmp_path) == "redweb"
    recordings = open_recordings(tmp_path)
    assert sorted((len(one), one.camera(0).width, one.camera(0).height) for one in recordings) == [
        (1, 50, 50),
        (2, 60, 40),
    ]
    assert not any(one.has_metric_depth for one in recordings)
    depth = recordings[0].depth_m(0)
    assert depth is not None
    assert (np.diff(depth, axis=1) <= 0).all(), "larger numbers are nearer"
    inverse = 1 / depth[0].astype(np.float64)
    np.testing.assert_allclose(inverse, np.polyval(np.polyfit(np.arange(60), inverse, 1), np.arange(60)), atol=0.02)
    loss = SparseDepthLoss(SparseDepthConfig(silog_per_image=0.0, affine_invariant=1.0))
    predicted = torch.from_numpy(3 / depth + 7)[None, None]
    assert loss(predicted, torch.from_numpy(depth)[None, None]).total.item() < 1e-3, "up to scale and shift"


def test_hrwsi_leaves_out_what_its_masks_do(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_image(tmp_path / part / "imgs" / "a.jpg", 32, 48)
        write_map(tmp_path / part / "gts" / "a.png", np.full((32, 48), 100, np.uint8))
        valid = np.full((32, 48), 255, np.uint8)
        valid[:10] = 0
        write_map(tmp_path / part / "valid_masks" / "a.png", valid)
    assert detect_format(tmp_path) == "hrwsi"
    assert {part: len(names) for part, names in read_named_splits(tmp_path).items()} == {"train": 1, "val": 1}
    depth = open_recordings(tmp_path, split="val")[0].depth_m(0)
    assert depth is not None
    assert not depth[:10].any()
    assert (depth[10:] > 0).all()


def write_blended(folder: Path) -> Path:
    scene = folder / "5a3ca9cb270f0e3f14d0eddb"
    for index in range(3):
        write_image(scene / "blended_images" / f"{index:08d}.jpg", 24, 32)
        (scene / "cams").mkdir(exist_ok=True)
        (scene / "rendered_depth_maps").mkdir(exist_ok=True)
        rows = [f"1 0 0 {index}", "0 1 0 0", "0 0 1 0", "0 0 0 1"]
        K = ["30 0 15.5", "0 30 11.5", "0 0 1"]
        text = "extrinsic\n" + "\n".join(rows) + "\n\nintrinsic\n" + "\n".join(K) + "\n\n1.0 0.1 128 5.0\n"
        (scene / "cams" / f"{index:08d}_cam.txt").write_text(text)
        depth = np.full((24, 32), 2.0 + index, np.float32)
        depth[0] = 0
        cv2.imwrite(str(scene / "rendered_depth_maps" / f"{index:08d}.pfm"), depth)
    return scene


def test_blendedmvs_has_cameras_poses_and_depth(tmp_path: Path) -> None:
    write_blended(tmp_path)
    assert detect_format(tmp_path) == "blendedmvs"
    (scene,) = open_recordings(tmp_path)
    assert len(scene) == 3
    pose, depth = scene.T_world_camera(2), scene.depth_m(2)
    assert pose is not None
    assert depth is not None
    assert pose[:3, 3].tolist() == [-2, 0, 0], "the file has world to camera"
    assert not scene.has_metric_poses
    assert (depth[1:] == 4).all()
    assert not depth[0].any()
    assert scene.K(0)[0].tolist() == [30, 0, 15.5]


@pytest.mark.parametrize(
    "text",
    ["", "extrinsic\n1 0 0 0\n", "extrinsic\n0 0 0 0\n0 0 0 0\n0 0 0 0\n0 0 0 1\nintrinsic\n1 0 0\n0 1 0\n0 0 1\n"],
)
def test_a_damaged_camera_is_one_line(tmp_path: Path, text: str) -> None:
    scene = write_blended(tmp_path)
    (scene / "cams" / "00000001_cam.txt").write_text(text)
    with refuses(DataError, expected="4"):
        open_recordings(tmp_path)
