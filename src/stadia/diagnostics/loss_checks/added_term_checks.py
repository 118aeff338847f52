"""Properties of what `LossCase.change_loss` adds, measured alone: beside a much larger loss they would not show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.loss_checks import MAX_EDGE_EXCESS, MAX_NOISE_REWARD, MIN_REWARD, NOISE
from stadia.diagnostics.loss_checks.loss_case import LossCase, total_of
from stadia.diagnostics.loss_checks.loss_properties import (
    MIN_TERM,
    check_gradient,
    check_mean_reduction,
    check_mirroring,
    check_relief,
    check_sample_independence,
)

NOISES = (0.0, NOISE / 4, NOISE / 2, NOISE)
"""Noise of depth at which the evidence lists what is added; the first and the last are compared."""

NEAR_PER_M, FAR_PER_M, COLORS = 0.25, 0.125, (0.3, 0.7)
"""Inverse depth, 1/m, and colors on the two sides of an edge."""

EDGE_OFFSETS_PX = (-4, -2, -1, 0, 1, 2, 4)
"""Positions of the image edge beside that of the depth edge."""

EDGES = {"vertical": 3, "horizontal": 2}
"""Axis across an edge, by the direction of the edge."""


def check_added_loss(case: LossCase) -> Iterator[Finding]:
    """L01, L03 to L05, L08, L10, L24: a term that is added has the properties of a loss.

    L01 is reported where noise and its opposite both lower it. A prior on mean depth falls for one of them.
    """
    if (added := case.added) is None:
        return
    with torch.no_grad():
        values = {noise: total_of(added.report(add_depth_noise(added.right, noise))) for noise in NOISES}
        opposite = total_of(added.report(add_depth_noise(added.right, -NOISE)))
        whole = abs(total_of(case.report(add_depth_noise(case.right, NOISE))))
    before, after = values[0.0], values[NOISE]
    if not math.isfinite(before + after + opposite):
        return  # `check_extreme_inputs` reports it
    reward = before - max(after, opposite)
    if reward > max(MAX_NOISE_REWARD * abs(after), MIN_REWARD * whole):
        measured = f"what is added is {before:.4g} for the true depth, and {after:.4g} with {NOISE:.0%} noise"
        expected = "no less for noise: a penalty has a positive weight"
        table = {"noise of depth": list(values), "what is added": list(values.values())}
        numbers = {"added at the true depth": before, "added with noise": after, "added with opposite noise": opposite}
        evidence = {"values": table, **numbers, "change": after - before}
        cause = "a penalty with a negative weight or a wrong sign; or a reward for depth that varies"
        fix = "give the penalty a positive weight; where a reward is meant, keep it (this warning stops nothing)"
        yield make_finding("L01", Severity.WARN, measured, expected, cause=cause, fix=fix, evidence=evidence)
    given = abs(total_of(case.report_at_truth))
    noisy = add_depth_noise(added.right, NOISE)
    if abs(after - before) > MIN_TERM * given and not any(map(Tensor.any, added.gradients_at(noisy).values())):
        measured = f"what is added changes by {abs(after - before):.4g} with the outputs, and has no gradient"
        yield make_finding("L10", Severity.STOP, measured, "a gradient")
        return
    for check in (check_gradient, check_sample_independence, check_mean_reduction, check_mirroring, check_relief):
        for one in check(added):
            if one.code != "L06":  # slopes and bends are smaller in larger images
                yield replace(one, measured=f"what is added alone: {one.measured}")


def add_depth_noise(outputs: Mapping[str, Tensor], noise: float) -> dict[str, Tensor]:
    """Return the outputs with noise (standard deviation of its logarithm) on inverse depth; below 0 its opposite."""
    generator, changed = torch.Generator().manual_seed(0), dict(outputs)
    for name in [name for name in outputs if name == "inverse_depth"]:
        normal = torch.randn(outputs[name].shape, generator=generator, dtype=outputs[name].dtype)
        changed[name] = outputs[name] * (noise * normal).exp()
    return changed


def check_edge_weights(case: LossCase) -> Iterator[Finding]:
    """L26: an edge of depth costs least with an image edge in the same place, dark to bright or bright to dark.

    Nothing is reported of terms that ignore the image, whose cost of a depth edge depends on brightness, or that do not
    penalize a depth edge in an image without edges: their weights are no edge weights.
    """
    if case.added_by_image is None or (given := case.right.get("inverse_depth")) is None:
        return
    with torch.no_grad():
        for direction, dim in EDGES.items():
            cost = _measure_edge_cost(case, case.added_by_image, dim)
            plain, brighter = (cost(_make_edge(given, dim, color, color).repeat(1, 3, 1, 1)) for color in COLORS)
            if not math.isfinite(plain + brighter):
                return
            if plain <= MIN_TERM * abs(total_of(case.report_at_truth)) or abs(brighter - plain) > MIN_TERM * plain:
                return
            for colors in (COLORS, COLORS[::-1]):
                edges = {px: _make_edge(given, dim, *colors, px).repeat(1, 3, 1, 1) for px in EDGE_OFFSETS_PX}
                costs = {px: cost(image) / plain for px, image in edges.items()}
                best = min(costs, key=costs.__getitem__)
                if costs[0] <= costs[best] + MAX_EDGE_EXCESS:
                    continue
                order = "dark to bright" if colors == COLORS else "bright to dark"
                measured = f"a {direction} edge of depth costs {costs[0]:.3g} with an image edge in the same place "
                measured += f"({order}), {costs[best]:.3g} with one {abs(best)} px beside it, 1 without"
                table = {"image edge beside that of depth, px": list(costs), "cost": list(costs.values())}
                expected = f"least in the same place, within {MAX_EDGE_EXCESS:g}"
                yield make_finding("L26", Severity.WARN, measured, expected, evidence={"values": table})
                return


def _measure_edge_cost(
    case: LossCase, added: Callable[[Mapping[str, Tensor]], Callable[[Tensor], float]], dim: int
) -> Callable[[Tensor], float]:
    """Return what an edge of depth adds over flat depth, as a function of the image."""
    depth = case.right["inverse_depth"]
    maps = _make_edge(depth, dim, NEAR_PER_M, FAR_PER_M), torch.full_like(depth, FAR_PER_M)
    with_edge, flat = (added({**case.right, "inverse_depth": one}) for one in maps)
    return lambda image: with_edge(image) - flat(image)


def _make_edge(like: Tensor, dim: int, first: float, second: float, offset_px: int = 0) -> Tensor:
    """Return a map of the shape of (B, 1, H, W) with one value before and one behind the middle of an axis."""
    edge = torch.full_like(like, second)
    edge.narrow(dim, 0, like.shape[dim] // 2 + offset_px).fill_(first)
    return edge


ADDED_PROPERTIES = (check_added_loss, check_edge_weights)
"""Checks of what is added to a loss, after those of the whole loss."""
