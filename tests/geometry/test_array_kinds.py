"""Every function of floor 1's geometry returns the same numbers, and the same number type, for NumPy and for torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stadia.core.types import Camera
from stadia.geometry import align, cameras, poses, segments
from stadia.geometry.ground import camera_height, horizon, object_scale, road_plane

POSE = poses.se3_exp(np.random.default_rng(0).normal(size=(2, 5, 6)))
VECTORS = np.random.default_rng(1).normal(size=(2, 5, 3))
QUATERNIONS = np.random.default_rng(2).normal(size=(2, 5, 4))
VALUES = np.random.default_rng(3).normal(size=(4, 12))
KNOWN = np.random.default_rng(4).random((4, 12)) < 0.6
SEGMENT = np.arange(12) % 3
K = np.array([[30.0, 0.1, 17.3], [0, 28, 11.8], [0, 0, 1]])
DEPTH = np.random.default_rng(5).random((2, 1, 24, 36)) + (np.random.default_rng(6).random((2, 1, 24, 36)) > 0.1)
ROAD = np.arange(24)[:, None] + np.zeros((2, 1, 24, 36)) > 14
OBJECTS = (np.arange(36) // 12 * np.ones((2, 24, 1))).astype(np.int64)
PLANE = np.array([[0.0, -1, 0, 1.65], [0.1, -0.9, 0.05, 1.4]])
INSTANCES = np.array([[[0, 2], [7, 2]], [[0, 0], [0, 0]], [[2, 2], [1, 0]]])

CASES: dict[str, tuple[Callable[..., Any], *tuple[Any, ...]]] = {
    "hat": (poses.hat, VECTORS),
    "so3_exp": (poses.so3_exp, VECTORS),
    "so3_exp of a small angle": (poses.so3_exp, 1e-3 * VECTORS),
    "so3_log": (poses.so3_log, POSE[..., :3, :3]),
    "se3_exp": (poses.se3_exp, np.concatenate((VECTORS, VECTORS), -1)),
    "se3_log": (poses.se3_log, POSE),
    "invert_pose": (poses.invert_pose, POSE),
    "compose": (poses.compose, POSE, POSE),
    "transform": (poses.transform, POSE[0], VECTORS[:1]),
    "mirror_x": (poses.mirror_x, POSE),
    "quaternion_wxyz_from_matrix": (poses.quaternion_wxyz_from_matrix, POSE[..., :3, :3]),
    "matrix_from_quaternion_wxyz": (poses.matrix_from_quaternion_wxyz, QUATERNIONS),
    "rotation_angle_deg": (poses.rotation_angle_deg, POSE[..., :3, :3]),
    "matrix_from_euler": (poses.matrix_from_euler, VECTORS, "zyx"),
    "quaternion_conjugate": (poses.quaternion_conjugate, QUATERNIONS),
    "quaternion_multiply": (poses.quaternion_multiply, QUATERNIONS, QUATERNIONS[::-1]),
    "quaternion_from_ray": (poses.quaternion_from_ray, abs(VECTORS)),
    "normalize": (poses.normalize, VECTORS, -2),
    "resize_camera": (lambda K: cameras.resize_camera(Camera(K, 24, 36), 12, 50).K, K),
    "crop_camera": (lambda K: cameras.crop_camera(Camera(K, 24, 36), 3, 4, 12, 20).K, K),
    "mirror_camera": (lambda K: cameras.mirror_camera(Camera(K, 24, 36)).K, K),
    "inverse_intrinsics": (cameras.inverse_intrinsics, K),
    "backproject": (lambda depth, K: cameras.backproject(depth, Camera(K, 24, 36)), DEPTH, K),
    "project": (lambda points, K: cameras.project(points, Camera(K, 24, 36)), VECTORS.reshape(3, 5, 2), K),
    "depth_to_points": (
        lambda depth, K, T: cameras.depth_to_points(depth, Camera(K, 24, 36), T),
        DEPTH,
        K,
        POSE[0, :2],
    ),
    "inverse_from_depth": (cameras.inverse_from_depth, DEPTH),
    "normals_from_depth": (lambda depth, K: road_plane.normals_from_depth(depth, Camera(K, 24, 36)), DEPTH, K),
    "fit_plane": (road_plane.fit_plane, 1 + abs(VECTORS)),
    "road_pixel_heights": (
        lambda depth, K, road: vars_of(road_plane.road_pixel_heights(depth, Camera(K, 24, 36), road)),
        DEPTH,
        K,
        ROAD,
    ),
    "fit_inverse_depth_plane": (
        lambda depth, K, road: road_plane.fit_inverse_depth_plane(depth, Camera(K, 24, 36), road),
        DEPTH,
        K,
        ROAD,
    ),
    "horizon_from_normal": (lambda normal, K: horizon.horizon_from_normal(normal, Camera(K, 24, 36)), VECTORS, K),
    "normal_from_horizon": (lambda line, K: horizon.normal_from_horizon(line, Camera(K, 24, 36)), VECTORS, K),
    "scale_objects": (
        lambda depth, K, plane, objects, height_m: vars_of(
            object_scale.scale_objects(
                depth,
                Camera(K, 24, 36),
                plane,
                segments.segments_from_instances(objects),
                height_m,
                0.1 * height_m,
                kind="mean",
            )
        ),
        DEPTH,
        K,
        PLANE,
        OBJECTS,
        np.full(4, 1.5),
    ),
    "estimate_camera_heights": (
        lambda depth, K, road, objects, height_m: vars_of(
            camera_height.estimate_camera_heights(
                depth,
                Camera(K, 24, 36),
                road_plane.road_pixel_heights(depth, Camera(K, 24, 36), road),
                segments.segments_from_instances(objects),
                height_m,
            )
        ),
        DEPTH,
        K,
        ROAD,
        OBJECTS,
        np.full(4, 1.5),
    ),
    "umeyama": (lambda a, b: vars_of(align.umeyama(a, b, "sim3")), VECTORS, VECTORS[::-1]),
    "transform_poses": (lambda a, b, T: align.umeyama(a, b).transform_poses(T), VECTORS, VECTORS[::-1], POSE),
    "masked_median": (align.masked_median, VALUES, KNOWN),
    "median_and_deviation": (align.median_and_deviation, VALUES, KNOWN),
    "fit_scale_median": (align.fit_scale_median, VALUES, VALUES[::-1], KNOWN),
    "fit_scale_least_squares": (align.fit_scale_least_squares, VALUES, VALUES[::-1], KNOWN),
    "fit_scale_and_shift": (align.fit_scale_and_shift, VALUES, VALUES[::-1], KNOWN),
    "segments_from_instances": (lambda a: vars_of(segments.segments_from_instances(a)), INSTANCES),
    "subsample_evenly": (segments.subsample_evenly, SEGMENT, 3, 2),
    "segment_quantiles": (segments.segment_quantiles, VALUES[0], SEGMENT, 4, (0.0, 0.3, 1.0)),
}


def vars_of(found: Any) -> tuple[Any, ...]:
    return tuple(getattr(found, name) for name in found.__slots__)


def in_kind(values: Any, dtype: type[np.floating], make: Callable[[np.ndarray], Any]) -> Any:
    if not isinstance(values, np.ndarray):
        return values
    return make(np.ascontiguousarray(values.astype(dtype) if values.dtype == np.float64 else values))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_numpy_and_torch_give_the_same(name: str, dtype: type[np.floating]) -> None:
    function, *arguments = CASES[name]
    by_numpy = function(*(in_kind(value, dtype, np.asarray) for value in arguments))
    by_torch = function(*(in_kind(value, dtype, torch.from_numpy) for value in arguments))
    by_numpy, by_torch = ((x,) if not isinstance(x, tuple) else x for x in (by_numpy, by_torch))
    tolerance = 5e-5 if dtype == np.float32 else 1e-12
    for of_numpy, of_torch in zip(by_numpy, by_torch, strict=True):
        assert not isinstance(of_numpy, torch.Tensor)
        assert of_numpy.dtype == of_torch.numpy().dtype
        np.testing.assert_allclose(of_numpy, of_torch.numpy(), rtol=tolerance, atol=tolerance)
