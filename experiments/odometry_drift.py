"""Measure the drift of a window that starts at the ground truth, and its causes, on ever more exact images of
RoadWorld.

    python experiments/odometry_drift.py

Five frames (4 m) of each of six roads at 512x256 are adjusted until nothing changes, with the true depth as a factor
of 15 %. Prints for each row the largest error of a pose in each road, and their root mean square, in millimetres.
Takes some minutes. "Painted" is the same road under a smooth light pattern projected from behind: nothing in it is
finer than a pixel, so that two images show the same at every point. An observation is "clean" if neither image has a
depth edge, a moving object, or a nearer object within its pattern; it is "plane" if both show one plane there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from stadia.geometry.bundle_adjustment import photometric_residuals as direct
from stadia.geometry.bundle_adjustment import window_solver as bundles
from stadia.geometry.bundle_adjustment.photometric_residuals import HostPoints, Observations, WindowFrames
from stadia.geometry.bundle_adjustment.window_solver import MarginalPrior, WindowProblem, solve_window
from stadia.geometry.camera import inverse_intrinsics, pixel_grid
from stadia.geometry.se3 import inverse, transform
from stadia.sfm.odometry import sliding_window_ba
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.rendering.renderer import _LENS_BLUR, render_linear
from stadia.synthetic.rendering.shading_kernels import GAMMA, apply_lens_blur
from stadia.synthetic.roadworld.road_world import RoadRenderer, derive_world_seed, make_world

CONFIG = RoadWorldConfig(train=0, val=0, test=1, frames=8, height=256, width=512, stereo=False)
FRAMES, REACH = 5, 7  # REACH: pixels across of a pattern and what is read around it
EDGE, CREASE = 0.02, 1e-5  # second difference of inverse depth, as a share of it

bilinear = direct.sample_frames


@dataclass(frozen=True)
class Road:
    """gray, inverse_depth: (F, H, W) float64.  moving: (F, H, W) bool.  K: (3, 3).  T_camera_world: (F, 4, 4)."""

    gray: Tensor
    inverse_depth: Tensor
    moving: Tensor
    K: Tensor
    T_camera_world: Tensor


def rendered(seed: int, samples: int) -> Road:
    """Render as RoadWorld does, before rounding to 8 bits."""
    world = make_world(derive_world_seed(seed, "test", 0), CONFIG)
    renderer = RoadRenderer(world, CONFIG)
    lens, scene = renderer.lens._replace(samples=samples), world.geometry
    center = slice(samples // 2, None, samples)
    mobile = [instance.number for instance in world.geometry.instances if instance.moves]
    gray, inverse_depth, moving = [], [], []
    for frame in range(FRAMES):
        T_camera_body = np.linalg.inv(renderer.T_world_camera(frame, "left")) @ world.geometry.T_world_body[frame]
        light = renderer.make_light(frame)
        linear, found, index = render_linear(scene, T_camera_body, np.linalg.inv(T_camera_body), lens, light)
        image = np.empty_like(linear)
        apply_lens_blur(linear, _LENS_BLUR, image)
        gray.append((image.clip(0, 1) ** (1 / GAMMA)).mean(-1))
        inverse_depth.append(found[center, center])
        shown = index[center, center]
        moving.append(np.isin(np.where(shown >= 0, world.geometry.instance[shown], 0), mobile))
    poses = np.stack([renderer.T_world_camera(frame, "left") for frame in range(FRAMES)])
    depths = torch.from_numpy(np.stack(inverse_depth)).clamp(min=1e-4)
    T_camera_world = inverse(torch.from_numpy(poses))
    return Road(
        torch.from_numpy(np.stack(gray)).double(),
        depths,
        torch.from_numpy(np.stack(moving)),
        torch.from_numpy(world.K),
        T_camera_world,
    )


def painted(road: Road) -> Road:
    """Render the same road under waves of 10 to 25 px, projected from 3 m behind the third frame."""
    random = np.random.default_rng(0)
    waves = [
        (2 * np.pi / random.uniform(10, 25), random.uniform(0, 2 * np.pi), random.uniform(0, 2 * np.pi))
        for _ in range(12)
    ]
    ones = torch.ones(1, CONFIG.height, CONFIG.width)
    rays = inverse_intrinsics(road.K) @ torch.cat(
        (pixel_grid(CONFIG.height, CONFIG.width, dtype=torch.float64), ones)
    ).flatten(1)
    gray = []
    for T, inverse_depth in zip(road.T_camera_world, road.inverse_depth, strict=True):
        thrown = transform(road.T_camera_world[2] @ inverse(T), (rays / inverse_depth.flatten()).mT) + torch.tensor(
            [0, 0, 3.0]
        )
        x, y = (thrown[:, :2] / thrown[:, 2:].clamp(min=0.1) * road.K[0, 0]).unbind(-1)
        light = [torch.sin(rate * (x * np.cos(way) + y * np.sin(way)) + start) for rate, way, start in waves]
        gray.append(0.5 + torch.stack(light).sum(0) / 24)
    return replace(road, gray=torch.stack(gray).view_as(road.gray))


def rounded(road: Road) -> Road:
    return replace(road, gray=(255 * road.gray).round() / 255)


def cubic(gray: Tensor, frame: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sample as `direct_points.read`, by the cubic B-spline through the pixels."""
    height, width = gray.shape[-2:]
    x, y = pixels.nan_to_num().unbind(-1)
    inside = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)
    left, top = x.floor().clamp(1, width - 3), y.floor().clamp(1, height - 3)
    (by_x, rise_x), (by_y, rise_y) = _weights(x - left), _weights(y - top)
    step = torch.arange(-1, 3)
    corner = (frame[:, None] * height + top.long()) * width + left.long()
    around = _spline(gray).flatten()[corner[..., None, None] + step[:, None] * width + step]
    rows = (around * by_x[..., None, :]).sum(-1)
    return (
        (rows * by_y).sum(-1),
        ((around * rise_x[..., None, :]).sum(-1) * by_y).sum(-1),
        (rows * rise_y).sum(-1),
        inside,
    )


def _weights(t: Tensor) -> tuple[Tensor, Tensor]:
    value = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    rise = (-3 * (1 - t) ** 2, 9 * t**2 - 12 * t, -9 * t**2 + 6 * t + 3, 3 * t**2)
    return torch.stack(value, -1) / 6, torch.stack(rise, -1) / 6


@lru_cache(maxsize=1)
def _spline(gray: Tensor) -> Tensor:
    """Return coefficients of the spline through the pixels: the banded system, along each axis."""
    for _ in range(2):
        size = gray.shape[-1]
        system = torch.diag(torch.full((size,), 4.0).double()) + torch.diag(torch.ones(size - 1).double(), 1)
        system = (system + torch.diag(torch.ones(size - 1).double(), -1)) / 6
        system[0, 1] = system[-1, -2] = 1 / 3
        gray = torch.linalg.solve(system, gray.mT).contiguous()
    return gray


def around(values: Tensor) -> Tensor:
    """Return (F, H, W): the largest value within a pattern."""
    return max_pool2d(values[:, None].double(), REACH, 1, REACH // 2)[:, 0]


def creased(inverse_depth: Tensor, most: float) -> Tensor:
    second = torch.zeros_like(inverse_depth)
    second[:, 1:-1] += (inverse_depth[:, 2:] - 2 * inverse_depth[:, 1:-1] + inverse_depth[:, :-2]).abs()
    second[..., 1:-1] += (inverse_depth[..., 2:] - 2 * inverse_depth[..., 1:-1] + inverse_depth[..., :-2]).abs()
    return around(second / inverse_depth) > most


def window(road: Road, *, depth_deviation: float, left_out: Tensor | None = None) -> WindowProblem:
    """Build the window as the refinement does, with true values; without points on excluded pixels (F, H, W)."""
    frames = WindowFrames(
        road.gray, road.K.expand(FRAMES, 3, 3), road.T_camera_world, torch.zeros(FRAMES, 2, dtype=torch.float64)
    )
    hosts = []
    for host, gray in enumerate(road.gray):
        allowed = torch.ones_like(gray, dtype=torch.bool) if left_out is None else ~left_out[host]
        pixel, weight = (
            direct.select_pixels(gray, allowed, sliding_window_ba.POINTS_PER_KEYFRAME),
            direct.gradient_weight(direct.squared_gradient(gray)),
        )
        hosts.append(direct.make_host_points(gray, road.K, host, pixel, road.inverse_depth[host], weight))
    points = HostPoints(*(torch.cat([getattr(part, name) for part in hosts]) for name in HostPoints.__slots__))
    held = MarginalPrior(
        road.T_camera_world[:1], frames.brightness[:1], 1e8 * torch.eye(8).double(), torch.zeros(8).double()
    )
    bundle = sliding_window_ba._bundle(frames, points, points.inverse_depth, None, held, None)
    return replace(bundle, deviation=depth_deviation * points.inverse_depth)


def in_sight(bundle: WindowProblem, road: Road, left_out: Tensor | None = None) -> WindowProblem:
    """Remove observations of occluded points and of excluded pixels (F, H, W)."""
    points, sightings = bundle.points, bundle.sightings
    pairs = road.T_camera_world[sightings.frame] @ inverse(road.T_camera_world)[points.host[sightings.point]]
    inverse_depth = points.inverse_depth[sightings.point][:, None] * points.relief[sightings.point]
    pixels, _, _, nearness, _ = direct.project_rays(
        pairs, points.ray[sightings.point], inverse_depth, bundle.frames.K[sightings.frame]
    )
    x = pixels[..., 0].nan_to_num().round().long().clamp(0, CONFIG.width - 1)
    y = pixels[..., 1].nan_to_num().round().long().clamp(0, CONFIG.height - 1)
    frame = sightings.frame[:, None]
    kept = (road.inverse_depth[frame, y, x] * nearness < 1.05 * inverse_depth).all(-1)
    if left_out is not None:
        kept &= ~left_out[frame, y, x].any(-1)
    return replace(bundle, sightings=Observations(sightings.point[kept], sightings.frame[kept]))


def drift_mm(bundle: WindowProblem) -> float:
    found, _ = solve_window(bundle, 60)
    there, here = (inverse(each.frames.T_camera_world)[:, :3, 3] for each in (bundle, found))
    return 1e3 * float((here - there).norm(dim=-1).max())


def plain(road: Road, depth_deviation: float = sliding_window_ba.DEPTH_DEVIATION) -> WindowProblem:
    return window(road, depth_deviation=depth_deviation)


def clean(road: Road, depth_deviation: float = sliding_window_ba.DEPTH_DEVIATION, most: float = EDGE) -> WindowProblem:
    left_out = creased(road.inverse_depth, most) | (around(road.moving) > 0)
    return in_sight(window(road, depth_deviation=depth_deviation, left_out=left_out), road, left_out)


def without_moving(road: Road) -> WindowProblem:
    return window(road, depth_deviation=sliding_window_ba.DEPTH_DEVIATION, left_out=around(road.moving) > 0)


def without_edges(road: Road) -> WindowProblem:
    return window(road, depth_deviation=sliding_window_ba.DEPTH_DEVIATION, left_out=creased(road.inverse_depth, EDGE))


Make = Callable[[Road, Road], WindowProblem]
ROWS: dict[str, tuple[Make, Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]]] = {
    "as it is: 8 bits, 3 x 3 samples a pixel": (lambda road, fine: plain(rounded(road)), bilinear),
    "not rounded": (lambda road, fine: plain(road), bilinear),
    "not rounded, 9 x 9 samples": (lambda road, fine: plain(fine), bilinear),
    "nothing that moves": (lambda road, fine: without_moving(rounded(road)), bilinear),
    "nothing hidden": (lambda road, fine: in_sight(plain(rounded(road)), road), bilinear),
    "no point on an edge of depth": (lambda road, fine: without_edges(rounded(road)), bilinear),
    "read by a cubic spline": (lambda road, fine: plain(rounded(road)), cubic),
    "clean": (lambda road, fine: clean(rounded(road)), bilinear),
    "clean, spline": (lambda road, fine: clean(rounded(road)), cubic),
    "clean, spline, depth known to 0.1 %": (lambda road, fine: clean(rounded(road), 1e-3), cubic),
    "clean, spline, 0.1 %, not rounded, 9 x 9": (lambda road, fine: clean(fine, 1e-3), cubic),
    "painted, 8 bits": (lambda road, fine: plain(rounded(painted(road))), bilinear),
    "painted, not rounded": (lambda road, fine: plain(painted(road)), bilinear),
    "painted, not rounded, clean": (lambda road, fine: clean(painted(road)), bilinear),
    "painted, not rounded, clean, spline": (lambda road, fine: clean(painted(road)), cubic),
    "painted, not rounded, planes, spline": (lambda road, fine: clean(painted(road), most=CREASE), cubic),
    "painted, 8 bits, planes, spline": (lambda road, fine: clean(rounded(painted(road)), most=CREASE), cubic),
    "painted, not rounded, planes, spline, 0.1 %": (lambda road, fine: clean(painted(road), 1e-3, CREASE), cubic),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(61, 67)))
    arguments = parser.parse_args()
    bundles._MIN_GAIN = 1e-9
    roads = [(rendered(seed, 3), rendered(seed, 9)) for seed in arguments.seeds]
    for name, (make, read) in ROWS.items():
        direct.sample_frames = read
        found = [drift_mm(make(road, fine)) for road, fine in roads]
        print(
            f"{name:45s} {np.sqrt(np.mean(np.square(found))):8.4f} mm  " + "  ".join(f"{each:.4f}" for each in found),
            flush=True,
        )


if __name__ == "__main__":
    main()
