"""Every function of floor 1's geometry returns the same numbers, and the same number type, for NumPy and for torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stadia.geometry import align, poses, segments

POSE = poses.se3_exp(np.random.default_rng(0).normal(size=(2, 5, 6)))
VECTORS = np.random.default_rng(1).normal(size=(2, 5, 3))
QUATERNIONS = np.random.default_rng(2).normal(size=(2, 5, 4))
VALUES = np.random.default_rng(3).normal(size=(4, 12))
KNOWN = np.random.default_rng(4).random((4, 12)) < 0.6
SEGMENT = np.arange(12) % 3
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
