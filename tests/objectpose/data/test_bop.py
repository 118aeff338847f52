"""BOP's layout: units, frames, pixel origin, occlusion; and what is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.objectpose.data.bop_truth import ground_truth_results
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.objectpose.data.bop import RESULTS_HEADER, BopImages, read_results, write_results
from stadia.objectpose.data.bop_models import read_bop_model, read_ply
from stadia.objectpose.label_checks import check_object_labels, survey_objects


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_millimetres_become_metres_once_and_frames_are_centered(bop: Path) -> None:
    images = BopImages.open(bop)
    assert len(images) == 2
    assert images.ids == [(1, 3), (1, 7)]
    assert images.classes == ("background", "obj_000001", "obj_000002", "obj_000005")
    first = images.labels(0).objects[0]
    np.testing.assert_allclose(first.size_m, [0.1, 0.06, 0.04], atol=1e-7)
    np.testing.assert_allclose(first.T_camera_object[:3, 3], [0.005, -0.003, 0.502], atol=1e-7)
    model = images.models[1]
    np.testing.assert_allclose(model.vertices_m.min(0), -model.vertices_m.max(0), atol=1e-9)


def test_a_flip_of_a_body_of_revolution_is_kept_and_another_turn_is_refused(bop: Path) -> None:
    path = bop / "models_eval" / "models_info.json"
    flip = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]
    edit(path, lambda info: info["5"].update(symmetries_discrete=[flip]))
    about_axis = [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    edit(path, lambda info: info["5"].update(symmetries_discrete=[about_axis, flip]))
    revolution, turn = read_bop_model(bop / "models_eval", 5).symmetry
    assert revolution == "revolution"
    np.testing.assert_allclose(np.abs(turn), [0, 1, 0, 0], atol=1e-7)
    quarter = [1, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    edit(path, lambda info: info["5"].update(symmetries_discrete=[quarter]))
    with refuses(DataError, where="models_info.json: 5"):
        read_bop_model(bop / "models_eval", 5)
    edit(path, lambda info: info["5"]["symmetries_continuous"].append({"axis": [1, 0, 0]}))
    with refuses(DataError, where="obj_000005.ply"):
        read_bop_model(bop / "models_eval", 5)


def test_rendered_masks_match_boxes_and_nearer_objects_occlude(bop: Path) -> None:
    labels = BopImages.open(bop).labels(0)
    one, two, can = labels.objects
    rows, columns = np.nonzero(labels.instance == 1)
    left, right = 90 * (-45 / 482) + 40, 90 * (55 / 482) + 40
    assert (columns.min(), columns.max()) == (np.ceil(left - 0.5), np.floor(right - 0.5))
    assert one.visible_px == one.full_px == len(rows)
    assert 0 < two.visible_px < two.full_px
    face = 90 * 92 * 0.12 * 0.12 / 0.685**2
    assert two.full_px == pytest.approx(face, rel=0.05)
    whole = BopImages.open(bop).silhouettes(0)[1].within(60, 80) > 0
    np.testing.assert_array_equal(labels.instance[whole] == 2, labels.instance[whole] != 1)
    assert can.full_px > can.visible_px > 0, "it reaches beyond the left edge"


def write_masks(bop: Path, masks: np.ndarray, im_id: int = 3) -> Path:
    """mask_visib/ of scene 1, as BOP writes it; returns the folder."""
    folder = bop / "test" / "000001" / "mask_visib"
    folder.mkdir(exist_ok=True)
    for number, mask in enumerate(masks):
        cv2.imwrite(str(folder / f"{im_id:06d}_{number:06d}.png"), mask.astype(np.uint8) * 255)
    return folder


def test_existing_masks_are_read_instead_of_rendered(bop: Path) -> None:
    drawn = BopImages.open(bop).labels(0).instance
    masks = np.stack([drawn == number for number in (1, 2, 3)])
    row, column = np.argwhere(masks[0])[0]
    columns = np.flatnonzero(masks[1].any(0))
    masks[1][:, columns[4:]] = False
    masks[1][row, column] = True
    folder = write_masks(bop, masks)
    write_masks(bop, masks[:1], im_id=7)
    images = BopImages.open(bop)
    labels = images.labels(0)
    expected = np.where((drawn == 2) & ~masks[1], 0, drawn)
    np.testing.assert_array_equal(labels.instance, expected)
    assert labels.objects[1].visible_px == (expected == 2).sum() > 0
    assert folder / "000003_000002.png" in images.label_files(0), "they are part of the fingerprint"
    cv2.imwrite(str(folder / "000003_000001.png"), np.zeros((5, 4), np.uint8))
    with refuses(DataError, where="000003_000001.png", found="4x5", expected="80x60"):
        images.labels(0)
    (folder / "000003_000001.png").unlink()
    with refuses(DataError, where="000003_000001.png"):
        images.labels(0)


def test_masks_that_contradict_the_poses_are_a_finding(bop: Path) -> None:
    """Drawn from the poses they never could: masks of two objects changed about."""
    drawn = BopImages.open(bop).labels(0).instance
    masks = np.stack([drawn == number for number in (1, 2, 3)])
    write_masks(bop, masks[:1], im_id=7)
    for order, expected in ((masks, []), (masks[[2, 1, 0]], ["O05"])):
        write_masks(bop, order)
        codes = [one.code for one in check_object_labels({"train": survey_objects(BopImages.open(bop))})]
        assert [code for code in codes if code == "O05"] == expected


def mirrored(poses: Any) -> None:
    poses["3"][1]["cam_R_m2c"] = [-1, 0, 0, 0, 1, 0, 0, 0, 1]


def skewed(poses: Any) -> None:
    poses["3"][1]["cam_R_m2c"] = [1, 0.2, 0, 0, 1, 0, 0, 0, 1]


def in_metres(poses: Any) -> None:
    poses["3"][1]["cam_t_m2c"] = [0.03, 0, 0.7]


def behind(poses: Any) -> None:
    poses["3"][2]["cam_t_m2c"] = [0, 0, -500]


@pytest.mark.parametrize(
    ("change", "names"), [(mirrored, ("3", "-1")), (skewed, ("1",)), (in_metres, ("1", "0.0007")), (behind, ("2",))]
)
def test_invalid_pose_is_refused(bop: Path, change: Callable[[Any], None], names: tuple[str, ...]) -> None:
    edit(bop / "test/000001/scene_gt.json", change)
    with refuses(DataError, names=names):
        BopImages.open(bop).labels(0)


def without_pose(poses: Any) -> None:
    poses["3"][1]["cam_t_m2c"] = [float("nan")] * 3


def with_minus_one(poses: Any) -> None:
    poses["3"][1].update(cam_R_m2c=[-1] * 9, cam_t_m2c=[-1] * 3)


@pytest.mark.parametrize("change", [without_pose, with_minus_one])
def test_an_object_without_a_pose_is_left_out_with_its_mask(
    bop: Path, change: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    masks = np.stack([BopImages.open(bop).labels(0).instance == number for number in (1, 2, 3)])
    write_masks(bop, masks)
    write_masks(bop, masks[:1], im_id=7)
    edit(bop / "test/000001/scene_gt.json", change)
    labels = BopImages.open(bop).labels(0)
    np.testing.assert_array_equal(labels.instance, 1 * masks[0] + 2 * masks[2])
    assert len(labels.objects) == 2
    assert "1 objects without a pose" in caplog.text


def test_mesh_in_metres_is_refused_by_its_diameter(bop: Path) -> None:
    path = bop / "models_eval" / "obj_000002.ply"
    data = path.read_bytes()
    start = data.index(b"end_header\n") + 11
    vertices = np.frombuffer(data, "<f4", 24, start) / 1000
    path.write_bytes(data[:start] + vertices.astype("<f4").tobytes() + data[start + 96 :])
    with refuses(DataError, where="obj_000002.ply", found="0.17"):
        BopImages.open(bop)


@pytest.mark.parametrize(
    "name",
    [
        "models_eval/obj_000005.ply",
        "models_eval/models_info.json",
        "test/000001/scene_camera.json",
        "test/000001/rgb/000007.png",
    ],
)
def test_a_missing_file_is_named(bop: Path, name: str) -> None:
    (bop / name).unlink()
    with refuses(DataError, names=(Path(name).name,)):
        BopImages.open(bop)


def test_truncated_or_quad_mesh_is_refused(bop: Path) -> None:
    path = bop / "models_eval" / "obj_000001.ply"
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with refuses(DataError, where="obj_000001.ply"):
        read_ply(path)
    quads = np.zeros(6, np.dtype([("length", "u1"), ("index", "<i4", 4)]))
    quads["length"] = 4
    header, vertices = data[: data.index(b"element face")], data[data.index(b"end_header\n") + 11 :][:96]
    list_of_faces = b"element face 6\nproperty list uchar int vertex_indices\nend_header\n"
    path.write_bytes(header + list_of_faces + vertices + quads.tobytes())
    with refuses(DataError, where="obj_000001.ply"):
        read_ply(path)
    path.write_bytes(b"ply\n")
    with refuses(DataError, where="obj_000001.ply", found="PLY"):
        read_ply(path)


def test_ascii_and_binary_ply_are_equal(bop: Path, tmp_path: Path) -> None:
    vertices, triangles = read_ply(bop / "models_eval" / "obj_000001.ply")
    lines = ["ply", "format ascii 1.0", "element vertex 8", "property float z", "property float x", "property float y"]
    lines += ["element face 12", "property list uchar int vertex_index", "end_header"]
    lines += [f"{z:.6f} {x:.6f} {y:.6f}" for x, y, z in vertices] + [f"3 {a} {b} {c}" for a, b, c in triangles]
    (tmp_path / "text.ply").write_text("\n".join(lines) + "\n")
    again = read_ply(tmp_path / "text.ply")
    np.testing.assert_allclose(again[0], vertices, atol=1e-5)
    np.testing.assert_array_equal(again[1], triangles)


def test_written_results_are_read_back(bop: Path, tmp_path: Path) -> None:
    images = BopImages.open(bop)
    results = ground_truth_results(images)
    assert len(results) == 4
    np.testing.assert_allclose(results[0].T_camera_model[:3, 3], [0, 0, 0.5], atol=1e-9)  # BOP's own frame again
    write_results(tmp_path / "ours_tiny-test.csv", results)
    text = (tmp_path / "ours_tiny-test.csv").read_text().splitlines()
    assert text[0] == "scene_id,im_id,obj_id,score,R,t,time"
    t_mm = [float(number) for number in text[1].split(",")[5].split()]
    np.testing.assert_allclose(t_mm, [0, 0, 500], atol=1e-6)
    for one, again in zip(results, read_results(tmp_path / "ours_tiny-test.csv"), strict=True):
        np.testing.assert_allclose(again.T_camera_model, one.T_camera_model, atol=1e-12)
        assert (again.scene_id, again.im_id, again.obj_id, again.score, again.time_s) == (
            one.scene_id,
            one.im_id,
            one.obj_id,
            1.0,
            -1.0,
        )


GOOD = "1,3,5,0.9,1 0 0 0 1 0 0 0 1,10 20 500,0.2"


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("1,3,5,0.9,1 0 0 0 1 0 0 0 1,10 20 500", ("3", "6")),
        (GOOD.replace("10 20 500", "10 20"), ("9", "2")),
        (GOOD.replace("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0 -1"), ("3",)),
        (GOOD.replace("0.9", "high"), ("high", "results.csv", "3")),
        (GOOD.replace("0.9", "nan"), ("results.csv", "3")),
        (GOOD.replace("500", "-500"), ("results.csv", "3")),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, names: tuple[str, ...]) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"scene_id,im_id,obj_id,score,R,t,time\n{GOOD}\n{line}\n")
    with refuses(DataError, names=names):
        read_results(path)


R = "1 0 0 0 1 0 0 0 1"


def csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([RESULTS_HEADER, *rows]) + "\n")
    return path


def scaled(path: Path, by: float) -> Path:
    """The same csv with each t multiplied."""
    lines = path.read_text().splitlines()
    columns = [line.split(",") for line in lines[1:]]
    rows = [",".join([*c[:5], " ".join(str(by * float(x)) for x in c[5].split()), c[6]]) for c in columns]
    return csv(path.with_name(f"{by}.csv"), *rows)
