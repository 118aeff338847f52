"""The decoder of the network `base`: full resolution at half the cost, with the image's pixels as a skip connection.

The finest convolutions run at stride 2. They take 2x2 pixels as channels, and the head predicts the logits of 2x2
pixels (sub-pixel convolution, arXiv 1609.05158).
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.models.gradient_checkpointing import run_checkpointed

FINEST = 2
"""Stride of the finest convolutions."""


def make_block(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Return a convolution, batch normalization and a ReLU."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SharpDecoder(nn.Module):
    """Map features at strides 2 to 32 and the image to logits at full resolution.

    The mean of the coarsest feature over the image is added to it, because it contains the scale of the scene. Log
    uncertainty is predicted at stride 4.

    channels_in: numbers of channels of the encoder's features at strides 2, 4, 8, 16 and 32.
    channels: numbers of channels of the decoder: of the head, which predicts 2x2 pixels at stride 1, and at strides 2,
        4, 8 and 16.
    """

    def __init__(self, channels_in: list[int], channels: tuple[int, ...]) -> None:
        super().__init__()
        pixels, *widths = channels
        finest_first = list(zip(widths, channels_in[:-1], strict=True))
        coarsest = widths[-1]
        self.coarsest = make_block(channels_in[-1], coarsest, size=1)
        self.context = nn.Conv2d(channels_in[-1], coarsest, 1)
        before, after, current = {}, {}, coarsest
        for level in reversed(range(len(widths))):
            width, skip = finest_first[level]
            stride = FINEST << level
            before[str(stride)] = make_block(current, width, size=1)
            own = 3 * FINEST**2 if stride == FINEST else 0
            blocks = [make_block(width + skip + own, width)]
            if stride in (FINEST, FINEST << (len(widths) - 1)):
                blocks.append(make_block(width, width))
            after[str(stride)] = nn.Sequential(*blocks)
            current = width
        self.before, self.after = nn.ModuleDict(before), nn.ModuleDict(after)
        self.heads = nn.ModuleDict({"1": nn.Conv2d(current, pixels, 3, padding=1)})
        self.uncertainty = nn.Sequential(make_block(widths[1], 16), nn.Conv2d(16, 1, 1))
        self.checkpoint_gradients = False  # see `models.gradient_checkpointing`

    def forward(self, features: list[Tensor], image: Tensor) -> Tensor:
        """Map features, finest first, and the normalized image (B, 3, H, W) to logits (B, 2, H, W).

        The two channels are the logits of inverse depth and of log uncertainty.
        """
        context = self.context(features[-1].mean((-2, -1), keepdim=True))
        x = self.coarsest(features[-1]) + context
        spread: Tensor | None = None
        for level in reversed(range(len(features) - 1)):
            stride = FINEST << level
            skips = [features[level]]
            if stride == FINEST:
                skips.append(functional.pixel_unshuffle(image, FINEST))
            upsample = partial(self._upsample, str(stride))
            x = run_checkpointed(upsample, x, *skips) if self.checkpoint_gradients else upsample(x, *skips)
            if stride == 2 * FINEST:
                spread = self.uncertainty(x)
        assert spread is not None
        logit = functional.pixel_shuffle(self.heads["1"](x), FINEST)
        spread = functional.interpolate(spread, scale_factor=2.0 * FINEST, mode="bilinear")
        return torch.cat([logit, spread], dim=1)

    def _upsample(self, stride: str, x: Tensor, *skips: Tensor) -> Tensor:
        x = functional.interpolate(self.before[stride](x), scale_factor=2.0, mode="nearest")
        result: Tensor = self.after[stride](torch.cat([x, *skips], dim=1))
        return result
