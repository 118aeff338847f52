"""The loss of the package has the checked properties at every number of scales, for all sources: small images blur
interpolation.
"""

from __future__ import annotations

import pytest

from stadia.diagnostics.loss_checks.loss_check_runner import check_losses
from stadia.diagnostics.loss_checks.video_cases import OutputSpec, make_video_case
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [1, 4])
@pytest.mark.parametrize("sources", [("+1",), ("-1", "+1", "stereo")])
def test_correct_loss_at_any_number_of_scales_has_no_findings(sizes: int, sources: tuple[str, ...]) -> None:
    loss = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=sizes))
    assert check_losses({"loss": make_video_case(loss, sources, OutputSpec(sizes=sizes))}) == []


def test_scenes_of_forms_are_rendered_once() -> None:
    case = make_video_case(SelfSupervisedLoss(SelfSupervisedLossConfig()))
    changed = case.change_loss(lambda report, outputs: report)
    assert changed.added is not None
    for name in ("mirrored", "noise", "a camera that has not moved"):
        first, second = (one.forms[name]().shown["targets.sources"] for one in (changed, changed.added))
        assert first is second, name
