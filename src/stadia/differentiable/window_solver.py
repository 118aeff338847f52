"""Solve photometric bundle adjustment of a sliding window, and marginalize old frames."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stadia.differentiable.photometric_residuals import (
    HostPoints,
    Observations,
    PhotometricResiduals,
    VirtualStereo,
    WindowFrames,
    apply_step,
    compute_residuals,
    compute_stereo_residuals,
    host_jacobians,
    huber_cost,
    se3_adjoint,
)
from stadia.geometry.poses import compose, hat, invert_pose, se3_log

NOISE = 0.03  # standard deviation of a residual between two good views: eight gray levels
BEND = 0.035  # residual at which Huber's cost becomes linear: nine gray levels (DSO)
OUTLIER = 0.05  # a larger mean residual marks an outlier or occlusion
DEPTH_BEND = 1.0  # standard deviations of depth at which the cost becomes linear: predictions fail at edges
BRIGHTNESS_DEVIATION = (0.5, 0.2)  # prior deviations of a and b, which hold frames with few observations
_MIN_GAIN = 1e-4  # share of the cost; a smaller gain ends the steps
# Bernoulli's B_n / n!
_INVERSE_JACOBIAN = (1.0, -1 / 2, 1 / 12, 0.0, -1 / 720, 0.0, 1 / 30240, 0.0, -1 / 1209600, 0.0, 1 / 47900160)


@dataclass(frozen=True, slots=True)
class MotionFactors:
    """M predicted motions between pairs of frames of the window.

    earlier, later: (M,) indices of the two frames.
    T_later_earlier: (M, 4, 4) float64 predicted motion.
    deviation: (M, 6) standard deviations of the motion's logarithm (v, w).
    """

    earlier: Tensor
    later: Tensor
    T_later_earlier: Tensor
    deviation: Tensor

    def select(self, rows: Tensor) -> "MotionFactors":
        """Return the motions that the mask `rows` (M,) selects."""
        return MotionFactors(*(getattr(self, name)[rows] for name in MotionFactors.__slots__))


@dataclass(frozen=True, slots=True)
class MarginalPrior:
    """The quadratic prior x H x / 2 + g x on the first G frames of the window, in float64.

    x is the deviation of these frames from the reference poses and brightness at which the prior was computed.

    T_camera_world: (G, 4, 4) reference poses.
    brightness: (G, 2) reference brightness.
    H: (8 G, 8 G) curvature.
    g: (8 G,) gradient at the reference.
    """

    T_camera_world: Tensor
    brightness: Tensor
    H: Tensor
    g: Tensor

    def deviation(self, frames: WindowFrames) -> Tensor:
        """Return the deviation (8 G,) of the frames from the reference: each frame's twist and changes of a and b."""
        count = len(self.brightness)
        twist = se3_log(compose(frames.T_camera_world[:count], invert_pose(self.T_camera_world)))
        return torch.cat((twist, frames.brightness[:count] - self.brightness), -1).flatten()

    def cost(self, frames: WindowFrames) -> Tensor:
        """Return the prior's cost of the frames, a scalar."""
        x = self.deviation(frames)
        return x @ self.H @ x / 2 + self.g @ x


@dataclass(frozen=True, slots=True)
class WindowProblem:
    """All variables and factors of one window with F frames, P points and S observations.

    frames, points: the unknowns with their current values.
    expected: (P,) predicted inverse depth of each point.
    deviation: (P,) standard deviation of the predicted inverse depth.
    sightings: the observations of the points.
    motions: predicted motions between frames, or None.
    prior: the prior from marginalized frames, or None.
    stereo: predicted depth of a virtual right camera, or None.
    """

    frames: WindowFrames
    points: HostPoints
    expected: Tensor
    deviation: Tensor
    sightings: Observations
    motions: MotionFactors | None = None
    prior: MarginalPrior | None = None
    stereo: VirtualStereo | None = None

    @property
    def first_estimates(self) -> WindowFrames:
        """Return the frames with the poses at which Jacobians are computed.

        Frames that are part of the prior use the prior's reference poses; the others use their current poses.
        """
        if self.prior is None:
            return self.frames
        free = self.frames.T_camera_world[len(self.prior.brightness) :]
        return replace(self.frames, T_first=torch.cat((self.prior.T_camera_world, free)))

    def apply_step(self, step: Tensor, in_depth: Tensor) -> "WindowProblem":
        """Return the problem after a step of the frames (F, 8) and of the inverse depths (P,), which stay positive."""
        least = 1e-3 * self.expected
        inverse_depth = torch.maximum(self.points.inverse_depth + in_depth.to(least), least)
        points = replace(self.points, inverse_depth=inverse_depth)
        return replace(self, frames=apply_step(self.frames, step), points=points)


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """Second-order float64 model of a window's cost, in N = 8 F unknowns of frames and P inverse depths.

    H, g: (N, N) curvature and (N,) gradient of the frames' unknowns.
    H_point, g_point: (P,) curvature and (P,) gradient of the inverse depths.
    H_between: (P, N) mixed second derivatives.
    """

    H: Tensor
    g: Tensor
    H_point: Tensor
    g_point: Tensor
    H_between: Tensor

    def without_points(self, damping: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return curvature (N, N) and gradient (N,) of the frames' unknowns after elimination of the inverse depths.

        damping: share of each diagonal element that is added to it (Levenberg-Marquardt).
        """
        H = self.H + torch.diag(damping * self.H.diagonal())
        scaled = self.H_between / self._damped(damping)[:, None]
        return H - self.H_between.mT @ scaled, self.g - scaled.mT @ self.g_point

    def step(self, damping: float) -> tuple[Tensor, Tensor]:
        """Return the damped Gauss-Newton step of the frames' unknowns (N,) and of the inverse depths (P,).

        damping: as in `without_points`.
        """
        H, g = self.without_points(damping)
        ridge = torch.eye(len(H), dtype=H.dtype) * (1e-12 * H.diagonal().max() + 1e-12)
        step: Tensor = -torch.linalg.solve(H + ridge, g)
        return step, -(self.g_point + self.H_between @ step) / self._damped(damping)

    def _damped(self, damping: float) -> Tensor:
        return (self.H_point * (1 + damping)).clamp(min=1e-12)


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Residuals, inliers (S,) bool, costs (S,) and the other factors' cost ()."""

    found: PhotometricResiduals
    inliers: Tensor
    observation_cost: Tensor
    factor_cost: Tensor

    def select(self, rows: Tensor) -> "_Evaluation":
        found = PhotometricResiduals(self.found.value[rows], self.found.seen[rows], self.found.slope[rows])
        return _Evaluation(found, self.inliers[rows], self.observation_cost[rows], self.factor_cost)


def solve_window(bundle: WindowProblem, steps: int = 6) -> tuple[WindowProblem, list[float]]:
    """Take up to `steps` damped Gauss-Newton steps. Return the refined problem and its falling costs.

    The costs are the initial cost and the cost after each accepted step. If a step moves an observation out of the
    image, the observation keeps its last cost. The result carries no gradient.
    """
    whole, evaluation = bundle, _evaluate(bundle)
    bundle, evaluation = _select_observations(bundle, evaluation.found.seen), evaluation.select(evaluation.found.seen)
    observation_cost = evaluation.observation_cost
    costs, damping = [float(observation_cost.sum() + evaluation.factor_cost)], 1e-4
    for _ in range(steps):
        step, in_depth = build_normal_equations(bundle, evaluation.found, evaluation.inliers).step(damping)
        trial = bundle.apply_step(step.view(-1, 8), in_depth)
        trial_evaluation = _evaluate(trial)
        new_cost = torch.where(trial_evaluation.found.seen, trial_evaluation.observation_cost, observation_cost)
        cost = float(new_cost.sum() + trial_evaluation.factor_cost)
        if not cost < costs[-1]:
            damping *= 30
            continue
        bundle, evaluation, observation_cost, damping = trial, trial_evaluation, new_cost, max(damping / 10, 1e-6)
        costs.append(cost)
        if costs[-2] - cost < _MIN_GAIN * abs(costs[-2]):
            break
    return (replace(bundle, sightings=whole.sightings) if len(costs) > 1 else whole), costs


def marginalize_oldest_frame(bundle: WindowProblem) -> MarginalPrior:
    """Return a prior on the other frames that replaces the oldest frame and its points.

    Observations of other frames' points in the oldest frame are dropped (DSO, section 3.3).
    """
    bundle = _select_observations(bundle, bundle.points.host[bundle.sightings.point] == 0)
    if bundle.motions is not None:
        bundle = replace(
            bundle, motions=bundle.motions.select((bundle.motions.earlier == 0) | (bundle.motions.later == 0))
        )
    evaluation = _evaluate(bundle)
    equations = build_normal_equations(bundle, evaluation.found, evaluation.inliers, brightness_of=(0,))
    H, g = schur_complement(*equations.without_points(), 8)

    frames, known = bundle.frames, 0 if bundle.prior is None else len(bundle.prior.brightness)
    reference, brightness = frames.T_camera_world.clone(), frames.brightness.clone()
    x = torch.zeros(8 * len(frames), dtype=H.dtype)
    if bundle.prior is not None:
        reference[:known], brightness[:known] = bundle.prior.T_camera_world, bundle.prior.brightness
        x[: 8 * known] = bundle.prior.deviation(frames)
    return MarginalPrior(reference[1:], brightness[1:], H, g - H @ x[8:])


def schur_complement(H: Tensor, g: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the curvature and gradient that remain after the first `count` unknowns are eliminated (Schur complement).

    H: (N, N) curvature.
    g: (N,) gradient.
    Returns (N - count, N - count) and (N - count,).
    """
    # Metres, radians and brightness differ by orders of magnitude.
    scale = H.diagonal()[:count].clamp(min=1e-12).rsqrt()
    inside = scale[:, None] * H[:count, :count] * scale + 1e-12 * torch.eye(count, dtype=H.dtype)
    across = scale[:, None] * torch.cat((H[:count, count:], g[:count, None]), 1)
    solved = across[:, :-1].mT @ torch.linalg.solve(inside, across)
    rest = H[count:, count:] - solved[:, :-1]
    return (rest + rest.mT) / 2, g[count:] - solved[:, -1]


def _select_observations(bundle: WindowProblem, rows: Tensor) -> WindowProblem:
    return replace(bundle, sightings=Observations(bundle.sightings.point[rows], bundle.sightings.frame[rows]))


def _evaluate(bundle: WindowProblem) -> _Evaluation:
    found = compute_residuals(bundle.first_estimates, bundle.points, bundle.sightings)
    each, max_cost = _pattern_cost(found.value, bundle.points.weight[bundle.sightings.point])
    inliers = found.seen & (each < max_cost)
    in_depth, _ = huber_cost((bundle.points.inverse_depth - bundle.expected) / bundle.deviation, DEPTH_BEND)
    brightness = bundle.frames.brightness
    relative = brightness / brightness.new_tensor(BRIGHTNESS_DEVIATION)
    other = in_depth.double().sum() + relative.square().sum() / 2
    if bundle.motions is not None:
        error, _ = compute_motion_errors(bundle.frames, bundle.motions)
        other = other + (error / bundle.motions.deviation).square().sum() / 2
    if bundle.prior is not None:
        other = other + bundle.prior.cost(bundle.frames)
    if bundle.stereo is not None:
        stereo = compute_stereo_residuals(bundle.frames.gray, bundle.frames.K, bundle.points, bundle.stereo)
        cost, highest = _pattern_cost(stereo.value, bundle.points.weight)
        # Invisible points cost the most, so leaving the image gains nothing.
        other = other + torch.where(stereo.seen, torch.minimum(cost, highest), highest).sum()
    observation_cost = torch.where(found.seen, torch.minimum(each, max_cost), torch.zeros_like(each))
    return _Evaluation(found, inliers, observation_cost, other)


def _pattern_cost(value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the costs and largest possible costs (S,) float64 of residuals and weights (S, 8)."""
    each = (huber_cost(value, BEND)[0] * weight).sum(-1).double() / NOISE**2
    return each, float(huber_cost(weight.new_tensor(OUTLIER), BEND)[0]) * weight.sum(-1).double() / NOISE**2


def compute_motion_errors(frames: WindowFrames, motions: MotionFactors) -> tuple[Tensor, Tensor]:
    """Return the errors (M, 6) of the window's motions against the predicted ones, and their Jacobian (M, 6, 12).

    An error is Log(T~ T), with T~ the predicted motion and T the inverse of the window's motion. The Jacobian has the
    twist of the earlier frame first. It uses T~ exp(x) T = exp(adjoint x) T~ T, and that the inverse right Jacobian is
    the inverse left one at the negative error.
    """
    earlier, later = frames.T_camera_world[motions.earlier], frames.T_camera_world[motions.later]
    error = se3_log(compose(motions.T_later_earlier, compose(earlier, invert_pose(later))))
    in_earlier = _inverse_left_jacobian(error) @ se3_adjoint(motions.T_later_earlier)
    return error, torch.cat((in_earlier, -_inverse_left_jacobian(-error)), -1)


def _inverse_left_jacobian(twist: Tensor) -> Tensor:
    """Return J (..., 6, 6) of Log(exp(x) exp(twist)) = twist + J x, to first order; exact to 1e-9 below 1 radian."""
    v, w = hat(twist[..., :3]), hat(twist[..., 3:])
    ad = torch.cat((torch.cat((w, v), -1), torch.cat((torch.zeros_like(w), w), -1)), -2)
    power = torch.eye(6, dtype=twist.dtype).expand_as(ad)
    total = torch.zeros_like(ad)
    for coefficient in _INVERSE_JACOBIAN:
        total = total + coefficient * power
        power = power @ ad
    return total


def build_normal_equations(
    bundle: WindowProblem, found: PhotometricResiduals, inliers: Tensor, *, brightness_of: tuple[int, ...] | None = None
) -> NormalEquations:
    """Return the normal equations of the window, with the photometric residuals of the inlier observations.

    found: residuals of the S observations.
    inliers: (S,) bool mask of the observations to use.
    brightness_of: indices of the frames whose brightness is pulled towards no change; None means all frames.
    """
    normal = _sum_observations(bundle, found, inliers)
    count = len(bundle.frames)
    for k in range(count) if brightness_of is None else brightness_of:
        information = 1 / normal.g.new_tensor(BRIGHTNESS_DEVIATION).square()
        own = slice(8 * k + 6, 8 * k + 8)
        normal.H.diagonal()[own] += information
        normal.g[own] += information * bundle.frames.brightness[k]
    off = (bundle.points.inverse_depth - bundle.expected) / bundle.deviation
    weight = huber_cost(off, DEPTH_BEND)[1].double() / bundle.deviation.double()
    normal.H_point.add_(weight / bundle.deviation)
    normal.g_point.add_(weight * off)
    if bundle.stereo is not None:
        _add_stereo(normal, bundle, bundle.stereo)
    if bundle.motions is not None:
        _add_motions(normal, bundle.frames, bundle.motions)
    if bundle.prior is not None:
        held = slice(0, len(bundle.prior.g))
        normal.H[held, held] += bundle.prior.H
        normal.g[held] += bundle.prior.g + bundle.prior.H @ bundle.prior.deviation(bundle.frames)
    return normal


def _sum_observations(bundle: WindowProblem, found: PhotometricResiduals, inliers: Tensor) -> NormalEquations:
    frames, points, sightings = bundle.frames, bundle.points, bundle.sightings
    F, host, frame = len(frames), points.host[sightings.point], sightings.frame
    _, weight = huber_cost(found.value, BEND)
    weight = weight * points.weight[sightings.point] * inliers[:, None] / NOISE**2
    rows = torch.cat((found.slope, found.value[..., None]), -1)
    rows, weight = rows.double(), weight.double()  # float32 would go to oneDNN, see `rotate_rays`
    products = (rows * weight[..., None]).mT @ rows  # (S, 10, 10): frame 8, inverse depth, residual

    turn = host_jacobians(bundle.first_estimates)
    pairs = products.new_zeros(F * F, 10, 10).index_add_(0, frame * F + host, products).view(F, F, 10, 10)
    in_frame, downhill = pairs[..., :8, :8], pairs[..., :8, 9]
    across = in_frame @ turn
    H = across + across.transpose(0, 1).mT
    H[range(F), range(F)] += in_frame.sum(1) + (turn.mT @ across).sum(0)
    g = downhill.sum(1) + (turn.mT @ downhill[..., None])[..., 0].sum(0)

    in_depth = products[:, 8, :8]
    between = products.new_zeros(len(points) * F, 8)
    between.index_add_(0, sightings.point * F + frame, in_depth)
    between.index_add_(0, sightings.point * F + host, (in_depth[:, None] @ turn[frame, host])[:, 0])
    of_points = products.new_zeros(len(points), 2).index_add_(0, sightings.point, products[:, 8, 8:])
    H_point, g_point = (column.clone() for column in of_points.unbind(1))
    H = H.transpose(1, 2).reshape(8 * F, 8 * F)
    return NormalEquations(H, g.flatten(), H_point, g_point, between.view(len(points), 8 * F))


def _add_stereo(normal: NormalEquations, bundle: WindowProblem, stereo: VirtualStereo) -> None:
    found = compute_stereo_residuals(bundle.frames.gray, bundle.frames.K, bundle.points, stereo)
    cost, max_cost = _pattern_cost(found.value, bundle.points.weight)
    inliers = found.seen & (cost < max_cost)
    weighted = found.slope * huber_cost(found.value, BEND)[1] * bundle.points.weight * inliers[:, None] / NOISE**2
    normal.H_point.add_((weighted * found.slope).sum(-1))
    normal.g_point.add_((weighted * found.value).sum(-1))


def _add_motions(normal: NormalEquations, frames: WindowFrames, motions: MotionFactors) -> None:
    error, slope = compute_motion_errors(frames, motions)
    weighted = slope / motions.deviation[..., None].square()
    for m in range(len(error)):
        first, last = 8 * int(motions.earlier[m]), 8 * int(motions.later[m])
        unknowns = torch.tensor([*range(first, first + 6), *range(last, last + 6)])
        normal.H[unknowns[:, None], unknowns] += weighted[m].mT @ slope[m]
        normal.g[unknowns] += weighted[m].mT @ error[m]


def compute_depth_information(bundle: WindowProblem, host: int) -> Tensor:
    """Return the images' relative information (P,) on the inverse depths of one host frame's points.

    The relative information is the squared inverse depth divided by its variance. It is 0 for points of other hosts.
    """
    bundle = _select_observations(bundle, bundle.points.host[bundle.sightings.point] == host)
    evaluation = _evaluate(bundle)
    information = _sum_observations(bundle, evaluation.found, evaluation.inliers).H_point
    return information * bundle.points.inverse_depth.double().square()
