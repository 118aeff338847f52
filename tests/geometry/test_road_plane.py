"""Points, normals, planes and the camera's height, on known surfaces."""

import numpy as np
import pytest
import torch
from tests import tensor_cameras
from tests.geometry.traffic import Car, Scene, camera_height, kitti_camera, see
from torch import Tensor
from torch.testing import assert_close

from stadia.core.types import Camera
from stadia.geometry import cameras
from stadia.geometry.cameras import depth_to_points
from stadia.geometry.ground import road_plane
from stadia.geometry.poses import so3_exp, transform
from stadia.geometry.segments import segments_from_instances

F64 = torch.float64


@pytest.fixture
def camera() -> Camera:
    return tensor_cameras.from_field_of_view(82, height=48, width=160)


def plane_of(height_m: float, roll: float = 0.0, pitch: float = 0.0) -> Tensor:
    """(4,) of a road under a camera that rolls and pitches by radians."""
    normal = so3_exp(torch.tensor([pitch, 0, roll], dtype=F64)) @ torch.tensor([0.0, -1, 0], dtype=F64)
    return torch.cat((normal, torch.tensor([height_m], dtype=F64)))


def depth_of(plane: Tensor, camera: Camera, farthest_m: float = 60.0) -> Tensor:
    """(1, 1, H, W): where each ray meets the plane; 0 = none above the horizon and beyond the farthest."""
    rays = cameras.apply_to_pixels(cameras.inverse_intrinsics(camera.K), camera.height, camera.width)
    down = -(plane[:3, None, None] * rays).sum(0)
    depth = plane[3] / down.clamp(min=1e-9)
    return torch.where((down > 1e-9) & (depth < farthest_m), depth, torch.zeros_like(depth))[None, None]


def test_points_of_a_cloud_lie_on_the_rays_of_their_pixels(small, poses):
    depth = 1 + torch.rand(2, 1, 24, 36, dtype=F64)
    depth[0, 0, 0, 0] = 0
    T = poses(2)
    cloud, known = depth_to_points(depth, small, T)
    assert cloud.shape == (2, 24 * 36, 3)
    assert known.sum() == 2 * 24 * 36 - 1
    assert not known[0, 0]
    y, x = 7, 11
    ray = torch.linalg.inv(small.K) @ torch.tensor([x, y, 1.0], dtype=F64)
    for b in range(2):
        assert_close(cloud[b, y * 36 + x], T[b, :3, :3] @ (ray * depth[b, 0, y, x]) + T[b, :3, 3])
    assert_close(cloud, transform(T, depth_to_points(depth, small)[0]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (F64, 1e-10)])
def test_normals_of_a_plane_are_its_own_at_every_pixel(camera, dtype, tolerance):
    plane = plane_of(1.65, roll=0.1, pitch=0.7)  # steep enough to fill the image, corners included
    depth = depth_of(plane, camera, farthest_m=1e6).to(dtype)
    assert (depth > 0).all()
    assert_close(
        road_plane.normals_from_depth(depth, camera),
        plane[:3].to(dtype).view(1, 3, 1, 1).expand(1, 3, 48, 160),
        atol=tolerance,
        rtol=0,
    )


def test_normals_of_a_sphere_point_from_its_middle(camera):
    middle, radius = torch.tensor([0.3, -0.2, 6.0], dtype=F64), 2.0
    rays = cameras.apply_to_pixels(cameras.inverse_intrinsics(camera.K), 48, 160)
    a, b, c = (rays**2).sum(0), (rays * middle[:, None, None]).sum(0), middle @ middle - radius**2
    hit = b**2 - a * c > 0.3
    depth = torch.where(hit, (b - (b**2 - a * c).clamp(min=0).sqrt()) / a, torch.zeros_like(a))
    normal = road_plane.normals_from_depth(depth[None, None], camera)[0]
    has = (normal != 0).any(0)
    expected = (depth * rays - middle[:, None, None]) / radius
    assert has.sum() > 200
    assert (normal * expected).sum(0)[has].min() > 0.999


def test_normals_face_the_camera_and_are_none_beside_none(camera):
    depth = 2 + torch.rand(1, 1, 48, 160, dtype=F64)
    depth[0, 0, 20, 30] = 0
    normal = road_plane.normals_from_depth(depth, camera)
    assert ((normal * cameras.backproject(depth, camera)).sum(1) <= 0).all()
    none = (normal == 0).all(1)[0]
    assert none.sum() == 9
    assert none[19:22, 29:32].all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (F64, 1e-12)])
def test_fit_plane_finds_planes_in_a_batch(dtype, tolerance):
    planes = torch.stack([plane_of(1.2, 0.1, -0.05), plane_of(1.65), plane_of(2.0, -0.2, 0.3)]).to(dtype)
    points = torch.randn(3, 50, 3, dtype=dtype) * 5
    on_plane = points - road_plane.height_above_plane(planes, points)[..., None] * planes[:, None, :3]
    assert_close(road_plane.fit_plane(on_plane), planes, atol=tolerance, rtol=0)
    weights = torch.ones(3, 50, dtype=dtype)
    weights[:, :10] = 0
    on_plane[:, :10] = 100 * torch.randn(3, 10, 3, dtype=dtype)
    assert_close(road_plane.fit_plane(on_plane, weights), planes, atol=tolerance, rtol=0)
    assert_close(
        road_plane.height_above_plane(planes, points + 2 * planes[:, None, :3]),
        road_plane.height_above_plane(planes, points) + 2,
    )


def test_fit_plane_is_the_smallest_singular_vector():
    points = torch.randn(40, 3, dtype=F64) * torch.tensor([3.0, 0.2, 5.0], dtype=F64) + torch.tensor(
        [0, 1.6, 12], dtype=F64
    )
    plane = road_plane.fit_plane(points)
    direction = torch.linalg.svd(points - points.mean(0)).Vh[2]
    assert_close((plane[:3] @ direction).abs().item(), 1.0)
    assert plane[3] > 0


@pytest.mark.slow
def test_robust_plane_stands_where_least_squares_falls():
    plane, random = plane_of(1.65, 0.02, 0.05).numpy(), np.random.default_rng(0)
    points = random.random((3000, 3)) * (8.0, 0, 25) + (-4.0, 0, 4)
    points = points - road_plane.height_above_plane(plane, points)[:, None] * plane[:3]
    points[:1200] += 3 * random.random((1200, 1)) * plane[:3]  # 40 % are kerbs, cars and walls
    assert abs(road_plane.fit_plane(points) - plane).max() > 0.1
    found = road_plane.fit_plane_ransac(points)
    np.testing.assert_allclose(found, plane, atol=5e-3)
    np.testing.assert_array_equal(road_plane.fit_plane_ransac(points), found)  # the same seed, the same plane
    np.testing.assert_allclose(road_plane.fit_plane_ransac(1000 * points)[:3], found[:3], rtol=1e-9)  # no unit in it
    assert np.isnan(road_plane.fit_plane_ransac(points[:2])).all()


@pytest.mark.slow
def test_gradients(camera):
    camera = tensor_cameras.from_field_of_view(82, height=5, width=6)
    depth = depth_of(plane_of(1.65, 0.05, 0.9), camera, farthest_m=1e3)
    depth = (depth * (1 + 0.005 * torch.rand_like(depth))).requires_grad_()
    road = torch.ones_like(depth, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda d: road_plane.normals_from_depth(d, camera), (depth,))
    assert torch.autograd.gradcheck(lambda d: camera_height(d, camera, road).by_median, (depth,))
    assert torch.autograd.gradcheck(lambda d: road_plane.road_pixel_heights(d, camera, road).camera_height, (depth,))
    assert torch.autograd.gradcheck(lambda d: road_plane.road_pixel_heights(d, camera, road).plane, (depth,))
    points = (torch.randn(2, 9, 3, dtype=F64) * torch.tensor([3.0, 0.1, 6], dtype=F64) + 2).requires_grad_()
    assert torch.autograd.gradcheck(road_plane.fit_plane, (points, torch.rand(2, 9, dtype=F64, requires_grad=True)))


def test_each_road_pixel_gives_the_camera_height_and_all_give_the_plane(camera):
    planes = torch.stack([plane_of(1.2, 0.05, -0.03), plane_of(1.65, -0.1)])
    depth = torch.cat([depth_of(plane, camera) for plane in planes])
    road = depth > 0
    road[..., :80] = False
    depth[..., :70] = 7.0  # a wall, which is no road
    seen = road_plane.road_pixel_heights(depth, camera, road)
    assert (seen.valid & ~road).sum() == 0
    assert seen.valid.sum() > 0.9 * road.sum()
    for b, height_m in enumerate((1.2, 1.65)):
        heights = seen.camera_height[b][seen.valid[b]]
        assert_close(heights, torch.full_like(heights, height_m))
    assert (seen.camera_height[~seen.valid] == 0).all()
    assert_close(seen.plane, planes)
    assert_close(road_plane.height_above_plane(seen.plane, torch.zeros(2, 1, 3, dtype=F64))[:, 0], planes[:, 3])


def test_an_image_with_too_little_road_gives_nan_and_no_gradient(camera):
    depth = depth_of(plane_of(1.65), camera).repeat(3, 1, 1, 1)
    depth[2] = torch.nan
    depth.requires_grad_()
    road = depth > 0
    road[0] = False
    road[0, 0, 40, :70] = True  # 0.9 %
    road[2] = True
    seen = road_plane.road_pixel_heights(depth, camera, road)
    assert seen.valid.flatten(1).any(-1).tolist() == [False, True, False]
    assert seen.plane.isnan().all(-1).tolist() == [True, False, True]
    assert not road_plane.road_pixel_heights(depth, camera, road, min_road_share=0.005).plane[0].isnan().any()
    (seen.camera_height.sum() + seen.plane[1].sum()).backward()
    assert depth.grad.isfinite().all()
    assert (depth.grad[0] == 0).all()
    assert (depth.grad[1] != 0).any()


def flat_road(height_m=1.65, pitch=0.03, roll=0.01):
    """Depth (1, 1, 48, 160) of a plane with this normal and distance, float64, its camera and where it is seen."""
    camera = Camera(torch.tensor([[[90.0, 0, 80], [0, 90, 20], [0, 0, 1]]], dtype=F64), 48, 160)
    plane = torch.nn.functional.normalize(torch.tensor([roll, -1.0, pitch], dtype=F64), dim=0)
    towards = -(plane[:, None, None] * cameras.backproject(torch.ones(1, 1, 48, 160, dtype=F64), camera)).sum(
        -3, keepdim=True
    )
    return torch.where(towards > 0.02, height_m / towards, 0.0), camera, plane


def test_inverse_depth_plane_is_exact_on_a_plane_and_follows_the_unit():
    depth, camera, normal = flat_road()
    plane = road_plane.fit_inverse_depth_plane(depth, camera, depth > 0)
    assert_close(plane, torch.cat((normal, torch.tensor([1.65], dtype=F64)))[None], atol=1e-9, rtol=0)
    assert_close(road_plane.fit_inverse_depth_plane(7 * depth, camera, depth > 0)[0, 3], 7 * plane[0, 3])
    assert_close(
        road_plane.fit_inverse_depth_plane(depth.float(), camera.to(torch.float32), depth > 0).to(F64),
        plane,
        atol=1e-3,
        rtol=0,
    )


# -- heights of silhouettes and boxes: units, frames, what is hidden, gradients


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


@pytest.mark.slow
def test_silhouettes_have_exact_gradients(street):
    camera = tensor_cameras.intrinsics(6, 6, 2.4, 1.6, height=4, width=6)
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
