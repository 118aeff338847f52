"""`model.checkpoint_gradients` changes no loss, no gradient and no running statistic, and keeps fewer activations."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stadia.networks.config import UnetConfig
from stadia.networks.depth.unet import Unet

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def make_network(*, checkpoint_gradients: bool = False, **values: Any) -> Unet:
    torch.manual_seed(0)
    network = Unet(UnetConfig(decoder_channels=(4, 4, 8, 8, 8), **values), pretrained=False)
    if checkpoint_gradients:
        network.enable_gradient_checkpointing()
    return network


def train_twice(network: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the outputs, gradients and buffers of two passes with an update in between."""
    outputs: list[Tensor] = []
    torch.manual_seed(1)
    for _ in range(2):
        network.zero_grad()
        maps = network(IMAGES).inverse_depth
        torch.stack([one.square().mean() for one in maps]).sum().backward()
        outputs += [one.detach() for one in maps]
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.1 * parameter.grad
    return outputs, [one.grad for one in network.parameters()], list(network.buffers())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_050", "efficientnet_lite0"])
def test_outputs_gradients_and_statistics_are_equal_bit_for_bit(encoder: str) -> None:
    plain = train_twice(make_network(encoder=encoder))
    checkpointed = train_twice(make_network(encoder=encoder, checkpoint_gradients=True))
    for ones, others in zip(plain, checkpointed, strict=True):
        assert len(ones) == len(others)
        assert all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def count_kept_bytes(network: nn.Module) -> int:
    """Return the bytes of the tensors that the backward pass keeps, each storage once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = network(IMAGES)  # held: a freed storage would be counted again
    assert maps
    return sum(kept.values())


@pytest.mark.slow
def test_fewer_activations_are_kept() -> None:
    plain, checkpointed = make_network(), make_network(checkpoint_gradients=True)
    assert count_kept_bytes(checkpointed) < 0.5 * count_kept_bytes(plain)
