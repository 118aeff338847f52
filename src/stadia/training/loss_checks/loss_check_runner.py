"""Run the checks of losses and of a training start within a time limit."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from stadia.core.errors import summarize_exception
from stadia.judge.catalog import NotChecked, make_finding, make_not_checked, sort_findings
from stadia.judge.finding import Finding, Severity, merge_findings
from stadia.training.loss_checks.init_checks import INIT_CHECKS
from stadia.training.loss_checks.loss_case import IMAGE, LossCase, LossRaised, Outputs, total_of
from stadia.training.loss_checks.loss_properties import (
    BASIC_PROPERTIES,
    MIN_TERM,
    PROPERTIES,
    check_gradient,
    check_mean_reduction,
    check_mirroring,
    check_relief,
    check_sample_independence,
    find_not_finite,
)
from stadia.training.loss_checks.training_start import TimeLimitReached, TrainingStart, check_bf16_loss, check_one_batch

NOISE = 0.1  # noise of depth: the standard deviation of its logarithm
MAX_NOISE_REWARD = 0.05  # share by which the term may fall with noise; a prior on mean depth falls by .005
MIN_REWARD = 0.001  # least reward as a share of the whole noisy loss; smaller ones come from a prior on mean depth
MAX_EDGE_EXCESS = 0.05  # extra cost of a depth edge at an image edge over one next to it; one pixel off has .33
MAX_TILE_CHANGE = 1.2  # loss of two copies over one: a mean has 1, a sum 2, a root of a sum of squares 1.41
NOISES = (0.0, NOISE / 4, NOISE / 2, NOISE)  # noises in the evidence; the first and the last are compared
NEAR_PER_M = 0.25  # inverse depth on the near side of an edge, 1/m
FAR_PER_M = 0.125  # inverse depth on the far side of an edge, 1/m
EDGE_COLORS = (0.3, 0.7)  # colors on the two sides of an edge of the image
EDGE_OFFSETS_PX = (-4, -2, -1, 0, 1, 2, 4)  # distances of the image edge from the depth edge
EDGES = {"vertical": 3, "horizontal": 2}  # axis across an edge, by its direction
MAX_RAMP_COST = 1e-6  # cost of a depth ramp over an edge's, for second differences
TILINGS = {"side by side": 3, "one above the other": 2}  # axis of two copies, by their place


def check_added_loss(case: LossCase) -> Iterator[Finding]:
    """Yield findings if a term that the user added to a loss lacks a property of losses.

    The properties are a minimum at the true depth (L01), a right gradient (L03, L10), independent samples (L04), no
    growth with the batch (L05), symmetry under mirroring (L08), and independence of the unit of depth (L24).

    case: the loss and a scene whose right outputs are known.
    """
    if (added := case.added) is None:
        return
    with torch.no_grad():
        values = {noise: total_of(added.report(add_depth_noise(added.right, noise))) for noise in NOISES}
        opposite = total_of(added.report(add_depth_noise(added.right, -NOISE)))
        whole = abs(total_of(case.report(add_depth_noise(case.right, NOISE))))
    before, after = values[0.0], values[NOISE]
    if not math.isfinite(before + after + opposite):
        return
    reward = before - max(after, opposite)
    if reward > max(MAX_NOISE_REWARD * abs(after), MIN_REWARD * whole):
        measured = f"the added term is {before:.4g} for the true depth, and {after:.4g} with {NOISE:.0%} noise"
        expected = "not less for noise: a penalty has a positive weight"
        table = {"noise of depth": list(values), "what is added": list(values.values())}
        numbers = {"added at the true depth": before, "added with noise": after, "added with opposite noise": opposite}
        evidence = {"values": table, **numbers, "change": after - before}
        yield make_finding("L01", Severity.WARN, measured, expected, case="reward_for_noise", evidence=evidence)
    given = abs(total_of(case.report_at_truth))
    noisy = add_depth_noise(added.right, NOISE)
    if abs(after - before) > MIN_TERM * given and not any(map(Tensor.any, added.gradients_at(noisy).values())):
        measured = f"the added term changes by {abs(after - before):.4g} with the outputs, but has no gradient"
        yield make_finding("L10", Severity.STOP, measured, "a gradient")
        return
    for check in (check_gradient, check_sample_independence, check_mean_reduction, check_mirroring, check_relief):
        for finding in check(added):
            if finding.code != "L06":  # slopes and bends are smaller in larger images
                yield replace(finding, measured=f"the added term: {finding.measured}")


def add_depth_noise(outputs: Mapping[str, Tensor], noise: float) -> dict[str, Tensor]:
    """Return a copy of outputs with the inverse depth multiplied by random factors, equal for each call.

    outputs: outputs by name, of any shape.
    noise: standard deviation of the natural logarithm of the factors.
    """
    generator, changed = torch.Generator().manual_seed(0), dict(outputs)
    for name in [name for name in outputs if name == "inverse_depth"]:
        normal = torch.randn(outputs[name].shape, generator=generator, dtype=outputs[name].dtype)
        changed[name] = outputs[name] * (noise * normal).exp()
    return changed


def check_edge_weights(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if an added term does not allow depth edges at image edges (L26).

    An edge of depth must cost least with an image edge in the same place, or half a pixel next to it.

    case: the loss and a scene whose right outputs are known.
    """
    if case.added_by_image is None or (given := case.right.get("inverse_depth")) is None:
        return
    with torch.no_grad():
        for direction, dim in EDGES.items():
            cost = _measure_edge_cost(case, case.added_by_image, dim)
            plain, brighter = (cost(_make_edge(given, dim, color, color).repeat(1, 3, 1, 1)) for color in EDGE_COLORS)
            if not math.isfinite(plain + brighter):
                return
            if plain <= MIN_TERM * abs(total_of(case.report_at_truth)) or abs(brighter - plain) > MIN_TERM * plain:
                return
            for colors in (EDGE_COLORS, EDGE_COLORS[::-1]):
                edges = {px: _make_edge(given, dim, *colors, px).repeat(1, 3, 1, 1) for px in EDGE_OFFSETS_PX}
                costs = {px: cost(image) / plain for px, image in edges.items()}
                order = "dark to bright" if colors == EDGE_COLORS else "bright to dark"
                best = min(costs, key=costs.__getitem__)
                uneven = max((px for px in costs if px > 0), key=lambda px: abs(costs[px] - costs[-px]))
                if costs[0] > costs[best] + MAX_EDGE_EXCESS:
                    measured = f"a {direction} edge of depth costs {costs[0]:.3g} with an image edge in the same place "
                    measured += f"({order}), {costs[best]:.3g} with one {abs(best)} px away, 1 without"
                    expected = f"smallest in the same place, within {MAX_EDGE_EXCESS:g}"
                elif abs(costs[uneven] - costs[-uneven]) > MAX_EDGE_EXCESS and _is_second_difference(case, dim, plain):
                    measured = f"a {direction} edge of depth costs {costs[-uneven]:.3g} with an image edge {uneven} px "
                    measured += f"before it ({order}), {costs[uneven]:.3g} with one {uneven} px behind it, 1 without"
                    expected = f"the same on both sides of second differences, within {MAX_EDGE_EXCESS:g}"
                else:
                    continue
                table = {"offset of the image edge from the depth edge, px": list(costs), "cost": list(costs.values())}
                yield make_finding("L26", Severity.WARN, measured, expected, evidence={"values": table})
                return


def check_constant_depth(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if an added term, or the whole loss with it, is not finite at constant depth (L09).

    case: the loss and a scene whose right outputs are known.
    """
    if (added := case.added) is None:
        return
    names = [name for name in added.right if name.startswith(("inverse_depth", "log_depth"))]
    constant = {name: torch.full_like(added.right[name], float(added.right[name].mean())) for name in names}
    outputs = {**added.right, **constant}
    if names and (wrong := find_not_finite(added, outputs)) and find_not_finite(case, outputs):
        measured = f"the added term: {wrong} for constant depth"
        yield make_finding("L09", Severity.WARN, measured, "finite numbers", case="constant_depth")


def check_tiles(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if an added term changes when outputs and image are repeated side by side (L06).

    A mean over pixels does not change, while a sum grows.

    case: the loss and a scene whose right outputs are known.
    """
    added, depth = case.added_at, case.right.get("inverse_depth")
    if added is None or depth is None:
        return
    given = {**case.right, **({"image": case.shown[IMAGE]} if IMAGE in case.shown else {})}
    ratios = {}
    with torch.no_grad():
        least = MIN_TERM * abs(total_of(case.report_at_truth))
        for place, dim in TILINGS.items():
            flat = depth.mean() * torch.ones_like(depth.narrow(dim, 0, 1))
            varying = add_depth_noise({"inverse_depth": flat}, NOISE)["inverse_depth"].expand_as(depth)
            outputs = {**given, "inverse_depth": varying}
            try:
                single, double = added(outputs), added(_repeat_maps(outputs, dim))
            except LossRaised:
                return
            if not math.isfinite(single + double):
                return
            if abs(single) > least:
                ratios[place] = double / single
    if not ratios:
        return
    if min(ratios.values()) > MAX_TILE_CHANGE or max(map(abs, ratios.values())) < 1 / MAX_TILE_CHANGE:
        listed = " and ".join(f"{ratio:.3g} times with two copies {place}" for place, ratio in ratios.items())
        measured = f"the added term: {listed}"
        evidence = {f"copies {place}": ratio for place, ratio in ratios.items()}
        yield make_finding("L06", Severity.WARN, measured, "the same, as for a mean over pixels", evidence=evidence)


def _repeat_maps(outputs: Outputs, dim: int) -> dict[str, Tensor]:
    size = outputs["inverse_depth"].shape[-2:]
    return {
        name: torch.cat((value, value), dim) if value.ndim == 4 and value.shape[-2:] == size else value
        for name, value in outputs.items()
    }


def _is_second_difference(case: LossCase, dim: int, edge_cost: float) -> bool:
    """Return whether a ramp of inverse depth, of its logarithm or of depth costs nothing."""
    assert case.added_by_image is not None
    depth = case.right["inverse_depth"]
    shape = [-1 if axis == dim else 1 for axis in range(4)]
    share = torch.linspace(0, 1, depth.shape[dim], dtype=depth.dtype).view(shape)
    ramps = (
        NEAR_PER_M + (FAR_PER_M - NEAR_PER_M) * share,
        NEAR_PER_M * (FAR_PER_M / NEAR_PER_M) ** share,
        1 / (1 / NEAR_PER_M + (1 / FAR_PER_M - 1 / NEAR_PER_M) * share),
    )
    image = torch.full_like(depth, EDGE_COLORS[0]).repeat(1, 3, 1, 1)
    flat = case.added_by_image({**case.right, "inverse_depth": torch.full_like(depth, FAR_PER_M)})(image)
    costs = [
        case.added_by_image({**case.right, "inverse_depth": ramp.expand_as(depth)})(image) - flat for ramp in ramps
    ]
    return min(map(abs, costs)) <= MAX_RAMP_COST * edge_cost


def _measure_edge_cost(
    case: LossCase, added: Callable[[Mapping[str, Tensor]], Callable[[Tensor], float]], dim: int
) -> Callable[[Tensor], float]:
    """Return the cost of a depth edge over flat depth, as a function of the image."""
    depth = case.right["inverse_depth"]
    maps = _make_edge(depth, dim, NEAR_PER_M, FAR_PER_M), torch.full_like(depth, FAR_PER_M)
    with_edge, flat = (added({**case.right, "inverse_depth": depth_map}) for depth_map in maps)
    return lambda image: with_edge(image) - flat(image)


def _make_edge(like: Tensor, dim: int, first: float, second: float, offset_px: int = 0) -> Tensor:
    edge = torch.full_like(like, second)
    edge.narrow(dim, 0, like.shape[dim] // 2 + offset_px).fill_(first)
    return edge


ADDED_PROPERTIES = (check_added_loss, check_constant_depth, check_tiles, check_edge_weights)  # checks of an added term


PropertyCheck = Callable[[LossCase], Iterable[Finding]]


def check_losses(losses: Mapping[str, LossCase], until: float = math.inf) -> list[Finding]:
    """Check all properties of several losses; return the faults found, the most severe first.

    losses: losses by name, each with a scene of known outputs.
    until: time (time.monotonic()) after which no further loss is checked. A note (finding N01, not checked) names the
        remaining losses.
    """
    findings: list[Finding] = []
    for name, case in losses.items():
        basic = next(filter(None, (_run_check(check, case, name, Severity.STOP) for check in BASIC_PROPERTIES)), [])
        if basic:
            findings += [
                *basic,
                make_not_checked("properties of the loss", f"{basic[0].code} must be fixed first", name),
            ]
            continue
        for check in (*PROPERTIES, *ADDED_PROPERTIES):
            if time.monotonic() > until:
                limit = str(TimeLimitReached())
                findings.append(make_not_checked("properties of the loss", limit, name, is_out_of_time=True))
                break
            findings += _run_check(check, case, name, Severity.WARN)
    same = attrgetter("code", "severity", "measured", "expected", "fix")
    return sort_findings(merge_findings(findings, same))


def check_training_start(start: TrainingStart, seconds: float) -> list[Finding]:
    """Check a training before its first step; return the faults found, the most severe first.

    start: copy of the training's state with its first batch.
    seconds: time limit. Networks that run then are stopped, and a note (finding N01, not checked) replaces the result
        of a check that needs them.
    """
    findings: list[Finding] = []
    with stop_at(time.monotonic() + seconds):
        for check in (*INIT_CHECKS, check_bf16_loss, check_one_batch):
            findings += collect_findings(_describe(check), "", partial(check, start))
    return sort_findings(findings)


@contextlib.contextmanager
def stop_at(deadline: float) -> Iterator[None]:
    """Make every layer raise TimeLimitReached once time.monotonic() is past the deadline; weights may be in a step."""

    def check_time(*_: object) -> None:
        if time.monotonic() > deadline:
            raise TimeLimitReached

    def check_time_backward(module: object, inputs: object, output: Any) -> None:
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(check_time)  # type: ignore[no-untyped-call]

    hooks = register_module_forward_pre_hook(check_time), register_module_forward_hook(check_time_backward)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _run_check(check: PropertyCheck, case: LossCase, name: str, severity: Severity) -> list[Finding]:

    def run() -> Iterator[Finding]:
        try:
            yield from (replace(finding, where=(name,)) for finding in check(case))
        except LossRaised as error:
            expected = "a report of the loss for every scene and size"
            yield make_finding("L11", severity, f"{_describe(check)}: {error}", expected, where=name)

    return collect_findings(_describe(check), name, run)


def _describe(check: Callable[..., Any]) -> str:
    return check.__name__.removeprefix("check_").replace("_", " ")


def collect_findings(what: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Run a check and return its findings; if it cannot run, return a note that it was not made.

    what: name of the check in the note.
    where: name of what is checked, such as a loss; "" for none.
    check: the check, which yields findings.
    """
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except NotChecked as lack:
        findings.append(make_not_checked(what, str(lack), where, is_out_of_time=lack.is_out_of_time))
    except Exception as error:  # a user's loss or network may raise anything
        findings.append(make_not_checked(what, summarize_exception(error), where))
    return findings
