"""Laws of a loss that compares images: how it puts sources, colors, uncertainty and smoothness together (specification
4.1 A, C8).

Each is asked by order or by shares, so that a loss of another kind (of labels, without a minimum, without smoothness)
keeps it as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.contract.bounds import MIN_COLOR_COST, MAX_RELIEF_GROWTH, MIN_HALF_NOISE, MAX_HALVES_COST, MIN_RELIEF, MAX_UNIT_CHANGE, MIN_EFFECT
from stadia.diagnostics.contract.exact import COLORS, Exact, total_of
from stadia.diagnostics.finding import Finding, Severity


def a_color_is_not_enough(exact: Exact, where: str) -> Iterator[Finding]:
    """L19: two wrong colors of three cost something: the minimum is over sources, not over their colors."""
    if not (whole := _cost(exact, "every source wrong")):
        return
    shares = {color: _above(exact, f"every source wrong but for {color}") / whole for color in COLORS}
    if max(shares.values()) < MIN_COLOR_COST:
        told = ", ".join(f"{share:.1%} where {color} is right" for color, share in shares.items())
        yield finding(
            "L19",
            Severity.WARN,
            measured=f"{told}, of what wrong sources cost",
            expected=f"{A_COLOR:.0%} at least",
            where=[where],
        )


def sources_compete_in_each_pixel(exact: Exact, where: str) -> Iterator[Finding]:
    """L16: sources that are wrong in one half each cost what either does that is wrong all over, half of each: by
    minimum, mean or sum.
    """
    if "each wrong in another half" not in exact.forms or not (whole := _cost(exact, "every source wrong")):
        return
    either = [_above(exact, form) / whole for form in ("the first source wrong", "the other sources wrong")]
    halves = _above(exact, "each wrong in another half") / whole
    if halves > sum(either) / 2 + MAX_HALVES_COST:
        measured = (
            f"sources wrong in one half each cost {halves:.0%} of what wrong ones do, either wrong all over"
            f" {sum(either) / 2:.0%} (mean)"
        )
        expected = f"at most {HALVES:.0%} more than that mean"
        yield finding("L16", Severity.WARN, measured=measured, expected=expected, where=[where])


def doubt_is_where_errors_are(exact: Exact, where: str) -> Iterator[Finding]:
    """U07: uncertainty costs less where the images differ than where they are alike."""
    if "left half wrong" not in exact.forms:
        return
    scene = exact.forms["left half wrong"]()
    right, wrong = total_of(scene.at_right), total_of(scene.at_off)
    if right > wrong + MIN_EFFECT * abs(wrong):
        measured = f"{right:.4g} with Sigma high where sources are wrong, {wrong:.4g} with it high where they are right"
        yield finding(
            "U07", Severity.STOP, measured=measured, expected="less where it is high on what is wrong", where=[where]
        )


def relief_is_a_mean(exact: Exact, where: str) -> Iterator[Finding]:
    """L06, L24: what depth's relief costs by itself neither grows with the image nor changes with depth's unit."""
    if "a camera that has not moved" not in exact.forms:
        return
    relief, least = _relief(exact, "a camera that has not moved"), MIN_RELIEF * abs(total_of(exact.at_off))
    if relief < least:
        return
    larger = _relief(exact, "one that has not moved, twice the size")
    if larger > MAX_RELIEF_GROWTH * relief:
        measured = (
            f"depth's relief costs {larger / relief:.3g} times as much at twice the width and height, where it is half"
            " as steep"
        )
        yield finding("L06", Severity.WARN, measured=measured, expected=f"at most {COARSER:g} times", where=[where])
    other = _relief(exact, "one that has not moved, in another unit")
    if abs(other - relief) > max(least, MAX_UNIT_CHANGE * relief):
        measured = f"depth's relief costs {relief:.3g}, and {other:.3g} with every length twice as large"
        yield finding("L24", Severity.WARN, measured=measured, expected="the same", where=[where])


def similarity_tells(exact: Exact, where: str) -> Iterator[Finding]:
    """L25: a term of structural similarity is near its largest value of noise, and so of half as much."""
    if "noise" not in exact.forms:
        return
    nothing, half, noise = (
        _similarities(one) for one in (exact, exact.forms["half of it noise"](), exact.forms["noise"]())
    )
    for name, value in noise.items():
        most = value - nothing[name]
        if most > 0 and half[name] - nothing[name] < MIN_HALF_NOISE * most:
            measured = (
                f"{name} rises by {most:.3g} where all is noise, by {(half[name] - nothing[name]) / most:.2g} of it"
                " where half is"
            )
            yield finding(
                "L25", Severity.WARN, measured=measured, expected=f"{HALF_NOISE:g} of it at least", where=[where]
            )


def _similarities(exact: Exact) -> dict[str, float]:
    """The terms of structural similarity at the right answer, by their names."""
    return {name: float(value) for name, value in getattr(exact.at_right, "terms", {}).items() if "ssim" in name}


def _above(exact: Exact, form: str) -> float:
    """What a form costs more at the right answer than the scene."""
    return total_of(exact.forms[form]().at_right) - total_of(exact.at_right)


def _cost(exact: Exact, form: str) -> float:
    """The same; 0 where the scene has no such form, or the loss hardly sees it."""
    cost = _above(exact, form) if form in exact.forms else 0.0
    return cost if cost > MIN_EFFECT * abs(total_of(exact.at_off)) else 0.0


def _relief(exact: Exact, form: str) -> float:
    """What the right depth costs more than flat depth where images tell them not apart."""
    scene = exact.forms[form]()
    return total_of(scene.at_right) - total_of(scene.at_off)


COMPARING = (
    a_color_is_not_enough,
    sources_compete_in_each_pixel,
    doubt_is_where_errors_are,
    relief_is_a_mean,
    similarity_tells,
)
"""In the order in which they are asked."""
