"""Heights of silhouettes and boxes: units, frames, what is hidden, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from traffic import Car, Scene, kitti_camera, see

from stadia.geometry import camera as cameras
from stadia.geometry.ground import road_plane
from stadia.geometry.segments import segments_from_instances

F64 = torch.float64
CAMERA = kitti_camera(0.5)
SCENES = (
    Scene(1.65, 0.02, 0.03, (Car(-2, 9, 0.4, 1.5), Car(4, 20, 2, 1.7))),
    Scene(1.4, -0.01, -0.05, (Car(1, 12, 1, 2.2),)),
)


@pytest.fixture(scope="module")
def street() -> tuple[Tensor, Tensor, Tensor]:
    """Depth (2, 1, H, W), planes (2, 4), objects (2, H, W): two cars, then one."""
    views = [see(scene, CAMERA) for scene in SCENES]
    assert all(view.whole.all() for view in views)
    return (
        torch.stack([v.depth for v in views]),
        torch.stack([s.plane for s in SCENES]),
        torch.stack([v.objects for v in views]),
    )


def test_objects_of_a_batch_have_their_heights(street):
    depth, plane, objects = street
    found = road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects))
    expected = torch.tensor([1.5, 1.7, 2.2], dtype=F64)
    a_pixel = torch.tensor([9, 20, 12], dtype=F64) / 184  # at most one of them is lost at the top
    assert ((found.height <= expected + 1e-9) & (found.height > expected - a_pixel)).all()
    assert ((found.bottom > -1e-9) & (found.bottom < a_pixel)).all()
    assert_close(found.top, found.height)


def test_it_has_the_unit_of_depth(street):
    depth, plane, objects = street
    scaled = plane * torch.tensor([1, 1, 1, 7.0], dtype=F64)
    found = road_plane.measure_silhouettes(7 * depth, CAMERA, scaled, segments_from_instances(objects))
    assert_close(
        found.height, 7 * road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects)).height
    )


def test_a_hidden_foot_is_measured_from_the_plane_and_a_sunken_one_from_itself(street):
    depth, plane, objects = street
    whole = road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects))
    rows = torch.arange(96)[None, :, None]
    lowest = torch.where(objects == 1, rows, -1).amax((1, 2), keepdim=True)
    highest = torch.where(objects == 1, rows, 96).amin((1, 2), keepdim=True)
    cut = road_plane.measure_silhouettes(
        depth, CAMERA, plane, segments_from_instances(objects * ((objects != 1) | (rows < (lowest + highest) / 2)))
    )
    assert (cut.bottom[[0, 2]] > 0.4).all()
    assert_close(cut.height, whole.height)
    sunken = road_plane.measure_silhouettes(
        depth, CAMERA, plane - torch.tensor([0, 0, 0, 0.3], dtype=F64), segments_from_instances(objects)
    )
    assert (sunken.bottom < -0.2).all()
    assert_close(sunken.height, whole.top - whole.bottom)


def test_trimming_leaves_out_the_points_that_are_wrong(street):
    depth, plane, objects = street
    depth = depth.clone()
    depth[0].masked_fill_(
        (objects[0] == 1) & (torch.arange(320) == int((objects[0] == 1).any(0).nonzero()[0, 0])), 90.0
    )  # one column
    found = [
        road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects), trim=trim)
        for trim in (0.0, 0.02)
    ]
    assert found[0].height[0] > 3
    assert 1.3 < found[1].height[0] < 1.5


def test_what_has_no_depth_or_plane_is_nan_and_leaves_the_others(street):
    depth, plane, objects = (x.clone() for x in street)
    whole = road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects))
    middle = tuple((objects[0] == 1).nonzero().float().mean(0).long())
    for none in (0.0, torch.nan, torch.inf):
        depth[0, 0][middle] = none
        assert_close(
            road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects)).height, whole.height
        )
    for none in (0.0, torch.nan, torch.inf):
        depth[0, 0][objects[0] == 1] = none
        found = road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects))
        assert found.height[0].isnan()
        assert_close(found.height[1:], whole.height[1:])
    plane[0] = torch.nan
    found = road_plane.measure_silhouettes(depth, CAMERA, plane, segments_from_instances(objects))
    assert found.height.isnan().tolist() == [True, True, False]
    assert road_plane.measure_silhouettes(
        depth, CAMERA, plane, segments_from_instances(torch.zeros_like(objects))
    ).height.shape == (0,)


def test_gradients(street):
    camera = cameras.intrinsics(6, 6, 2.4, 1.6, height=4, width=6)
    depth = (5 + torch.rand(2, 1, camera.height, camera.width, dtype=F64)).requires_grad_()
    objects = torch.randint(0, 3, (2, camera.height, camera.width))
    plane = street[1].clone().requires_grad_()
    for trim in (0.0, 0.1):
        assert torch.autograd.gradcheck(
            lambda d, p, trim=trim: (
                road_plane.measure_silhouettes(d, camera, p, segments_from_instances(objects), trim=trim).height
            ),
            (depth, plane),
        )
    holes = depth.detach().clone()
    holes[:, :, :2] = torch.nan
    holes.requires_grad_()
    road_plane.measure_silhouettes(holes, camera, plane, segments_from_instances(objects)).height.sum().backward()
    assert holes.grad.isfinite().all()
    assert plane.grad.isfinite().all()


def test_a_box_that_faces_the_camera():
    """1.5 m at 10 m are 55.3 px of KITTI at 640x192."""
    assert_close(
        road_plane.height_from_box(torch.tensor(55.296), torch.tensor(10.0), torch.tensor(368.64)), torch.tensor(1.5)
    )
