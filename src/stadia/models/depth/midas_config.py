"""Configuration of the depth network `midas`. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from stadia.models.depth.config import DepthNetworkConfig


class MidasConfig(DepthNetworkConfig):
    """MiDaS 2.1 (arXiv 1907.01341): a ResNeXt and four refining blocks.

    weights: the published file midas_v21-f6b98070.pt; null: random weights.
    encoder: a ResNet of timm; the published one is resnext101_32x8d.
    channels: of the refining blocks; the published ones have 256.
    """

    typical_depth_m: ClassVar[float] = 10.0

    name: Literal["midas"] = "midas"
    weights: str | None = None
    encoder: str = "resnext101_32x8d"
    channels: int = Field(default=256, ge=8, le=1024)

    @property
    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    @property
    def title(self) -> str:
        return f"{self.name} {self.encoder}"
