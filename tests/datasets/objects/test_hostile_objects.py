"""Valid files of objects that would take hours or all memory: many objects, large meshes, odd names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.datasets.objects.conftest import write_ply

from stadia.core.errors import DataError
from stadia.datasets.objects.bop import BopImages, BopResult, ground_truth_results, read_results, to_boxes
from stadia.datasets.objects.kitti_objects import read_boxes
from stadia.datasets.objects.object_folder import ObjectFolder
from stadia.geometry.rasterizer import draw_silhouette, measure_silhouette
from stadia.recipes.objectpose import object_pose_scores
from stadia.recipes.objectpose.object_pose_scores import score_estimates


def change_poses(bop: Path, count: int) -> None:
    file = bop / "test" / "000001" / "scene_gt.json"
    poses = json.loads(file.read_text())
    file.write_text(json.dumps({image: of_image[:1] * count for image, of_image in poses.items()}))


def test_an_image_of_many_poses_is_refused(bop: Path) -> None:
    change_poses(bop, 2000)
    with pytest.raises(DataError, match=r"scene_gt\.json: image 3: found 2000 objects"):
        BopImages.open(bop)


def test_masks_of_a_large_image_are_refused_before_they_are_drawn(bop: Path) -> None:
    """60 masks of 8192x8192 pixels filled 5 GB: the image is 200 kB of PNG."""
    change_poses(bop, 60)
    for file in (bop / "test" / "000001" / "rgb").iterdir():
        cv2.imwrite(str(file), np.zeros((2400, 2400), np.uint8))
    with pytest.raises(DataError, match=r"found 60 objects of 720 triangles in 2400x2400 pixels"):
        BopImages.open(bop).labels(0)


def test_a_mesh_of_triangles_as_large_as_the_image_is_refused(bop: Path) -> None:
    """Three million triangles, 39 MB, each drawn over the whole image, took hours."""
    corners = np.array([[-60, -60, 0], [60, -60, 0], [0, 80, 1]])
    write_ply(bop / "models_eval" / "obj_000001.ply", corners, np.tile(np.arange(3), (200_000, 1)))
    for file in (bop / "test" / "000001" / "rgb").iterdir():
        cv2.imwrite(str(file), np.zeros((600, 800), np.uint8))
    cameras = {i: {"cam_K": [1500, 0, 400, 0, 1500, 300, 0, 0, 1]} for i in ("3", "7")}
    (bop / "test" / "000001" / "scene_camera.json").write_text(json.dumps(cameras))
    info = json.loads((bop / "models_eval" / "models_info.json").read_text())
    info["1"]["diameter"] = 160.0
    (bop / "models_eval" / "models_info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="1 objects of 200000 triangles"):
        BopImages.open(bop).labels(1)


def test_the_cost_of_a_silhouette_bounds_its_samples() -> None:
    K = np.array([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]])
    rng = np.random.default_rng(0)
    for _ in range(20):
        vertices = rng.normal(size=(30, 3)) * 0.3 + [0, 0, rng.uniform(0.2, 2)]
        triangles = rng.integers(0, 30, (40, 3)).astype(np.int32)
        window_px, steps = measure_silhouette(vertices, triangles, K, 60, 80)
        one_by_one = sum(draw_silhouette(vertices, one[None], K, 60, 80).full_px for one in triangles)
        assert one_by_one <= steps
        assert window_px == draw_silhouette(vertices, triangles, K, 60, 80).inverse_depth.size


@pytest.mark.parametrize("name", ["0foo", "1²", "1" * 40])
def test_a_folder_whose_name_is_no_number_of_a_scene_is_refused(bop: Path, name: str) -> None:
    shutil.copytree(bop / "test" / "000001", bop / "test" / name)
    with pytest.raises(DataError, match="expected the number of a scene"):
        BopImages.open(bop)


def test_many_estimates_of_an_image_are_refused(bop: Path, tmp_path: Path) -> None:
    """300,000 rows of one image, 12 MB, filled 7 GB."""
    images = BopImages.open(bop)
    (first, *_) = ground_truth_results(images)
    with pytest.raises(DataError, match="scene 1, image 3: found 1500 objects"):
        to_boxes([first] * 1500, images)
    path = tmp_path / "many.csv"
    path.write_text("\n" * 300_001)
    with pytest.raises(DataError, match="expected at most 300000"):
        read_results(path)
    label = "Car 0 0 0 1 1 2 2 1.5 1.6 3.7 1 1.5 9 0\n"
    (tmp_path / "000000.txt").write_text(label * 1500)
    with pytest.raises(DataError, match="found 1500 objects"):
        read_boxes(tmp_path / "000000.txt")


def test_many_pairs_of_estimates_and_objects_are_refused(bop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = BopImages.open(bop)
    results: list[BopResult] = ground_truth_results(images)
    found = to_boxes(results * 5, images)
    score_estimates(images, found)
    monkeypatch.setattr(object_pose_scores, "_MAX_PAIRS", 20)
    with pytest.raises(DataError, match=r"000003\.png: found 15 estimates, and 3 objects"):
        score_estimates(images, found)


def test_many_rotations_of_a_symmetry_are_refused(bop: Path) -> None:
    file = bop / "models_eval" / "models_info.json"
    info = json.loads(file.read_text())
    info["2"]["symmetries_discrete"] *= 500
    file.write_text(json.dumps(info))
    with pytest.raises(DataError, match="symmetries_discrete: found 500 rotations"):
        BopImages.open(bop)


def test_many_objects_of_a_scene_are_refused(tmp_path: Path) -> None:
    eye = [[100, 0, 4], [0, 100, 3], [0, 0, 1]]
    one = {"class": "cup", "quaternion_wxyz": [1, 0, 0, 0], "t_camera_object_m": [0, 0, 1], "size_m": [0.1, 0.1, 0.1]}
    dataset = {"format": "stadia-objects", "version": 1, "classes": ["background", "cup"], "splits": {"train": ["a"]}}
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    (tmp_path / "a" / "instance").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "a" / "instance" / "000.png"), np.zeros((6, 8), np.uint8))

    def open_with(objects: list[dict[str, object]]) -> ObjectFolder:
        images = {"images": [{"K": eye, "height": 6, "width": 8, "objects": objects}]}
        (tmp_path / "a" / "scene.json").write_text(json.dumps(images))
        return ObjectFolder.open(tmp_path, "train")

    with pytest.raises(DataError, match="image 0: found 1001 objects"):
        open_with([one] * 1001)
    with pytest.raises(DataError, match="symmetry: found 200 rotations"):
        open_with([one | {"symmetry": [[0, 1, 0, 0]] * 200}]).labels(0)
