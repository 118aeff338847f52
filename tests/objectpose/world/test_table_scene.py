"""Images and their truth agree: mask, depth, pose, size, handle."""

from __future__ import annotations

import numpy as np
import pytest

from stadia.core.seeds import make_generator
from stadia.objectpose.config import TableWorldConfig
from stadia.objectpose.table_world import MIN_HANDLE_PX, TableRenderer, TableScene, TableView, draw_shapes, make_table
from stadia.synthetic.household_objects import SHAPES
from stadia.synthetic.rendering.mesh import make_camera_pose


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


def test_objects_hide_each_other_now_and_then(views: list[TableView]) -> None:
    hidden = [one.visible_px < one.full_px for view in views for one in view.objects]
    assert 0.1 < np.mean(hidden) < 0.9
    assert len({one.placed.shape.kind for view in views for one in view.objects}) == len(SHAPES)


def test_images_are_neither_dark_nor_burnt_out(views: list[TableView]) -> None:
    for view in views:
        assert 40 < view.image.mean() < 225
        assert view.image.std() > 12
        assert (view.image == 255).all(-1).mean() < 0.3
    assert all((view.depth_m > 0).all() for view in views), "a room has walls"


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


def test_noise_is_drawn_for_each_image(config: TableWorldConfig, tables: list[TableScene]) -> None:
    clean = TableRenderer(tables[0], config.model_copy(update={"noise": False})).render(0)
    noisy = TableRenderer(tables[0], config).render(0)
    difference = noisy.image.astype(int) - clean.image
    assert 0.5 < difference.std() < 12
    np.testing.assert_array_equal(noisy.depth_m, clean.depth_m)
    assert make_generator(tables[0].seed, "noise", 0).random() != make_generator(tables[0].seed, "noise", 1).random()
