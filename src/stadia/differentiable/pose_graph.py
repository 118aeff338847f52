"""Optimize the poses of keyframes from measured relative motions, which may contain outliers (pose graph).

A node of the graph is a similarity: the pose of a keyframe and the unit of its lengths.
Sources: Strasdat et al., RSS 2010 (scale drift); Yang et al., RA-L 5(2), 2020 (graduated non-convexity).
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor

from stadia.geometry.poses import from_rotation_translation, invert_pose, matmul, se3_exp, se3_log

MAX_STEPS = 50  # Levenberg-Marquardt steps
MAX_SQUARED = 22.5  # largest residual of an inlier in standard deviations: 99.9 % of chi squared with 6 degrees
GROWTH = 1.4  # growth of the inverse convexity each round (Yang et al.)


@dataclass(frozen=True, slots=True)
class PoseEdges:
    """E measured relative motions, each between a pair of keyframes (the edges of a pose graph).

    Each keyframe may have its own unit of length, as in monocular SLAM, whose scale drifts.

    first, second: (E,) int64 indices of the two keyframes of each edge.
    T_first_second: (E, 4, 4) motion from the second keyframe's camera to the first one's, in the unit of the first.
    scale: (E,) unit of length of the second keyframe divided by the unit of the first.
    information: (E, 7, 7) inverse covariance of the errors of translation, rotation (radians) and ln scale, in the axes
        of the second camera.
    is_doubted: (E,) bool, true for motions that may be wrong, such as loop closures; the optimization may reject them.
    """

    first: Tensor
    second: Tensor
    T_first_second: Tensor
    scale: Tensor
    information: Tensor
    is_doubted: Tensor

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True)
class PoseGraph:
    """The poses of the N keyframes after optimization, and the final weights of the E edges.

    T_world_camera: (N, 4, 4) camera-to-world poses.
    scale: (N,) unit of length of each keyframe divided by the world's unit.
    weight: (E,) final weight of each edge (measured relative motion), from 0 to 1; 0 means that the edge was rejected.
    """

    T_world_camera: Tensor
    scale: Tensor
    weight: Tensor


def make_similarity(T: Tensor, scale: Tensor) -> Tensor:
    """Return similarity matrices (..., 4, 4) that rotate points, multiply them by `scale` and then translate them.

    T: (..., 4, 4) rigid motions, which give rotation and translation.
    scale: (...) positive factors.
    """
    return from_rotation_translation(scale[..., None, None] * T[..., :3, :3], T[..., :3, 3])


def split_similarity(S: Tensor) -> tuple[Tensor, Tensor]:
    """Split similarity matrices S (..., 4, 4) into rigid motions (..., 4, 4) and scale factors (...).

    This inverts `make_similarity`.
    """
    scale = S[..., :3, 0].norm(dim=-1)
    return from_rotation_translation(S[..., :3, :3] / scale[..., None, None], S[..., :3, 3]), scale


def interpolate_similarity(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return similarities (..., 4, 4) between the first and the second ones.

    first, second: (..., 4, 4) similarities.
    share: (...) in [0, 1]; 0 gives the first and 1 the second.
    """
    T, scale = split_similarity(matmul(_inverse_similarity(first), second))
    return matmul(first, make_similarity(se3_exp(share[..., None] * se3_log(T)), scale**share))


def solve_pose_graph(T_world_camera: Tensor, edges: PoseEdges, *, has_scale: bool = False) -> PoseGraph:
    """Optimize the poses of keyframes so that they fit the measured relative motions best.

    The first pose does not change.

    The cost of doubted edges changes from a convex to a truncated one (graduated non-convexity), so that wrong edges
    lose all weight. The edges that are not doubted must connect all keyframes.

    T_world_camera: (N, 4, 4) initial camera-to-world poses.
    edges: E measured relative motions between pairs of keyframes.
    has_scale: whether each keyframe has its own unit of length, which is then estimated too; if not, all scales are 1.
    """
    start = T_world_camera.double()
    weight = torch.ones(len(edges), dtype=torch.float64)
    if len(start) < 2 or not len(edges):
        return PoseGraph(start, torch.ones(len(start), dtype=torch.float64), weight)
    problem = _Problem(edges, has_scale)
    S = problem.minimize(start, weight)
    doubted = edges.is_doubted
    worst = float(problem.squared_residuals(S)[doubted].max()) if bool(doubted.any()) else 0.0
    inverse_convexity = MAX_SQUARED / max(2 * worst - MAX_SQUARED, 1e-12)
    while 2 * worst > MAX_SQUARED and inverse_convexity < 1e3:
        squared = problem.squared_residuals(S)
        weight = torch.where(doubted, _truncated_weight(squared, inverse_convexity), 1.0)
        S = problem.minimize(S, weight, steps=10)
        inverse_convexity *= GROWTH
        if bool(((weight == 0) | (weight == 1)).all()):
            break
    S = problem.minimize(S, weight)
    T, scale = split_similarity(S)
    return PoseGraph(T, scale, weight)


def _truncated_weight(squared: Tensor, inverse_convexity: float) -> Tensor:
    """Return the weight of edges from squared residuals (Yang et al., eq. 14): 1 below the bound, 0 above it."""
    mu = inverse_convexity
    between = (MAX_SQUARED * mu * (mu + 1) / squared.clamp(min=1e-12)).sqrt() - mu
    high = torch.where(squared >= (mu + 1) / mu * MAX_SQUARED, torch.zeros_like(squared), between)
    return torch.where(squared <= mu / (mu + 1) * MAX_SQUARED, torch.ones_like(squared), high)


def _inverse_similarity(S: Tensor) -> Tensor:
    T, scale = split_similarity(S)
    back = invert_pose(T)
    return from_rotation_translation(back[..., :3, :3] / scale[..., None, None], back[..., :3, 3] / scale[..., None])


@dataclass(frozen=True, slots=True)
class _Problem:
    edges: PoseEdges
    has_scale: bool

    def residuals(self, S: Tensor, steps: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return whitened residuals (E, 7).

        steps: (E, 7) of the first and second keyframe of each edge.
        """
        edges = self.edges
        first, second = S[edges.first], S[edges.second]
        if steps is not None:
            first, second = (
                matmul(node, make_similarity(se3_exp(step[:, :6]), step[:, 6].exp()))
                for node, step in zip((first, second), steps, strict=True)
            )
        measured = make_similarity(edges.T_first_second.double(), edges.scale.double())
        T, scale = split_similarity(matmul(_inverse_similarity(measured), matmul(_inverse_similarity(first), second)))
        error = torch.cat((se3_log(T), scale.log()[:, None]), 1)
        factor = torch.linalg.cholesky(edges.information.double())
        return (factor.mT @ error[..., None])[..., 0]

    def squared_residuals(self, S: Tensor) -> Tensor:
        return self.residuals(S).square().sum(1)

    def minimize(self, S: Tensor, weight: Tensor, steps: int = MAX_STEPS) -> Tensor:
        """Return similarities (N, 4, 4) at the local minimum (Levenberg-Marquardt), with edge weights (E,)."""
        damping, cost = 1e-6, float((weight * self.squared_residuals(S)).sum())
        for _ in range(steps):
            step = self._find_step(S, weight, damping)
            moved = matmul(S, make_similarity(se3_exp(step[:, :6]), step[:, 6].exp()))
            new_cost = float((weight * self.squared_residuals(moved)).sum())
            if new_cost > cost:
                damping *= 10
                if damping > 1e6:
                    break
                continue
            gain, S, cost, damping = cost - new_cost, moved, new_cost, max(damping / 10, 1e-12)
            if gain <= 1e-9 * max(cost, 1e-12) or float(step.abs().max()) < 1e-10:
                break
        return S

    def _find_step(self, S: Tensor, weight: Tensor, damping: float) -> Tensor:
        count, edges = len(S), self.edges
        steps = [torch.zeros(len(edges), 7, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        with torch.enable_grad():
            residual = self.residuals(S, (steps[0], steps[1]))
            rows = [torch.autograd.grad(column.sum(), steps, retain_graph=True) for column in residual.unbind(1)]
        root = weight.sqrt()[:, None]
        jacobian = root[..., None] * torch.stack([torch.cat(row, 1) for row in rows], 1)  # (E, 7, 14)
        value = (root * residual.detach()).numpy().ravel()
        row = np.arange(7 * len(edges)).repeat(14)
        nodes = torch.stack((edges.first, edges.second), 1).numpy()
        column = (7 * nodes[:, None, :, None] + np.arange(7)).repeat(7, axis=1).ravel()
        J = coo_matrix((jacobian.numpy().ravel(), (row, column)), (7 * len(edges), 7 * count)).tocsc()
        free = np.arange(7, 7 * count)
        free = free if self.has_scale else free[free % 7 != 6]
        J = J[:, free]
        H = (J.T @ J).tocsc()
        solved = np.zeros(7 * count)
        solved[free] = spsolve(H + diags(damping * H.diagonal() + 1e-12), -(J.T @ value))
        return torch.from_numpy(solved.reshape(count, 7))
