"""Feature pyramid with one decoder per output: images to maps at a quarter of their size.

The decoder is the semantic branch of Panoptic FPN (Kirillov et al., arXiv 1901.02446): each level of the pyramid is
upsampled to the finest size, and all are summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from stadia.models.encoders import Encoder

MIN_STRIDE = 4
"""Encoder levels of a finer stride are not used."""


def _level(inputs: int, outputs: int, doublings: int) -> nn.Sequential:
    """Create convolutions, each followed by upsampling by 2; a single one if `doublings` is 0.

    Group norm of four channels: batches of eight images are too small for batch statistics.
    """
    layers: list[nn.Module] = []
    for number in range(max(doublings, 1)):
        layers.append(nn.Conv2d(outputs if number else inputs, outputs, 3, padding=1, bias=False))
        layers += [nn.GroupNorm(outputs // 4, outputs), nn.ReLU()]
        if doublings:
            layers.append(nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


class PyramidDecoder(nn.Module):
    """Features of an encoder to one map at the finest of their strides.

    Args:
        channels: of the features, finest first.
        strides: of the features, each a power of two.
        pyramid, segmentation: channels before and after the first convolution of each level.
        dropout: of whole output channels.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, pyramid: int, segmentation: int, dropout: float
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, pyramid, 1) for c in channels)
        doublings = [(stride // strides[0]).bit_length() - 1 for stride in strides]
        self.levels = nn.ModuleList(_level(pyramid, segmentation, n) for n in doublings)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features (B, C, H / stride, W / stride), finest first, to (B, segmentation, H / finest, W / finest)."""
        pyramid: list[Tensor] = []
        for lateral, feature in zip(reversed(self.lateral), reversed(features), strict=True):
            level = lateral(feature)
            coarser = F.interpolate(pyramid[-1], level.shape[-2:], mode="nearest") if pyramid else 0.0
            pyramid.append(level + coarser)
        total: Tensor | None = None
        for level, blocks in zip(reversed(pyramid), self.levels, strict=True):
            level = blocks(level)
            total = level if total is None else total + level
        result: Tensor = self.dropout(total)
        return result


class PyramidNet(nn.Module):
    """An encoder, and for each output a decoder and a 1x1 convolution.

    Args:
        encoder: timm model; levels finer than MIN_STRIDE are not used.
        outputs: channels of each output by its name.
        pretrained, pyramid, segmentation, dropout: see `Encoder` and `PyramidDecoder`.
    """

    def __init__(
        self,
        encoder: str,
        outputs: Mapping[str, int],
        *,
        pretrained: bool = True,
        pyramid: int = 256,
        segmentation: int = 128,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, pretrained=pretrained)
        all_strides = self.encoder.strides
        self._first = next(i for i, s in enumerate(all_strides) if s >= MIN_STRIDE or s == all_strides[-1])
        channels, strides = self.encoder.channels[self._first :], self.encoder.strides[self._first :]
        self.decoders = nn.ModuleDict(
            {
                name: PyramidDecoder(channels, strides, pyramid=pyramid, segmentation=segmentation, dropout=dropout)
                for name in outputs
            }
        )
        self.heads = nn.ModuleDict({name: nn.Conv2d(segmentation, count, 1) for name, count in outputs.items()})

    @property
    def stride(self) -> int:
        """Return the stride of the output maps."""
        return self.encoder.strides[self._first]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map (B, 3, H, W) RGB in [0, 1] to (B, channels, H / stride, W / stride) float32 by name."""
        features = self.encoder(image)[self._first :]
        return {name: self.heads[name](decoder(features)).float() for name, decoder in self.decoders.items()}
