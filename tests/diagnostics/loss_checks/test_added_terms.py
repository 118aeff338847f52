"""A term that a user adds to the loss of a recipe: the loss checks see it beside a much larger loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from mutations import losses
from torch import Tensor

from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.loss_checks.added_term_checks import (
    add_depth_noise,
    check_added_loss,
    check_constant_depth,
    check_edge_weights,
    check_tiles,
)
from stadia.diagnostics.loss_checks.loss_case import LossCase, Outputs
from stadia.diagnostics.loss_checks.loss_check_runner import check_losses
from stadia.diagnostics.loss_checks.loss_properties import check_terms_measured
from stadia.diagnostics.loss_checks.video_cases import OutputSpec, make_video_case
from stadia.losses import SMOOTHNESS
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.losses.reprojection import TorchReprojector
from stadia.losses.selfsup_loss import SelfSupervisedLoss

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


@pytest.mark.parametrize("term", [relative_bend, huber_slope])
def test_sound_terms_have_no_finding(term: Term) -> None:
    assert check_losses({"loss": case_of(term)}) == []


@pytest.mark.parametrize(
    ("term", "weight", "code", "measured"),
    [
        (lambda d: len(d) * relative_bend(d), 0.5, "L05", "2 times the loss for the same batch twice"),
        (relative_bend, -0.5, "L01", "with 10% noise"),
        (bend_of, 0.5, "L24", "with every length doubled"),
        (lambda d: bend_of(1 / d), 0.5, "L24", "with every length doubled"),
        (lambda d: relative_bend(d).detach(), 0.5, "L10", "and has no gradient"),
        (lambda d: relative_bend(d.flip(0)), 0.5, None, ""),
        (lambda d: bend_of(d / d.mean()), 0.5, "L04", "with another sample of the batch"),
    ],
    ids=["summed over the batch", "negated", "not normalised", "of depth", "detached", "sound", "mean of the batch"],
)
def test_broken_terms_are_reported_however_small_their_share(
    term: Term, weight: float, code: str | None, measured: str
) -> None:
    found = {finding.code: finding.measured for finding in findings(term, weight)}
    assert measured in found[code] if code else not found
    assert {finding.code for finding in findings(term, weight / 1e3)} == found.keys()


@pytest.mark.parametrize("given", [0.5, 2.0])
def test_another_weight_of_the_given_loss_is_no_added_term(given: float) -> None:
    """The given loss rises with noise, so half of it is less: that rewards no noise."""
    assert list(check_added_loss(case_of(huber_slope, 0.1, given=given))) == []
    (found,) = check_added_loss(case_of(relative_bend, -0.5, given=given))
    assert (found.code, str(found.severity)) == ("L01", "warn")


@pytest.mark.parametrize("target_m", [7.9, 8.1, 30.0])
def test_prior_on_mean_depth_rewards_no_noise(target_m: float) -> None:
    """The scene is near 8 m: noise moves the mean a little, towards the target or away from it."""

    def prior(inverse_depth: Tensor) -> Tensor:
        return (inverse_depth.log().mean(dim=(1, 2, 3)) + math.log(target_m)).square().mean()

    assert "L01" not in [finding.code for finding in findings(prior)]


def test_reward_for_noise_has_evidence_with_what_was_measured() -> None:
    (found,) = (finding for finding in findings(relative_bend, -0.5) if finding.code == "L01")
    table = found.evidence["values"]
    assert table["noise of depth"] == [0.0, 0.025, 0.05, 0.1]
    assert table["what is added"] == sorted(table["what is added"], reverse=True)
    assert found.evidence["added at the true depth"] == table["what is added"][0]
    assert found.evidence["change"] == table["what is added"][-1] - table["what is added"][0] < 0


def test_finding_of_a_term_that_several_losses_have_is_returned_once() -> None:
    cases = {name: case_of(relative_bend, -0.5, sources) for name, sources in SHARED.items()}
    (found,) = (finding for finding in check_losses(cases) if "what is added" in finding.measured)
    assert found.where == tuple(SHARED)


def test_term_of_maps_gets_those_of_its_outputs() -> None:
    def change(photometric: LossReport, outputs: Outputs) -> LossReport:
        value = photometric.maps["residual"].mean() * outputs["inverse_depth"].square().mean()
        mine = LossReport(value, {"weighted": value.detach()}, {})
        return combine_losses({"selfsup": (1.0, photometric), "mine": (1.0, mine)})

    given = make_video_case(losses.package_loss, losses.VIDEO)
    case = given.change_loss(change)
    assert case.added is not None
    for outputs in (case.right, case.off, add_depth_noise(case.right, 0.1)):
        expected = float(change(given.report(outputs), outputs).terms["mine/weighted"])
        assert float(case.added.report(outputs).total) == pytest.approx(expected, rel=1e-12)


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
        (weighted(lambda step: (-step.abs()).exp(), shift=-1), ".67 with one 1 px beside it, 1 without"),
    ],
    ids=["without the minus", "without the absolute value", "one pixel before", "one pixel behind"],
)
def test_weights_that_do_not_fall_at_an_edge_are_reported(term: ImageTerm, measured: str) -> None:
    (found,) = check_edge_weights(edge_case_of(term))
    assert found.code == "L26"
    assert measured in found.measured
    table = found.evidence["values"]
    assert min(table["cost"]) < table["cost"][table["image edge beside that of depth, px"].index(0)]


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


def central_steps(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Forward differences of depth, weighted by central differences of the image, as by a Sobel filter."""
    step = (image[..., 2:] - image[..., :-2]).mean(1, keepdim=True).abs()
    return (slopes(inverse_depth)[0][..., 1:] * (-step).exp()).mean()


SILENT: dict[str, ImageTerm] = {
    **{name: SMOOTHNESS.load(name) for name in SMOOTHNESS},
    "of depth alone": lambda depth, image: relative_bend(depth),
    "central steps of the image": central_steps,
    "bend of the logarithm": log_bend(),
    "of the image alone": lambda depth, image: image.diff(dim=-1).abs().mean() + 0 * depth.mean(),
    "by brightness": lambda depth, image: (slopes(depth)[0] * image.mean(1, keepdim=True)[..., 1:]).mean(),
    "edges of depth at edges": lambda depth, image: -(slopes(depth)[0] * color_steps(image)[0].abs()).mean(),
}


@pytest.mark.parametrize("name", SILENT)
def test_sound_weights_and_other_uses_of_the_image_have_no_finding(name: str) -> None:
    case = edge_case_of(SILENT[name])
    assert [*check_edge_weights(case), *check_constant_depth(case), *check_tiles(case)] == []


# -- sums over pixels, and roots at constant depth


def huber_sum(inverse_depth: Tensor, image: Tensor) -> Tensor:
    return huber_slope(inverse_depth) * inverse_depth[0].numel()


@pytest.mark.parametrize(
    ("term", "measured"),
    [
        (log_bend(reduce=torch.sum), "2 times with two copies side by side and 2 times with two copies one above the"),
        (huber_sum, "2 times with two copies one above the other"),
        (lambda depth, image: bend_of(depth / depth.sum((2, 3), keepdim=True)), ".5 times with two copies side"),
    ],
    ids=["sum", "of one direction", "over the sum of the image"],
)
def test_sums_over_pixels_are_reported_though_bends_shrink_with_the_size(term: ImageTerm, measured: str) -> None:
    (found,) = check_tiles(edge_case_of(term))
    assert (found.code, found.severity) == ("L06", Severity.WARN)
    assert measured in found.measured
    assert "L06" in [finding.code for finding in check_losses({"loss": edge_case_of(term)})]


def slope_per_image_width(inverse_depth: Tensor, image: Tensor) -> Tensor:
    return sum((slope.mean() * inverse_depth.shape[-1] for slope in slopes(inverse_depth)), torch.zeros(()))


def prior_of_rows(inverse_depth: Tensor, image: Tensor) -> Tensor:
    rows = torch.arange(inverse_depth.shape[-2], dtype=inverse_depth.dtype)[:, None]
    return (inverse_depth - 0.01 * rows).square().mean()


def of_this_size(inverse_depth: Tensor, image: Tensor) -> Tensor:
    return (inverse_depth - torch.full((64, 128), 0.1)).abs().sum()


@pytest.mark.parametrize("term", [slope_per_image_width, prior_of_rows, of_this_size])
def test_terms_by_the_width_or_the_row_are_no_sums(term: ImageTerm) -> None:
    assert list(check_tiles(edge_case_of(term))) == []


@pytest.mark.parametrize(
    "term",
    [
        log_bend(eps=0.0),
        lambda depth, image: torch.stack([slope.square().mean() for slope in slopes(depth)]).sum().sqrt(),
    ],
    ids=["Charbonnier without epsilon", "norm of all slopes"],
)
def test_roots_without_epsilon_are_reported_at_constant_depth(term: ImageTerm) -> None:
    (found,) = check_constant_depth(edge_case_of(term))
    assert (found.code, found.severity) == ("L09", Severity.WARN)
    assert found.measured == "what is added alone: the gradient of inverse_depth is not finite for constant depth"
    assert found in [replace(finding, where=found.where) for finding in check_losses({"loss": edge_case_of(term)})]


def test_terms_that_use_the_value_of_the_given_loss_are_finite_at_constant_depth() -> None:
    """What is added is measured with a given loss of 0, and 0 / 0 is not a mistake of the user."""

    def divide(photometric: LossReport, outputs: Outputs) -> LossReport:
        value = 1e-3 * relative_bend(outputs["inverse_depth"]) / photometric.total.detach()
        return combine_losses({"selfsup": (1.0, photometric), "mine": (1.0, LossReport.from_terms({"x": value}, {}))})

    def take_logarithm(photometric: LossReport, outputs: Outputs) -> LossReport:
        return LossReport.from_terms({"log": photometric.total.log()}, {})

    for change in (divide, take_logarithm):
        case = make_video_case(losses.package_loss, losses.VIDEO).change_loss(change)
        assert list(check_constant_depth(case)) == []


def test_term_of_weight_0_is_not_noted_and_another_of_its_name_is() -> None:
    def change(photometric: LossReport, outputs: Outputs) -> LossReport:
        mine = LossReport.from_terms({"smoothness": (outputs["inverse_depth"] - 100).clamp(min=0).mean()}, {})
        return combine_losses({"selfsup": (1.0, photometric), "mine": (1.0, mine)})

    loss = SelfSupervisedLoss(SelfSupervisedLossConfig(smoothness=0), reprojector=TorchReprojector)
    given = make_video_case(loss, losses.VIDEO, OutputSpec(left_out=("smoothness",)))
    assert list(check_terms_measured(given)) == []
    (note,) = check_terms_measured(given.change_loss(change))
    assert note.measured == "term mine/smoothness: mine/smoothness is 0 on this scene"


def test_term_that_is_zero_on_the_scene_is_noted() -> None:
    (note,) = check_losses({"loss": case_of(lambda d: (d - 100).clamp(min=0).mean())})
    assert (note.code, note.where) == ("N01", ("loss",))
    assert note.measured == "term mine/bend: mine/bend is 0 on this scene"
    assert "scene of your own" in note.fix


def test_term_that_only_wrong_outputs_have_is_measured() -> None:
    case = case_of(lambda d: (d - 1.5 / 7).clamp(min=0).mean())
    assert float(case.report_at_truth.terms["mine/bend"]) == 0 == float(case.report_at_wrong.terms["mine/bend"])
    assert list(check_terms_measured(case)) == []


def test_term_of_labels_is_not_a_reward() -> None:
    case = replace(make_video_case(losses.package_loss, losses.VIDEO), forms={}, hostile={})
    true = case.right["inverse_depth"]

    def change(photometric: LossReport, outputs: Outputs) -> LossReport:
        error = (outputs["inverse_depth"] / true).log().abs().mean()
        return combine_losses({"a": (1.0, photometric), "b": (0.1, LossReport(error, {"labels": error.detach()}, {}))})

    assert list(check_added_loss(case.change_loss(change))) == []
