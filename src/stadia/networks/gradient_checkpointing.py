"""Recompute activations in the backward pass instead of storing them, with bit-equal results (arXiv 1604.06174)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

import torch
from timm.models._features import FeatureDictNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_checkpointed(function: Callable[..., Any], *inputs: Tensor, modules: Sequence[nn.Module] = ()) -> Any:
    """Return `function(*inputs)`, but store only the inputs for the backward pass, which computes the function again.

    inputs: tensors of any shape.
    modules: modules that the function uses. Their buffers, such as running statistics of batch normalization, are
        updated only by the first computation.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)

    def make_contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), keep_buffers(modules)

    # If it stopped early, the second run would leave random numbers of its last operation unused.
    return checkpoint(function, *inputs, use_reentrant=False, context_fn=make_contexts, early_stop=False)


@contextlib.contextmanager
def keep_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Restore all buffers of these modules to their present values when the `with` block ends."""
    kept = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)


def compute_features(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the feature maps (B, C, H / stride, W / stride) of a timm backbone, storing only these for the backward
    pass.

    Activations between two feature maps are computed again in the backward pass. Transformers are computed again as a
    whole.

    backbone: timm model created with `features_only=True`.
    image: (B, 3, H, W) normalized images.
    """
    if not isinstance(backbone, FeatureDictNet):
        whole: list[Tensor] = run_checkpointed(backbone, image, modules=[backbone])
        return whole
    features: list[Tensor] = []
    stage: list[nn.Module] = []
    value: Any = image
    for name, module in backbone.items():
        stage.append(module)
        if name in backbone.return_layers:
            value = run_checkpointed(nn.Sequential(*stage), value, modules=stage)
            features.append(value if isinstance(value, Tensor) else value[0])
            stage = []
    return features
