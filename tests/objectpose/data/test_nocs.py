"""NOCS's layout, written from TableWorld's truth: poses come back; objects without one are left out with a reason."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.geometry.poses import rotation_angle_deg
from stadia.objectpose.config import TABLEWORLD_TINY
from stadia.objectpose.data.nocs import CLASSES, K_CAMERA, K_REAL, NocsImages, NocsModel, read_coordinates
from stadia.objectpose.data.object_labels import UNLABELED
from stadia.objectpose.table_world import TableRenderer, TableView, derive_table_seed, make_table

NAMES = {
    "bottle": "bottle",
    "bowl": "bowl",
    "can": "can",
    "laptop": "laptop",
    "cup": "mug",
}  # NOCS has no boxes: distractors here


def compute_nocs_map(view: TableView) -> NDArray[np.float64]:
    """Compute (H, W, 3) normalized object coordinates (NOCS): the box's diagonal is 1, its center 0.5; 0 = none."""
    rows, columns = np.mgrid[: view.depth_m.shape[0], : view.depth_m.shape[1]]
    x, y = (columns - view.K[0, 2]) / view.K[0, 0], (rows - view.K[1, 2]) / view.K[1, 1]
    ray = np.stack([x, y, np.ones(rows.shape)], -1)
    points = ray * view.depth_m[..., None].astype(np.float64)
    out = np.zeros(points.shape)
    for number, visible in enumerate(view.objects, start=1):
        mask = view.instance == number
        T = np.linalg.inv(visible.T_camera_object)
        own = points[mask] @ T[:3, :3].T + T[:3, 3]
        out[mask] = own / np.linalg.norm(visible.placed.shape.size_m) + 0.5
    return out


@pytest.fixture(scope="module")
def view() -> TableView:
    """A table seen by REAL's camera, 640x480."""
    config = TABLEWORLD_TINY.model_copy(
        update={"height": 480, "width": 640, "objects": (6, 6), "supersampling": 1, "distance_m": (0.6, 0.7)}
    )
    table = make_table(derive_table_seed(2, "train", 3), config)
    table.K[:] = K_REAL
    return TableRenderer(table, config).render(0)


@pytest.fixture
def folder(view: TableView, tmp_path: Path) -> Path:
    """real_train/scene_1, as the official one is written: numbers from 1 up, 255 around, z stored as 1 - z, depth in
    millimetres.
    """
    scene = tmp_path / "real_train" / "scene_1"
    scene.mkdir(parents=True)
    cv2.imwrite(str(scene / "0000_color.png"), view.image[..., ::-1])
    coordinates = compute_nocs_map(view)
    coordinates[..., 2] = 1 - coordinates[..., 2]
    coordinates[view.instance == 0] = 1
    cv2.imwrite(str(scene / "0000_coord.png"), np.round(coordinates * 255).astype(np.uint8)[..., ::-1])
    cv2.imwrite(str(scene / "0000_depth.png"), np.round(view.depth_m * 1000).astype(np.uint16))
    numbers = np.where(view.instance > 0, view.instance, 255).astype(np.uint8)
    cv2.imwrite(str(scene / "0000_mask.png"), np.dstack([np.zeros_like(numbers), numbers // 2, numbers]))
    kinds = [NAMES.get(one.placed.shape.kind) for one in view.objects]
    lines = [f"{n} {CLASSES.index(kind) if kind else 0} some_model_{n}" for n, kind in enumerate(kinds, start=1)]
    (scene / "0000_meta.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "real_train"


def known(view: TableView) -> list[int]:
    """Places of the objects that NOCS has a class for."""
    return [place for place, one in enumerate(view.objects) if one.placed.shape.kind in NAMES]


@pytest.mark.slow
def test_rendered_poses_are_recovered(folder: Path, view: TableView) -> None:
    """Within what 8 bits of coordinates and millimetres of depth leave."""
    images = NocsImages.open(folder)
    assert len(images) == 1
    labels = images.labels(0)
    assert images.left_out(0) == []
    places = known(view)
    assert len(labels.objects) == len(places) >= 4
    for number, (place, label) in enumerate(zip(places, labels.objects, strict=True), start=1):
        true = view.objects[place]
        assert CLASSES[label.class_id] == NAMES[true.placed.shape.kind]
        R = torch.from_numpy(label.T_camera_object[:3, :3] @ true.T_camera_object[:3, :3].T)
        assert rotation_angle_deg(R) < 0.2
        assert np.abs(label.T_camera_object[:3, 3] - true.T_camera_object[:3, 3]).max() < 1e-3
        np.testing.assert_array_equal(labels.instance == number, view.instance == place + 1)
        size = true.placed.shape.size_m
        assert (label.size_m < size * 1.01 + 2e-3).all()
        assert label.size_m.max() > 0.5 * size.max()
        assert label.symmetry == ("none" if NAMES[true.placed.shape.kind] in ("laptop", "mug") else "revolution")
        assert label.visible_px == true.visible_px


@pytest.mark.slow
def test_camera_follows_from_the_columns_of_meta(folder: Path) -> None:
    np.testing.assert_array_equal(NocsImages.open(folder).camera(0).K, K_REAL)
    meta = folder / "scene_1" / "0000_meta.txt"
    meta.write_text("".join(f"{line.replace(' some', ' 02876657 some')}\n" for line in meta.read_text().splitlines()))
    np.testing.assert_array_equal(NocsImages.open(folder).camera(0).K, K_CAMERA)


def test_coordinate_map_inverts_z_and_keeps_channel_order(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 2, 3), (51, 102, 204), np.uint8))  # blue, green, red
    np.testing.assert_allclose(read_coordinates(tmp_path / "a.png")[0, 0], [0.8, 0.4, 0.8])


def spoilt(path: Path, change: Callable[[NDArray], None]) -> None:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    change(picture)
    cv2.imwrite(str(path), picture)


@pytest.mark.slow
def test_object_without_a_pose_is_left_out_with_reason(folder: Path, view: TableView) -> None:
    """The first has no depth, the second noise for coordinates; a third of _meta.txt is not to be seen."""
    scene = folder / "scene_1"
    first, second = (place + 1 for place in known(view)[:2])
    random = np.random.default_rng(0)
    spoilt(scene / "0000_depth.png", lambda depth: depth.__setitem__(view.instance == first, 0))
    count = int((view.instance == second).sum())
    spoilt(
        scene / "0000_coord.png",
        lambda c: c.__setitem__(view.instance == second, random.integers(0, 255, (count, 3), np.uint8)),
    )
    with (scene / "0000_meta.txt").open("a") as stream:
        stream.write("77 6 unseen_mug\n")
    images = NocsImages.open(folder)
    reasons = {one.number: one.reason for one in images.left_out(0)}
    assert set(reasons) == {first, second, 77}
    assert "0 pixels with depth" in reasons[first]
    assert "of their targets" in reasons[second]
    assert reasons[77] == "no pixel shows it"
    labels = images.labels(0)
    assert len(labels.objects) == len(known(view)) - 2
    assert ((labels.instance == UNLABELED) == ((view.instance == first) | (view.instance == second))).all(), (
        "distractors are background"
    )


@pytest.mark.slow
def test_outliers_do_not_move_a_pose(folder: Path, view: TableView) -> None:
    place = known(view)[0]
    before = NocsImages.open(folder).labels(0).objects[0].T_camera_object
    wrong = (view.instance == place + 1) & (np.random.default_rng(1).random(view.instance.shape) < 0.3)
    spoilt(folder / "scene_1" / "0000_depth.png", lambda depth: depth.__setitem__(wrong, 3000))
    after = NocsImages.open(folder).labels(0).objects[0].T_camera_object
    np.testing.assert_allclose(after, before, atol=5e-3)
    np.testing.assert_allclose(after[:3, 3], before[:3, 3], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1 9 a\n", ("1", "9")),
        ("1 2 a\n1 3 b\n", ("0000_meta.txt",)),
        ("one 2 a\n", ("0000_meta.txt", "one")),
        ("1 2\n", ("2",)),
        ("1 2 a\n", ("2", "_meta.txt")),
    ],
)
def test_a_wrong_meta_file_is_named(folder: Path, text: str, names: tuple[str, ...]) -> None:
    (folder / "scene_1" / "0000_meta.txt").write_text(text)
    with refuses(DataError, names=names):
        NocsImages.open(folder).labels(0)


def write_models(folder: Path, view: TableView) -> None:
    """Write the shape of each object as obj_models/real_train/some_model_N.obj, in a unit of its own."""
    target = folder.parent / "obj_models" / "real_train"
    target.mkdir(parents=True)
    for number, visible in enumerate(view.objects, start=1):
        shape = visible.placed.shape
        vertices = 7.0 * np.concatenate([part.vertices for part in [*shape.mesh, *shape.handle]])
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
        (target / f"some_model_{number}.obj").write_text("# a mesh\n" + "\n".join(lines) + "\nf 1 2 3\n")


@pytest.mark.slow
def test_sizes_are_those_of_the_models(folder: Path, view: TableView) -> None:
    write_models(folder, view)
    labels = NocsImages.open(folder).labels(0)
    for place, label in zip(known(view), labels.objects, strict=True):
        shape = view.objects[place].placed.shape
        if shape.kind != "cup":  # whose frame is at the axis of its body, and NOCS's in the middle of the box
            np.testing.assert_allclose(label.size_m, shape.size_m, rtol=0.01, atol=5e-4)


def test_a_mug_without_a_visible_handle_is_a_body_of_revolution() -> None:
    angles, heights = np.meshgrid(np.linspace(0, 2 * np.pi, 40), np.linspace(-0.05, 0.05, 20))
    body = np.stack([0.04 * np.cos(angles), heights, 0.04 * np.sin(angles)], -1).reshape(-1, 3)
    handle = np.stack([np.linspace(0.04, 0.07, 30), np.linspace(-0.02, 0.02, 30), np.zeros(30)], -1)
    for side in (1, -1):
        vertices = np.concatenate([body, handle * [side, 1, 1]])
        model = NocsModel.from_vertices(vertices)
        assert model.handle_side == side
        assert model.extent * np.linalg.norm(np.ptp(vertices, axis=0)) == pytest.approx([0.11, 0.1, 0.08], rel=0.01)
        middle = (vertices.max(0) + vertices.min(0)) / 2
        diagonal = np.linalg.norm(np.ptp(vertices, axis=0))
        assert model.shows_handle((vertices - middle) / diagonal)
        assert not model.shows_handle((body - middle) / diagonal)
    assert NocsModel.from_vertices(body).handle_side == 0
