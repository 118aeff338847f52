"""What of a depth network trains: adapters start at its output, train alone, and are added to its weights."""

from typing import Any

import pytest
import torch
from tests.refusals import refuses
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.networks.config import DepthModelConfig, DepthNetworkConfig
from stadia.networks.depth.depth_network import AffineDepthNetwork, list_adapter_names, name_for_adapters

IMAGE = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


class Small(AffineDepthNetwork):
    """A backbone of a convolution, of a grouped one and of a linear layer, and a head."""

    def __init__(self) -> None:
        super().__init__(DepthNetworkConfig(name="mine:Small"))
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        )
        self.mix = nn.Linear(16, 16)
        self.decoder, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 1, 1)
        self.register_scale(1.0, 0.0)

    def backbone_parameters(self) -> list[nn.Parameter]:
        parts = (*self.backbone.parameters(), *self.mix.parameters())
        return [parameter for parameter in parts if parameter.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())

    def raw(self, image: Tensor) -> Tensor:
        features = self.mix(self.backbone(self.normalize(image)).movedim(1, -1)).movedim(-1, 1)
        return self.head(self.decoder(features.relu()).relu()).exp()


def build(seed: int = 0, **settings: Any) -> Small:
    torch.manual_seed(seed)
    network = Small()
    network.choose_trained(DepthModelConfig(**{"adapter_rank": 2, **settings}))
    return network


def list_trained(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def change_trained(network: Small) -> None:
    """Make a step that changes all that is trained."""
    network.train()
    network(IMAGE).inverse_depth[0].log().mean().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                parameter.add_(0.1 * torch.ones_like(parameter) + parameter.grad)
    network.eval()


def predict(network: Small) -> Tensor:
    with torch.no_grad():
        return network.eval()(IMAGE).inverse_depth[0]


@pytest.mark.parametrize(("trained", "expected"), [("decoder", {"decoder", "head"}), ("head", {"head"})])
def test_the_named_part_trains_alone(trained: str, expected: set[str]) -> None:
    network = build(trained=trained)
    assert {name.partition(".")[0] for name in list_trained(network)} == expected
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    change_trained(network)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.partition(".")[0] for name in changed} == expected  # no statistics of batch normalization either


@pytest.mark.slow
def test_adapters_start_at_the_output_and_train_alone() -> None:
    plain, network = build(), build(trained="adapters")
    assert torch.equal(predict(plain), predict(network))
    assert all(list_adapter_names([name]) for name in list_trained(network))
    adapted = {name.partition(".lora_")[0] for name in list_trained(network)}
    assert adapted == {"backbone.0", "mix"}, "no grouped convolutions, and no decoder"


def test_merged_adapters_predict_the_same_under_plain_names() -> None:
    network = build(trained="adapters")
    change_trained(network)
    before = predict(network)
    assert not torch.allclose(before, predict(build()), rtol=1e-2)
    network.finish_training()
    assert network.state_dict().keys() == Small().state_dict().keys()
    torch.testing.assert_close(predict(network), before, rtol=1e-5, atol=1e-6)


def test_plain_weights_fit_a_network_with_adapters() -> None:
    plain, network = build(seed=1), build(trained="adapters")
    own = network.state_dict()
    weights = name_for_adapters(plain.state_dict(), own)
    assert weights.keys() == own.keys() - set(list_adapter_names(own))
    network.load_state_dict(weights, strict=False)
    assert torch.equal(predict(plain), predict(network))


@pytest.mark.parametrize("trained", ["decoder", "head", "adapters"])
def test_a_backbone_in_bf16_is_stored_in_half_and_predicts_nearly_the_same(trained: str) -> None:
    network = build(trained=trained, backbone_precision="bf16")
    stored = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    layer = "mix.base_layer.weight" if trained == "adapters" else "mix.weight"
    assert stored[layer] is torch.bfloat16
    assert stored["backbone.1.weight"] is torch.float32
    assert all(tensor.dtype is torch.float32 for tensor in network.parameters() if tensor.requires_grad)
    torch.testing.assert_close(predict(network), predict(build()), rtol=3e-2, atol=0)
    change_trained(network)
    before = predict(network)
    network.finish_training()
    assert all(tensor.dtype is torch.float32 for tensor in network.parameters())
    torch.testing.assert_close(predict(network), before, rtol=3e-2, atol=0)


def test_what_cannot_be_is_refused() -> None:
    with refuses(ConfigError, where="model.adapter_rank=512"):
        build(trained="adapters", adapter_rank=512)
    with pytest.raises(ValueError, match="trained=decoder"):
        DepthModelConfig(backbone_precision="bf16")
