"""Pinned losses of a tiny, fixed input.

A loss can stay plausible while its meaning changes: a window, a weight, a mean over another axis, a mask. Every such
change
moves these numbers, so it has to be documented here. They are values of the code as it stood when its other
tests (hand-computed numbers, scipy, laws) passed, not of another program. Inputs are sines, so that no random stream is
pinned.
"""

import pytest
import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction, Targets
from stadia.geometry.poses import se3_exp
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.cpu.fused_reprojector import FusedReprojector
from stadia.losses.reprojection import Reprojector, TorchReprojector
from stadia.losses.selfsup_loss import SelfSupervisedLoss

HEIGHT, WIDTH = 16, 24
PINNED = {  # temporal_from_step, step: terms
    (0, 0): {"photometric": 0.06893806034504801, "smoothness": 2.743250425814462e-05},
    (10, 3): {
        "photometric": 0.0832101959575366,
        "motion": 0.10996281152543332,
        "smoothness": 2.743250425814462e-05,
    },  # motion: no auto-mask
}


def waves(frequency: float, phase: float) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    y, x = torch.meshgrid(
        torch.arange(HEIGHT, dtype=torch.float64), torch.arange(WIDTH, dtype=torch.float64), indexing="ij"
    )
    colors = [
        torch.sin(frequency * x + 0.3 * c * y + phase) * torch.cos(0.5 * frequency * y - 0.2 * c * x) for c in (1, 2, 3)
    ]
    return 0.5 + 0.4 * torch.stack(colors)[None]


@pytest.mark.parametrize("reprojector", [TorchReprojector, FusedReprojector])
@pytest.mark.parametrize("schedule", PINNED, ids=str)
def test_pinned(schedule: tuple[int, int], reprojector: type[Reprojector]) -> None:
    K = torch.tensor([[18.0, 0.0, 11.7], [0.0, 20.0, 7.2], [0.0, 0.0, 1.0]], dtype=torch.float64)
    targets = Targets(
        image=waves(0.7, 0.0),
        sources=torch.stack([waves(0.7, 0.2), waves(0.72, -0.2), waves(0.7, 0.5)], dim=1),
        camera=Camera(K[None], HEIGHT, WIDTH),
        source_camera=Camera(K.expand(1, 3, 3, 3), HEIGHT, WIDTH),
        T_source_target_true=torch.eye(4, dtype=torch.float64).expand(1, 3, 4, 4),
    )
    twist = torch.tensor(
        [[0.02, 0.01, 0.4, 0.0, 0.02, 0.0], [0.0, 0.02, -0.4, 0.01, -0.02, 0.0], [-0.5, 0.0, 0.0, 0.0, 0.0, 0.0]]
    )
    inverse_depth = tuple(0.15 + 0.05 * torch.nn.functional.avg_pool2d(waves(0.3, 1.0)[:, :1], 2**s) for s in range(3))
    prediction = Prediction(inverse_depth, se3_exp(twist.double())[None])
    start, step = schedule
    loss = SelfSupervisedLoss(SelfSupervisedLossConfig(temporal_from_step=start), reprojector=reprojector)
    terms = loss(targets, prediction, ("-1", "+1", "stereo"), step).terms
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(PINNED[schedule], rel=1e-6)
