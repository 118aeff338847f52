"""Networks of `overlay`: the published one layer by layer, the light one, and receptive fields."""

import pytest
import torch
from torch import nn

from stadia.overlay.config import OverlayNetConfig
from stadia.overlay.network import OverlayNet

TABLE = {
    **dict.fromkeys(("x2", "x3"), (64, 1)),
    "x4": (128, 2),
    **dict.fromkeys(("x5", "x6", "x7"), (128, 2)),
    "x8": (384, 4),
    **dict.fromkeys(("x9", "x10", "x11"), (256, 4)),
    "x12": (768, 8),
    **dict.fromkeys(("x13", "x14", "x15"), (512, 8)),
    "u1": (256, 4),
    "u2": (128, 2),
    "u3": (64, 1),
    "w": (32, 1),
}
"""Of each node of the published layer table its channels, and which part of the image's sides it has."""

INPUTS = {
    "x2": 6,
    "x3": 64,
    "x5": 128,
    "x6": 256,
    "x7": 384,
    "x9": 384,
    "x10": 640,
    "x11": 896,
    "x13": 768,
    "x14": 1280,
    "x15": 1792,
    "u1.narrow": 512,
    "u1.mix": 256,
    "u2.narrow": 256,
    "u2.mix": 128,
    "u3.narrow": 128,
    "u3.mix": 64,
    "w": 64,
}


@pytest.fixture(scope="module")
def full() -> OverlayNet:
    torch.manual_seed(0)
    return OverlayNet(OverlayNetConfig(network="full"))


def test_the_published_network_has_its_parameters_and_tensors(full):
    assert sum(p.numel() for p in full.parameters()) == 24_019_618
    assert len(full.state_dict()) == 130
    assert sum(b.numel() for name, b in full.state_dict().items() if "running" in name or "num_batches" in name) == 7506
    assert sum(isinstance(m, nn.Conv2d | nn.BatchNorm2d) for m in full.modules()) == 38


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 40)])
def test_every_layer_has_the_size_of_table(full, height, width):
    with torch.no_grad():
        nodes = full.trunk.nodes(torch.rand(1, 6, height, width))
        output = full(torch.rand(1, 6, height, width))
    assert {name: tuple(x.shape[1:]) for name, x in nodes.items()} == {
        name: (channels, height // part, width // part) for name, (channels, part) in TABLE.items()
    }
    assert output.log_depth.shape == output.mask_logits.shape == (1, 1, height, width)


def test_layers_add_what_the_published_table_joins(full):
    """Gradients show the inputs of each layer: x6 reads x4 and x5, x12 is the maximum over x9, x10, x11."""
    with torch.no_grad():
        x = full.eval().trunk.nodes(torch.rand(1, 6, 16, 16))
        torch.testing.assert_close(x["x6"], full.trunk.layers["x6"](torch.cat((x["x4"], x["x5"]), 1)))
        torch.testing.assert_close(x["x15"], full.trunk.layers["x15"](torch.cat((x["x12"], x["x13"], x["x14"]), 1)))
        torch.testing.assert_close(x["x12"], nn.functional.max_pool2d(torch.cat((x["x9"], x["x10"], x["x11"]), 1), 2))
        torch.testing.assert_close(x["u3"], full.trunk.u3(x["u2"], x["x3"]))
        narrow = full.trunk.u1.narrow(x["x15"].repeat_interleave(2, 2).repeat_interleave(2, 3))
        torch.testing.assert_close(x["u1"], full.trunk.u1.mix(narrow + x["x11"]))
    full.train()


def test_the_light_trunk_is_small_and_predicts_positive_depth():
    torch.manual_seed(0)
    net = OverlayNet(OverlayNetConfig(init_depth_m=7.0))
    assert sum(p.numel() for p in net.parameters()) < 1_000_000
    nn.init.zeros_(net.depth.weight)
    nn.init.zeros_(net.depth.bias)
    output = net(torch.rand(2, 6, 24, 40))
    assert output.log_depth.shape == output.mask_logits.shape == (2, 1, 24, 40)
    torch.testing.assert_close(output.log_depth.exp(), torch.full((2, 1, 24, 40), 7.0))
    nn.init.constant_(net.depth.bias, -30.0)  # wherever its last layer goes, depth stays above 0, with a slope
    far_off = net(torch.rand(2, 6, 24, 40)).log_depth
    assert (far_off.exp() > 0).all()
    far_off.sum().backward()
    assert net.depth.bias.grad.item() == pytest.approx(2 * 24 * 40)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["light", "full"])
def test_background_and_image_both_count_and_samples_do_not_meet(network):
    torch.manual_seed(0)
    net = OverlayNet(OverlayNetConfig(network=network)).eval()
    images = torch.rand(2, 6, 16, 16, requires_grad=True)
    output = net(images)
    torch.testing.assert_close(net(images[1:]).log_depth, output.log_depth[1:])
    (slope,) = torch.autograd.grad(output.mask_logits.sum() + output.log_depth.sum(), images)
    assert (slope.abs().sum((0, 2, 3)) > 0).all()
