"""Loss checks of custom losses, of correct losses, at the time limit. Recipe and random numbers stay as they are.

The findings are proven by the mutations of tests/mutations/losses.py and training_starts.py.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from tests.combinations import mark_others
from tests.mutations import losses, training_starts
from torch import Tensor

from stadia.differentiable import torch_state
from stadia.differentiable.batch import Prediction, Targets
from stadia.differentiable.images import crop
from stadia.geometry.poses import se3_exp
from stadia.judge.catalog import NotChecked
from stadia.judge.finding import Severity
from stadia.losses import SPARSE_DEPTH_LOSSES
from stadia.losses.config import SelfSupervisedLossConfig, SparseDepthConfig
from stadia.losses.loss_report import LossReport
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.losses.sparse_depth import SparseDepthLoss
from stadia.training.loss_checks.init_checks import check_camera, check_stereo_depth_range
from stadia.training.loss_checks.loss_case import LossCase, Outputs, make_depth_case
from stadia.training.loss_checks.loss_check_runner import check_losses, check_training_start
from stadia.training.loss_checks.loss_properties import check_gradient
from stadia.training.loss_checks.training_start import TrainingStart
from stadia.training.loss_checks.video_cases import OutputSpec, PlaneScene, make_video_case, mirror_scene, render_plane

SOURCES = ("+1",), ("-1", "+1", "stereo")
OF_MUTATIONS = {codes.split()[0]: correct for _, codes, correct, _ in reversed(losses.TABLE)}
"""The correct loss by code: tests/judge/test_mutations.py checks those of the first mutation of each code."""


@pytest.mark.slow
@pytest.mark.parametrize("name", mark_others(list(losses.SOUND), {*losses.SOUND} - {*OF_MUTATIONS.values()}))
def test_correct_losses_have_no_findings(name: str) -> None:
    assert losses._of_sound(name) == []


@pytest.mark.parametrize("part", SPARSE_DEPTH_LOSSES)
def test_every_labeled_loss_has_the_properties(part: str) -> None:
    """All but the loss that is pooled over the batch by its name: its samples are coupled, which is reported."""
    weights = {**dict.fromkeys(SPARSE_DEPTH_LOSSES, 0.0), part: 1.0}
    forgives = part in ("affine_invariant", "gradient_matching")
    found = check_losses(
        {part: make_depth_case(SparseDepthLoss(SparseDepthConfig(**weights)), forgives_scale=forgives)}
    )
    assert {finding.code for finding in found} == ({"L04"} if part == "silog_pooled" else set())


def test_mirrored_scene_equals_the_mirrored_image() -> None:
    """Depth is that of the mirrored plane by its own projection, and motion maps its points to the mirrored sources."""
    scene = render_plane(height=24, width=40, batch=1)
    other = mirror_scene(scene)
    torch.testing.assert_close(se3_exp(other.twist), other.targets.T_source_target_true)
    torch.testing.assert_close(other.twist[..., 0], -scene.twist[..., 0])  # x of the translation
    torch.testing.assert_close(other.targets.camera.cx, 39 - scene.targets.camera.cx)
    assert losses.simple(other.targets, _described(other), other.source_names).total == pytest.approx(
        float(losses.simple(scene.targets, _described(scene), scene.source_names).total), rel=1e-9
    )


def _described(scene: PlaneScene) -> Prediction:
    return Prediction((scene.inverse_depth,), se3_exp(scene.twist))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sources", "outputs"),
    [(losses.VIDEO, OutputSpec(4, 4, brightness=True)), (losses.WITH_PAIR, OutputSpec(4, right_view=True))],
)
def test_gradients_of_exposure_and_rectified_pairs_match(sources: tuple[str, ...], outputs: OutputSpec) -> None:
    assert list(check_gradient(make_video_case(losses.package_loss_at(outputs.sizes), sources, outputs))) == []


def of_measured_depth(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    assert targets.depth_m is not None
    return losses.report(
        (prediction.inverse_depth[0] * targets.depth_m).where(targets.depth_m > 0, 1.0).log().abs().mean()
    )


def every_pixel_loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    """Forgets that 0 is none."""
    assert targets.depth_m is not None
    return losses.report((1 / prediction.inverse_depth[0] - targets.depth_m).abs().mean())


def log_loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
    assert targets.depth_m is not None
    return losses.report((prediction.inverse_depth[0] * targets.depth_m).log().abs().mean())


@pytest.mark.slow
def test_measured_depth_loss_is_checked_with_a_stereo_pair() -> None:
    assert check_losses({"mine": make_video_case(of_measured_depth, ("stereo",))}) == []
    assert check_losses({"mine": make_video_case(every_pixel_loss, ("stereo",))})[0].code == "L01"
    assert check_losses({"mine": make_video_case(log_loss, ("stereo",))})[0].code == "L09"
    (found,) = check_losses({"mine": make_video_case(of_measured_depth)})
    assert (found.code, found.measured) == ("L10", "no gradient for motion")


def case_of(term: Callable[[Tensor], Tensor], at: float) -> LossCase:
    """A loss of one output, (1, 1, 4, 4), at a constant."""

    def loss(outputs: Outputs) -> LossReport:
        total = term(outputs["x"]).mean()
        return LossReport(total, {"x": total.detach()}, {})

    outputs = {"x": torch.full((1, 1, 4, 4), at, dtype=torch.float64)}
    return LossCase(loss, outputs, outputs, (), {})


def test_a_kink_where_the_outputs_lie_is_no_wrong_gradient() -> None:
    """A share of 0 would move nothing: noise has the size of the outputs, at least MIN_OUTPUT."""
    assert not list(check_gradient(case_of(lambda x: x.clamp(min=0) + x, 0.0)))


def test_exception_is_reported_in_one_line_and_ends_the_checks() -> None:
    def raising(*_: object) -> LossReport:
        raise ValueError("no\nway")

    found = check_losses({"mine": make_video_case(raising)})
    assert [(finding.code, finding.severity) for finding in found] == [("L11", Severity.STOP), ("N01", Severity.NOTE)]
    assert found[0].measured == "ValueError: no way"
    assert found[0].where == ("mine",)
    assert "L11 must be fixed first" in found[1].measured


def test_properties_after_the_time_limit_are_not_checked() -> None:
    (found,) = check_losses({"mine": make_video_case(losses.simple)}, until=time.monotonic())
    assert found.measured == "properties of the loss: the time limit of the checks was reached"


@pytest.mark.slow
def test_neither_recipe_nor_random_numbers_of_the_caller_are_changed() -> None:
    recipe = training_starts.Toy()
    before, states = copy.deepcopy(recipe.state_dict()), torch_state.capture_generators()
    assert check_training_start(TrainingStart.prepare(recipe, training_starts.batch()), training_starts.SECONDS) == []
    assert all(torch.equal(value, before[name]) for name, value in recipe.state_dict().items())
    assert all(p.grad is None for p in recipe.parameters())
    assert all(
        torch.equal(value, states[name])
        for name, value in torch_state.capture_generators().items()
        if not value.is_floating_point()
    )


def test_checks_without_a_network_run_after_the_time_limit() -> None:
    """A camera that does not fit is found without a network."""
    found = check_training_start(
        TrainingStart.prepare(training_starts.Toy(), training_starts.another_camera(0.25)), 0.0
    )
    assert {finding.code for finding in found} == {"K20", "N01"}
    reported = " ".join(finding.measured for finding in found)
    assert "initial depth: the time limit of the checks was reached" in reported
    assert "parameter gradients: the time limit of the checks was reached" in reported
    assert "one batch: 0 steps until the time limit of the checks, and 10 are needed" in reported


def test_a_camera_that_was_cropped_with_its_images_fits() -> None:
    whole = training_starts.batch()
    image, camera = crop(whole.inputs.image, whole.inputs.camera, 0, 12, 12, 24)
    part = replace(whole, inputs=replace(whole.inputs, image=image, camera=camera))
    assert list(check_camera(TrainingStart.prepare(training_starts.Toy(), part))) == []


@pytest.mark.slow
def test_stereo_depth_range_is_checked_without_labels() -> None:
    pair = training_starts.unlabeled_pair()
    far = {"depth_range_m": (20.0, 100.0)}
    labeled = replace(pair, targets=replace(pair.targets, depth_m=torch.full_like(pair.targets.image[:, :1], 30.0)))
    assert list(check_stereo_depth_range(TrainingStart.prepare(training_starts.Toy(), labeled, **far))) == []
    (found,) = check_stereo_depth_range(TrainingStart.prepare(training_starts.Toy(), pair, **far))
    assert found.evidence["matches"] > 0
    blank = replace(pair, targets=replace(pair.targets, sources=torch.zeros_like(pair.targets.sources)))
    with pytest.raises(NotChecked, match=r"0.*2"):
        list(check_stereo_depth_range(TrainingStart.prepare(training_starts.Toy(), blank, **far)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sources", "sizes"),
    mark_others([(sources, sizes) for sources in SOURCES for sizes in (1, 4)], [(SOURCES[0], 1), (SOURCES[1], 4)]),
)
def test_correct_loss_at_any_number_of_scales_has_no_findings(sizes: int, sources: tuple[str, ...]) -> None:
    loss = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=sizes))
    assert check_losses({"loss": make_video_case(loss, sources, OutputSpec(sizes=sizes))}) == []
