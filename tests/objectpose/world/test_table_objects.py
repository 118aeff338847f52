"""What stands on a table: shapes, places, views and seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.objectpose.config import TABLEWORLD_TINY, TableWorldConfig
from stadia.objectpose.table_world import (
    PlacedObject,
    TableScene,
    derive_table_seed,
    draw_shapes,
    make_table,
    place_shapes,
)
from stadia.synthetic.household_objects import SHAPES, ObjectShape, compute_footprint, has_overlap
from stadia.synthetic.rendering.mesh import compute_bounds, make_camera_pose


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


def test_a_box_does_not_show_a_half_turn_about_any_axis() -> None:
    shape = SHAPES["box"](make_generator(0))
    corners = np.unique(np.concatenate([part.vertices for part in shape.mesh]).round(9), axis=0)
    for signs in ((1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        np.testing.assert_array_equal(np.unique(corners * signs, axis=0), corners)
    assert len(shape.symmetry) == 3
    assert shape.size_m[0] > 1.15 * shape.size_m[2], "no quarter turn"


def test_a_handle_meets_its_cup_and_points_to_x() -> None:
    for seed in range(10):
        shape = SHAPES["cup"](make_generator(seed))
        (handle,) = shape.handle
        radius = np.hypot(handle.vertices[:, 0], handle.vertices[:, 2])
        widest = max(np.hypot(part.vertices[:, 0], part.vertices[:, 2]).max() for part in shape.mesh)
        assert radius.min() < widest < radius.max()
        assert handle.vertices[:, 0].min() > 0
        assert np.abs(handle.vertices[:, 1]).max() < shape.size_m[1] / 2


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


def test_rectangles_overlap_where_they_share_a_point() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    diamond = np.array([[0.0, -1], [1, 0], [0, 1], [-1, 0]])
    assert has_overlap(square, square + 0.9)
    assert not has_overlap(square, square + np.array([1.1, 0.2]))
    assert not has_overlap(square, diamond + np.array([2.3, 1.3])), "their bounding boxes share points, they do not"
    assert has_overlap(square, diamond * 0.1 + 0.5), "one inside the other"


def test_objects_without_free_space_are_left_out() -> None:
    shapes = draw_shapes(3, TABLEWORLD_TINY.model_copy(update={"objects": (12, 12)}))
    assert len(shapes) == 12
    placed = place_shapes(3, shapes, np.array([0.3, 0.25]))
    assert 0 < len(placed) < 12
    assert [one.number for one in placed] == list(range(1, len(placed) + 1))


def test_views_follow_the_configuration(tables: list[TableScene], config: TableWorldConfig) -> None:
    elevations = []
    for table in tables:
        for T in table.T_world_camera:
            assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
            elevations.append(np.degrees(np.arcsin(T[1, 2])))  # of the axis, downwards
            for one in table.objects:
                center = np.linalg.inv(T) @ one.T_world_object[:, 3]
                assert center[2] > 0.1
    assert config.elevation_deg[0] - 1e-6 < min(elevations) < 25
    assert 45 < max(elevations) < config.elevation_deg[1] + 1e-6


def test_camera_is_aimed_at_its_target_and_roll_is_clockwise() -> None:
    T = make_camera_pose(np.array([1.0, -2.0, 3.0]), np.array([0.2, 0.0, 0.5]), 0.3)
    seen = np.linalg.inv(T) @ [0.2, 0.0, 0.5, 1.0]
    np.testing.assert_allclose(seen[:2], 0, atol=1e-12)
    assert seen[2] > 0
    level = make_camera_pose(np.array([0.0, -1.0, -2.0]), np.zeros(3), 0.0)
    np.testing.assert_allclose(level[:3, 0], [1, 0, 0], atol=1e-12)
    assert level[1, 1] > 0, "the image's down is the world's"


def test_no_two_tables_share_a_shape(config: TableWorldConfig) -> None:
    def sizes(shapes: list[ObjectShape]) -> set[tuple[float, ...]]:
        return {tuple(shape.size_m.tolist()) for shape in shapes}

    seeds = {split: [derive_table_seed(0, split, index) for index in range(20)] for split in ("train", "val", "test")}
    assert len({seed for one in seeds.values() for seed in one}) == 60
    drawn = {split: set().union(*(sizes(draw_shapes(seed, config)) for seed in one)) for split, one in seeds.items()}
    assert not drawn["train"] & drawn["test"]
    assert not drawn["train"] & drawn["val"]
    assert len(drawn["train"]) > 60


def test_the_same_seed_makes_the_same_table_whatever_is_rendered_of_it(
    config: TableWorldConfig, tables: list[TableScene]
) -> None:
    again = make_table(
        derive_table_seed(0, "train", 0), config.model_copy(update={"height": 48, "width": 64, "noise": False})
    )
    np.testing.assert_array_equal(again.T_world_camera, tables[0].T_world_camera)
    np.testing.assert_array_equal(again.vertices, tables[0].vertices)
    np.testing.assert_array_equal(again.textures.texels, tables[0].textures.texels)
