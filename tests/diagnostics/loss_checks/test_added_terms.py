"""A term that a user adds to the loss of a recipe: the loss checks see it beside a much larger loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from mutations import losses
from torch import Tensor

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.loss_checks.loss_case import LossCase, Outputs
from stadia.diagnostics.loss_checks.loss_check_runner import check_losses
from stadia.diagnostics.loss_checks.loss_properties import check_added_loss, check_terms_measured
from stadia.diagnostics.loss_checks.video_cases import make_video_case
from stadia.losses.loss_report import LossReport, combine_losses

pytestmark = pytest.mark.slow

Term = Callable[[Tensor], Tensor]


def bend_of(values: Tensor) -> Tensor:
    return values.diff(n=2, dim=-1).abs().mean() + values.diff(n=2, dim=-2).abs().mean()


def relative_bend(inverse_depth: Tensor) -> Tensor:
    return bend_of(inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True))


def huber_slope(inverse_depth: Tensor) -> Tensor:
    slope = inverse_depth.log().diff(dim=-1)
    return torch.nn.functional.huber_loss(slope, slope * 0, delta=0.02)


def case_of(term: Term, weight: float = 0.5, source_names: Sequence[str] = losses.VIDEO) -> LossCase:
    def change(photometric: LossReport, outputs: Outputs) -> LossReport:
        value = term(outputs["inverse_depth"])
        mine = LossReport(value, {"bend": value.detach()}, {})
        return combine_losses({"selfsup": (1.0, photometric), "mine": (weight, mine)})

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
    found = findings(term, weight)
    assert code in [one.code for one in found] if code else not found
    assert all(measured in one.measured for one in found if one.code == code)
    assert [one.code for one in findings(term, weight / 1e3)] == [one.code for one in found]


def test_a_term_may_have_weights_at_the_edges_of_the_image() -> None:
    """As in training: the image is that of the scene, at its size and of its batch, and is no output."""

    def change(photometric: LossReport, outputs: Outputs) -> LossReport:
        weights = (-outputs["image"].diff(dim=-1).abs().mean(1, keepdim=True)).exp()
        value = (weights * outputs["inverse_depth"].log().diff(dim=-1).abs()).mean()
        mine = LossReport(value, {"slope": value.detach()}, {})
        return combine_losses({"selfsup": (1.0, photometric), "mine": (0.5, mine)})

    case = make_video_case(losses.package_loss, losses.VIDEO).change_loss(change)
    assert list(check_added_loss(case)) == []
    assert "image" not in case.gradients


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
