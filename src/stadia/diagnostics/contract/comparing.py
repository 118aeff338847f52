"""Properties of a photometric loss: how it combines sources, colors, uncertainty and smoothness.

Each compares values by order or by ratio, so that other losses (with labels, without a minimum or smoothness) pass too.
"""

from __future__ import annotations

from collections.abc import Iterator

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.contract.bounds import (
    MAX_HALVES_COST,
    MAX_RELIEF_GROWTH,
    MAX_UNIT_CHANGE,
    MIN_COLOR_COST,
    MIN_EFFECT,
    MIN_HALF_NOISE,
    MIN_RELIEF,
)
from stadia.diagnostics.contract.exact import COLORS, Exact, total_of
from stadia.diagnostics.finding import Finding, Severity


def check_color_minimum(case: Exact, where: str) -> Iterator[Finding]:
    """L19: two inverted colors of three have a cost: the minimum is over sources, not over their colors."""
    if not (whole := _cost(case, "every source wrong")):
        return
    shares = {color: _extra_cost(case, f"every source wrong but for {color}") / whole for color in COLORS}
    if max(shares.values()) < MIN_COLOR_COST:
        listed = ", ".join(f"{share:.1%} where {color} is correct" for color, share in shares.items())
        measured = f"{listed}, of the cost of wrong sources"
        yield finding("L19", Severity.WARN, measured=measured, expected=f"at least {MIN_COLOR_COST:.0%}", where=[where])


def check_pixel_minimum(case: Exact, where: str) -> Iterator[Finding]:
    """L16: sources inverted in one half each cost the mean of either inverted everywhere, by minimum, mean or sum."""
    if "each wrong in another half" not in case.forms or not (whole := _cost(case, "every source wrong")):
        return
    either = [_extra_cost(case, form) / whole for form in ("the first source wrong", "the other sources wrong")]
    mean, halves = sum(either) / 2, _extra_cost(case, "each wrong in another half") / whole
    if halves > mean + MAX_HALVES_COST:
        measured = f"sources wrong in one half each cost {halves:.0%} of wrong sources, "
        measured += f"either wrong everywhere {mean:.0%} (mean)"
        expected = f"at most {MAX_HALVES_COST:.0%} more than that mean"
        yield finding("L16", Severity.WARN, measured=measured, expected=expected, where=[where])


def check_uncertainty_sign(case: Exact, where: str) -> Iterator[Finding]:
    """U07: uncertainty must cost less where the images differ than where they match."""
    if "left half wrong" not in case.forms:
        return
    scene = case.forms["left half wrong"]()
    right, wrong = total_of(scene.report_at_truth), total_of(scene.report_at_wrong)
    if right > wrong + MIN_EFFECT * abs(wrong):
        measured = (
            f"{right:.4g} with Sigma high where sources are wrong, {wrong:.4g} with it high where they are correct"
        )
        expected = "less where it is high on wrong sources"
        yield finding("U07", Severity.STOP, measured=measured, expected=expected, where=[where])


def check_relief(case: Exact, where: str) -> Iterator[Finding]:
    """L06, L24: the cost of depth relief alone neither grows with the image nor changes with the unit of depth."""
    if "a camera that has not moved" not in case.forms:
        return
    relief = _relief_cost(case, "a camera that has not moved")
    least = MIN_RELIEF * abs(total_of(case.report_at_wrong))
    if relief < least:
        return
    larger = _relief_cost(case, "one that has not moved, twice the size")
    if larger > MAX_RELIEF_GROWTH * relief:
        measured = f"depth relief costs {larger / relief:.3g} times as much at twice the width and height, "
        measured += "where its gradient is half"
        expected = f"at most {MAX_RELIEF_GROWTH:g} times"
        yield finding("L06", Severity.WARN, measured=measured, expected=expected, where=[where])
    other = _relief_cost(case, "one that has not moved, in another unit")
    if abs(other - relief) > max(least, MAX_UNIT_CHANGE * relief):
        measured = f"depth relief costs {relief:.3g}, and {other:.3g} with every length doubled"
        yield finding("L24", Severity.WARN, measured=measured, expected="the same", where=[where])


def check_similarity_range(case: Exact, where: str) -> Iterator[Finding]:
    """L25: a term of structural similarity is near its maximum for noise, and so for half as much noise."""
    if "noise" not in case.forms:
        return
    none, half, noise = (_ssim_terms(one) for one in (case, case.forms["half of it noise"](), case.forms["noise"]()))
    for name, value in noise.items():
        most = value - none[name]
        share = (half[name] - none[name]) / most if most > 0 else 1.0
        if share < MIN_HALF_NOISE:
            measured = f"{name} rises by {most:.3g} for noise, and by {share:.2g} of it for half noise"
            expected = f"at least {MIN_HALF_NOISE:g} of it"
            yield finding("L25", Severity.WARN, measured=measured, expected=expected, where=[where])


def _ssim_terms(case: Exact) -> dict[str, float]:
    """Return the terms of structural similarity for the true outputs, by their names."""
    terms = getattr(case.report_at_truth, "terms", {})
    return {name: float(value) for name, value in terms.items() if "ssim" in name}


def _extra_cost(case: Exact, form: str) -> float:
    """Return the loss of a form for the true outputs, less that of the scene."""
    return total_of(case.forms[form]().report_at_truth) - total_of(case.report_at_truth)


def _cost(case: Exact, form: str) -> float:
    """Return the same; 0 where the scene has no such form, or the loss hardly depends on it."""
    cost = _extra_cost(case, form) if form in case.forms else 0.0
    return cost if cost > MIN_EFFECT * abs(total_of(case.report_at_wrong)) else 0.0


def _relief_cost(case: Exact, form: str) -> float:
    """Return the loss of the true depth less that of flat depth, where images do not distinguish them."""
    scene = case.forms[form]()
    return total_of(scene.report_at_truth) - total_of(scene.report_at_wrong)


PHOTOMETRIC_PROPERTIES = (
    check_color_minimum,
    check_pixel_minimum,
    check_uncertainty_sign,
    check_relief,
    check_similarity_range,
)
"""In the order of the checks."""
