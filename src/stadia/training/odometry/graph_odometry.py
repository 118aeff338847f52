"""Close the loops of a trajectory from the method `refined`, by a pose graph over its keyframes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Camera, DepthScale, Predictor
from stadia.differentiable.pose_graph import (
    PoseEdges,
    interpolate_similarity,
    make_similarity,
    solve_pose_graph,
    split_similarity,
)
from stadia.geometry.image_features import FrameFeatures, describe_places, find_features, match_sift_features
from stadia.geometry.poses import compose, hat, invert_pose, matmul
from stadia.predict.track_camera import TakePoints
from stadia.training.odometry.sliding_window_odometry import SlidingWindowOdometry

Array = NDArray[np.float64]

MIN_GAP = 15  # keyframes between the two of a loop: three windows
CANDIDATES = 3  # most similar keyframes that are tried for each one
MIN_INLIERS = 25
MAX_ERROR_PX = 2.0  # largest distance of a point, projected from one image into the other, from its match
MAX_TURN_DEG = 5.0  # largest difference of the motions from both sides, and of neighboring loops
MAX_SHIFT = 0.1  # the same for translations, as a share of the depth of the points, or of the path between neighbors
MAX_DRIFT = 0.2  # largest closing error as a share of the path: above it, two places only resemble each other
NEIGHBORS = 10  # keyframes within which two loops must agree
FLOOR_SHIFT, FLOOR_TURN_RAD, FLOOR_SCALE = 0.02, 0.003, 0.02  # smallest standard deviations; the first of the length


@dataclass(frozen=True, slots=True, eq=False)
class KeyframeView:
    """Image features of a keyframe, with the 3-D point of each.

    features: the N features.
    points: (N, 3), their points by predicted depth, in the axes of the keyframe's camera.
    K: (3, 3) of the image, pixels.
    """

    features: FrameFeatures
    points: Array
    K: Array


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredMotion:
    """The relative pose of two keyframes, measured by their matches.

    T_first_second: (4, 4), second camera to first camera, in the unit of the first keyframe's predicted depth.
    scale: unit of the second keyframe's depth over the unit of the first one's.
    information: (7, 7), inverse covariance of translation, rotation and ln scale.
    depth: median depth of the matched points in the first keyframe.
    """

    T_first_second: Array
    scale: float
    information: Array
    depth: float


@dataclass(slots=True, eq=False)
class Loop:
    """Two keyframes that seem to show the same place.

    first, second: their positions in the list of keyframes.
    motion: their measured relative pose.
    refused: why the pose graph does not use this loop; "" if it does.
    """

    first: int
    second: int
    motion: MeasuredMotion
    refused: str = ""


def lift_features(features: FrameFeatures, K: Array, depth: NDArray[np.float32], depth_K: Array) -> KeyframeView:
    """Give each feature of an image its 3-D point by predicted depth; features without depth are dropped.

    features: features of the image.
    K: (3, 3) of the image, pixels.
    depth: (h, w) predicted depth, of any size; 0 or NaN where unknown.
    depth_K: (3, 3) of `depth`, pixels.
    """
    rays = np.column_stack((features.xy.astype(np.float64), np.ones(len(features.xy)))) @ np.linalg.inv(K).T
    column, row = np.rint(rays @ depth_K.T)[:, :2].astype(int).T
    z = depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)].astype(np.float64)
    known = np.isfinite(z) & (z > 0)
    return KeyframeView(features.select(known), rays[known] * z[known, None], K)


def propose_pairs(places: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Pair each keyframe with the CANDIDATES most similar ones among those at least MIN_GAP keyframes before it.

    places: (N, D) unit vectors that describe the images of the keyframes (similar images have a large dot product).

    Returns pairs (earlier, later) of positions in the list of keyframes.
    """
    pairs = []
    for second in range(MIN_GAP, len(places)):
        similarity = places[: second - MIN_GAP + 1] @ places[second]
        pairs += [(int(first), second) for first in np.argsort(-similarity, kind="stable")[:CANDIDATES]]
    return pairs


def measure_motion(first: KeyframeView, second: KeyframeView) -> MeasuredMotion | None:
    """Measure the relative pose of two keyframes by their matches.

    It is solved from points of the first in the image of the second, and the other way round.

    Returns None if matches are few, or both solutions disagree.
    """
    rows = match_sift_features(first.features, second.features)
    forward = _solve_pnp(first, second, rows)
    backward = _solve_pnp(second, first, rows[:, ::-1])
    if forward is None or backward is None:
        return None
    (T_second_first, inliers), (T_first_second, _) = forward, backward
    a, b = rows[inliers].T
    moved = first.points[a] @ T_second_first[:3, :3].T + T_second_first[:3, 3]
    ratios = moved[:, 2] / second.points[b, 2]
    scale, depth = float(np.median(ratios)), float(np.median(first.points[a, 2]))
    T = invert_pose(T_second_first)
    shift = np.linalg.norm(T[:3, 3] - scale * T_first_second[:3, 3])
    if shift > MAX_SHIFT * depth or _turn_deg(T, T_first_second) > MAX_TURN_DEG:
        return None
    covariance = np.zeros((7, 7))
    covariance[:6, :6] = _estimate_covariance(moved, second.features.xy[b], second.K)
    spread = 1.4826 * float(np.median(np.abs(ratios / scale - 1)))
    covariance[6, 6] = spread**2 / len(a)
    covariance += _find_smallest_covariance(float(np.linalg.norm(T[:3, 3])) + 0.1 * depth)
    return MeasuredMotion(T, scale, _compute_information(covariance), depth)


def _compute_information(covariance: Array) -> Array:
    """Return the inverse of a covariance (N, N)."""
    return np.asarray(np.linalg.inv(covariance), np.float64)


def _find_smallest_covariance(length: float) -> Array:
    """Return the smallest covariance (7, 7) of a motion of this length, since depth errors are shared."""
    return np.diag(np.array([(FLOOR_SHIFT * length) ** 2] * 3 + [FLOOR_TURN_RAD**2] * 3 + [FLOOR_SCALE**2], np.float64))


def weigh_step(first: KeyframeView, second: KeyframeView, T_first_second: Array) -> Array:
    """Return the information (7, 7) of the relative pose of two successive keyframes, by how well their matches fit
    it.

    first, second: the two keyframes.
    T_first_second: (4, 4) relative pose, second camera to first camera.
    """
    length = float(np.linalg.norm(T_first_second[:3, 3]))
    covariance = _find_smallest_covariance(max(length, 1e-6))
    rows = match_sift_features(first.features, second.features)
    T = invert_pose(T_first_second)
    moved = first.points[rows[:, 0]] @ T[:3, :3].T + T[:3, 3]
    is_ahead = moved[:, 2] > 0
    xy = second.features.xy[rows[is_ahead, 1]]
    if len(xy) < MIN_INLIERS:
        return _compute_information(9 * covariance)
    covariance[:6, :6] += _estimate_covariance(moved[is_ahead], xy, second.K)
    return _compute_information(covariance)


def _solve_pnp(first: KeyframeView, second: KeyframeView, rows: NDArray[np.int64]) -> tuple[Array, Array] | None:
    if len(rows) < MIN_INLIERS:
        return None
    points, xy = first.points[rows[:, 0]], second.features.xy[rows[:, 1]].astype(np.float64)
    is_found, turn, shift, inliers = cv2.solvePnPRansac(
        points, xy, second.K, None, iterationsCount=300, reprojectionError=MAX_ERROR_PX, flags=cv2.SOLVEPNP_SQPNP
    )
    if not is_found or inliers is None or len(inliers) < MIN_INLIERS:
        return None
    inliers = inliers[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[inliers], xy[inliers], second.K, None, turn, shift)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return (T, inliers) if np.isfinite(T).all() else None


def _estimate_covariance(points: Array, xy: NDArray[np.float32], K: Array) -> Array:
    """Return (6, 6) of a motion Exp(d) from points (M, 3) in the second camera and their pixels (M, 2)."""
    x, y, z = points.T
    projected = np.column_stack((K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]))
    error = np.abs(projected - xy)
    variance = max((1.4826 * float(np.median(error))) ** 2, 0.25)
    kept = error.max(1) < 3 * variance**0.5
    zero, (fx, fy) = np.zeros_like(z), (K[0, 0], K[1, 1])
    rows = (np.stack([fx / z, zero, -fx * x / z**2], 1), np.stack([zero, fy / z, -fy * y / z**2], 1))
    of_point = np.stack(rows, 1)
    of_motion = np.concatenate([-np.tile(np.eye(3), (len(z), 1, 1)), hat(torch.from_numpy(points)).numpy()], 2)
    jacobian = (of_point @ of_motion)[kept].reshape(-1, 6)
    information = jacobian.T @ jacobian / variance
    return np.asarray(np.linalg.inv(information + 1e-9 * np.trace(information) * np.eye(6)), np.float64)


def _turn_deg(first: Array, second: Array) -> float:
    cosine = (np.trace(first[:3, :3].T @ second[:3, :3]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def find_loops(views: Sequence[KeyframeView], T_world_camera: Array) -> list[Loop]:
    """Find the pairs of keyframes that show the same place, by their appearance and their matches.

    views: the keyframes in order.
    T_world_camera: (N, 4, 4) poses of the keyframes.

    Returns all measured loops; `refused` marks the poses that are not to be trusted.
    """
    if len(views) <= MIN_GAP:
        return []
    measured = [
        Loop(first, second, motion)
        for first, second in propose_pairs(describe_places([view.features for view in views]))
        if (motion := measure_motion(views[first], views[second])) is not None
    ]
    return judge_loops(measured, T_world_camera)


def judge_loops(loops: Sequence[Loop], T_world_camera: Array) -> list[Loop]:
    """Set `refused` of each loop that would move the trajectory too far, or that no loop nearby confirms; return all
    loops.

    loops: the loops.
    T_world_camera: (N, 4, 4) poses of the keyframes.
    """
    steps = np.linalg.norm(np.diff(T_world_camera[:, :3, 3], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    near: list[Loop] = []
    for loop in loops:
        by_path = invert_pose(T_world_camera[loop.first]) @ T_world_camera[loop.second]
        length = along[loop.second] - along[loop.first]
        error = float(np.linalg.norm(by_path[:3, 3] - loop.motion.T_first_second[:3, 3]))
        if error > MAX_DRIFT * length:
            loop.refused = f"it moves the path by {error / max(length, 1e-12):.0%} of its length"
        else:
            near.append(loop)
    for loop in near:
        if not any(_agree(loop, other, T_world_camera, along) for other in near if other is not loop):
            loop.refused = "no pair nearby agrees"
    return list(loops)


def _agree(loop: Loop, other: Loop, T: Array, along: Array) -> bool:
    if max(abs(loop.first - other.first), abs(loop.second - other.second)) > NEIGHBORS:
        return False
    before = invert_pose(T[loop.first]) @ T[other.first]
    after = invert_pose(T[other.second]) @ T[loop.second]
    expected = before @ other.motion.T_first_second @ after
    pieces = abs(along[loop.first] - along[other.first]) + abs(along[loop.second] - along[other.second])
    shift = float(np.linalg.norm(expected[:3, 3] - loop.motion.T_first_second[:3, 3]))
    is_near = shift <= MAX_SHIFT * (pieces + loop.motion.depth)
    return is_near and _turn_deg(expected, loop.motion.T_first_second) <= MAX_TURN_DEG


MAX_FEATURES = 500  # features of a keyframe: 70 kB


@dataclass(slots=True)
class GraphOdometry:
    """The trajectory of the method `refined`, bent so that keyframes that show the same place agree.

    The pose graph is solved in SE(3) if the predicted depth is in metres, else in Sim(3), since the scale then drifts.

    predictor: the network.
    take_points: receives the map points of each finished keyframe.
    refined: the sliding-window odometry.
    views: features of the keyframes so far.
    loops: the loops, once `path` was called.
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
        """Return the length of the trajectory that the pose network's motions alone give; None if unknown."""
        return self.refined.network_length

    @property
    def notes(self) -> tuple[str, ...]:
        """Return lines of text about the loops; meaningful once `path` was called."""
        return describe_loops(self.loops)

    def add(self, image: NDArray[np.float32], camera: Camera) -> bool:
        """Estimate the pose of the next video frame.

        image: (1, 3, H, W) in [0, 1].
        camera: its K (3, 3) and size.

        Returns False if its motion from the frame before is unknown; the trajectory then ends before it.
        """
        is_placed = self.refined.add(image, camera)
        if self.keyframes > len(self.views):
            _, depth, depth_camera = self.refined.window.keyframes[-1].small
            shown = np.ascontiguousarray((255 * image[0]).round().astype(np.uint8).transpose(1, 2, 0))
            gray = shown.mean(2).round().astype(np.uint8)
            features = find_features(shown, gray, MAX_FEATURES)
            K, depth_K = camera.K, depth_camera.K.double().cpu().numpy()
            self.views.append(lift_features(features, K, depth[0, 0].cpu().numpy(), depth_K))
        return is_placed

    def path(self) -> NDArray[np.float64]:
        """Finish the trajectory: return T_world_camera (N, 4, 4) float64 of all frames, with the loops closed."""
        path, numbers = torch.from_numpy(self.refined.path()), list(self.refined.window.numbers)
        T = path[numbers]
        self.loops = find_loops(self.views, T.numpy())
        kept = [loop for loop in self.loops if not loop.refused]
        if not kept:
            return path.numpy()
        has_scale = self.predictor.depth_scale is not DepthScale.METRES
        graph = solve_pose_graph(T, _make_edges(self.views, T, kept), has_scale=has_scale)
        for loop, weight in zip(kept, graph.weight[-len(kept) :].tolist(), strict=True):
            loop.refused = "other loops contradict it" if weight == 0 else ""
        nodes = make_similarity(graph.T_world_camera, graph.scale)
        return bend_path(path, numbers, matmul(nodes, invert_pose(T))).numpy()


def _make_edges(views: Sequence[KeyframeView], T: Tensor, loops: Sequence[Loop]) -> PoseEdges:
    count = len(T)
    steps = compose(invert_pose(T[:-1]), T[1:])
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
    """Apply corrections of keyframes to a whole trajectory; frames between two keyframes get an interpolated
    correction.

    path: (N, 4, 4) poses T_world_camera of all frames.
    numbers: indices of the K keyframes.
    corrections: (K, 4, 4) similarity transforms of the world at each keyframe.
    """
    rows = torch.arange(len(path))
    keys = torch.tensor(list(numbers))
    before = torch.searchsorted(keys, rows, right=True) - 1
    after = (before + 1).clamp(max=len(keys) - 1)
    share = (rows - keys[before]) / (keys[after] - keys[before]).clamp(min=1)
    bent = interpolate_similarity(corrections[before], corrections[after], share.double())
    return split_similarity(matmul(bent, path))[0]


def describe_loops(loops: Sequence[Loop]) -> tuple[str, ...]:
    """Return lines of text: how many loops were closed, and how many were refused and why."""
    refused = [loop for loop in loops if loop.refused]
    count = len(loops) - len(refused)
    if not loops:
        return ("no loop: no place was seen twice. The path equals --method refined",)
    lines = [f"{count} loop{'s' * (count != 1)} between keyframes close{'s' * (count == 1)} the path"]
    if refused:
        first = refused[0]
        others = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        lines.append(f"refused: the loop of keyframes {first.first} and {first.second}{others}: {first.refused}")
    return tuple(lines)
