"""The networks of `selfsup`: shapes, start, order of time, the rig's transform, gradients."""

import pytest
import torch
from pydantic import ValidationError
from tests.tensor_cameras import intrinsics

from stadia.core.types import Camera
from stadia.differentiable.batch import Batch, Inputs, Meta, Targets
from stadia.networks.config import DepthPoseNetConfig, UnetConfig
from stadia.networks.pose_net import DepthPoseNet

SMALL = DepthPoseNetConfig(
    network=UnetConfig(encoder="mobilenetv3_small_050", decoder_channels=(4, 8, 8, 8, 8)),
    pose_net="resnet",
    pose_encoder="mobilenetv3_small_050",
    pretrained=False,
)
BASELINE_M = 0.54


def batch_of(names: tuple[str, ...], size: int = 2) -> Batch:
    """Random images; a stereo source has its rig's transform."""
    height, width, count = 64, 96, len(names)
    K = intrinsics(50.0, 50.0, 47.5, 31.5, height=height, width=width, dtype=torch.float32).K
    camera, source_camera = (
        Camera(K.expand(size, 3, 3), height, width),
        Camera(K.expand(size, count, 3, 3), height, width),
    )
    rig = torch.full((size, count, 4, 4), torch.nan)
    if "stereo" in names:
        rig[:, names.index("stereo")] = torch.eye(4)
        rig[:, names.index("stereo"), 0, 3] = -BASELINE_M
    image, sources = torch.rand(size, 3, height, width), torch.rand(size, count, 3, height, width)
    return Batch(
        inputs=Inputs(image, sources, camera, rig),
        targets=Targets(image, sources, camera, source_camera, torch.full_like(rig, torch.nan)),
        meta=tuple(Meta("synthetic", i, "left") for i in range(size)),
        source_names=names,
    )


@pytest.fixture
def model() -> DepthPoseNet:
    torch.manual_seed(0)
    return DepthPoseNet(SMALL).eval()


def test_maps_halve_from_scale_to_scale(model: DepthPoseNet) -> None:
    prediction = model(batch_of(("-1", "+1", "stereo")))
    assert [tuple(m.shape) for m in prediction.inverse_depth] == [(2, 1, 64 >> s, 96 >> s) for s in range(4)]
    assert prediction.T_source_target.shape == (2, 3, 4, 4)


def test_an_untrained_network_predicts_its_initial_depth(model: DepthPoseNet) -> None:
    for inverse_depth in model(batch_of(("stereo",))).inverse_depth:
        assert (1 / inverse_depth).median().item() == pytest.approx(SMALL.network.start_m, rel=0.1)


def test_stereo_has_the_rigs_transform(model: DepthPoseNet) -> None:
    prediction = model(batch_of(("-1", "stereo")))
    assert torch.equal(prediction.T_source_target[:, 1], batch_of(("stereo",)).inputs.T_source_target_rig[:, 0])


def test_the_pose_network_sees_pairs_in_order_of_time(model: DepthPoseNet) -> None:
    later, earlier = torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96)
    T_later_earlier = model.motion(earlier, later).T_later_earlier
    before, after = batch_of(("-1",), 1), batch_of(("+1",), 1)
    before.inputs.image.copy_(later)
    before.inputs.sources[:, 0] = earlier
    after.inputs.image.copy_(earlier)
    after.inputs.sources[:, 0] = later
    T_earlier_later = model(before).T_source_target[:, 0]
    torch.testing.assert_close(model(after).T_source_target[:, 0], T_later_earlier)
    torch.testing.assert_close(T_earlier_later @ T_later_earlier, torch.eye(4)[None], atol=1e-6, rtol=0)
    assert not torch.allclose(T_earlier_later, T_later_earlier, atol=1e-5)


def test_an_encoder_without_fine_skips_decodes_to_full_size() -> None:
    config = SMALL.model_copy(update={"network": UnetConfig(encoder="vit_tiny_patch16_224")})
    maps = DepthPoseNet(config)(batch_of(("stereo",), 1)).inverse_depth
    assert maps[0].shape == (1, 1, 64, 96)


def test_start_depth_outside_the_range_is_refused() -> None:
    with pytest.raises(ValidationError, match="init_depth_m"):
        UnetConfig(init_depth_m=200.0)
