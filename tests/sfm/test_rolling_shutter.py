"""The time over which a camera reads its rows is found from a map that was adjusted without it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from stadia.sfm.map_parts import correct_rows
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.reconstruction import adjust_map
from stadia.sfm.sparse_map import LensCamera, SparseMap, align_cameras

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


def test_a_global_shutter_and_a_standing_camera_change_nothing():
    sparse = make_map(0.0, frames=5)
    rolling = replace(sparse, readout=0.8)
    still = replace(rolling, T_camera_world=np.tile(sparse.T_camera_world[:1], (5, 1, 1)))
    pixels = sparse.camera.project(sparse.move_to_cameras(np.zeros(3, int), sparse.points[:3]))
    assert np.array_equal(still.residuals_px(), replace(still, readout=0.0).residuals_px())
    assert np.array_equal(still.move_to_rows(2, sparse.points[:3], pixels), pixels)
    assert np.array_equal(sparse.move_to_rows(2, sparse.points[:3], pixels), pixels)
    assert not np.allclose(rolling.residuals_px(), sparse.residuals_px(), atol=1.0)


@pytest.mark.parametrize("readout", [0.8, -0.4])
def test_pixels_return_from_the_rows_to_the_middle(readout):
    sparse = replace(make_map(readout, frames=5, noise_px=0.0), readout=readout)
    row, point = sparse.observed.T
    inner = (row > 0) & (row < 4)
    assert np.abs(sparse.residuals_px()[inner]).max() < 0.3, "the third derivative of the motion"
    back = sparse.xy - readout * sparse.differentiate_rows()
    for frame in range(1, 4):
        seen = (row == frame) & inner
        there = sparse.move_to_rows(frame, sparse.points[point[seen]], back[seen])
        assert np.allclose(there, sparse.xy[seen], atol=1e-9)


def test_an_upright_phone_reads_columns():
    sparse = replace(make_map(0.8, frames=5), readout=0.8)
    lens = replace(LENS, height=LENS.width, width=LENS.height, center_px=LENS.center_px[::-1])
    swap = np.eye(4)[[1, 0, 2, 3]]
    T = swap @ sparse.T_camera_world @ swap
    upright = replace(sparse, camera=lens, T_camera_world=T, points=sparse.points[:, [1, 0, 2]], xy=sparse.xy[:, ::-1])
    assert np.allclose(upright.residuals_px()[:, ::-1], sparse.residuals_px())


def make_pairs(sparse: SparseMap, random: np.random.Generator) -> list[FramePair]:
    """Return the matches of successive keyframes, a fifth of them marked as held out."""
    pairs = []
    for frame in range(len(sparse.frames) - 1):
        ends = [sparse.observed[:, 0] == frame + side for side in (0, 1)]
        _, *at = np.intersect1d(*(sparse.observed[end, 1] for end in ends), return_indices=True)
        first, second = (sparse.xy[end][rows] for end, rows in zip(ends, at, strict=True))
        pairs.append(FramePair(frame, frame + 1, first, second, random.random(len(first)) < 0.2))
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("readout", [0.0, 0.8])
def test_a_rolling_shutter_is_corrected_if_held_out_matches_then_fit_better(readout):
    pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    truth = make_map(readout)
    seen = adjust_map(truth, threads=1)
    found, measured = correct_rows(seen, make_pairs(truth, np.random.default_rng(0)), threads=1)
    assert measured is not None
    assert (found is seen) == (readout == 0)
    assert found.readout == pytest.approx(readout, rel=0.1)
    errors = [measure_path_error(sparse, truth) for sparse in (seen, found)]
    assert errors[1] < (0.5 * errors[0] if readout else 1.1 * errors[0])


def measure_path_error(sparse: SparseMap, truth: SparseMap) -> float:
    """Return the mean distance of the camera positions from the true ones after Sim(3) alignment."""
    scale, R, t = align_cameras(sparse.T_camera_world, truth.T_camera_world)
    centers, true = (np.linalg.inv(part.T_camera_world)[:, :3, 3] for part in (sparse, truth))
    return float(np.linalg.norm(scale * centers @ R.T + t - true, axis=1).mean())
