"""The house's loss keeps the laws at every number of sizes, whatever the sources: small images blur what is read
between pixels.
"""

from __future__ import annotations

import pytest

from stadia.diagnostics.contract.engine import of_losses
from stadia.diagnostics.contract.video import Said, of_video
from stadia.losses.config import LossConfig
from stadia.losses.selfsup import SelfSupervisedLoss


@pytest.mark.parametrize("sizes", [1, 2, 3, 4])
@pytest.mark.parametrize("sources", [("+1",), ("-1", "+1", "stereo")])
@pytest.mark.parametrize("ssim_weight", [0.85, 0.5])
def test_nothing_is_said_at_any_number_of_sizes(sizes: int, sources: tuple[str, ...], ssim_weight: float) -> None:
    loss = SelfSupervisedLoss(LossConfig(pyramid=sizes, ssim_weight=ssim_weight))
    assert of_losses({"loss": of_video(loss, sources, Said(sizes=sizes))}) == []
