"""Heads of the pose network: features of an image pair (B, C, h, w) to numbers (B, outputs).

Entries of `models.POSE_HEADS` are called with (channels, outputs, activation, grid). They return an `nn.Sequential`
whose last layer holds the outputs' weights and bias, so that an output can start at 0. `activation` creates the
layers between convolutions. `grid` is (h, w) at the training size, or None; only `LinearHead` requires it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from stadia.core.errors import ConfigError

Activation = Callable[[], nn.Module]
Grid = tuple[int, int]


class PoolHead(nn.Sequential):
    """Global average pooling and one linear layer, for any image size (D3VO, arXiv 2003.01060, supplement)."""

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        super().__init__(nn.Linear(channels, outputs))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = super().forward(x.mean(dim=(2, 3)))  # type: ignore[no-untyped-call]
        return output


class ConvHead(nn.Sequential):
    """Four convolutions and global average pooling, for any image size (Monodepth2, arXiv 1806.01260)."""

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        super().__init__(
            nn.Conv2d(channels, 256, 1),
            activation(),
            nn.Conv2d(256, 256, 3, padding=1),
            activation(),
            nn.Conv2d(256, 256, 3, padding=1),
            activation(),
            nn.Conv2d(256, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return output.mean(dim=(2, 3))


class LinearHead(nn.Sequential):
    """One linear layer over all pixels of the map, for the training image size only.

    Raises ConfigError if that size is unknown, or for an input of another size.
    """

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        if grid is None:
            raise ConfigError(
                "pose_head 'linear'",
                found="no image size",
                expected="the training's",
                fix="pass it, or take 'pool' or 'convolution'",
            )
        super().__init__(nn.Flatten(), nn.Linear(channels * grid[0] * grid[1], outputs))
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        if (found := tuple(x.shape[-2:])) != self.grid:
            raise ConfigError(
                "image size for pose_head 'linear'",
                found=f"a map of {found[1]}x{found[0]}",
                expected=f"{self.grid[1]}x{self.grid[0]}, that of the training's images",
                fix="keep the training's size, or train with 'pool' or 'convolution'",
            )
        output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return output
