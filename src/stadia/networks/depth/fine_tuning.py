"""Choose the trained part of a depth network: all, the decoder, the last layers, or adapters (arXiv 2106.09685)."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from stadia.core.errors import ConfigError

ADAPTER_PREFIX = "lora_"
"""Prefix that peft gives to parts of the names of adapter weights."""

BASE_LAYER = "base_layer"
"""Name part that peft inserts into the name of a layer with an adapter."""


def import_peft() -> Any:
    """Import and return the package peft. The import takes seconds."""
    if find_spec("peft") is None:
        fix = "pip install 'stadia[adapters]'"
        raise ConfigError("model.trained=adapters", found="no package peft", expected="the extra 'adapters'", fix=fix)
    import stadia.core.torchvision_operators  # noqa: F401

    # isort: split

    import peft

    return peft


def freeze_all_but(network: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Freeze all parameters of a network except the given ones."""
    kept = {id(parameter) for parameter in trained}
    for parameter in list(network.parameters()):
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def find_adapted_layers(network: nn.Module, rank: int) -> list[str]:
    """Return the names of the layers that get an adapter.

    These are the trainable linear layers and ungrouped convolutions that are wider than the rank.
    """
    return [
        name
        for name, module in network.named_modules()
        if (type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1))
        and module.weight.requires_grad
        and min(module.weight.shape[:2]) > rank
    ]


def add_adapters(network: nn.Module, rank: int) -> list[str]:
    """Freeze a network, add trainable adapters to its layers in place, and return the names of these layers.

    The output does not change at first, because one matrix of each adapter is zero.

    Raises ConfigError if no layer is wider than the rank.
    """
    peft = import_peft()
    names = find_adapted_layers(network, rank)
    if not names:
        expected, fix = "layers that are wider than the rank", "choose a smaller model.adapter_rank"
        raise ConfigError(f"model.adapter_rank={rank}", found="no such layer", expected=expected, fix=fix)
    holder = nn.Module()  # without the attribute `config`, by which peft recognizes networks of transformers
    holder.network = network
    layers = [f"network.{name}" for name in names]
    config = peft.LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=layers)
    peft.inject_adapter_in_model(config, holder)
    return names


def merge_adapters(network: nn.Module) -> None:
    """Add all adapters to the weights of their layers, in place."""
    for name, module in list(network.named_modules()):
        if hasattr(module, "get_base_layer") and hasattr(module, "merge"):
            layer: Any = module
            layer.merge(safe_merge=False)
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())


def name_for_adapters(weights: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Return plain weights under the names that they have in a module with adapters.

    The tensors, of any shape, do not change.

    weights: plain weights by name.
    own: names in the module's state_dict.
    """
    plain = {name.replace(f".{BASE_LAYER}.", "."): name for name in own}
    return {plain.get(name, name): tensor for name, tensor in weights.items()}


def list_adapter_names(names: Iterable[str]) -> list[str]:
    """Return those of the names that belong to weights of adapters."""
    return [name for name in names if any(part.startswith(ADAPTER_PREFIX) for part in name.split("."))]


def store_in_bf16(parameters: Iterable[nn.Parameter], network: nn.Module) -> list[Any]:
    """Store and run the frozen linear layers and convolutions that own the given parameters in bfloat16.

    The inputs and outputs of the layers stay in float32. Returns the handles of the hooks, for `restore_float32`.
    """
    chosen = {id(parameter) for parameter in parameters}
    handles = []
    for module in _list_layers(network):
        if id(module.weight) in chosen and not any(p.requires_grad for p in module.parameters(recurse=False)):
            module.to(torch.bfloat16)
            handles += [module.register_forward_pre_hook(_to_bf16), module.register_forward_hook(_to_float32)]
    return handles


def restore_float32(network: nn.Module, handles: Iterable[Any]) -> None:
    """Store all layers in float32 again, and remove the hooks of `store_in_bf16`."""
    for handle in handles:
        handle.remove()
    for module in _list_layers(network):
        module.float()


def _list_layers(network: nn.Module) -> Iterator[Any]:
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            yield module


def _to_bf16(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.to(torch.bfloat16) if isinstance(value, Tensor) else value for value in inputs)


def _to_float32(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.float()
