"""Networks of the recipe `overlay`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.core.types import TensorDataclass
from stadia.overlay import OVERLAY_NETWORKS
from stadia.overlay.config import OverlayNetConfig, check_overlay_size


@dataclass(frozen=True, slots=True)
class OverlayMaps(TensorDataclass):
    """Hold the output of the network for B composite images.

    log_depth: (B, 1, H, W) natural logarithm of z.
    mask_logits: (B, 1, H, W) logits of the mask, above 0 on pasted objects.
    shared: last features before the two heads that predict depth and mask.
    """

    log_depth: Tensor
    mask_logits: Tensor
    shared: Tensor


class OverlayNet(nn.Module):
    """A trunk from OVERLAY_NETWORKS and two heads: a 1x1 convolution for depth and a 3x3 convolution for the mask.

    The input is (B, 6, H, W): RGB in [0, 1] of the background, then of the composite image. Outputs are float32.

    Raises ConfigError if a side is not a multiple of 8.
    """

    def __init__(self, config: OverlayNetConfig) -> None:
        super().__init__()
        self.trunk: FullTrunk | LightTrunk = OVERLAY_NETWORKS.load(config.network)()
        self.depth = nn.Conv2d(self.trunk.channels, 1, 1)
        self.mask = nn.Conv2d(self.trunk.channels, 1, 3, padding=1)
        self.output_stride = config.output_stride
        self.register_buffer("start", torch.tensor(config.init_depth_m).log(), persistent=False)
        self.start: Tensor

    def forward(self, images: Tensor) -> OverlayMaps:
        """Map background and composite image, (B, 6, H, W) RGB in [0, 1], to depth and mask."""
        check_overlay_size(*images.shape[-2:])
        shared = self.trunk(images.contiguous(memory_format=torch.channels_last))  # 1.5 times as fast on a CPU
        if self.output_stride > 1:
            shared = F.avg_pool2d(shared, self.output_stride)
        log_depth, mask_logits = (self._full_size(head(shared).float()) for head in (self.depth, self.mask))
        return OverlayMaps(log_depth + self.start, mask_logits, shared)

    def _full_size(self, output: Tensor) -> Tensor:
        if self.output_stride == 1:
            return output
        return F.interpolate(output, scale_factor=float(self.output_stride), mode="bilinear", align_corners=False)


def _encode(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs))


def _decode(inputs: int, outputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs), nn.ReLU())


def _layer(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Like `_decode`, with a stride and group norm of 8 channels, since batch statistics lag behind fast weights."""
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)
    return nn.Sequential(convolution, nn.GroupNorm(outputs // 8, outputs), nn.ReLU())


class UpBlock(nn.Module):
    """Upsample by 2 (nearest), apply a 1x1 convolution, add the skip feature, and apply a 3x3 convolution.

    layer: function that creates each convolution.
    """

    def __init__(self, inputs: int, outputs: int, layer: Callable[[int, int, int], nn.Module] = _decode) -> None:
        super().__init__()
        self.narrow, self.mix = layer(inputs, outputs, 1), layer(outputs, outputs, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map coarse features (B, C, h, w) and the skip feature (B, outputs, 2h, 2w) to (B, outputs, 2h, 2w)."""
        joined: Tensor = self.mix(self.narrow(F.interpolate(x, scale_factor=2.0, mode="nearest")) + skip)
        return joined


class FullTrunk(nn.Module):
    """The published network, with 24,019,618 parameters including its heads. Its layer table names the nodes."""

    channels = 32

    def __init__(self) -> None:
        super().__init__()
        layers = {"x2": (6, 64), "x3": (64, 64), "x5": (128, 128), "x6": (256, 128), "x7": (384, 128)}
        layers |= {"x9": (384, 256), "x10": (640, 256), "x11": (896, 256)}
        layers |= {"x13": (768, 512), "x14": (1280, 512), "x15": (1792, 512)}
        self.layers = nn.ModuleDict({name: _encode(*channels) for name, channels in layers.items()})
        self.u1, self.u2, self.u3 = UpBlock(512, 256), UpBlock(256, 128), UpBlock(128, 64)
        self.w = _decode(64, 32, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 6, H, W) to (B, 32, H, W)."""
        return self.nodes(images)["w"]

    def nodes(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (B, 6, H, W) to the output of every node, by name."""
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


class LightTrunk(nn.Module):
    """A trunk with about half a million parameters, for two cores.

    Its coarsest layers also receive the row coordinate.
    """

    channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.fine = _layer(6, 16, 3)
        self.to_half = nn.Sequential(_layer(16, 32, 3, 2), _layer(32, 32, 3))
        self.to_quarter = nn.Sequential(_layer(32, 64, 3, 2), _layer(64, 64, 3))
        self.to_eighth = _layer(64, 96, 3, 2)
        self.deep = nn.Sequential(_layer(97, 96, 3), _layer(96, 96, 3), _layer(96, 96, 3))
        self.u1, self.u2, self.u3 = UpBlock(96, 64, _layer), UpBlock(64, 32, _layer), UpBlock(32, 16, _layer)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 6, H, W) to (B, 16, H, W)."""
        fine = self.fine(images)
        half = self.to_half(fine)
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        row = torch.linspace(-1, 1, eighth.shape[-2], device=eighth.device, dtype=eighth.dtype)
        rows = row[:, None].expand(len(eighth), 1, *eighth.shape[-2:])
        deep = self.deep(torch.cat((eighth, rows), dim=1))
        return self.u3(self.u2(self.u1(deep, quarter), half), fine)
