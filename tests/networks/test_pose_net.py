"""Rotations of a pose head: orders of Euler angles, matrices by 6 or 9 numbers, heads without bias."""

import pytest
import torch
from scipy.spatial.transform import Rotation
from tests.networks.test_depth_pose_net import batch_of
from torch.nn import functional as F
from torch.testing import assert_close

from stadia.geometry.poses import invert_pose
from stadia.networks import ROTATION_NUMBERS, ROTATIONS
from stadia.networks.config import DepthPoseNetConfig
from stadia.networks.pose_net import (
    CorrelationPoseEncoder,
    DepthPoseNet,
    PoseNet,
    compute_correlation_volume,
    compute_expected_shift,
    matrix6d,
    matrix9d,
)

EULER = [name for name in ROTATIONS if name.startswith("euler_")]


@pytest.mark.parametrize("name", EULER)
def test_euler_orders_are_those_of_scipy(name: str) -> None:
    order, angles = name.removeprefix("euler_"), torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    expected = Rotation.from_euler(order, [angles["xyz".index(axis)] for axis in order]).as_matrix()
    assert_close(ROTATIONS.load(name)(angles), torch.from_numpy(expected))


def test_matrices_are_found_again() -> None:
    R = torch.from_numpy(Rotation.random(20, random_state=0).as_matrix())
    less = R - torch.eye(3)
    assert_close(matrix9d(less.flatten(1)), R)
    assert_close(matrix6d(less[:, :, :2].transpose(1, 2).flatten(1)), R)


def test_nine_numbers_give_the_nearest_rotation_with_exact_gradients() -> None:
    torch.manual_seed(0)
    values = 0.2 * torch.randn(8, 9, dtype=torch.float64)
    U, _, Vt = torch.linalg.svd(torch.eye(3, dtype=torch.float64) + values.unflatten(-1, (3, 3)))
    assert_close(matrix9d(values), U @ Vt)
    for rotation, numbers in ((matrix9d, 9), (matrix6d, 6)):
        for start in (torch.zeros(1, numbers), 0.2 * torch.randn(1, numbers)):
            assert torch.autograd.gradcheck(rotation, start.double().requires_grad_())


@pytest.mark.parametrize("rotation", ["matrix6d", "matrix9d", "euler_zyx"])
def test_a_pose_network_predicts_each_rotation(rotation: str) -> None:
    config = DepthPoseNetConfig(pose_net="correlation", rotation=rotation, pretrained=False)
    net = PoseNet(config, None)
    T = net(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)).T_later_earlier
    assert net.head[-1].out_channels == ROTATION_NUMBERS.get(rotation, 3) + 3
    assert_close(T[:, :3, :3] @ T[:, :3, :3].transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)


# -- correlation volume and expected shift


def test_the_volume_is_that_of_plain_loops() -> None:
    one, other = torch.rand(2, 2, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    volume = compute_correlation_volume(one, other, reach=2)
    assert volume.shape == (2, 25, 5, 6)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            for y in range(5):
                for x in range(6):
                    inside = 0 <= y + dy < 5 and 0 <= x + dx < 6
                    expected = (
                        (one[:, :, y, x] * other[:, :, y + dy, x + dx]).sum(1)
                        if inside
                        else torch.zeros(2, dtype=torch.float64)
                    )
                    torch.testing.assert_close(volume[:, (dy + 2) * 5 + dx + 2, y, x], expected)


def test_a_shifted_image_gives_its_expected_shift() -> None:
    features = F.normalize(torch.randn(1, 32, 20, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    shifted = features.roll((2, -3), dims=(-2, -1))
    shift = compute_expected_shift((100 * compute_correlation_volume(features, shifted, reach=4)).softmax(1), reach=4)
    inner = shift[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(inner, torch.tensor([-3.0, 2.0]).view(1, 2, 1, 1).expand_as(inner), atol=1e-3, rtol=0)


@pytest.mark.parametrize("brightness", [False, True])
def test_a_frame_of_several_pairs_is_encoded_once(brightness: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    small = {"network": {"encoder": "mobilenetv3_small_050"}, "pose_net": "correlation"}
    network = DepthPoseNet(DepthPoseNetConfig(**small, pretrained=False, brightness=brightness)).eval()
    batch = batch_of(("-1", "+1", "stereo"))
    encoded = []
    encode = CorrelationPoseEncoder.encode_frames
    monkeypatch.setattr(
        CorrelationPoseEncoder,
        "encode_frames",
        lambda self, images: encoded.append(len(images)) or encode(self, images),
    )
    prediction = network(batch)
    assert encoded == [2 * (4 if brightness else 3)], "the target, and each source of a pair"
    earlier, later = batch.inputs.sources[:, 0], batch.inputs.image
    alone = network.motion(earlier, later).T_later_earlier
    torch.testing.assert_close(prediction.T_source_target[:, 0], invert_pose(alone), rtol=1e-5, atol=1e-6)
    following = network.motion(batch.inputs.image, batch.inputs.sources[:, 1]).T_later_earlier
    torch.testing.assert_close(prediction.T_source_target[:, 1], following, rtol=1e-5, atol=1e-6)
