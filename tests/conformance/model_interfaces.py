"""Interface checks of models with their inputs, for test_tables.py."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from stadia.core.types import Camera
from stadia.differentiable.batch import Batch, Inputs, Meta, Targets
from stadia.networks import ACTIVATIONS, DEPTH_NETWORKS, ROTATION_NUMBERS
from stadia.networks.config import AttentionConfig, DepthModelConfig, DepthNetworkConfig, DepthPoseNetConfig
from stadia.networks.depth.depth_network import build_depth_network, check_outputs
from stadia.networks.pose_net import DepthPoseNet


def depth_network(name: str, part: Any, folder: Path) -> None:
    """Built from its smallest configuration, it predicts the maps that it announces, with gradients everywhere."""
    torch.manual_seed(0)
    assert part.Config is DepthNetworkConfig.find_class(name)
    network = build_depth_network(DepthModelConfig(network=TINY_NETWORKS[name], pretrained=False))
    check_outputs(network, 64, 96)
    maps = network(batch().inputs.image, batch().inputs.camera)
    assert all(tensor.isfinite().all() and (tensor > 0).all() for tensor in maps.inverse_depth)
    sum(tensor.log().sum() for tensor in maps.inverse_depth).backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    trainable = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    groups = [*network.backbone_parameters(), *network.decoder_parameters()]
    assert {id(parameter) for parameter in groups} == trainable
    assert len(groups) == len(trainable)
    assert {id(parameter) for parameter in network.head_parameters()} <= trainable
    assert network.source.startswith("https://")


def configuration_of_a_depth_network(name: str, part: Any, folder: Path) -> None:
    """It is that of the network with its name, and says what this needs without building it."""
    assert DEPTH_NETWORKS.load(name).Config is part
    config = part.model_validate(TINY_NETWORKS.get(name, {"name": name}))
    assert config.name == name
    assert part.model_validate(config.model_dump()) == config
    assert config.num_scales >= 1
    assert config.depth_range_m is None or config.depth_range_m[0] < config.start_m < config.depth_range_m[1]


TINY_NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "encoder": "mobilenetv3_small_050", "decoder_channels": (4, 8, 8, 8, 8)},
    "base": {"name": "base"},
    "dpt": {"name": "dpt", "size": "tiny"},
    "depth_anything": {
        "name": "depth_anything",
        "settings": {
            "architecture": {
                "model_type": "depth_anything",
                "backbone_config": {
                    "model_type": "dinov2",
                    "hidden_size": 32,
                    "num_hidden_layers": 4,
                    "num_attention_heads": 4,
                    "image_size": 70,
                    "patch_size": 14,
                    "out_indices": [1, 2, 3, 4],
                    "reshape_hidden_states": False,
                },
                "reassemble_hidden_size": 32,
                "neck_hidden_sizes": [8, 16, 24, 32],
                "fusion_hidden_size": 16,
            },
            "preprocessing": {},
        },
    },
    "monodepth2": {"name": "monodepth2", "motion": False},
    "midas": {"name": "midas", "encoder": "resnet18", "channels": 8},
    "published": {
        "name": "published",
        "source": "tiny",
        "settings": {
            "architecture": {
                "model_type": "glpn",
                "depths": [1, 1, 1, 1],
                "hidden_sizes": [8, 16, 16, 32],
                "num_attention_heads": [1, 1, 2, 2],
                "decoder_hidden_size": 8,
            },
            "preprocessing": {},
        },
    },
}
"""The smallest configuration of each depth network of the table."""


def attention(name: str, part: Any, folder: Path) -> None:
    """On any grid, with or without a class token: finite, a mean of the values, slopes everywhere, each sample for
    itself.
    """
    torch.manual_seed(0)
    config = AttentionConfig(name=name)
    built, another = part(config, 3, 8), part(config, 3, 8)
    owned = {tensor.data_ptr() for tensor in built.state_dict().values()}
    assert not owned & {tensor.data_ptr() for tensor in another.state_dict().values()}
    for grid, prefix in (((4, 6), 1), ((3, 5), 0), ((1, 1), 2)):
        q, k, v = (torch.randn(2, 3, prefix + grid[0] * grid[1], 8, requires_grad=True) for _ in range(3))
        built.train().zero_grad()
        output = built(q, k, v, grid)
        assert output.shape == v.shape
        output.square().sum().backward()
        if grid != (1, 1):  # there a window has one token, and a weight without effect
            gradients = [q.grad, k.grad, v.grad, *(parameter.grad for parameter in built.parameters())]
            assert all(slope is not None and slope.isfinite().all() and slope.abs().sum() > 0 for slope in gradients)
        built.eval()
        torch.testing.assert_close(built(q[1:], k[1:], v[1:], grid), built(q, k, v, grid)[1:])
        torch.testing.assert_close(built(q, k, torch.full_like(v, 3.0), grid), torch.full_like(v, 3.0))


def overlay_network(name: str, part: Any, folder: Path) -> None:
    """A trunk: two images to features at their size, whatever multiples of 8 that is; each sample for itself, slopes
    everywhere.
    """
    torch.manual_seed(0)
    built, images = part(), torch.rand(2, 6, 16, 24)
    output = built(images)
    assert output.shape == (2, built.channels, 16, 24)
    (output * torch.rand_like(output)).sum().backward()
    assert [n for n, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    built.eval()
    torch.testing.assert_close(built(images[1:]), built(images)[1:])


def pose_network(name: str, part: Any, folder: Path) -> None:
    """A motion of each pair, near none at the start, with brightness exactly (1, 0); gradients in every parameter once
    it outputs more.
    """
    torch.manual_seed(0)
    built = DepthPoseNet(_small(pose_net=name, brightness=True))
    given = batch()
    start = built(given)
    assert torch.equal(start.brightness, torch.tensor([1.0, 0.0]).expand(2, 3, 2))
    assert (start.T_source_target[:, :2] - torch.eye(4)).abs().max() < 0.2
    assert torch.equal(start.T_source_target[:, 2], given.inputs.T_source_target_rig[:, 2])
    for head in (built.pose.gain, built.pose.offset):
        torch.nn.init.normal_(head[-1].weight)
    output = built(given)
    (output.T_source_target.square().sum() + output.brightness.square().sum()).backward()
    assert [n for n, p in built.pose.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    built.eval()
    image, source = given.inputs.image, given.inputs.sources[:, 1]
    alone = built.motion(image[1:], source[1:])
    torch.testing.assert_close(alone.T_later_earlier, built.motion(image, source).T_later_earlier[1:])


def pose_head(name: str, part: Any, folder: Path) -> None:
    """A map to numbers, each sample for itself, with a slope in every parameter; zeros in its last layer are zeros of
    its output.
    """
    torch.manual_seed(0)
    head, x = part(5, 3, ACTIVATIONS.load("relu"), (2, 4)), torch.rand(2, 5, 2, 4)
    output = head(x)
    assert output.shape == (2, 3)
    torch.testing.assert_close(head(x[1:]), output[1:])
    output.square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    torch.nn.init.zeros_(head[-1].weight)
    torch.nn.init.constant_(head[-1].bias, -0.5)
    assert torch.equal(head(x), torch.full((2, 3), -0.5))


def rotation(name: str, part: Any, folder: Path) -> None:
    """Three numbers to a rotation: none for zeros, of that angle about an axis for one alone, with a finite slope at
    zero. Six or nine are those of a matrix, less the identity.
    """
    numbers = ROTATION_NUMBERS.get(name, 3)
    zero = torch.zeros(2, numbers, requires_grad=True)
    none = part(zero)
    assert torch.equal(none, torch.eye(3).expand(2, 3, 3))
    (slope,) = torch.autograd.grad((none * torch.arange(9.0).view(3, 3)).sum(), zero)
    assert slope.isfinite().all()
    assert slope.abs().max() > 0
    if numbers > 3:  # numbers of a matrix: any gives a rotation
        R = part(torch.randn(50, numbers, generator=torch.Generator().manual_seed(0)))
        torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3).expand(50, 3, 3), atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.linalg.det(R), torch.ones(50), atol=1e-4, rtol=0)
        return
    assert slope.abs().min() > 0
    for axis, alone in enumerate(torch.eye(3)):
        R = part(0.3 * alone)
        torch.testing.assert_close(R @ alone, alone)
        assert R[(axis + 2) % 3, (axis + 1) % 3] == pytest.approx(math.sin(0.3))  # right-handed
    R = part(torch.tensor([0.3, -0.2, 0.5]))
    torch.testing.assert_close(R @ R.T, torch.eye(3))
    assert R.det() == pytest.approx(1)


def activation(name: str, part: Any, folder: Path) -> None:
    """A layer without weights that keeps shape and 0, follows its input up, and has a slope where that is positive."""
    torch.manual_seed(0)
    layer = part()
    x = (torch.arange(-60.0, 61) / 20).requires_grad_()
    output = layer(x)
    assert list(layer.parameters()) == []
    assert output.shape == x.shape
    assert output[60] == 0
    assert output[-1] > 2
    (slope,) = torch.autograd.grad(output.sum(), x)
    assert slope.isfinite().all()
    assert (slope[x > 0.1] > 0).sum() > 50  # a wave stands still at a point
    assert torch.equal(layer.eval()(x), layer(x))


INTERFACE_CHECKS = (
    depth_network,
    configuration_of_a_depth_network,
    attention,
    overlay_network,
    pose_network,
    pose_head,
    rotation,
    activation,
)


def _small(**values: Any) -> DepthPoseNetConfig:
    network, pose_encoder = TINY_NETWORKS["unet"], "mobilenetv3_small_050"
    values = {"pose_net": "resnet", "pose_encoder": pose_encoder, **values}
    return DepthPoseNetConfig(network=network, pretrained=False, **values)


def batch() -> Batch:
    """Two random samples of 64x96 with the sources -1, +1 and stereo."""
    generator = torch.Generator().manual_seed(0)
    image, sources = torch.rand(2, 3, 64, 96, generator=generator), torch.rand(2, 3, 3, 64, 96, generator=generator)
    K = torch.tensor([[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]])
    camera, source_camera = Camera(K.expand(2, 3, 3), 64, 96), Camera(K.expand(2, 3, 3, 3), 64, 96)
    rig = torch.full((2, 3, 4, 4), torch.nan)
    rig[:, 2] = torch.eye(4)
    rig[:, 2, 0, 3] = -0.5
    return Batch(
        inputs=Inputs(image=image, sources=sources, camera=camera, T_source_target_rig=rig),
        targets=Targets(
            image=image, sources=sources, camera=camera, source_camera=source_camera, T_source_target_true=rig
        ),
        meta=(Meta("random", 0, "left"), Meta("random", 1, "left")),
        source_names=("-1", "+1", "stereo"),
    )
