"""The time over which a camera reads its rows is found from a map that was adjusted without it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from stadia.sfm.camera_search import measure_readout
from stadia.sfm.sparse_map import LensCamera, SparseMap

LENS = LensCamera(400.0, (319.5, 199.5), (0.0, 0.0, 0.0, 0.0), 400, 640)
FRAMES = 16


def find_pose(time: float) -> np.ndarray:
    """Return T_camera_world (4, 4) at a time in frames: a walk forward that sways by a degree."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.radians([0.7 * np.sin(0.6 * time), np.sin(0.5 * time), 0.0]))[0]
    T[:3, 3] = -T[:3, :3] @ (0.05 * np.sin(0.4 * time), 0.0, 0.3 * time)
    return T


def make_map(readout: float, frames: int = FRAMES, noise_px: float = 0.05) -> SparseMap:
    """Return a map with the poses of the middle rows, whose pixels were read over `readout` frames."""
    random = np.random.default_rng(0)
    points = random.uniform((-8, -4, 6), (8, 4, 30), (250, 3))
    observed, xy = [], []
    for frame in range(frames):
        for row, point in enumerate(points):
            pixel = np.full(2, LENS.center_px[1])
            for _ in range(3):
                T = find_pose(frame + readout * (pixel[1] / (LENS.height - 1) - 0.5))
                pixel = LENS.project((T[:3, :3] @ point + T[:3, 3])[None])[0]
            if T[2, :3] @ point + T[2, 3] > 1 and (pixel > 0).all() and (pixel < (LENS.width, LENS.height)).all():
                observed.append((frame, row))
                xy.append(pixel + noise_px * random.standard_normal(2))
    T = np.array([find_pose(frame) for frame in range(frames)])
    colors = np.zeros((len(points), 3), np.uint8)
    return SparseMap(LENS, np.arange(frames), T, points, colors, np.array(observed), np.array(xy))


def adjust(sparse: SparseMap) -> SparseMap:
    """Return the map with the poses and points that fit its pixels best, as if all rows were read at once."""
    frame, point = sparse.observed.T
    size = 2 * len(frame), 6 * FRAMES + 3 * len(sparse.points)
    rows, each = np.mgrid[: size[0], :9]
    columns = np.where(each < 6, 6 * frame[rows // 2] + each, 6 * FRAMES + 3 * point[rows // 2] + each - 6)
    depends = sp.csr_matrix((np.ones(rows.size), (rows.ravel(), columns.ravel())), size)

    def move(step: np.ndarray) -> SparseMap:
        T, of_poses = sparse.T_camera_world.copy(), step[: 6 * FRAMES].reshape(-1, 6)
        T[:, :3] = Rotation.from_rotvec(of_poses[:, :3]).as_matrix() @ T[:, :3]
        T[:, :3, 3] += of_poses[:, 3:]
        return replace(sparse, T_camera_world=T, points=sparse.points + step[6 * FRAMES :].reshape(-1, 3))

    fitted = least_squares(
        lambda x: move(x).residuals_px().ravel(), np.zeros(size[1]), jac_sparsity=depends, max_nfev=6
    )
    return move(fitted.x)


@pytest.mark.slow
@pytest.mark.parametrize("readout", [0.0, pytest.param(0.4, marks=pytest.mark.exhaustive), -0.8])
def test_the_readout_is_found_within_its_deviation(readout):
    sparse = adjust(make_map(readout))
    found = measure_readout(sparse)
    assert found is not None
    assert abs(found.frames - readout) < max(2 * found.deviation, 0.1 * abs(readout))
    assert found.deviation < 0.1
    assert found.is_rolling == (readout != 0)
