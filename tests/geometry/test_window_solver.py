"""Bundle adjustment on a world of which everything is known: a painted room, seen by four cameras."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.tensor_cameras import pixel_grid
from torch import Tensor
from torch.testing import assert_close

from stadia.differentiable import photometric_residuals as direct
from stadia.differentiable import window_solver as bundles
from stadia.differentiable.photometric_residuals import HostPoints, Observations, VirtualStereo, WindowFrames
from stadia.differentiable.window_solver import MarginalPrior, WindowProblem
from stadia.geometry import poses as se3
from stadia.geometry.cameras import inverse_intrinsics

F64 = torch.float64
K = torch.tensor([[60.0, 0, 59.5], [0, 60, 35.5], [0, 0, 1]], dtype=F64)
HEIGHT, WIDTH = 72, 120
WALLS = torch.tensor([2.5, 1.5, 9.0], dtype=F64)  # |x|, |y| and z of a room


def shown(T_camera_world: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Gray and inverse depth (..., N) of the room, which is painted throughout, at pixels (..., N, 2), whole or not."""
    homogeneous = torch.cat((pixels, torch.ones_like(pixels[..., :1])), -1)
    T = se3.invert_pose(T_camera_world)
    direction, center = homogeneous @ inverse_intrinsics(K).mT @ T[..., :3, :3].mT, T[..., None, :3, 3]
    depth = ((WALLS * direction.sign() - center) / direction).amin(-1)
    x, y, z = (center + depth[..., None] * direction).unbind(-1)
    waves = (
        torch.sin(1.1 * x + 0.9 * y + 0.3 * z)
        + torch.sin(1.3 * y - 0.6 * x + 1 - 0.4 * z)
        + torch.sin(0.7 * x + 1.6 * y + 0.5 * z)
    )
    return 0.5 + waves / 7, 1 / depth


def view(T_camera_world: Tensor) -> tuple[Tensor, Tensor]:
    """Gray and inverse depth (72, 120) of the room."""
    gray, inverse_depth = shown(T_camera_world, pixel_grid(HEIGHT, WIDTH, dtype=F64).flatten(1).mT)
    return gray.view(HEIGHT, WIDTH), inverse_depth.view(HEIGHT, WIDTH)


def path(count: int = 4) -> Tensor:
    """T_camera_world: sideways, forward, and turning."""
    steps = torch.tensor([[0.12, 0.03, 0.15, 0.004, 0.01, -0.003]], dtype=F64) * torch.arange(count, dtype=F64)[:, None]
    steps[:, 1] += 0.05 * torch.sin(torch.arange(count, dtype=F64))
    return se3.invert_pose(se3.se3_exp(steps))


def held(T: Tensor, brightness: Tensor) -> MarginalPrior:
    """The first frame where it is: the world is anywhere."""
    return MarginalPrior(T[:1], brightness[:1], 1e8 * torch.eye(8, dtype=F64), torch.zeros(8, dtype=F64))


def world(T: Tensor | None = None, *, per_host: int = 120) -> WindowProblem:
    """All of it true."""
    T = path() if T is None else T
    count = len(T)
    seen = [view(each) for each in T]
    frames = WindowFrames(
        torch.stack([gray for gray, _ in seen]), K.expand(count, 3, 3), T, torch.zeros(count, 2, dtype=F64)
    )
    hosts = []
    for host, (gray, inverse_depth) in enumerate(seen):
        pixel = direct.select_pixels(gray, torch.ones_like(gray, dtype=torch.bool), per_host)
        hosts.append(direct.make_host_points(gray, K, host, pixel, inverse_depth, torch.ones_like(gray)))
    points = HostPoints(*(torch.cat([getattr(part, name) for part in hosts]) for name in HostPoints.__slots__))
    every = torch.cartesian_prod(torch.arange(len(points)), torch.arange(count))
    sightings = Observations(*every[every[:, 1] != points.host[every[:, 0]]].unbind(-1))
    return WindowProblem(
        frames, points, points.inverse_depth, 0.2 * points.inverse_depth, sightings, prior=held(T, frames.brightness)
    )


def disturbed(
    true: WindowProblem, *, metres: float = 0.04, radians: float = 0.01, depth: float = 0.08
) -> WindowProblem:
    """Every pose but the first is off, and every depth, which is all that is predicted of it."""
    count = len(true.frames)
    twist = torch.randn(count, 8, dtype=F64) * torch.tensor([metres] * 3 + [radians] * 3 + [0, 0], dtype=F64)
    twist[0] = 0
    wrong = true.points.inverse_depth * (1 + depth * torch.randn(len(true.points), dtype=F64))
    points = replace(true.points, inverse_depth=wrong)
    return replace(
        true, frames=direct.apply_step(true.frames, twist), points=points, expected=wrong, deviation=0.2 * wrong
    )


def errors(found: WindowProblem, true: WindowProblem) -> tuple[float, float]:
    """The largest of a pose, in metres and degrees."""
    difference = se3.compose(se3.invert_pose(found.frames.T_camera_world), true.frames.T_camera_world)
    return float(difference[:, :3, 3].norm(dim=-1).max()), float(se3.rotation_angle_deg(difference[:, :3, :3]).max())


@pytest.mark.slow
def test_where_images_are_read_exactly_the_truth_is_the_optimum(monkeypatch: pytest.MonkeyPatch):

    def exact(gray: Tensor, frame: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        step = 1e-3 * torch.eye(2, dtype=F64)
        along = [(shown(path()[frame], pixels + way)[0] - shown(path()[frame], pixels - way)[0]) / 2e-3 for way in step]
        inside = (pixels >= 0).all(-1) & (pixels <= torch.tensor([WIDTH - 1.0, HEIGHT - 1.0], dtype=F64)).all(-1)
        return shown(path()[frame], pixels)[0], along[0], along[1], inside

    monkeypatch.setattr(direct, "sample_frames", exact)
    monkeypatch.setattr(bundles, "_MIN_GAIN", 0.0)
    true = world()
    start = disturbed(true, metres=0.01, radians=0.002, depth=0.02)
    start = replace(start, expected=true.points.inverse_depth)
    assert errors(start, true)[0] > 0.005
    found, _ = bundles.solve_window(start, steps=60)
    metres, degrees = errors(found, true)
    assert metres < 1e-10
    assert degrees < 1e-10


def test_what_is_off_comes_back_and_the_cost_never_rises():
    true = world()
    start = disturbed(true)
    found, costs = bundles.solve_window(start, steps=15)
    assert errors(start, true)[0] > 0.04
    metres, degrees = errors(found, true)
    assert metres < 0.008
    assert degrees < 0.1
    assert all(after < before for before, after in pairwise(costs))
    assert costs[-1] < costs[0] / 20
    off = (found.points.inverse_depth / true.points.inverse_depth - 1).abs().median()
    assert off < 0.02


def test_virtual_stereo_gives_the_scale_back():
    true = world()
    wrong = true.points.inverse_depth * 0.9
    rig = se3.se3_exp(torch.tensor([-0.5, 0, 0, 0, 0, 0], dtype=F64))
    right = torch.stack([view(se3.compose(rig, T))[1] for T in true.frames.T_camera_world])
    start = replace(true, points=replace(true.points, inverse_depth=wrong), expected=wrong, deviation=0.6 * wrong)

    def length(bundle: WindowProblem) -> float:
        centers = se3.invert_pose(bundle.frames.T_camera_world)[:, :3, 3]
        return float(centers[-1].norm())

    without, _ = bundles.solve_window(start, steps=20)
    with_it, costs = bundles.solve_window(replace(start, stereo=VirtualStereo(right, rig)), steps=20)
    assert length(without) / length(true) > 1.08
    assert length(with_it) / length(true) == pytest.approx(1, rel=0.01)
    assert all(after < before for before, after in pairwise(costs))
    off = with_it.points.inverse_depth / true.points.inverse_depth - 1
    assert off.abs().median() < 0.02


def test_where_the_world_is_changes_nothing(poses):
    start = disturbed(world())
    elsewhere = se3.invert_pose(poses(1, reach=30.0, turn=1.0))[0]
    T = se3.compose(start.frames.T_camera_world, elsewhere[None])
    assert start.prior is not None
    reference = se3.compose(start.prior.T_camera_world, elsewhere[None])
    other = replace(
        start, frames=replace(start.frames, T_camera_world=T), prior=replace(start.prior, T_camera_world=reference)
    )
    found, costs = bundles.solve_window(start)
    there, costs_there = bundles.solve_window(other)
    assert_close(costs_there, costs, atol=0, rtol=1e-6)
    assert_close(
        se3.compose(found.frames.T_camera_world, elsewhere[None]), there.frames.T_camera_world, atol=1e-6, rtol=0
    )


def test_brightness_is_found():
    true = world()
    predicted_motion = torch.tensor([[0.0, 0.0], [0.25, 0.03], [0.0, 0.0], [-0.2, -0.04]], dtype=F64)
    gray = predicted_motion[:, 0].exp()[:, None, None] * true.frames.gray + predicted_motion[:, 1, None, None]
    value = (
        predicted_motion[:, 0].exp()[true.points.host][:, None] * true.points.value
        + predicted_motion[:, 1][true.points.host][:, None]
    )
    points = replace(true.points, value=value)
    start = disturbed(replace(true, frames=replace(true.frames, gray=gray), points=points), metres=0.02, radians=0.004)
    near = predicted_motion * 0.8  # as an alignment of pairs would have it
    found, _ = bundles.solve_window(replace(start, frames=replace(start.frames, brightness=near)), steps=20)
    assert_close(found.frames.brightness, predicted_motion, atol=0.006, rtol=0)
    assert errors(found, true)[0] < 0.01


def only_oldest(bundle: WindowProblem) -> WindowProblem:
    mine = bundle.points.host[bundle.sightings.point] == 0
    return replace(bundle, sightings=Observations(bundle.sightings.point[mine], bundle.sightings.frame[mine]))


def test_marginalization_keeps_the_full_solution():
    start = only_oldest(disturbed(world(), metres=0.01, radians=0.002))
    evaluation = bundles._evaluate(start)
    built = bundles.build_normal_equations(start, evaluation.found, evaluation.inliers, brightness_of=(0,))
    P = len(start.points)
    dense = torch.zeros(32 + P, 32 + P, dtype=F64)
    dense[:32, :32], dense[32:, :32], dense[:32, 32:] = built.H, built.H_between, built.H_between.mT
    dense[32:, 32:] = torch.diag(built.H_point)
    whole = -torch.linalg.solve(dense, torch.cat((built.g, built.g_point)))
    prior = bundles.marginalize_oldest_frame(start)
    alone = -torch.linalg.solve(prior.H, prior.g)
    assert_close(alone, whole[8:32], atol=1e-7, rtol=1e-5)
    step, in_depth = built.step(0.0)
    assert_close(torch.cat((step, in_depth)), whole, atol=1e-7, rtol=1e-5)
