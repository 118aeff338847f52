"""Laws of the pose graph: identity, gauge, closure, and wrong loops that move nothing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stadia.differentiable.pose_graph import PoseEdges, solve_pose_graph
from stadia.geometry.poses import compose, invert_pose, se3_exp

F64 = torch.float64
COUNT = 40


def circle(count: int = COUNT) -> Tensor:
    """Poses (N, 4, 4) once around a circle of 1 m steps, the last one at the first."""
    step = se3_exp(torch.tensor([0.0, 0, 1, 0, 2 * torch.pi / (count - 1), 0], dtype=F64))
    poses = [torch.eye(4, dtype=F64)]
    for _ in range(count - 1):
        poses.append(compose(poses[-1], step))
    return torch.stack(poses)


def edges_of(truth: Tensor, pairs: list[tuple[int, int]], doubted: bool = False) -> PoseEdges:
    first, second = torch.tensor(pairs).reshape(-1, 2).unbind(1)
    deviation = torch.tensor([0.02, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01], dtype=F64)
    information = torch.diag(deviation**-2).repeat(len(pairs), 1, 1)
    T = compose(invert_pose(truth[first]), truth[second])
    return PoseEdges(
        first, second, T, torch.ones(len(pairs), dtype=F64), information, torch.full((len(pairs),), doubted)
    )


def joined(*parts: PoseEdges) -> PoseEdges:
    names = ("first", "second", "T_first_second", "scale", "information", "is_doubted")
    return PoseEdges(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def chain(truth: Tensor) -> PoseEdges:
    return edges_of(truth, [(row, row + 1) for row in range(len(truth) - 1)])


def drifting(truth: Tensor, seed: int = 0) -> tuple[Tensor, PoseEdges]:
    """A path that the noise of its own edges bends, and these edges."""
    generator = torch.Generator().manual_seed(seed)
    deviation = torch.tensor([0.02, 0.02, 0.02, 0.01, 0.01, 0.01], dtype=F64)
    edges = chain(truth)
    noise = se3_exp(deviation * torch.randn(len(edges), 6, generator=generator, dtype=F64))
    edges = replace(edges, T_first_second=compose(edges.T_first_second, noise))
    poses = [truth[0]]
    for T in edges.T_first_second:
        poses.append(compose(poses[-1], T))
    return torch.stack(poses), edges


@pytest.mark.slow
@pytest.mark.parametrize("has_scale", [False, True])
def test_perfect_edges_close_the_path_from_any_start(has_scale: bool) -> None:
    truth = circle()
    bent, _ = drifting(truth)
    edges = joined(chain(truth), edges_of(truth, [(0, COUNT - 1)]))
    assert_close(solve_pose_graph(bent, edges, has_scale=has_scale).T_world_camera, truth, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_another_world_gives_the_same_path_in_it() -> None:
    truth = circle()
    bent, measured = drifting(truth)
    edges = joined(measured, edges_of(truth, [(0, COUNT - 1), (2, COUNT - 2)], doubted=True))
    world = se3_exp(torch.tensor([3.0, -2, 5, 0.3, 1.2, -0.4], dtype=F64))
    here, there = (solve_pose_graph(T, edges).T_world_camera for T in (bent, compose(world, bent)))
    assert_close(compose(world, here), there, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_loops_bring_the_path_nearer_to_the_truth() -> None:
    truth = circle()
    bent, measured = drifting(truth)
    edges = joined(measured, edges_of(truth, [(0, COUNT - 1), (2, COUNT - 3)], doubted=True))
    found = solve_pose_graph(bent, edges)
    before, after = ((T[:, :3, 3] - truth[:, :3, 3]).norm(dim=1) for T in (bent, found.T_world_camera))
    assert after[-1] < 0.1 * before[-1]
    assert after.mean() < before.mean()
    assert found.weight.tolist() == [1.0] * len(edges)


@pytest.mark.slow
def test_a_wrong_loop_does_not_move_the_path() -> None:
    truth = circle()
    bent, measured = drifting(truth)
    right = joined(measured, edges_of(truth, [(0, COUNT - 1), (2, COUNT - 3), (4, COUNT - 5)], doubted=True))
    wrong = edges_of(truth, [(5, 25)], doubted=True)
    wrong = replace(wrong, T_first_second=torch.eye(4, dtype=F64)[None])  # one place, where they are 12 m apart
    without, with_it = solve_pose_graph(bent, right), solve_pose_graph(bent, joined(right, wrong))
    assert with_it.weight[-1] == 0
    assert with_it.weight[:-1].tolist() == [1.0] * len(right)
    assert_close(with_it.T_world_camera, without.T_world_camera, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_scale_that_drifts_is_found_by_a_loop() -> None:
    truth = circle()
    scale = 1.01 ** -torch.arange(COUNT, dtype=F64)
    edges = chain(truth)
    drifted = [truth[0]]
    for row in range(COUNT - 1):
        T = edges.T_first_second[row].clone()
        T[:3, 3] *= scale[row]
        drifted.append(compose(drifted[-1], T))
    bent = torch.stack(drifted)
    measured = chain(bent)
    loop = edges_of(truth, [(0, COUNT - 1)])
    loop = replace(loop, scale=1 / scale[-1:])
    found = solve_pose_graph(bent, joined(measured, loop), has_scale=True)
    rigid = solve_pose_graph(bent, joined(measured, loop), has_scale=False)
    by_scale, by_pose = ((one.T_world_camera[:, :3, 3] - truth[:, :3, 3]).norm(dim=1).mean() for one in (found, rigid))
    assert by_scale < 0.2 * by_pose
    assert float(found.scale[-1]) == pytest.approx(float(1 / scale[-1]), rel=0.02)
