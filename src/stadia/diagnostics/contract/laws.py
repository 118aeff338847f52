"""What holds of every loss, asked of a scene whose right answer is known (self-supervised specification 4.0, its
contract tests).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.contract.bounds import MAX_BELOW_TRUTH, MAX_DROP_AWAY
from stadia.diagnostics.contract.comparing import COMPARING
from stadia.diagnostics.contract.exact import Axis, Exact, LossRaised, total_of
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import NotChecked
from stadia.training.loss_laws import broken_laws

SLOPE, EPSILONS = 0.05, (1e-3, 1e-4, 1e-5, 1e-7)
"""Finite differences agree with the gradient within this, at one of these steps: 1e-3 and better in every loss of the
house. The longest are for losses that round, the shortest is for minima over sources, which change hands all over the
image.
"""

SAME, MIRRORED, REPEATED, LARGER, COUPLED = 1e-5, 1e-3, 0.01, 2.0, 0.01
"""Relative differences that rounding makes, that resampling makes, of a batch twice, of images twice as large, and of a
slope.
"""


def answers(exact: Exact, where: str) -> Iterator[Finding]:
    """L11, L12: the loss can be called, and gives one number with a slope."""
    given = {name: value.detach().clone().requires_grad_() for name, value in exact.off.items()}
    try:
        report = exact.report(given)
    except LossRaised as error:
        yield finding("L11", Severity.STOP, measured=str(error), expected="a report of the loss", where=[where])
        return
    total = getattr(report, "total", None)
    if not isinstance(total, Tensor):
        found = (
            f"{type(report).__name__} without a total" if total is None else f"a total that is {type(total).__name__}"
        )
    elif total.ndim or total.numel() != 1:
        found = f"a total of shape {tuple(total.shape)}"
    elif not total.requires_grad:
        found = "a total without a gradient"
    else:
        return
    yield finding(
        "L12",
        Severity.STOP,
        measured=found,
        expected="a LossReport whose total is one number with a gradient",
        where=[where],
    )


def least_at_the_truth(exact: Exact, where: str) -> Iterator[Finding]:
    """L01, L17, P01, B01: no wrong answer costs less than the right one."""
    for axis in exact.axes:
        values = _along(exact, axis)
        best, span = min(values, key=values.__getitem__), _span(values)
        if values[best] < values[axis.right] - MAX_BELOW_TRUTH * span:
            yield finding(
                axis.code,
                Severity.STOP,
                measured=f"least at {best:g} ({axis.name}), {values[best]:.4g}; {values[axis.right]:.4g} at the truth",
                expected=f"least at {axis.right:g}",
                evidence={"values": {axis.name: list(values), "loss": list(values.values())}},
                where=[where],
            )


def rises_away(exact: Exact, where: str) -> Iterator[Finding]:
    """L02: the further from the truth, the more it costs."""
    for axis in exact.axes:
        values = _along(exact, axis)
        slack = MAX_DROP_AWAY * _span(values)
        for side in (
            sorted(x for x in values if x >= axis.right),
            sorted((x for x in values if x <= axis.right), reverse=True),
        ):
            falls = [(a, b) for a, b in pairwise(side) if values[b] < values[a] - slack]
            if falls and min(values, key=values.__getitem__) == axis.right:  # else its least place has been told
                (near, far), *_ = falls
                yield finding(
                    "L02",
                    Severity.WARN,
                    measured=(
                        f"{values[far]:.4g} at {far:g} ({axis.name}), {values[near]:.4g} at {near:g}, which is nearer"
                        " to the truth"
                    ),
                    expected="more, the further from the truth",
                    evidence={"values": {axis.name: list(values), "loss": list(values.values())}},
                    where=[where],
                )


def has_a_slope(exact: Exact, where: str) -> Iterator[Finding]:
    """L10: what can be wrong gets a gradient."""
    slopes = exact.slopes
    moved = {
        name
        for axis in exact.axes
        for answer in axis.answers.values()
        for name in answer
        if answer[name] is not exact.right[name]
    }
    flat = sorted(name for name in moved if not slopes[name].any())
    if flat:
        yield finding(
            "L10",
            Severity.STOP,
            measured=f"no gradient for {' and '.join(flat)}",
            expected="one for each",
            where=[where],
        )


def slopes_are_right(exact: Exact, where: str) -> Iterator[Finding]:
    """L03: the gradient is the slope by finite differences, along a direction drawn at random."""
    slopes, generator = exact.slopes, torch.Generator().manual_seed(0)
    for name, slope in slopes.items():
        if not slope.any():
            continue
        # Along the gradient's own direction, each place by another share of it: any other one may be flat.
        direction = slope * (0.5 + torch.rand(slope.shape, generator=generator, dtype=slope.dtype))
        direction = direction / direction.abs().max() * exact.off[name].abs().mean().clamp(min=1e-3)
        said = float((slope * direction).sum())
        measured = {step: _difference(exact, name, direction, step) for step in EPSILONS}
        step, apart = min(measured, key=lambda e: abs(measured[e] - said)), exact.loose.get(name, SLOPE)
        if abs(measured[step] - said) > apart * max(abs(said), abs(measured[step])):
            yield finding(
                "L03",
                Severity.WARN,
                measured=f"the gradient of {name} says {said:.4g}, finite differences {measured[step]:.4g}",
                expected=f"the same within {apart:.0%}",
                evidence={"differences": {"step": list(measured), "slope": list(measured.values())}, "gradient": said},
                where=[where],
            )


def samples_stand_alone(exact: Exact, where: str) -> Iterator[Finding]:
    """L04: a sample's gradient does not depend on the others of its batch."""
    alone = exact.slopes
    beside = exact.slopes_at({name: torch.cat((value[:1], exact.right[name][1:])) for name, value in exact.off.items()})
    for name, slope in alone.items():
        first, then = slope[0], beside[name][0]
        if (change := _change(first, then)) > COUPLED:
            yield finding(
                "L04",
                Severity.WARN,
                measured=(
                    f"the gradient of a sample's {name} changes by {change:.0%} when another sample of the batch does"
                ),
                expected=f"at most {COUPLED:.0%}",
                where=[where],
            )


def is_a_mean(exact: Exact, where: str) -> Iterator[Finding]:
    """L05, L06: of a batch twice the loss is the same, and of images twice as large nearly."""
    value = total_of(exact.at_off)
    ratio = _ratio(exact, "twice the batch", value)
    if ratio and abs(ratio - 1) > REPEATED:
        yield finding(
            "L05",
            Severity.WARN,
            measured=f"{ratio:.3g} times the loss for the same batch twice",
            expected="1",
            where=[where],
        )
    ratio = _ratio(exact, "twice the size", value)
    if ratio and not 1 / LARGER <= ratio <= LARGER:
        measured = f"{ratio:.3g} times the loss for the same scene at twice the width and height"
        yield finding("L06", Severity.WARN, measured=measured, expected=f"at most {LARGER:g} times", where=[where])


def order_does_not_matter(exact: Exact, where: str) -> Iterator[Finding]:
    """L07: the same loss for sources in another order."""
    ratio = _ratio(exact, "sources in another order", total_of(exact.at_off))
    if ratio and abs(ratio - 1) > SAME:
        yield finding("L07", Severity.WARN, measured=f"{ratio:.4g} times the loss", expected="1", where=[where])


def mirrors(exact: Exact, where: str) -> Iterator[Finding]:
    """L08: the same loss for the scene seen in a mirror."""
    ratio = _ratio(exact, "mirrored", total_of(exact.at_off))
    if ratio and abs(ratio - 1) > MIRRORED:
        yield finding(
            "L08",
            Severity.WARN,
            measured=f"{ratio:.4g} times the loss",
            expected=f"1 within {MIRRORED:g}",
            where=[where],
        )


def stays_finite(exact: Exact, where: str) -> Iterator[Finding]:
    """L09: finite, with a finite gradient, at the truth, and of images and labels that a drive has now and then."""
    told: dict[str, list[str]] = {}
    if wrong := _not_finite(total_of(exact.at_right), exact.slopes_at(exact.right)):
        told[wrong] = ["the right answer"]
    for name, make in exact.hostile.items():
        other = make()
        if wrong := _not_finite(total_of(other.at_off), other.slopes):
            told.setdefault(wrong, []).append(name)
    for wrong, scenes in told.items():
        yield finding(
            "L09", Severity.WARN, measured=f"{wrong} of {', '.join(scenes)}", expected="finite numbers", where=[where]
        )


def terms_add_up(exact: Exact, where: str) -> Iterator[Finding]:
    """L13: the total is the sum of its terms, none below its least value."""
    for report in (exact.at_right, exact.at_off):
        terms = {name: float(value) for name, value in getattr(report, "terms", {}).items()}
        if broken := broken_laws(total_of(report), terms, getattr(report, "least", {}), torch.float32):
            expected = "the sum of its terms, each at its least value or above"
            yield finding("L13", Severity.STOP, measured="; ".join(broken), expected=expected, where=[where])
            return


def is_a_number(exact: Exact, where: str) -> Iterator[Finding]:
    """L09: value and gradient are finite of images as any others, at an answer that is moderately wrong."""
    if wrong := _not_finite(total_of(exact.at_off), exact.slopes):
        measured = f"{wrong} of usual images and a moderately wrong answer"
        yield finding("L09", Severity.STOP, measured=measured, expected="finite numbers", where=[where])


def says_the_same_twice(exact: Exact, where: str) -> Iterator[Finding]:
    """L14: asked twice it says the same."""
    first, second = (total_of(exact.report(exact.off)) for _ in range(2))
    if abs(first - second) > SAME * max(abs(first), abs(second)):
        yield finding(
            "L14", Severity.WARN, measured=f"{first:.6g}, then {second:.6g}", expected="the same", where=[where]
        )


def leaves_alone(exact: Exact, where: str) -> Iterator[Finding]:
    """L15: what the loss was shown is as it was. Asked first: the second time there may be nothing left to change."""
    shown = {**exact.shown, **{f"the prediction's {name}": value for name, value in exact.off.items()}}
    before = {name: value.clone() for name, value in shown.items()}
    with contextlib.suppress(Exception):  # `answers` tells
        exact.loss(exact.off)
    changed = [name for name, value in shown.items() if not torch.equal(value, before[name])]
    if changed:
        yield finding(
            "L15", Severity.STOP, measured=f"{', '.join(changed)} written to", expected="nothing changed", where=[where]
        )


def is_local(exact: Exact, where: str) -> Iterator[Finding]:
    """L16: what changes at one end of the image changes no slope at the other, neither of depth nor of its uncertainty."""
    if "first tenth changed" not in exact.forms:
        return
    here, there = exact.slopes, exact.forms["first tenth changed"]().slopes
    for name in ("inverse_depth", "log_uncertainty"):
        if name not in here:
            continue
        half = here[name].shape[-1] // 2
        if (change := _change(here[name][..., half:], there[name][..., half:])) > COUPLED:
            measured = f"slopes of {name} change by {change:.0%} where nothing changed but the other end of the image"
            yield finding("L16", Severity.WARN, measured=measured, expected=f"at most {COUPLED:.0%}", where=[where])


def unlabeled_is_not_trained(exact: Exact, where: str) -> Iterator[Finding]:
    """L18: where there is no label there is no slope."""
    slopes = exact.slopes
    for name, unknown in exact.unlabeled.items():
        share = float(slopes[name][unknown].abs().sum() / slopes[name].abs().sum().clamp(min=1e-30))
        if share > 0:
            measured = f"{share:.0%} of the gradient of {name} is where no label is"
            yield finding("L18", Severity.STOP, measured=measured, expected="none", where=[where])


def _along(exact: Exact, axis: Axis) -> dict[float, float]:
    values = exact.along[axis.name]
    if not all(map(math.isfinite, values.values())):
        raise NotChecked(f"the loss is not finite along {axis.name}")
    return values


def _not_finite(value: float, slopes: Mapping[str, Tensor]) -> str:
    """What is not finite, in words; empty where all is."""
    if not math.isfinite(value):
        return f"the loss is {value:g}"
    broken = next((name for name, slope in slopes.items() if not slope.isfinite().all()), None)
    return f"the gradient of {broken} is not finite" if broken else ""


def _span(values: Mapping[float, float]) -> float:
    return max(values.values()) - min(values.values())


def _difference(exact: Exact, name: str, direction: Tensor, step: float) -> float:
    """The slope of the total along a direction, by two values."""
    with torch.no_grad():
        above, below = (
            total_of(exact.report({**exact.off, name: exact.off[name] + sign * step * direction})) for sign in (1, -1)
        )
    return (above - below) / (2 * step)


def _change(before: Tensor, after: Tensor) -> float:
    """The difference over the larger of both; 0 of two that are 0."""
    size = max(float(before.norm()), float(after.norm()))
    return float((after - before).norm()) / size if size else 0.0


def _ratio(exact: Exact, form: str, value: float) -> float | None:
    """The loss of the scene in another form, over what it is of the scene; None where there is no such form, or nothing
    to compare.
    """
    if form not in exact.forms or not value:
        return None
    return total_of(exact.forms[form]().at_off) / value


LAWS = (
    least_at_the_truth,
    rises_away,
    has_a_slope,
    slopes_are_right,
    samples_stand_alone,
    is_a_mean,
    order_does_not_matter,
    mirrors,
    stays_finite,
    terms_add_up,
    is_local,
    unlabeled_is_not_trained,
    *COMPARING,
)
"""What is asked of a loss that answers, in order."""

FIRST = (leaves_alone, answers, is_a_number, says_the_same_twice)
"""What is asked before: where one of them finds something, no law can be asked."""
