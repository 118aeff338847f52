"""Depth of road video by its own rows and objects: exact scenes are in order, and each is broken in one way."""

import pytest
import torch
from torch import Tensor

from stadia.geometry.segments import segments_from_instances
from stadia.training.recipes.metric.depth_signs import object_extent, rows_out_of_order, share_at_max_depth

H, W, HORIZON = 32, 40, 9.5


def road() -> tuple[Tensor, Tensor]:
    """Depth (1, 1, H, W) of a level road 1.65 m below, and where it is."""
    below = (torch.arange(H, dtype=torch.float64) - HORIZON).clamp(min=0.5)
    return (1.65 * 50 / below)[:, None].expand(1, 1, H, W).clone(), (torch.arange(H) > 10)[:, None].expand(1, 1, H, W)


def test_a_road_viewed_from_above_is_in_order_and_one_that_bends_up_is_not() -> None:
    depth, where = road()
    assert rows_out_of_order(depth, where).tolist() == [0]
    depth[:, :, 11:17] = torch.linspace(4, 12, 6, dtype=torch.float64)[
        :, None
    ]  # the far road comes nearer: 5 of 20 pairs
    assert rows_out_of_order(depth, where).tolist() == [pytest.approx(5 / 20)]


def test_a_plane_that_faces_the_camera_has_no_extent_in_any_unit() -> None:
    instances = torch.zeros(1, H, W, dtype=torch.int64)
    instances[0, 5:15, 2:14], instances[0, 5:15, 20:32], instances[0, 20:22, 2:4] = 1, 2, 3
    depth = torch.full((1, 1, H, W), 10.0)
    depth[..., 20:32] = torch.linspace(9, 11, 12)
    for unit in (1, 100):
        extent = object_extent(unit * depth, segments_from_instances(instances))
        assert extent[0] == 0
        assert extent[1] == pytest.approx(0.16, abs=0.02)
        assert extent[2].isnan(), "four pixels say nothing"
    assert len(object_extent(depth, segments_from_instances(torch.zeros_like(instances)))) == 0


def test_objects_at_the_limit_are_counted_and_none_is_not_a_number() -> None:
    depth, pixels = torch.tensor([[[[96.0, 94.0], [99.0, 99.0]]]]), torch.tensor([[[[True, True], [True, False]]]])
    assert share_at_max_depth(depth, pixels, 100.0) == pytest.approx(2 / 3)
    assert share_at_max_depth(depth, torch.zeros_like(pixels), 100.0).isnan()
