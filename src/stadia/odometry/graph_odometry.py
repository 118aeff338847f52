"""Refine a path as `refined`, and close its loops: a pose graph over the key frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stadia.core.types import Camera, DepthScale, Predictor
from stadia.geometry.image_features import find_features
from stadia.geometry.pose_graph import (
    PoseEdges,
    interpolate_similarity,
    make_similarity,
    solve_pose_graph,
    split_similarity,
)
from stadia.geometry.se3 import compose, inverse, matmul
from stadia.odometry.loop_closures import KeyframeView, Loop, find_loops, lift_features, weigh_step
from stadia.odometry.visual_odometry import SlidingWindowOdometry, TakePoints

MAX_FEATURES = 500  # of a key frame: 70 kB


@dataclass(slots=True)
class GraphOdometry:
    """The refined path, bent so that key frames that show the same place agree.

    Depth in metres keeps one unit; depth up to scale has a unit for each key frame (Sim(3)), which loops hold together.
    """

    predictor: Predictor
    take_points: TakePoints
    refined: SlidingWindowOdometry = field(init=False)
    views: list[KeyframeView] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refined = SlidingWindowOdometry(self.predictor, self.take_points)

    @property
    def keyframes(self) -> int:
        """Return the number of keyframes so far."""
        return self.refined.keyframes

    @property
    def network_length(self) -> float | None:
        """Return the length of the path of the pose network alone; None if unknown."""
        return self.refined.network_length

    @property
    def notes(self) -> tuple[str, ...]:
        """Return lines about the loops, once the path is known."""
        return describe_loops(self.loops)

    def add(self, image: Tensor, camera: Camera) -> bool:
        """Place (1, 3, H, W) with K (3, 3); return False where the motion is unknown."""
        is_placed = self.refined.add(image, camera)
        if self.keyframes > len(self.views):
            _, depth, depth_camera = self.refined.window.keyframes[-1].small
            shown = np.ascontiguousarray((255 * image[0]).round().byte().permute(1, 2, 0).cpu().numpy())
            gray = shown.mean(2).round().astype(np.uint8)
            features = find_features(shown, gray, MAX_FEATURES)
            K, depth_K = (view.K.double().cpu().numpy() for view in (camera, depth_camera))
            self.views.append(lift_features(features, K, depth[0, 0].cpu().numpy(), depth_K))
        return is_placed

    def path(self) -> Tensor:
        """Finish the window; return (N, 4, 4) float64 T_world_camera of the frames, with all loops closed."""
        path, numbers = self.refined.path(), list(self.refined.window.numbers)
        T = path[numbers]
        self.loops = find_loops(self.views, T.numpy())
        kept = [loop for loop in self.loops if not loop.refused]
        if not kept:
            return path
        has_scale = self.predictor.depth_scale is not DepthScale.METRES
        graph = solve_pose_graph(T, _make_edges(self.views, T, kept), has_scale=has_scale)
        for loop, weight in zip(kept, graph.weight[-len(kept) :].tolist(), strict=True):
            loop.refused = "the others contradict it" if weight == 0 else ""
        nodes = make_similarity(graph.T_world_camera, graph.scale)
        return bend_path(path, numbers, matmul(nodes, inverse(T)))


def _make_edges(views: Sequence[KeyframeView], T: Tensor, loops: Sequence[Loop]) -> PoseEdges:
    """Return the edges between neighbors by the refined path, and those of the loops."""
    count = len(T)
    steps = compose(inverse(T[:-1]), T[1:])
    weights = [weigh_step(views[row], views[row + 1], step.numpy()) for row, step in enumerate(steps)]
    closing = [loop.motion for loop in loops]
    rows = torch.arange(count - 1)
    return PoseEdges(
        first=torch.cat((rows, torch.tensor([loop.first for loop in loops]))),
        second=torch.cat((rows + 1, torch.tensor([loop.second for loop in loops]))),
        T_first_second=torch.cat((steps, torch.from_numpy(np.stack([one.T_first_second for one in closing])))),
        scale=torch.cat((torch.ones(count - 1).double(), torch.tensor([one.scale for one in closing]).double())),
        information=torch.from_numpy(np.stack([*weights, *[one.information for one in closing]])),
        is_doubted=torch.arange(count - 1 + len(loops)) >= count - 1,
    )


def bend_path(path: Tensor, numbers: Sequence[int], corrections: Tensor) -> Tensor:
    """Return a path (N, 4, 4) with a correction of each key frame, and between two of them a part of both.

    numbers: rows of the key frames in the path, K of them, the first one 0.
    corrections: (K, 4, 4) similarities of the world.
    """
    rows = torch.arange(len(path))
    keys = torch.tensor(list(numbers))
    before = torch.searchsorted(keys, rows, right=True) - 1
    after = (before + 1).clamp(max=len(keys) - 1)
    share = (rows - keys[before]) / (keys[after] - keys[before]).clamp(min=1)
    bent = interpolate_similarity(corrections[before], corrections[after], share.double())
    return split_similarity(matmul(bent, path))[0]


def describe_loops(loops: Sequence[Loop]) -> tuple[str, ...]:
    """Return lines for people: how many loops were closed, and which were refused."""
    refused = [loop for loop in loops if loop.refused]
    count = len(loops) - len(refused)
    if not loops:
        return ("no loop: no key frame shows a place of before, so that the path is that of --method refined",)
    lines = [f"{count} loop{'s' * (count != 1)} between key frames close{'s' * (count == 1)} the path"]
    if refused:
        first = refused[0]
        others = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        lines.append(f"refused: the loop of key frames {first.first} and {first.second}{others}: {first.refused}")
    return tuple(lines)
