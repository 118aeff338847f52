"""Properties that a loss must have, by order or ratio: minimum at the truth, correct gradient, invariances."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from stadia.judge.catalog import NotChecked, make_finding, make_not_checked
from stadia.judge.finding import Finding, Severity
from stadia.losses.loss_report import find_loss_errors
from stadia.training.loss_checks.loss_case import COLORS, ErrorAxis, LossCase, LossRaised, Outputs, total_of

MAX_BELOW_TRUTH = 0.003  # share of the loss's range along an axis; rounding and blur have .002
MAX_DROP_AWAY = 0.02  # share of that range by which the loss may fall off the truth: pixels leave the image one by one
OFF_KINKS = 0.01  # relative noise that moves outputs away from kinks
MIN_OUTPUT = 1e-3  # size of outputs that are 0, for the length of a change
MAX_GRADIENT_GAP = 0.05  # relative difference from finite differences; stadia's losses have 1e-3
EPSILONS = (1e-3, 1e-4, 1e-5, 1e-7)  # one must agree: long for losses that round, short for minima over sources
MAX_ROUNDING_CHANGE = 1e-5  # relative difference of two equal losses
MAX_MIRROR_CHANGE = 1e-3  # relative difference for the mirrored, resampled scene
MAX_BATCH_CHANGE = 0.01  # relative difference for a batch twice; a sum has 1
MAX_SIZE_RATIO = 2.0  # loss of doubled images over the loss; stadia's losses have .7 to 1.4, a sum has 4
MAX_COUPLING = 0.01  # relative change of an independent gradient
MIN_TERM = 1e-9  # share of the loss: a smaller term is rounding
MIN_EFFECT = 1e-3  # share of the loss that inverted sources must add; with less, the loss does not use the sources
MIN_COLOR_COST = 0.1  # cost of two inverted colors over three; here .67 to 1, a minimum over channels below .01
MAX_HALVES_COST = 0.15  # cost above the mean of inverted sources; here .03, a minimum over images .3 to .4
MIN_RELIEF = 1e-4  # share of the loss: cheaper depth relief is not checked
MAX_RELIEF_GROWTH = 1.4  # cost in images twice as large over the cost; stadia's losses have .5
MAX_UNIT_CHANGE = 0.01  # relative change of the cost of relief by the unit of length
# Rise of a term with half noise over its rise with noise; SSIM has .75, with constants for 255 .25.
MIN_HALF_NOISE = 0.5


def check_output(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if the loss raises an exception (L11), or does not return one number that has a gradient (L12).

    case: the loss and a scene whose right outputs are known.
    """
    given = {name: value.detach().clone().requires_grad_() for name, value in case.off.items()}
    try:
        report = case.report(given)
    except LossRaised as error:
        yield make_finding("L11", Severity.STOP, str(error), "a report of the loss")
        return
    total = getattr(report, "total", None)
    if not isinstance(total, Tensor):
        kind = type(report).__name__
        found = f"{kind} without a total" if total is None else f"a total that is {type(total).__name__}"
    elif total.ndim or total.numel() != 1:
        found = f"a total of shape {tuple(total.shape)}"
    elif not total.requires_grad:
        found = "a total without a gradient"
    else:
        return
    yield make_finding("L12", Severity.STOP, found, "a LossReport whose total is one number with a gradient")


def check_minimum(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if the loss is not smallest at the right output.

    The finding's code shows the output: depth (L01), mask or pose of objects (L17), camera motion (P01),
        or brightness (B01).

    case: the loss and a scene whose right outputs are known.
    """
    for axis in case.axes:
        values = _along(case, axis)
        best, span = min(values, key=values.__getitem__), _range(values)
        if values[best] < values[axis.right] - MAX_BELOW_TRUTH * span:
            measured = f"smallest at {best:g} ({axis.name}), {values[best]:.4g}; {values[axis.right]:.4g} at the truth"
            expected = f"smallest at {axis.right:g}"
            yield make_finding(axis.code, Severity.STOP, measured, expected, evidence=_table_of(axis, values))


def check_monotonic(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the loss decreases while an output moves away from its true value (L02).

    case: the loss and a scene whose right outputs are known.
    """
    for axis in case.axes:
        values = _along(case, axis)
        if min(values, key=values.__getitem__) != axis.right:
            continue
        slack = MAX_DROP_AWAY * _range(values)
        above = sorted(x for x in values if x >= axis.right)
        below = sorted((x for x in values if x <= axis.right), reverse=True)
        for side in (above, below):
            if falls := [(a, b) for a, b in pairwise(side) if values[b] < values[a] - slack]:
                (near, far), *_ = falls
                measured = f"{values[far]:.4g} at {far:g} ({axis.name}), "
                measured += f"{values[near]:.4g} at {near:g}, nearer to the truth"
                expected = "larger, further from the truth"
                yield make_finding("L02", Severity.WARN, measured, expected, evidence=_table_of(axis, values))


def check_gradient_exists(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if an output that can be wrong gets no gradient from the loss (L10).

    case: the loss and a scene whose right outputs are known.
    """
    wrong = [item for axis in case.axes for outputs in axis.outputs.values() for item in outputs.items()]
    moved = {name for name, value in wrong if value is not case.right[name]}
    flat = sorted(name for name in moved if not case.gradients[name].any())
    if flat:
        yield make_finding("L10", Severity.STOP, f"no gradient for {' and '.join(flat)}", "one for each")


def check_gradient(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the gradient does not match finite differences along a random direction (L03).

    If it does not, outputs a little away are tried, too, since the loss may have a kink.

    case: the loss and a scene whose right outputs are known.
    """
    if not (wrong := dict(_compare_gradients(case))):
        return
    generator = torch.Generator().manual_seed(1)
    moved = {}
    for name, value in case.off.items():
        size = torch.maximum(value.abs(), value.abs().mean().clamp(min=MIN_OUTPUT))
        moved[name] = value + OFF_KINKS * size * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    beside = replace(case, off=moved)
    if _not_finite(*beside.total_and_gradients_at_wrong):  # the outputs left the loss's range
        yield from wrong.values()
        return
    again = dict(_compare_gradients(beside))
    yield from (finding for name, finding in wrong.items() if name in again)


def _compare_gradients(case: LossCase) -> Iterator[tuple[str, Finding]]:
    generator = torch.Generator().manual_seed(0)
    for name, gradient in case.gradients.items():
        if not gradient.any():
            continue
        # Random weights per pixel along the gradient: other directions may be flat.
        direction = gradient * (0.5 + torch.rand(gradient.shape, generator=generator, dtype=gradient.dtype))
        direction = direction / direction.abs().max() * case.off[name].abs().mean().clamp(min=MIN_OUTPUT)
        predicted = float((gradient * direction).sum())
        max_gap = case.loose.get(name, MAX_GRADIENT_GAP)
        slopes: dict[float, float] = {}
        for step in EPSILONS:
            slopes[step] = slope = _difference(case, name, direction, step)
            if abs(slope - predicted) <= max_gap * max(abs(predicted), abs(slope)):
                break
        else:
            nearest = min(slopes.values(), key=lambda slope: abs(slope - predicted))
            measured = f"the gradient of {name} is {predicted:.4g}, finite differences {nearest:.4g}"
            table = {"step": list(slopes), "slope": list(slopes.values())}
            evidence = {"differences": table, "gradient": predicted}
            expected = f"the same within {max_gap:.0%}"
            yield name, make_finding("L03", Severity.WARN, measured, expected, evidence=evidence)


def check_sample_independence(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the gradient of a sample depends on the other samples of the batch (L04).

    case: the loss and a scene whose right outputs are known.
    """
    beside = case.gradients_at({name: torch.cat((value[:1], case.right[name][1:])) for name, value in case.off.items()})
    for name, gradient in case.gradients.items():
        if (change := _relative_change(gradient[0], beside[name][0])) > MAX_COUPLING:
            measured = f"the gradient of a sample's {name} changes by {change:.0%} with another sample of the batch"
            yield make_finding("L04", Severity.WARN, measured, f"at most {MAX_COUPLING:.0%}")


def check_mean_reduction(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the loss grows with the number of samples (L05), or with the size of the images (L06).

    case: the loss and a scene whose right outputs are known.
    """
    ratio = _ratio(case, "twice the batch")
    if ratio and abs(ratio - 1) > MAX_BATCH_CHANGE:
        yield make_finding("L05", Severity.WARN, f"{ratio:.3g} times the loss for the same batch twice", "1")
    ratio = _ratio(case, "twice the size")
    if ratio and not 1 / MAX_SIZE_RATIO <= ratio <= MAX_SIZE_RATIO:
        measured = f"{ratio:.3g} times the loss for the same scene at twice the width and height"
        yield make_finding("L06", Severity.WARN, measured, f"{1 / MAX_SIZE_RATIO:g} to {MAX_SIZE_RATIO:g} times")


def check_source_order(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the loss depends on the order of the source images (L07).

    case: the loss and a scene whose right outputs are known.
    """
    ratio = _ratio(case, "sources in another order")
    if ratio and abs(ratio - 1) > MAX_ROUNDING_CHANGE:
        yield make_finding("L07", Severity.WARN, f"{ratio:.4g} times the loss", "1")


def check_mirroring(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the loss of the mirrored scene is different (L08).

    case: the loss and a scene whose right outputs are known.
    """
    ratio = _ratio(case, "mirrored")
    if ratio and abs(ratio - 1) > MAX_MIRROR_CHANGE:
        yield make_finding("L08", Severity.WARN, f"{ratio:.4g} times the loss", f"1 within {MAX_MIRROR_CHANGE:g}")


def check_extreme_inputs(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if loss or gradient is not finite at the right outputs, or for rare images and labels (L09).

    case: the loss and a scene whose right outputs are known.
    """
    scenes = {"the true outputs": find_not_finite(case, case.right)}
    for name, make in case.hostile.items():
        scenes[name] = _not_finite(*make().total_and_gradients_at_wrong)
    for fault in dict.fromkeys(filter(None, scenes.values())):
        names = ", ".join(name for name, wrong in scenes.items() if wrong == fault)
        yield make_finding("L09", Severity.WARN, f"{fault} for {names}", "finite numbers")


def check_term_sum(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if the total of the loss is not the sum of its terms, or a term is below its minimum (L13).

    case: the loss and a scene whose right outputs are known.
    """
    for report in (case.report_at_truth, case.report_at_wrong):
        terms = {name: float(value) for name, value in getattr(report, "terms", {}).items()}
        if broken := find_loss_errors(total_of(report), terms, getattr(report, "least", {}), torch.float32):
            expected = "the sum of its terms, each at least at its minimum"
            yield make_finding("L13", Severity.STOP, "; ".join(broken), expected)
            return


def check_finite(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if the loss or its gradient is not finite for usual images and moderately wrong outputs (L09).

    case: the loss and a scene whose right outputs are known.
    """
    if wrong := _not_finite(*case.total_and_gradients_at_wrong):
        measured = f"{wrong} for usual images and moderately wrong outputs"
        yield make_finding("L09", Severity.STOP, measured, "finite numbers")


def check_determinism(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if two calls with the same outputs return different losses (L14).

    case: the loss and a scene whose right outputs are known.
    """
    first, second = total_of(case.report_at_wrong), case.total_and_gradients_at_wrong[0]
    if abs(first - second) > MAX_ROUNDING_CHANGE * max(abs(first), abs(second)):
        yield make_finding("L14", Severity.WARN, f"{first:.6g}, then {second:.6g}", "the same")


def check_inputs_unchanged(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if the loss modifies its inputs (L15).

    This check runs first, because a second call might modify nothing more.

    case: the loss and a scene whose right outputs are known.
    """
    shown = {**case.shown, **{f"the prediction's {name}": value for name, value in case.off.items()}}
    before = {name: value.clone() for name, value in shown.items()}
    with contextlib.suppress(Exception):  # `check_output` reports it
        _ = case.report_at_wrong
    changed = [name for name, value in shown.items() if not torch.equal(value, before[name])]
    if changed:
        yield make_finding("L15", Severity.STOP, f"{', '.join(changed)} modified", "nothing changed")


def check_locality(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if a change at one end of the image alters gradients at its other end (L16).

    case: the loss and a scene whose right outputs are known.
    """
    if "first tenth changed" not in case.forms:
        return
    here, there = case.gradients, case.forms["first tenth changed"]().gradients
    for name in [name for name in ("inverse_depth", "log_uncertainty") if name in here]:
        half = here[name].shape[-1] // 2
        if (change := _relative_change(here[name][..., half:], there[name][..., half:])) > MAX_COUPLING:
            measured = f"gradients of {name} change by {change:.0%} with the other end of the image"
            yield make_finding("L16", Severity.WARN, measured, f"at most {MAX_COUPLING:.0%}")


def check_unlabeled(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if pixels without a label have a gradient (L18).

    case: the loss and a scene whose right outputs are known.
    """
    for name, unknown in case.unlabeled.items():
        size = case.gradients[name].abs()
        if (share := float(size[unknown].sum() / size.sum().clamp(min=1e-30))) > 0:
            measured = f"{share:.0%} of the gradient of {name} is at pixels without a label"
            yield make_finding("L18", Severity.STOP, measured, "0")


def check_color_minimum(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the minimum over source images is taken for each color channel separately (L19).

    Then inverting two of the three colors of all source images costs almost nothing.

    case: the loss and a scene whose right outputs are known.
    """
    if not (whole := _cost(case, "every source wrong")):
        return
    shares = {color: _extra_cost(case, f"every source wrong but for {color}") / whole for color in COLORS}
    if max(shares.values()) < MIN_COLOR_COST:
        listed = ", ".join(f"{share:.1%} if only {color} is correct" for color, share in shares.items())
        measured = f"{listed}, of the cost of wrong sources"
        yield make_finding("L19", Severity.WARN, measured, f"at least {MIN_COLOR_COST:.0%}")


def check_pixel_minimum(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the minimum over source images is taken over whole images instead of each pixel (L16).

    If the first source image is wrong in one half and the second in the other, a minimum of each pixel always finds a
    right source. A minimum over whole images does not: it costs more than one source that is wrong everywhere, on mean.

    case: the loss and a scene whose right outputs are known.
    """
    if "each wrong in another half" not in case.forms or not (whole := _cost(case, "every source wrong")):
        return
    either = [_extra_cost(case, form) / whole for form in ("the first source wrong", "the other sources wrong")]
    mean, halves = sum(either) / 2, _extra_cost(case, "each wrong in another half") / whole
    if halves > mean + MAX_HALVES_COST:
        measured = f"sources wrong in one half each cost {halves:.0%} of wrong sources, "
        measured += f"either wrong everywhere {mean:.0%} (mean)"
        yield make_finding("L16", Severity.WARN, measured, f"at most {MAX_HALVES_COST:.0%} more than this mean")


def check_uncertainty_sign(case: LossCase) -> Iterator[Finding]:
    """Yield a stop if the loss rewards a high uncertainty where images match instead of where they differ (U07).

    case: the loss and a scene whose right outputs are known.
    """
    if "left half wrong" not in case.forms:
        return
    scene = case.forms["left half wrong"]()
    right, wrong = total_of(scene.report_at_truth), total_of(scene.report_at_wrong)
    if right > wrong + MIN_EFFECT * abs(wrong):
        measured = f"{right:.4g} with Sigma high on wrong sources, {wrong:.4g} with Sigma high on correct ones"
        yield make_finding("U07", Severity.STOP, measured, "less with high Sigma on wrong sources")


def check_relief(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if the cost of rough depth grows with the image (L06), or depends on the unit of depth (L24).

    case: the loss and a scene whose right outputs are known.
    """
    if "a camera that has not moved" not in case.forms:
        return
    relief, least = _relief_cost(case, "a camera that has not moved"), MIN_RELIEF * abs(total_of(case.report_at_wrong))
    if relief < least:
        return
    larger = _relief_cost(case, "one that has not moved, twice the size")
    if larger > MAX_RELIEF_GROWTH * relief:
        measured = f"depth relief costs {larger / relief:.3g} times more "
        measured += "at twice the width and height, with half the gradient"
        yield make_finding("L06", Severity.WARN, measured, f"at most {MAX_RELIEF_GROWTH:g} times")
    doubled = _relief_cost(case, "one that has not moved, in another unit")
    if abs(doubled - relief) > max(least, MAX_UNIT_CHANGE * relief):
        measured = f"depth relief costs {relief:.3g}, and {doubled:.3g} with every length doubled"
        yield make_finding("L24", Severity.WARN, measured, "the same")


def check_similarity_range(case: LossCase) -> Iterator[Finding]:
    """Yield a warning if structural similarity (SSIM) is saturated (L25).

    Then a similarity term is near its maximum for half as much noise as for noise alone, as with a wrong range of
    pixel values.

    case: the loss and a scene whose right outputs are known.
    """
    if "noise" not in case.forms:
        return
    none, half, noise = (
        _ssim_terms(scene) for scene in (case, case.forms["half of it noise"](), case.forms["noise"]())
    )
    for name, value in noise.items():
        most = value - none[name]
        share = (half[name] - none[name]) / most if most > 0 else 1.0
        if share < MIN_HALF_NOISE:
            measured = f"{name} rises by {most:.3g} for noise, and by {share:.2g} of it for half noise"
            yield make_finding("L25", Severity.WARN, measured, f"at least {MIN_HALF_NOISE:g} of it")


def check_terms_measured(case: LossCase) -> Iterator[Finding]:
    """Yield a note for each term of the loss that is 0 for all outputs of the scene, so that it was not checked (N01).

    case: the loss and a scene whose right outputs are known.
    """
    outputs = [case.right, case.off, *(outputs for axis in case.axes for outputs in axis.outputs.values())]
    unseen = set(getattr(case.report_at_truth, "terms", {}))
    with torch.no_grad():
        for given in outputs:
            if not unseen:
                return
            report = case.report(given)
            least = MIN_TERM * abs(total_of(report))
            unseen = {name for name in unseen if name in report.terms and abs(float(report.terms[name])) <= least}
    left_out = set(case.left_out)
    for name in [name for name in case.report_at_truth.terms if name in unseen]:
        if (term := name.split("/")[-1]) in left_out:
            left_out.remove(term)  # a second term of this name is another one
            continue
        yield make_not_checked(f"term {name}", f"{name} is 0 on this scene", case="loss_term")


def _along(case: LossCase, axis: ErrorAxis) -> dict[float, float]:
    values = case.along[axis.name]
    if not all(map(math.isfinite, values.values())):
        raise NotChecked(f"the loss is not finite along {axis.name}")
    return values


def _table_of(axis: ErrorAxis, values: Mapping[float, float]) -> dict[str, object]:
    return {"values": {axis.name: list(values), "loss": list(values.values())}}


def _not_finite(value: float, gradients: Mapping[str, Tensor]) -> str:
    if not math.isfinite(value):
        return f"the loss is {value:g}"
    broken = next((name for name, gradient in gradients.items() if not gradient.isfinite().all()), None)
    return f"the gradient of {broken} is not finite" if broken else ""


def find_not_finite(case: LossCase, outputs: Outputs) -> str:
    """Describe what is NaN or infinite in a loss and its gradient at given outputs; "" if all is finite.

    case: the loss.
    outputs: outputs by name.
    """
    return _not_finite(*case.total_and_gradients_at(outputs))


def _range(values: Mapping[float, float]) -> float:
    return max(values.values()) - min(values.values())


def _difference(case: LossCase, name: str, direction: Tensor, step: float) -> float:
    with torch.no_grad():
        moved = ({**case.off, name: case.off[name] + sign * step * direction} for sign in (1, -1))
        above, below = (total_of(case.report(outputs)) for outputs in moved)
    return (above - below) / (2 * step)


def _relative_change(before: Tensor, after: Tensor) -> float:
    size = max(float(before.norm()), float(after.norm()))
    return float((after - before).norm()) / size if size else 0.0


def _ratio(case: LossCase, form: str) -> float:
    """Return the loss of a variant over the scene's; 0 without this variant, or for a loss of 0."""
    value = total_of(case.report_at_wrong)
    return total_of(case.forms[form]().report_at_wrong) / value if form in case.forms and value else 0.0


def _ssim_terms(case: LossCase) -> dict[str, float]:
    terms = getattr(case.report_at_truth, "terms", {})
    return {name: float(value) for name, value in terms.items() if "ssim" in name}


def _extra_cost(case: LossCase, form: str) -> float:
    """Return the loss of a form for the true outputs, less the scene's."""
    return total_of(case.forms[form]().report_at_truth) - total_of(case.report_at_truth)


def _cost(case: LossCase, form: str) -> float:
    """Return the same; 0 without this form, or if the loss hardly depends on it."""
    cost = _extra_cost(case, form) if form in case.forms else 0.0
    return cost if cost > MIN_EFFECT * abs(total_of(case.report_at_wrong)) else 0.0


def _relief_cost(case: LossCase, form: str) -> float:
    scene = case.forms[form]()
    return total_of(scene.report_at_truth) - total_of(scene.report_at_wrong)


PROPERTIES = (  # Losses of all kinds are tested first, photometric ones after them.
    check_minimum,
    check_monotonic,
    check_gradient_exists,
    check_gradient,
    check_sample_independence,
    check_mean_reduction,
    check_source_order,
    check_mirroring,
    check_extreme_inputs,
    check_term_sum,
    check_locality,
    check_unlabeled,
    check_color_minimum,
    check_pixel_minimum,
    check_uncertainty_sign,
    check_relief,
    check_similarity_range,
    check_terms_measured,
)

BASIC_PROPERTIES = (check_inputs_unchanged, check_output, check_finite, check_determinism)
"""Checks of a loss that must pass before the remaining ones (PROPERTIES) are meaningful."""
