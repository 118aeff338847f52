"""The road under the auto-mask: compared while the camera moves, masked with the rest where it stands."""

import pytest
import torch

from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction, Targets
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.cpu.fused_reprojector import FusedReprojector
from stadia.losses.reprojection import TorchReprojector, lift_auto_mask_from_road, minimum_reprojection
from stadia.losses.selfsup_loss import SelfSupervisedLoss

H, W = 6, 8
EVERYWHERE = torch.ones(1, 2, H, W, dtype=torch.bool)


def scene(masked_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return residuals of two candidates (1, 2, H, W) and of the unwarped image, which wins in the lowest rows."""
    residuals = torch.rand(1, 2, H, W, generator=torch.Generator().manual_seed(0)).double()
    unwarped = residuals + 0.1
    unwarped[:, :, H - masked_rows :] -= 0.2
    return residuals, unwarped.amin(1, keepdim=True).where(torch.ones(1, 1, H, W) > 0, 0)


def test_without_a_road_it_is_the_auto_mask():
    residuals, beat = scene(3)
    plain = minimum_reprojection(residuals, EVERYWHERE, beat.expand(-1, 2, -1, -1), beat.expand(-1, 2, -1, -1))
    bare = minimum_reprojection(
        residuals, EVERYWHERE, beat.expand(-1, 2, -1, -1), beat.expand(-1, 2, -1, -1), auto_mask=False
    )
    got = lift_auto_mask_from_road(bare, beat, torch.full_like(beat, 2), torch.zeros(1, 1, H, W, dtype=torch.bool))
    assert torch.equal(got.residual, plain.residual)
    assert torch.equal(got.winner, plain.winner)


@pytest.mark.parametrize(("masked_rows", "lifted"), [(3, True), (4, True), (5, False), (6, False)])
def test_the_road_is_unmasked_as_long_as_less_than_three_quarters_are_masked(masked_rows, lifted):
    residuals, beat = scene(masked_rows)
    road = torch.zeros(1, 1, H, W, dtype=torch.bool)
    road[..., H - 1 :, : W // 2] = True
    bare = minimum_reprojection(
        residuals.requires_grad_(), EVERYWHERE, *[beat.expand(-1, 2, -1, -1)] * 2, auto_mask=False
    )
    got = lift_auto_mask_from_road(bare, beat, torch.full_like(beat, 2), road)
    slope = torch.autograd.grad(got.residual.sum(), residuals)[0].sum(1, keepdim=True)
    assert bool(slope[road].all()) is lifted
    assert not slope[..., H - masked_rows :, W // 2 :].any(), "what is no road stays masked"
    assert torch.equal(got.winner[road] < 2, torch.full((W // 2,), lifted))


def test_invisible_road_pixels_train_nothing():
    residuals, beat = scene(1)
    seen = EVERYWHERE.clone()
    seen[..., H - 1, :] = False
    bare = minimum_reprojection(residuals.requires_grad_(), seen, *[beat.expand(-1, 2, -1, -1)] * 2, auto_mask=False)
    got = lift_auto_mask_from_road(bare, beat, torch.full_like(beat, 2), torch.ones(1, 1, H, W, dtype=torch.bool))
    assert (got.winner[..., H - 1, :] == -1).all()
    assert not torch.autograd.grad(got.residual.sum(), residuals)[0][..., H - 1, :].any()


def batch(size: tuple[int, int] = (24, 40)) -> tuple[Targets, Prediction]:
    generator = torch.Generator().manual_seed(1)
    K = torch.tensor([[30.0, 0, 19.5], [0, 30, 11.5], [0, 0, 1]])
    images = torch.nn.functional.interpolate(torch.rand(2, 9, 6, 10, generator=generator), size, mode="bilinear")
    targets = Targets(
        image=images[:, :3],
        sources=images[:, 3:].unflatten(1, (2, 3)),
        camera=Camera(K.expand(2, 3, 3), *size),
        source_camera=Camera(K.expand(2, 2, 3, 3), *size),
        T_source_target_true=torch.full((2, 2, 4, 4), torch.nan),
    )
    T = torch.eye(4).repeat(2, 2, 1, 1)
    T[:, 0, 2, 3], T[:, 1, 2, 3] = -0.3, 0.3
    maps = tuple(0.1 + 0.1 * torch.rand(2, 1, size[0] >> s, size[1] >> s, generator=generator) for s in range(2))
    return targets.to(torch.float64), Prediction(
        tuple(map_.detach().double().requires_grad_() for map_ in maps), T.double()
    )


@pytest.mark.parametrize("pyramid", [1, 2])
def test_both_reprojectors_agree_on_the_road(pyramid):
    targets, prediction = batch()
    road = torch.zeros(2, 1, 24, 40, dtype=torch.bool)
    road[:, :, 12:] = True
    found = []
    for reprojector in (FusedReprojector, TorchReprojector):
        report = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=pyramid), reprojector=reprojector)(
            targets, prediction, ("-1", "+1"), road=road
        )
        found.append((report, *torch.autograd.grad(report.total, prediction.inverse_depth)))
    assert torch.equal(found[0][0].maps["winner"], found[1][0].maps["winner"])
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)
