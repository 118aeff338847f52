"""Any timm model as an encoder: a picture in, one feature map a stride out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import stadia.core.torchvision_shim  # noqa: F401
# isort: split

import timm
import torch
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.core.tables import nearest

log = logging.getLogger(__name__)


class Encoder(nn.Module):
    """A timm backbone that gives features at strides which are powers of two, finest first.

    Args:
        name: of the timm model.
        pictures: how many RGB pictures are concatenated along the channels (1 for depth, 2 for pose).
        pretrained: load timm's weights; where they cannot be had, says so in one line and starts at random.

    Raises ConfigError for a name that timm does not know, or a backbone whose strides are no powers of two.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, *, pictures: int = 1, pretrained: bool = True) -> None:
        super().__init__()
        self.backbone = _create(name, 3 * pictures, pretrained)
        info = self.backbone.feature_info
        last = {stride: index for index, stride in enumerate(info.reduction())}  # the deepest feature of each stride
        if any(stride & (stride - 1) for stride in last):
            raise ConfigError("encoder", found=f"'{name}' with strides {sorted(last)}", expected="powers of two", cure="choose a patch of 8 or 16")
        self._chosen = [last[stride] for stride in sorted(last)]
        self.strides: list[int] = sorted(last)
        self.channels: list[int] = [info.channels()[index] for index in self._chosen]
        config = self.backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).repeat(pictures).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).repeat(pictures).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3 * pictures, H, W) RGB in [0, 1] to one (B, C, H / stride, W / stride) map for each of `strides`."""
        coarsest = self.strides[-1]
        height, width = image.shape[-2:]
        if height % coarsest or width % coarsest:
            fit = f"{max(round(width / coarsest), 1) * coarsest}x{max(round(height / coarsest), 1) * coarsest}"
            raise ConfigError("picture size", found=f"{width}x{height}", expected=f"multiples of {coarsest}", cure=f"for example {fit}")
        features = self.backbone((image - self.mean) / self.std)
        return [features[index] for index in self._chosen]


def _create(name: str, channels: int, pretrained: bool) -> nn.Module:
    if not timm.is_model(name.split(".")[0]):
        near = nearest(name, timm.list_models())
        raise ConfigError("encoder", found=f"'{name}'", expected="a timm model", cure=f"did you mean '{near}'?" if near else "see `stadia parts encoders`")

    def create(weights: bool) -> nn.Module:
        return timm.create_model(name, features_only=True, in_chans=channels, pretrained=weights)

    return _with_weights(name, create) if pretrained else create(False)


def _with_weights(name: str, create: Callable[[bool], nn.Module]) -> nn.Module:
    try:
        return create(True)
    except Exception as error:  # a hub raises whatever its HTTP library raises
        log.warning("no pretrained weights for '%s' (%s): its encoder starts at random", name, type(error).__name__)
        return create(False)
