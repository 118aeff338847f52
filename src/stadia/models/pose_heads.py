"""Heads of a pose network: the map that compares two images, (B, C, h, w), to numbers of the pair, (B, outputs).

A row of `models.POSE_HEADS` is called with (channels, outputs, activation, grid) and gives an `nn.Sequential` whose
last layer has the weights and the bias of the outputs, so that a quantity can be made to start at 0.

Args of each:
    channels: C.  outputs: how many numbers.
    activation: makes the layers between convolutions, of `models.ACTIVATIONS`.
    grid: (h, w) at the training's size, which only `Linear` is bound to; None where that is not known.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from stadia.core.errors import ConfigError

Activation = Callable[[], nn.Module]
Grid = tuple[int, int]


class Pool(nn.Sequential):
    """The mean over the image, then one layer (D3VO, arXiv 2003.01060, supplement): for images of any size."""

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        super().__init__(nn.Linear(channels, outputs))

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = super().forward(x.mean(dim=(2, 3)))  # type: ignore[no-untyped-call]
        return said


class Convolution(nn.Sequential):
    """Four convolutions, then the mean over the image (Monodepth2, arXiv 1806.01260): for images of any size."""

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
        said: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return said.mean(dim=(2, 3))


class Linear(nn.Sequential):
    """One layer over every pixel of the map, each with weights of its own: for images of the training's size alone.

    Raises ConfigError where that size is not known, or where it is shown another.
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
        said: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return said
