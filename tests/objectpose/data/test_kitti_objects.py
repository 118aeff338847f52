"""KITTI's object labels: where a box is in space, what is refused by name, and scores against an independent
computation.
"""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.cli.main import run
from stadia.core.errors import DataError
from stadia.data.formats.kitti_objects import read_boxes
from stadia.objectpose import boxes
from stadia.objectpose.data.object_folder import KittiObjectImages
from stadia.objectpose.data.open_objects import detect_object_format, open_object_images
from stadia.objectpose.scores import boxes_to_objects, score_estimates

CAR = "Car 0.00 0 {alpha:.2f} 100 50 200 90 1.50 1.60 4.00 {x} 1.65 {z} {turn:.2f}"
DONT_CARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"
PROJECTION = "700 0 300 42 0 700 90 0 0 0 1 0"  # 6 cm beside camera 0


def car(x: float = 2.0, z: float = 10.0, turn: float = 0.0) -> str:
    return CAR.format(x=x, z=z, turn=turn, alpha=turn - math.atan2(x, z))


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Two images: a car beside a pedestrian, and nothing that anybody labeled."""
    folder = tmp_path / "object" / "training"
    for kind in ("image_2", "label_2", "calib"):
        (folder / kind).mkdir(parents=True)
    for name, lines in (
        ("000000", [car(turn=0.3), DONT_CARE, car(-3, 20, -3.14).replace("Car", "Pedestrian")]),
        ("000001", [DONT_CARE]),
    ):
        cv2.imwrite(str(folder / "image_2" / f"{name}.png"), np.full((180, 600, 3), 90, np.uint8))
        (folder / "label_2" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        (folder / "calib" / f"{name}.txt").write_text(f"P0: {PROJECTION.replace('42', '0')}\nP2: {PROJECTION}\n")
    return folder.parent


def test_boxes_with_nan_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "1.txt").write_text(f"{car()}\n{car().replace('1.65', 'nan')}\n")
    assert len(read_boxes(tmp_path / "1.txt")) == 1
    assert "1 boxes" in caplog.text


def results(folder: Path, lines: dict[str, list[str]]) -> Path:
    folder.mkdir()
    for name, of in lines.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in of))
    return folder


def upright_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Of boxes x, y of the bottom, z, height, width, length, turn: footprints by OpenCV, times the height that both
    share.
    """
    footprints = [((x, z), (length, width), -math.degrees(turn)) for x, _, z, _, width, length, turn in (a, b)]
    meet, polygon = cv2.rotatedRectangleIntersection(*footprints)
    area = cv2.contourArea(cv2.convexHull(polygon)) if meet else 0.0
    shared = area * max(0.0, min(a[1], b[1]) - max(a[1] - a[3], b[1] - b[3]))
    return shared / (math.prod(a[3:6]) + math.prod(b[3:6]) - shared)


def test_box_is_centered_with_front_z_in_the_image_camera(kitti: Path) -> None:
    """By hand: at turn 0 the car faces along x, and the image's camera is 6 cm to the left of the labels' frame."""
    (kitti / "training/label_2/000000.txt").write_text(car() + "\n")
    images = KittiObjectImages.open(kitti)
    (box,) = images.boxes(0)
    assert images.classes[box.class_id] == "Car"
    np.testing.assert_allclose(box.size_m, [1.6, 1.5, 4.0])
    np.testing.assert_allclose(box.T_camera_object[:3, 3], [2.06, 0.9, 10])
    np.testing.assert_allclose(box.T_camera_object[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(box.T_camera_object[:3, :3] @ [0, 1, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(box.T_camera_object), 1)
    camera = images.camera(0)
    assert (float(camera.fx[()] if camera.fx.ndim else camera.fx), camera.height, camera.width) == (700, 180, 600)


def test_positive_rotation_y_turns_the_front_towards_the_camera(kitti: Path) -> None:
    """About y, which points down: from x towards -z."""
    (kitti / "training/label_2/000000.txt").write_text(car(turn=math.pi / 2) + "\n")
    (box,) = KittiObjectImages.open(kitti).boxes(0)
    np.testing.assert_allclose(box.T_camera_object[:3, :3] @ [0, 0, 1], [0, 0, -1], atol=1e-3)


def test_kitti_objects_are_boxes_without_masks(kitti: Path) -> None:
    assert detect_object_format(kitti) == "kitti"
    images = open_object_images(kitti, "training")
    assert (len(images), [len(images.boxes(index)) for index in range(2)]) == (2, [2, 0])
    with refuses(DataError, where="000000.txt"):
        images.labels(0)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (car().replace("1.60", "-1.60"), ("000000.txt", "1.5", "-1.6", "4.0")),
        (car(turn=91.2), ("rotation_y", "91.2", "-pi")),
        (car(turn=3.3), ("rotation_y", "3.3")),
        (car() + " 0.9", ("16", "15")),
        (" ".join(car().split()[:-1]), ("14",)),
        (car().replace("Car", "car"), ("car",)),
        (car().replace("1.60", "wide"), ("wide", "14")),
        (car().replace("1.65", "inf"), ("000000.txt", "1")),
        (car(z=-30), ("000000.txt", "1")),
    ],
)
def test_a_wrong_line_is_named(kitti: Path, line: str, names: tuple[str, ...]) -> None:
    (kitti / "training/label_2/000000.txt").write_text(line + "\n")
    with refuses(DataError, names=names):
        KittiObjectImages.open(kitti).boxes(0)


def test_labels_as_results_have_full_ap_and_a_shifted_box_the_expected_one(kitti: Path, tmp_path: Path) -> None:
    images = KittiObjectImages.open(kitti)
    lines = (kitti / "training/label_2/000000.txt").read_text().splitlines()
    truth = results(tmp_path / "truth", {"000000": [f"{line} 0.7" for line in lines], "000001": []})
    scores = score_estimates(images, images.results(truth))
    assert (scores["images"], scores["objects"], scores["estimates"]) == (2, 2, 2)
    assert scores["ap_iou75"] == scores["ap_5deg_2cm"] == scores["as published"]["nocs_compat"]["ap_iou75"] == 1
    far = results(tmp_path / "far", {"000000": [car(2.0, 13.0) + " 0.7"], "000001": [car() + " 0.1"]})
    scores = score_estimates(images, images.results(far))
    assert (scores["ap_iou25"], scores["class"]["Pedestrian"]["objects"]) == (0, 1)


def test_overlaps_are_those_of_footprints_times_heights(kitti: Path, tmp_path: Path) -> None:
    images = KittiObjectImages.open(kitti)
    true = boxes_to_objects(images.boxes(0)[:1])
    truth = (2.0, 1.65, 10.0, 1.5, 1.6, 4.0, 0.3)
    for x, z, turn, high in (
        (2.4, 10.0, 0.3, 1.65),
        (2.0, 11.0, 0.9, 1.85),
        (2.3, 9.6, -2.5, 0.7),
        (6.5, 10, 0.3, 1.65),
    ):
        line = car(x, z, turn).replace("1.65", f"{high}")
        folder = results(tmp_path / f"{x}-{z}-{turn}", {"000000": [f"{line} 1"], "000001": []})
        found = boxes_to_objects([box for box, _ in images.results(folder)[0]])
        ours = float(boxes.box_iou(found.T_camera_object, found.size_m, true.T_camera_object, true.size_m))
        assert ours == pytest.approx(upright_iou(truth, (x, high, z, 1.5, 1.6, 4.0, turn)), abs=1e-5)


def test_the_command_scores_results_and_draws_labels(
    kitti: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = results(tmp_path / "truth", {"000000": [car(turn=0.3) + " 0.9"], "000001": []})
    with pytest.raises(SystemExit) as ending:
        run(["evaluate", "--objects", str(truth), "--reference", str(kitti), "--split", "training", "--json"])
    assert ending.value.code == 0
    scores = json.loads(capfd.readouterr().out)
    assert (scores["ap_iou75"], scores["class"]["Car"]["ap_iou75"], scores["class"]["Pedestrian"]["ap_iou75"]) == (
        0.5,
        1,
        0,
    )
    with pytest.raises(SystemExit) as ending:
        run(["data", "show", str(kitti), "training", "--out", str(tmp_path / "shown")])
    assert ending.value.code == 0
    drawn = {path.stem: cv2.imread(str(path)) for path in (tmp_path / "shown").iterdir()}
    assert set(drawn) == {"training-000000", "training-000001"}
    assert (drawn["training-000000"] != 90).any(-1).mean() > 0.01
    assert (drawn["training-000001"] == 90).all()
