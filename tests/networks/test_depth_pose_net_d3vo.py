"""What D3VO adds to the networks of `selfsup`: the right view, uncertainty, brightness, and the choices of a pose
network.
"""

from dataclasses import replace

import pytest
import torch
from tests.refusals import refuses
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.core.types import Camera
from stadia.differentiable.batch import Batch, Inputs, Meta, Targets
from stadia.differentiable.view_synthesis import invert_brightness
from stadia.networks import POSE_HEADS, POSE_NETS
from stadia.networks.config import DepthPoseNetConfig, UnetConfig
from stadia.networks.depth.unet import LOG_UNCERTAINTY_RANGE, bound_log_uncertainty
from stadia.networks.pose_net import DepthPoseNet, compare_image_moments, decode_brightness

SMALL = DepthPoseNetConfig(
    network=UnetConfig(encoder="mobilenetv3_small_050", decoder_channels=(4, 8, 8, 8, 8)),
    pose_net="resnet",
    pose_encoder="mobilenetv3_small_050",
    pretrained=False,
)
SIZE = (64, 96)
NAMES = ("-1", "+1", "stereo")


def changed(**values: object) -> DepthPoseNetConfig:
    of_network = {name: values.pop(name) for name in [*values] if name in UnetConfig.model_fields}
    network = UnetConfig(**{**SMALL.network.model_dump(), **of_network})
    return DepthPoseNetConfig(**{**SMALL.model_dump(), **values, "network": network})


def built(**values: object) -> DepthPoseNet:
    torch.manual_seed(0)
    return DepthPoseNet(changed(**values), size=SIZE)


def batch_of(names: tuple[str, ...] = NAMES, size: tuple[int, int] = SIZE) -> Batch:
    """Two samples of noise."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, *size, generator=generator)
    sources = torch.rand(2, len(names), 3, *size, generator=generator)
    camera = Camera(torch.eye(3).expand(2, 3, 3), *size)
    rig = torch.eye(4).expand(2, len(names), 4, 4)
    targets = Targets(image, sources, camera, Camera(torch.eye(3).expand(2, len(names), 3, 3), *size), rig)
    return Batch(Inputs(image, sources, camera, rig), targets, (Meta("noise", 0), Meta("noise", 1)), names)


def disturb(model: nn.Module, std: float = 3.0) -> None:
    """Set nonzero brightness heads, as after training."""
    for head in (model.pose.gain, model.pose.offset):
        nn.init.normal_(head[-1].weight, std=std)


# -- depth network
# -------------------------------------------------------------------------------------------------------------


def test_each_map_is_predicted_at_each_scale() -> None:
    prediction = built(right_view=True, uncertainty=True)(batch_of())
    for maps in (prediction.inverse_depth, prediction.inverse_depth_right, prediction.log_uncertainty):
        assert [tuple(map_.shape) for map_ in maps] == [(2, 1, 64 >> s, 96 >> s) for s in range(4)]


@pytest.mark.parametrize("right_view", [False, True])
def test_the_maps_start_at_the_start_depth_and_at_no_uncertainty(right_view: bool) -> None:
    prediction = built(right_view=right_view, uncertainty=True)(batch_of())
    for scale, log_uncertainty in enumerate(prediction.log_uncertainty):
        assert torch.equal(log_uncertainty, torch.zeros_like(log_uncertainty))
        for maps in filter(None, (prediction.inverse_depth, prediction.inverse_depth_right)):
            assert (1 / maps[scale]).median().item() == pytest.approx(SMALL.network.start_m, rel=0.1)


def test_log_uncertainty_is_bounded_and_keeps_a_slope() -> None:
    logit = torch.tensor([-60.0, -6.0, -1e-3, 0.0, 1e-3, 2.0, 10.0], dtype=torch.float64, requires_grad=True)
    output = bound_log_uncertainty(logit)
    (slope,) = torch.autograd.grad(output.sum(), logit)
    assert (output.diff() > 0).all()
    assert output.min() >= LOG_UNCERTAINTY_RANGE[0]
    assert output.max() <= LOG_UNCERTAINTY_RANGE[1]
    assert (slope > 0).all()
    torch.testing.assert_close(output[2:5], logit[2:5], rtol=1e-6, atol=0)
    torch.testing.assert_close(slope[2:5], torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0)


# -- brightness
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("pose_head", POSE_HEADS)
@pytest.mark.parametrize("pose_net", POSE_NETS)
def test_brightness_starts_at_exactly_one_and_zero(pose_net: str, pose_head: str) -> None:
    prediction = built(brightness=True, pose_net=pose_net, pose_head=pose_head)(batch_of())
    assert torch.equal(prediction.brightness, torch.tensor([1.0, 0.0]).expand(2, 3, 2))


def test_brightness_is_bounded_in_both_orders() -> None:
    logits = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1000
    for brightness in (output := decode_brightness(logits, 0.1), invert_brightness(output)):
        assert brightness[:, 0].min() >= 0.5 - 1e-12
        assert brightness[:, 0].max() <= 2 + 1e-12
        assert brightness[:, 1].abs().max() <= 0.5 + 1e-12
        assert brightness[:, 0].max() > 1.99


def test_swapped_images_give_the_inverse_by_negated_logits() -> None:
    logits = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    brightness, value = decode_brightness(logits, 0.1), torch.rand(50, dtype=torch.float64)
    gain, offset = brightness.unbind(-1)
    back, less = invert_brightness(brightness).unbind(-1)
    torch.testing.assert_close(back * (gain * value + offset) + less, value)
    torch.testing.assert_close(invert_brightness(brightness), decode_brightness(-logits, 0.1))
    torch.testing.assert_close(invert_brightness(invert_brightness(brightness)), brightness)


def test_moments_of_two_exposures_give_gain_and_offset_and_swapping_negates_them() -> None:
    earlier = torch.rand(4, 3, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gain, offset = torch.tensor([[0.7, 0.9, 1.2, 1.5], [0.1, -0.05, 0.02, 0.0]], dtype=torch.float64)
    moments = compare_image_moments(earlier, gain[:, None, None, None] * earlier + offset[:, None, None, None])
    torch.testing.assert_close(
        moments.double(), torch.stack((gain.log(), offset / gain.sqrt()), dim=-1), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        compare_image_moments(gain[:, None, None, None] * earlier + offset[:, None, None, None], earlier), -moments
    )


@pytest.mark.slow
def test_a_source_before_the_target_has_the_inverse_of_pair_in_order_of_time() -> None:
    model = built(brightness=True).eval()
    disturb(model)
    earlier, later = torch.rand(2, 2, 3, *SIZE, generator=torch.Generator().manual_seed(2))

    def record_inputs(target: Tensor, source: Tensor, name: str) -> Tensor:
        batch = batch_of((name,))
        return model(replace(batch, inputs=replace(batch.inputs, image=target, sources=source[:, None]))).brightness[
            :, 0
        ]

    forward, back = record_inputs(earlier, later, "+1"), record_inputs(later, earlier, "-1")
    torch.testing.assert_close(forward, model.motion(earlier, later).brightness)
    torch.testing.assert_close(back, invert_brightness(forward))
    assert (forward - torch.tensor([1.0, 0.0])).abs().max() > 1e-3
    torch.testing.assert_close(record_inputs(earlier, later, "stereo"), forward, msg="of the rig the target is first")


@pytest.mark.slow
def test_the_rig_transform_stays_when_brightness_of_stereo_pair_is_predicted() -> None:
    batch = batch_of()
    with_brightness, without = built(brightness=True)(batch), built()(batch)
    assert torch.equal(with_brightness.T_source_target[:, 2], batch.inputs.T_source_target_rig[:, 2])
    assert with_brightness.brightness.shape == (2, 3, 2)
    assert without.brightness is None


# -- pose networks
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("pose_head", POSE_HEADS)
@pytest.mark.parametrize("pose_net", POSE_NETS)
def test_every_choice_predicts_and_learns(pose_net: str, pose_head: str) -> None:
    model = built(
        pose_net=pose_net, pose_head=pose_head, brightness=True, right_view=True, uncertainty=True, rotation="euler"
    )
    disturb(model, 0.1)
    prediction = model(batch_of())
    assert (prediction.T_source_target - torch.eye(4)).abs().max() < 0.5
    maps = (*prediction.inverse_depth, *prediction.inverse_depth_right, *(1 + s for s in prediction.log_uncertainty))
    (
        sum(m.square().mean() for m in maps)
        + prediction.T_source_target.square().sum()
        + prediction.brightness.square().sum()
    ).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.slow
@pytest.mark.parametrize("pose_net", POSE_NETS)
def test_a_linear_head_names_the_required_size_in_its_error(pose_net: str) -> None:
    model = built(pose_net=pose_net, pose_head="linear")
    model(batch_of())
    with refuses(ConfigError, where="image size for pose_head 'linear'"):
        model(batch_of(size=(192, 288)))
    with refuses(ConfigError, where="pose_head 'linear'"):
        DepthPoseNet(changed(pose_net=pose_net, pose_head="linear"))
