"""The camera height from depth of unknown scale and cars of known height, end to end: V9 and V16 on ray-cast roads."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tests.geometry.traffic import kitti_camera, see, street
from tests.tensor_cameras import intrinsics
from torch import Tensor

from stadia.geometry.ground.camera_height import estimate_camera_heights, weight_objects
from stadia.geometry.ground.road_plane import RoadPixelHeights, fit_inverse_depth_plane, road_pixel_heights
from stadia.geometry.segments import segments_from_instances
from stadia.training.recipes.metric.camera_heights import CameraHeights
from stadia.training.recipes.metric.config import CameraHeightsConfig

HALF = kitti_camera(0.5)
F64 = torch.float64


@cache
def frames(
    count: int, camera_m: float
) -> tuple[Tensor, RoadPixelHeights, list[Tensor], list[Tensor], list[list[float]]]:
    """Return depth of unknown scale (count, 1, H, W) and its road.

    Of each image: the masks of all cars, the masks of the cars that are seen whole, and the heights of all (m).
    """
    rng = np.random.default_rng(round(100 * camera_m))
    scenes = [street(rng, 3, camera_height=camera_m) for _ in range(count)]
    views = [see(scene, HALF) for scene in scenes]
    whole = [view.objects * torch.cat((torch.zeros(1), view.whole)).long()[view.objects] for view in views]
    smooth = np.stack([gaussian_filter(rng.standard_normal((96, 320)), 4) for _ in range(count)])
    factor = 1 + 0.01 * smooth / smooth.std((1, 2), keepdims=True)
    factor *= rng.lognormal(0, 0.4, (count, 1, 1))
    depth = torch.stack([v.depth for v in views]) * torch.from_numpy(factor)[:, None]
    road = road_pixel_heights(depth, HALF, torch.stack([v.road for v in views]))
    return depth, road, [view.objects for view in views], whole, [[car.height_m for car in s.cars] for s in scenes]


def spoilt(
    objects: Tensor, heights_m: list[float], share: float, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray]:
    """Masks and what is said of them, some wrong: the top hidden, a leak of 3 px above, called twice or 0.55 times as
    high.
    """
    said, objects = np.array([np.nan, *heights_m]), objects.clone()
    for number in objects.unique()[1:].tolist():
        if rng.random() >= share:
            continue
        kind, mask = rng.integers(4), objects == number
        rows = mask.any(1).nonzero()[:, 0]
        if kind == 0:
            hidden = mask & (torch.arange(len(mask))[:, None] < rows[0] + 0.4 * len(rows))
            objects[hidden] = 0
        elif kind == 1:
            for shift in range(1, 4):
                objects[:-shift][mask[shift:] & (objects[:-shift] == 0)] = number
        else:
            said[number] *= (2, 0.55)[kind - 2]
    return objects, said


def hear(
    heights: CameraHeights,
    camera_m: float,
    *,
    count: int = 40,
    bad: float = 0.0,
    group: int = 0,
    recording: str = "drive",
    with_hidden: bool = False,
) -> None:
    depth, road, all_cars, whole, heights_m = frames(count, camera_m)
    rng = np.random.default_rng(1)
    pairs = [spoilt(*each, bad, rng) for each in zip(all_cars if with_hidden else whole, heights_m, strict=True)]
    objects = segments_from_instances(torch.stack([masks for masks, _ in pairs]))
    said = torch.from_numpy(np.stack([said for _, said in pairs]))[objects.image, objects.instance]
    seen = estimate_camera_heights(depth, HALF, road, objects, said)
    apart = (fit_inverse_depth_plane(depth, HALF, road.valid)[:, 3] / road.median_height).log()
    of_frames = torch.full((count,), group), road.median_height, apart
    heights.add([recording] * count, *of_frames, objects.image, seen.camera_m, seen.horizon_m)


@pytest.mark.slow
def test_cars_whose_feet_are_hidden_do_not_move_the_height_of_a_street():
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0, test_from_epoch=0))
    hear(heights, 1.65, with_hidden=True)
    assert heights.begin(1)[0].refused == ""
    assert heights.heights[0].metres == pytest.approx(1.65, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0.0, 0.3])
def test_v9_the_camera_height_of_a_street(bad):
    heights = CameraHeights(CameraHeightsConfig(first_epoch=0, test_from_epoch=0))
    hear(heights, 1.65, bad=bad)
    found = heights.begin(1)[0]
    assert found.refused == ""
    assert 0 < found.height_mismatch < 0.01  # a plane through the road and its pixels, of depth with an error of 1 %
    assert heights.heights[0].metres == pytest.approx(1.65, rel=0.02)


@pytest.mark.parametrize(("lean_deg", "kind"), [(-2, "smaller"), (0, "smaller"), (2, "smaller"), (2, "nearest")])
def test_a_predicted_road_that_leans_does_not_change_the_height_by_an_object(lean_deg: float, kind: str) -> None:
    camera = intrinsics(200, 200, 48, 24, height=64, width=96)
    depth = torch.full((1, 1, 64, 96), 10.0, dtype=F64)
    objects = torch.zeros(1, 64, 96, dtype=torch.long)
    objects[0, 27:57, 40:60] = 1  # 1.5 m high, its foot 1.65 m below the camera
    depth[0, 0, 40, 50] = 5.0
    lean = math.radians(lean_deg)
    normal = torch.tensor([[0.0, -math.cos(lean), math.sin(lean)]], dtype=F64)
    known = torch.zeros_like(depth)
    road = RoadPixelHeights(known, known > 0, normal, torch.tensor([1.65], dtype=F64))
    height_m = torch.tensor([1.5], dtype=F64)
    seen = estimate_camera_heights(depth, camera, road, segments_from_instances(objects), height_m, kind)
    assert seen.camera_m.item() == pytest.approx(1.65 * (2 if kind == "nearest" else 1), rel=0.02)


def test_objects_are_inliers_by_the_horizon_of_their_group():
    horizon_m = torch.tensor([1.6, 1.2, 0.0, float("nan")], dtype=F64)
    reference = torch.full((4,), 1.6, dtype=F64)
    assert weight_objects(horizon_m, reference).tolist() == [1, 0, 0, 0]
    assert weight_objects(horizon_m, reference * torch.nan).tolist() == [1, 1, 1, 1]
