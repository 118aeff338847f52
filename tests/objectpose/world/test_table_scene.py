"""Images and their truth agree: mask, depth, pose, size, handle."""

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.refusals import refuses
from typer.testing import CliRunner

from stadia.cli.main import app
from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.objectpose.config import TABLEWORLD_CLASSES, TABLEWORLD_TINY, TableWorldConfig
from stadia.objectpose.data.object_folder import ObjectFolder
from stadia.objectpose.table_world import (
    MIN_HANDLE_PX,
    PlacedObject,
    TableRenderer,
    TableScene,
    TableView,
    derive_table_seed,
    draw_shapes,
    make_table,
    write_tableworld,
)
from stadia.synthetic.household_objects import SHAPES, compute_footprint, has_overlap
from stadia.synthetic.rendering.mesh import compute_bounds, make_camera_pose


@pytest.mark.slow
def test_a_pose_projects_its_object_onto_its_mask(views: list[TableView]) -> None:
    """Each visible pixel's column and row lie within those of the object's own vertices."""
    for view in views:
        for number, one in enumerate(view.objects, start=1):
            parts = [*one.placed.shape.mesh, *one.placed.shape.handle]
            points = (
                np.concatenate([part.vertices for part in parts]) @ one.T_camera_object[:3, :3].T
                + one.T_camera_object[:3, 3]
            )
            pixels = (points[:, :2] / points[:, 2:]) * view.K[[0, 1], [0, 1]] + view.K[:2, 2]
            rows, columns = np.nonzero(view.instance == number)
            assert pixels[:, 0].min() <= columns.min()
            assert columns.max() <= pixels[:, 0].max()
            assert pixels[:, 1].min() <= rows.min()
            assert rows.max() <= pixels[:, 1].max()
            if one.visible_px == one.full_px:
                assert columns.min() - pixels[:, 0].min() < 1.5


def cup_table(config: TableWorldConfig) -> TableScene:
    """A table with a cup on it."""
    single = config.model_copy(update={"objects": (1, 1)})
    return make_table(next(seed for seed in range(100) if draw_shapes(seed, single)[0].kind == "cup"), single)


@pytest.mark.parametrize(("side", "symmetry"), [(1.0, "none"), (-1.0, "revolution")])
def test_a_cup_is_symmetric_where_its_handle_is_hidden(config: TableWorldConfig, side: float, symmetry: str) -> None:
    """Seen from the handle's side, and from the other."""
    table = cup_table(config)
    T = table.objects[0].T_world_object
    eye = T[:3, 3] + side * 0.6 * T[:3, 0] + np.array([0, -0.05, 0])
    table.T_world_camera[0] = make_camera_pose(eye, T[:3, 3], 0.0)
    view = TableRenderer(table, config).render(0)
    (cup,) = view.objects
    assert cup.symmetry == symmetry
    assert MIN_HANDLE_PX < 40 < cup.visible_px


def world_vertices(one: PlacedObject) -> NDArray:
    vertices = np.concatenate([part.vertices for part in [*one.shape.mesh, *one.shape.handle]])
    return vertices @ one.T_world_object[:3, :3].T + one.T_world_object[:3, 3]


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_is_centered_and_its_size_is_that_of_its_box(kind: str) -> None:
    for seed in range(8):
        shape = SHAPES[kind](make_generator(seed, kind))
        low, high = compute_bounds([*shape.mesh, *shape.handle])
        np.testing.assert_allclose(2 * np.maximum(-low, high), shape.size_m, rtol=1e-12)
        assert low[1] == pytest.approx(-high[1], abs=1e-12)
        if kind != "cup":  # its origin is on the axis of its bowl, not in the middle of bowl and handle
            np.testing.assert_allclose(low, -high, atol=1e-12)
        assert shape.size_m.min() > 0.02
        assert shape.size_m.max() < 0.45


@pytest.mark.parametrize("kind", ["bottle", "bowl", "can", "cup"])
def test_a_body_of_revolution_is_one_about_y(kind: str) -> None:
    shape = SHAPES[kind](make_generator(1, kind))
    assert shape.symmetry == "revolution"
    for part in shape.mesh:
        rings = part.vertices.reshape(-1, 37, 3)
        np.testing.assert_allclose(np.hypot(rings[..., 0], rings[..., 2]).std(1), 0, atol=1e-12)
        np.testing.assert_allclose(rings[..., 1].std(1), 0, atol=1e-12)
    assert (len(shape.handle) > 0) == (kind == "cup")


@pytest.mark.slow
def test_objects_stand_on_the_table(tables: list[TableScene]) -> None:
    for one in (one for table in tables for one in table.objects):
        vertices = world_vertices(one)
        assert vertices[:, 1].max() == pytest.approx(0, abs=1e-9), "y is down"
        assert vertices[:, 1].min() == pytest.approx(-one.shape.size_m[1], abs=1e-9)
        R = one.T_world_object[:3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1)


def corners_of(one: PlacedObject) -> NDArray:
    return compute_footprint(one.shape, 0.0) @ one.T_world_object[[0, 2]][:, [0, 2]].T + one.T_world_object[[0, 2], 3]


def test_no_object_is_in_another(tables: list[TableScene]) -> None:
    for table in tables:
        for one in table.objects:
            corners = corners_of(one)
            inside = world_vertices(one)[:, [0, 2]] - corners[0]
            for edge in (corners[1] - corners[0], corners[3] - corners[0]):
                share = inside @ edge / (edge @ edge)
                assert -1e-9 < share.min() < share.max() < 1 + 1e-9, "the footprint holds the object"
        for first, second in itertools.combinations(table.objects, 2):
            assert not has_overlap(corners_of(first), corners_of(second))


def test_camera_is_aimed_at_its_target_and_roll_is_clockwise() -> None:
    T = make_camera_pose(np.array([1.0, -2.0, 3.0]), np.array([0.2, 0.0, 0.5]), 0.3)
    seen = np.linalg.inv(T) @ [0.2, 0.0, 0.5, 1.0]
    np.testing.assert_allclose(seen[:2], 0, atol=1e-12)
    assert seen[2] > 0
    level = make_camera_pose(np.array([0.0, -1.0, -2.0]), np.zeros(3), 0.0)
    np.testing.assert_allclose(level[:3, 0], [1, 0, 0], atol=1e-12)
    assert level[1, 1] > 0, "the image's down is the world's"


def test_the_same_seed_makes_the_same_table_whatever_is_rendered_of_it(
    config: TableWorldConfig, tables: list[TableScene]
) -> None:
    again = make_table(
        derive_table_seed(0, "train", 0), config.model_copy(update={"height": 48, "width": 64, "noise": False})
    )
    np.testing.assert_array_equal(again.T_world_camera, tables[0].T_world_camera)
    np.testing.assert_array_equal(again.vertices, tables[0].vertices)
    np.testing.assert_array_equal(again.textures.texels, tables[0].textures.texels)


SMALL = TABLEWORLD_TINY.model_copy(update={"train": 2, "val": 1, "test": 1, "height": 48, "width": 64})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tableworld(SMALL, tmp_path_factory.mktemp("tables") / "data", seed=5, workers=2).parent


@pytest.fixture
def dataset(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    for name, data in contents(written).items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(data)
    return tmp_path / "data"


@pytest.mark.slow
def test_reading_returns_what_was_rendered(written: Path) -> None:
    images = ObjectFolder.open(written, "train")
    assert (len(images), images.classes, images.name) == (4, TABLEWORLD_CLASSES, "data/train")
    renderer = TableRenderer(make_table(derive_table_seed(5, "train", 1), SMALL), SMALL)
    view = renderer.render(1)
    np.testing.assert_array_equal(images.image(3), view.image)
    np.testing.assert_array_equal(images.depth_m(3), view.depth_m)
    np.testing.assert_array_equal(images.camera(3).K, view.K)
    labels = images.labels(3)
    np.testing.assert_array_equal(labels.instance, view.instance)
    for label, one in zip(labels.objects, view.objects, strict=True):
        np.testing.assert_allclose(label.T_camera_object, one.T_camera_object, atol=1e-12)
        np.testing.assert_array_equal(label.size_m, one.placed.shape.size_m)
        assert TABLEWORLD_CLASSES[label.class_id] == one.placed.shape.kind
        assert (label.visible_px, label.full_px, label.symmetry) == (one.visible_px, one.full_px, one.symmetry)


def test_the_command_renders(tmp_path: Path) -> None:
    words = [
        "data",
        "tableworld",
        "--preset",
        "tiny",
        "--tables",
        "1,0,0",
        "--out",
        str(tmp_path / "out"),
        "views=1",
        "height=32",
        "width=48",
    ]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert "dataset.json" in result.output
    assert cv2.imread(str(tmp_path / "out" / "preview.png")).shape[0] == 32
    assert len(ObjectFolder.open(tmp_path / "out", "train")) == 1
    assert len(ObjectFolder.open(tmp_path / "out", "test")) == 0


def objects(scene: Any) -> Any:
    return scene["images"][0]["objects"]


def test_invalid_masks_are_refused(dataset: Path) -> None:
    path = dataset / "train-00000" / "instance" / "000.png"
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    with refuses(DataError, where="000.png", expected="PNG"):
        ObjectFolder.open(dataset, "train").labels(0)
    path.unlink()
    with refuses(DataError, where="000.png"):
        ObjectFolder.open(dataset, "train").labels(0)
