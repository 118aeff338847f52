"""A term that a user adds to the loss of a recipe: the loss checks see it beside a much larger loss."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tests.mutations import losses
from torch import Tensor

from stadia.judge.finding import Finding
from stadia.losses import SMOOTHNESS
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.training.loss_checks.loss_case import LossCase, Outputs
from stadia.training.loss_checks.loss_check_runner import (
    check_added_loss,
    check_constant_depth,
    check_edge_weights,
    check_tiles,
)
from stadia.training.loss_checks.video_cases import make_video_case

pytestmark = pytest.mark.slow

Term = Callable[[Tensor], Tensor]
ImageTerm = Callable[[Tensor, Tensor], Tensor]

SHARED = {"loss": losses.WITH_PAIR, "loss of neighbors in time": losses.VIDEO}


def bend_of(values: Tensor) -> Tensor:
    return values.diff(n=2, dim=-1).abs().mean() + values.diff(n=2, dim=-2).abs().mean()


def relative_bend(inverse_depth: Tensor) -> Tensor:
    return bend_of(inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True))


def huber_slope(inverse_depth: Tensor) -> Tensor:
    slope = inverse_depth.log().diff(dim=-1)
    return torch.nn.functional.huber_loss(slope, slope * 0, delta=0.02)


def case_of(
    term: Term, weight: float = 0.5, source_names: Sequence[str] = losses.VIDEO, given: float = 1.0
) -> LossCase:
    def change(photometric: LossReport, outputs: Outputs) -> LossReport:
        value = term(outputs["inverse_depth"])
        mine = LossReport(value, {"bend": value.detach()}, {})
        return combine_losses({"selfsup": (given, photometric), "mine": (weight, mine)})

    return make_video_case(losses.package_loss, source_names).change_loss(change)


def findings(term: Term, weight: float = 0.5) -> list[Finding]:
    return list(check_added_loss(case_of(term, weight)))


@pytest.mark.parametrize(
    ("term", "weight", "code", "measured"),
    [
        (lambda d: len(d) * relative_bend(d), 0.5, "L05", "2 times the loss for the same batch twice"),
        (relative_bend, -0.5, "L01", "with 10% noise"),
        (bend_of, 0.5, "L24", "with every length doubled"),
        (lambda d: relative_bend(d).detach(), 0.5, "L10", "has no gradient"),
        (lambda d: relative_bend(d.flip(0)), 0.5, None, ""),
        (lambda d: bend_of(d / d.mean()), 0.5, "L04", "with another sample of the batch"),
    ],
    ids=["summed over the batch", "negated", "not normalised", "detached", "sound", "mean of the batch"],
)
def test_broken_terms_are_reported_however_small_their_share(
    term: Term, weight: float, code: str | None, measured: str
) -> None:
    found = {finding.code: finding.measured for finding in findings(term, weight)}
    assert measured in found[code] if code else not found
    assert {finding.code for finding in findings(term, weight / 1e3)} == found.keys()


# -- weights at edges of the image


def slopes(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.log().diff(dim=-1).abs(), values.log().diff(dim=-2).abs()


def color_steps(image: Tensor) -> tuple[Tensor, Tensor]:
    return image.diff(dim=-1).mean(1, keepdim=True), image.diff(dim=-2).mean(1, keepdim=True)


def weighted(weigh: Callable[[Tensor], Tensor], shift: int = 0) -> ImageTerm:
    """Slopes of log inverse depth, with weights by the signed steps of the image `shift` pixels beside them."""

    def term(inverse_depth: Tensor, image: Tensor) -> Tensor:
        pairs = zip(slopes(inverse_depth), color_steps(image), (-1, -2), strict=True)
        return torch.stack([(slope * weigh(step.roll(shift, dim))).mean() for slope, step, dim in pairs]).sum()

    return term


def edge_case_of(term: ImageTerm) -> LossCase:
    def change(photometric: LossReport, outputs: Outputs) -> LossReport:
        value = term(outputs["inverse_depth"], outputs["image"])
        mine = LossReport(value, {"slope": value.detach()}, {})
        return combine_losses({"selfsup": (1.0, photometric), "mine": (0.5, mine)})

    return make_video_case(losses.package_loss, losses.VIDEO).change_loss(change)


def test_a_term_may_have_weights_at_the_edges_of_the_image() -> None:
    """As in training: the image is that of the scene, at its size and of its batch, and is no output."""
    case = edge_case_of(weighted(lambda step: (-step.abs()).exp()))
    assert [*check_added_loss(case), *check_edge_weights(case)] == []
    assert "image" not in case.gradients


@pytest.mark.parametrize(
    ("term", "measured"),
    [
        (
            weighted(lambda step: step.abs().exp()),
            "costs 1.49 with an image edge in the same place (dark to bright), 1",
        ),
        (weighted(lambda step: (-step).exp()), "costs 1.49 with an image edge in the same place (bright to dark), 1"),
        (weighted(lambda step: (-step.abs()).exp(), shift=1), "costs 1 with an image edge in the same place"),
        (weighted(lambda step: (-step.abs()).exp(), shift=-1), ".67 with one 1 px away, 1 without"),
    ],
    ids=["without the minus", "without the absolute value", "one pixel before", "one pixel behind"],
)
def test_weights_that_do_not_fall_at_an_edge_are_reported(term: ImageTerm, measured: str) -> None:
    (found,) = check_edge_weights(edge_case_of(term))
    assert found.code == "L26"
    assert measured in found.measured
    table = found.evidence["values"]
    assert min(table["cost"]) < table["cost"][table["offset of the image edge from the depth edge, px"].index(0)]


def charbonnier(values: Tensor, eps: float = 1e-3) -> Tensor:
    return (values.square() + eps**2).sqrt()


def log_bend(
    pick: Callable[[Tensor, Tensor], Tensor] = torch.maximum,
    reduce: Callable[[Tensor], Tensor] = torch.mean,
    eps: float = 1e-3,
) -> ImageTerm:
    """Second differences of log inverse depth, with weights by the two steps of the image beside each."""

    def term(inverse_depth: Tensor, image: Tensor) -> Tensor:
        total = inverse_depth.new_zeros(())
        for step, dim in zip(color_steps(image), (-1, -2), strict=True):
            size = step.shape[dim] - 1
            weight = (-pick(step.abs().narrow(dim, 0, size), step.abs().narrow(dim, 1, size))).exp()
            total = total + reduce(charbonnier(inverse_depth.log().diff(n=2, dim=dim), eps) * weight)
        return total

    return term


@pytest.mark.parametrize(
    "term",
    [
        log_bend(lambda before, behind: before),
        lambda depth, image: (
            (depth / depth.mean()).diff(n=2, dim=-1).abs() * (-color_steps(image)[0].abs()).exp()[..., 1:]
        ).mean(),
    ],
    ids=["step before", "step behind, of inverse depth"],
)
def test_second_differences_weighted_by_one_image_step_are_reported(term: ImageTerm) -> None:
    (finding,) = check_edge_weights(edge_case_of(term))
    assert finding.code == "L26"
    assert "with an image edge 1 px before it" in finding.measured
    table = dict(zip(*finding.evidence["values"].values(), strict=True))
    assert abs(table[1] - table[-1]) > 0.05
    assert "both sides" in finding.expected


SILENT: dict[str, ImageTerm] = {
    **{name: SMOOTHNESS.load(name) for name in SMOOTHNESS},
    "of depth alone": lambda depth, image: relative_bend(depth),
    "bend of the logarithm": log_bend(),
    "edges of depth at edges": lambda depth, image: -(slopes(depth)[0] * color_steps(image)[0].abs()).mean(),
}


@pytest.mark.parametrize("name", SILENT)
def test_sound_weights_and_other_uses_of_the_image_have_no_finding(name: str) -> None:
    case = edge_case_of(SILENT[name])
    assert [*check_edge_weights(case), *check_constant_depth(case), *check_tiles(case)] == []


# -- sums over pixels, and roots at constant depth
