"""Networks of the recipe `overlay`: a background and the image composed on it, to depth and the mask of what was
pasted.

Both networks have one interface, and one trunk that two heads read: `shared` is where their losses meet. Depth is
positive by what its
head says: ln z, a plain linear layer that never saturates and whose answer cannot be at a floor. The mask's head says a
logit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.core.types import Movable
from stadia.models import OVERLAY_NETWORKS
from stadia.models.overlay_config import OverlayNetConfig, check_size


@dataclass(frozen=True, slots=True)
class OverlayMaps(Movable):
    """What a network says of B images.

    log_depth: (B, 1, H, W) ln z, z in the unit of the labels.
    mask_logits: (B, 1, H, W), above 0 where something was pasted.
    shared: (B, C, H, W) what both were read from; of an answer at a smaller size (B, C, h, w).
    """

    log_depth: Tensor
    mask_logits: Tensor
    shared: Tensor


class OverlayNet(nn.Module):
    """A trunk by its name in OVERLAY_NETWORKS, and the two heads: depth by a 1x1 convolution, the mask by a 3x3 one.

    It sees (B, 6, H, W), RGB in [0, 1] of the background and then of the composed image, and gives OverlayMaps in
    float32. Raises ConfigError for sides that are no multiples of 8, since what is doubled again would not fit what it
    is added to.
    """

    def __init__(self, config: OverlayNetConfig) -> None:
        super().__init__()
        self.trunk: Full | Light = OVERLAY_NETWORKS.load(config.network)()
        self.depth = nn.Conv2d(self.trunk.channels, 1, 1)
        self.mask = nn.Conv2d(self.trunk.channels, 1, 3, padding=1)
        self.answer_stride = config.answer_stride
        self.register_buffer("start", torch.tensor(config.start_depth_m).log(), persistent=False)
        self.start: Tensor

    def forward(self, images: Tensor) -> OverlayMaps:
        check_size(*images.shape[-2:])
        shared = self.trunk(
            images.contiguous(memory_format=torch.channels_last)
        )  # on a processor two thirds of the time
        if self.answer_stride > 1:
            shared = F.avg_pool2d(shared, self.answer_stride)
        log_depth, mask_logits = (self._full_size(head(shared).float()) for head in (self.depth, self.mask))
        return OverlayMaps(log_depth + self.start, mask_logits, shared)

    def _full_size(self, answer: Tensor) -> Tensor:
        if self.answer_stride == 1:
            return answer
        return F.interpolate(answer, scale_factor=float(self.answer_stride), mode="bilinear", align_corners=False)


def _encode(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, ReLU, then normalization: the order of the published network's encoder."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs))


def _decode(inputs: int, outputs: int, size: int) -> nn.Sequential:
    """Convolution, normalization, then ReLU: the order of its decoder."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs), nn.ReLU())


def _layer(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """As `_decode`, each sample normalized by itself in groups of 8 channels.

    Batches' statistics follow weights that move this fast too late: at step 300 a mask's IoU was .86 by those of the
    batch, .5 by the running ones.
    """
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)
    return nn.Sequential(convolution, nn.GroupNorm(outputs // 8, outputs), nn.ReLU())


class Up(nn.Module):
    """Twice as large by the nearest pixel, a 1x1 convolution, plus what was there at this size before, a 3x3
    convolution.

    layer: makes both.
    """

    def __init__(self, inputs: int, outputs: int, layer: Callable[[int, int, int], nn.Module] = _decode) -> None:
        super().__init__()
        self.narrow, self.mix = layer(inputs, outputs, 1), layer(outputs, outputs, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.mix(self.narrow(F.interpolate(x, scale_factor=2.0, mode="nearest")) + skip)
        return joined


class Full(nn.Module):
    """The published network: 24,019,618 parameters with its heads. Every layer of a size sees all that came before at
    that size.

    Nodes have the names of its layer table; see `nodes`.
    """

    channels = 32

    def __init__(self) -> None:
        super().__init__()
        layers = {"x2": (6, 64), "x3": (64, 64), "x5": (128, 128), "x6": (256, 128), "x7": (384, 128)}
        layers |= {
            "x9": (384, 256),
            "x10": (640, 256),
            "x11": (896, 256),
            "x13": (768, 512),
            "x14": (1280, 512),
            "x15": (1792, 512),
        }
        self.layers = nn.ModuleDict({name: _encode(*channels) for name, channels in layers.items()})
        self.u1, self.u2, self.u3 = Up(512, 256), Up(256, 128), Up(128, 64)
        self.w = _decode(64, 32, 3)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 6, H, W) to (B, 32, H, W)."""
        return self.nodes(images)["w"]

    def nodes(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 6, H, W) to what every node says."""
        x, layers = {}, self.layers
        x["x2"] = layers["x2"](images)
        x["x3"] = layers["x3"](x["x2"])
        below = (x["x2"], x["x3"])
        for numbers in ((4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15)):
            pooled, *names = (f"x{number}" for number in numbers)
            x[pooled] = F.max_pool2d(torch.cat(below, dim=1), 2)
            seen = [x[pooled]]
            for name in names:
                x[name] = layers[name](torch.cat(seen, dim=1))
                seen.append(x[name])
            below = tuple(seen[1:])
        x["u1"] = self.u1(x["x15"], x["x11"])
        x["u2"] = self.u2(x["u1"], x["x7"])
        x["u3"] = self.u3(x["u2"], x["x3"])
        x["w"] = self.w(x["u3"])
        return x


class Light(nn.Module):
    """About half a million parameters, for two cores: one layer of 16 channels sees every pixel, all others see half
    the size or less.

    The rows of the image are an input of the coarsest layers: a camera that looks ahead has its ground in the lower
        half, which says
    much of depth.
    """

    channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.fine = _layer(6, 16, 3)
        self.to_half = nn.Sequential(_layer(16, 32, 3, 2), _layer(32, 32, 3))
        self.to_quarter = nn.Sequential(_layer(32, 64, 3, 2), _layer(64, 64, 3))
        self.to_eighth = _layer(64, 96, 3, 2)
        self.deep = nn.Sequential(_layer(97, 96, 3), _layer(96, 96, 3), _layer(96, 96, 3))
        self.u1, self.u2, self.u3 = Up(96, 64, _layer), Up(64, 32, _layer), Up(32, 16, _layer)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 6, H, W) to (B, 16, H, W)."""
        fine = self.fine(images)
        half = self.to_half(fine)
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        row = torch.linspace(-1, 1, eighth.shape[-2], device=eighth.device, dtype=eighth.dtype)
        rows = row[:, None].expand(len(eighth), 1, *eighth.shape[-2:])
        deep = self.deep(torch.cat((eighth, rows), dim=1))
        return self.u3(self.u2(self.u1(deep, quarter), half), fine)
