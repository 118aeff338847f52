"""Loops are found by features of the place, measured by depth, and refused where the path contradicts them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stadia.core.types import DepthScale
from stadia.geometry.image_features import FrameFeatures, describe_places
from stadia.geometry.poses import invert_pose, se3_exp
from stadia.training.odometry.graph_odometry import (
    MIN_GAP,
    GraphOdometry,
    KeyframeView,
    Loop,
    MeasuredMotion,
    bend_path,
    describe_loops,
    find_loops,
    judge_loops,
    measure_motion,
    propose_pairs,
    weigh_step,
)

K = np.array([[300.0, 0, 159.5], [0, 300, 95.5], [0, 0, 1]])
HEIGHT, WIDTH = 192, 320
COUNT = 41
RADIUS = 20.0


class Ring:
    """Points around a ring road, each with a descriptor, and a camera that drives once around it and 2 m beyond."""

    def __init__(self, alike: bool = False) -> None:
        random = np.random.default_rng(0)
        angle = random.uniform(0, 2 * np.pi, 6000)
        radius = RADIUS + random.choice([-1, 1], 6000) * random.uniform(4, 12, 6000)
        self.points = np.column_stack((radius * np.sin(angle), random.uniform(-4, 1.5, 6000), radius * np.cos(angle)))
        self.descriptors = random.integers(0, 256, (6000, 128)).astype(np.uint8)
        turn = 2 * np.pi * np.arange(COUNT) / (COUNT - 3)
        self.T_world_camera = np.tile(np.eye(4), (COUNT, 1, 1))
        for T, phi in zip(self.T_world_camera, turn, strict=True):
            right = np.array([-np.sin(phi), 0, -np.cos(phi)])
            forward = np.array([np.cos(phi), 0, -np.sin(phi)])
            T[:3, 0], T[:3, 1], T[:3, 2] = right, (0, 1, 0), forward
            T[:3, 3] = RADIUS * np.array([np.sin(phi), 0, np.cos(phi)])

    def view(self, index: int, scale: float = 1.0) -> KeyframeView:
        T = np.linalg.inv(self.T_world_camera[index])
        inside = self.points @ T[:3, :3].T + T[:3, 3]
        xy = inside[:, :2] / inside[:, 2:] * 300 + K[:2, 2]
        shown = (inside[:, 2] > 1) & (inside[:, 2] < 25) & (xy > 0).all(1) & (xy < (WIDTH, HEIGHT)).all(1)
        rows = np.flatnonzero(shown)
        features = FrameFeatures(
            xy[rows].astype(np.float32), self.descriptors[rows], np.zeros((len(rows), 3), np.uint8)
        )
        return KeyframeView(features, scale * inside[rows], K)


@pytest.fixture(scope="module")
def ring() -> Ring:
    return Ring()


@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_a_motion_is_that_of_the_matches_with_its_scale(ring: Ring, scale: float) -> None:
    found = measure_motion(ring.view(4), ring.view(5, scale))
    assert found is not None
    truth = np.linalg.inv(ring.T_world_camera[4]) @ ring.T_world_camera[5]
    np.testing.assert_allclose(found.T_first_second, truth, atol=1e-3)
    assert found.scale == pytest.approx(1 / scale, rel=1e-3)
    assert (np.linalg.eigvalsh(found.information) > 0).all()
    assert measure_motion(ring.view(0), ring.view(20)) is None, "they share no point"


@pytest.mark.slow
def test_the_first_places_are_found_again(ring: Ring) -> None:
    views = [ring.view(index) for index in range(COUNT)]
    pairs = propose_pairs(describe_places([view.features for view in views]))
    assert all(second - first >= MIN_GAP for first, second in pairs)
    assert {(0, COUNT - 3), (1, COUNT - 2), (2, COUNT - 1)} <= set(pairs)
    loops = find_loops(views, ring.T_world_camera)
    assert {(loop.first, loop.second) for loop in loops if not loop.refused} >= {(0, COUNT - 3), (1, COUNT - 2)}
    for loop in loops:
        truth = np.linalg.inv(ring.T_world_camera[loop.first]) @ ring.T_world_camera[loop.second]
        np.testing.assert_allclose(loop.motion.T_first_second, truth, atol=0.02)


@pytest.mark.slow
def test_a_loop_between_places_that_look_alike_is_refused_in_one_line(ring: Ring) -> None:
    """Two views of one place, where the path is 40 m apart; and a pair that no neighbor confirms."""
    views = [ring.view(index) for index in range(COUNT)]
    views[19:22] = views[0:3]
    loops = find_loops(views, ring.T_world_camera)
    false = [loop for loop in loops if loop.second in (19, 20, 21)]
    assert false
    assert all("%" in loop.refused for loop in false)
    *_, line = describe_loops(loops)
    assert line.startswith("refused: the loop of keyframes ")
    assert "\n" not in line
    alone = Loop(0, COUNT - 3, MeasuredMotion(np.eye(4), 1.0, np.eye(7), 10.0))
    judge_loops([alone], ring.T_world_camera)
    assert alone.refused


def test_a_step_that_fits_its_matches_counts_more(ring: Ring) -> None:
    T = np.linalg.inv(ring.T_world_camera[4]) @ ring.T_world_camera[5]
    off = T @ se3_exp(torch.tensor([0.1, 0, 0, 0, 0.02, 0]).double()).numpy()
    right, wrong, dark = (
        np.linalg.det(weigh_step(ring.view(4), view, motion))
        for view, motion in ((ring.view(5), T), (ring.view(5), off), (ring.view(20), T))
    )
    assert right > wrong > dark


@pytest.mark.slow
@pytest.mark.parametrize("depth_scale", [DepthScale.METRES, DepthScale.UP_TO_SCALE])
def test_a_path_that_drifts_is_closed(ring: Ring, depth_scale: DepthScale) -> None:
    """Each step turns by 0.3 degrees too much; up to scale, each unit is 0.5 % smaller than the one before."""
    truth = torch.from_numpy(np.linalg.inv(ring.T_world_camera[0]) @ ring.T_world_camera)
    unit = 1 - 0.005 * torch.arange(COUNT) * (depth_scale is DepthScale.UP_TO_SCALE)
    steps = invert_pose(truth[:-1]) @ truth[1:] @ se3_exp(torch.tensor([0, 0, 0, 0, 0.005, 0]).double())
    steps[:, :3, 3] *= unit[:-1, None]
    drifted = [truth[0]]
    for step in steps:
        drifted.append(drifted[-1] @ step)
    window = SimpleNamespace(numbers=list(range(COUNT)))
    refined = SimpleNamespace(path=lambda: torch.stack(drifted).numpy(), window=window, keyframes=COUNT)
    odometry = GraphOdometry(SimpleNamespace(depth_scale=depth_scale), lambda points: None)
    odometry.refined = refined
    odometry.views = [ring.view(index, float(unit[index])) for index in range(COUNT)]
    found = odometry.path()
    before, after = (np.linalg.norm(T[-1, :3, 3] - truth[-1, :3, 3].numpy()) for T in (refined.path(), found))
    assert after < 0.15 * before
    assert np.linalg.norm(found[:, :3, 3] - truth[:, :3, 3].numpy(), axis=1).mean() < 0.4 * before
    assert "close the path" in odometry.notes[0]


def test_a_path_is_bent_between_its_key_frames() -> None:
    path = torch.eye(4).double().repeat(7, 1, 1)
    path[:, 2, 3] = torch.arange(7)
    corrections = torch.eye(4).double().repeat(2, 1, 1)
    corrections[1, 0, 3] = 1.0
    bent = bend_path(path, [0, 4], corrections)
    assert bent[:, 0, 3].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1])
    assert bent[:, 2, 3].tolist() == pytest.approx(range(7))
    assert describe_loops([])[0].startswith("no loop: ")
