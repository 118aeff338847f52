"""The depth network: a picture to inverse depth at several scales (Monodepth2, arXiv 1806.01260, supplement table 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.geometry.depth_maps import sigmoid_to_inverse_depth, start_bias
from stadia.models.encoders import Encoder


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    """Zeros would draw a frame around the depth; reflection, Monodepth2's choice, cannot pad a map of one row."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")


class Decoder(nn.Module):
    """From the coarsest feature upwards: convolve, double the size, join the skip of that size where there is one, convolve.

    Args:
        channels_in: of the encoder's features, finest first, with their `strides`.
        channels: of the decoder at strides 1, 2, 4, 8, 16.
        outputs: channels of each head (1 for inverse depth; room for more views or an uncertainty).
        scales: how many heads, at strides 1, 2, 4, ...
    """

    def __init__(self, channels_in: list[int], strides: list[int], channels: tuple[int, ...], *, outputs: int = 1, scales: int = 4) -> None:
        super().__init__()
        skips = dict(zip(strides, channels_in, strict=True))
        self.strides = [s for s in (16, 8, 4, 2, 1) if s < strides[-1]]
        width = {1 << i: c for i, c in enumerate(channels)}
        before, after, current = {}, {}, channels_in[-1]
        for stride in self.strides:
            before[str(stride)] = _conv(current, width[stride])
            after[str(stride)] = _conv(width[stride] + skips.get(stride, 0), width[stride])
            current = width[stride]
        self.before, self.after = nn.ModuleDict(before), nn.ModuleDict(after)
        self.heads = nn.ModuleDict({str(1 << s): _conv(width[1 << s], outputs) for s in range(scales)})
        self.skips = {stride: index for index, stride in enumerate(strides)}

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Features, finest first, to one (B, outputs, H / 2^s, W / 2^s) map of logits a scale, finest first."""
        x, maps = features[-1], []
        for stride in self.strides:
            x = functional.elu(self.before[str(stride)](x))
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            if stride in self.skips:
                x = torch.cat([x, features[self.skips[stride]]], dim=1)
            x = functional.elu(self.after[str(stride)](x))
            if str(stride) in self.heads:
                maps.append(self.heads[str(stride)](x))
        return tuple(reversed(maps))


class DepthNet(nn.Module):
    """Encoder, decoder, and the map from logits to inverse depth.

    The heads' bias makes an untrained network answer `start_depth_m` everywhere: with the true baseline in metres a start
    at arm's length would project a hundred pixels beside the match, where the photometric loss has no slope.
    """

    def __init__(
        self,
        encoder: str,
        *,
        pretrained: bool,
        channels: tuple[int, ...],
        min_depth_m: float,
        max_depth_m: float,
        start_depth_m: float,
        scales: int = 4,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, pretrained=pretrained)
        self.decoder = Decoder(self.encoder.channels, self.encoder.strides, channels, scales=scales)
        self.min_depth_m, self.max_depth_m = min_depth_m, max_depth_m
        bias = float(start_bias(start_depth_m, min_depth_m, max_depth_m))
        for head in self.decoder.heads.values():
            nn.init.normal_(head.weight, std=1e-2)  # type: ignore[arg-type]
            nn.init.constant_(head.bias, bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) RGB in [0, 1] to inverse depth in 1/m, (B, 1, H / 2^s, W / 2^s) for each scale s, float32."""
        logits = self.decoder(self.encoder(image))
        return tuple(sigmoid_to_inverse_depth(x.float(), self.min_depth_m, self.max_depth_m) for x in logits)
