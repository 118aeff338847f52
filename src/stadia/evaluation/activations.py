"""What the layers of a network answer to a video: a mosaic a frame, of a few channels of each stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import Camera, Predictor
from stadia.evaluation.colours import colour_heat, colour_inverse_depth, to_uint8
from stadia.evaluation.frames import Frame, Shown
from stadia.evaluation.video import video_file
from stadia.training.sheet import compose

FIRST_FRAMES = 8
"""That choose the channels and their colours."""

GRID = 2
"""Channels along either side of a stage's tile."""

FEWEST_CHANNELS = 4
"""A map of fewer is an answer, not a stage."""

TILE_WIDTH, WIDEST = 384, 1920
"""Pixels: the least of a tile, and the most of a mosaic."""

SPREAD = 3.0
"""Standard deviations about the mean that a channel's colours reach, where its values do."""

_WRAPPERS = ("model", "network", "backbone")

Maps = Mapping[str, Tensor]
"""Activations (C, h, w) by the name of their stage: "depth.encoder 1/4"."""


@contextmanager
def recorded(network: nn.Module, height: int, width: int) -> Iterator[dict[str, Tensor]]:
    """Give a mapping that holds, after each pass of one picture of this size, the last map of each size in each part of the network.

    Whatever the network: a stage is a map of the picture's shape, in either order of its axes. Tokens of transformers are none.
    """
    maps: dict[str, Tensor] = {}

    def keep_as(part: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, arguments: Any, answer: Any) -> None:
            if isinstance(answer, Tensor) and answer.ndim == 4 and len(answer) == 1:
                for each in (answer[0], answer[0].permute(2, 0, 1)):
                    stride, rest = divmod(height, each.shape[-2])
                    if rest == 0 and width == stride * each.shape[-1] and len(each) >= FEWEST_CHANNELS:
                        maps[f"{part} 1/{stride}"] = each.detach()
                        return

        return keep

    hooks = []
    for name, module in network.named_modules():
        if part := ".".join([word for word in name.split(".") if word not in _WRAPPERS][:2]):
            hooks.append(module.register_forward_hook(keep_as(part)))
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Channels:
    """Which channels of a stage are drawn, (k,), and the values that are darkest and brightest in each, (k,)."""

    numbers: Tensor
    low: Tensor
    high: Tensor


def choose_channels(frames: Iterable[Maps]) -> dict[str, Channels]:
    """Of each stage the GRID x GRID channels of the largest variance over pixels and frames, in the order of the network."""
    seen: dict[str, list[Tensor]] = {}  # of each frame (4, C): means of value and square, least, largest
    for maps in frames:
        for stage, activation in maps.items():
            values = activation.float().flatten(1)
            moments = torch.stack([values.mean(1), values.square().mean(1), values.amin(1), values.amax(1)])
            seen.setdefault(stage, []).append(moments)
    chosen = {}
    for stage, of_frames in seen.items():
        means, squares, least, largest = torch.stack(of_frames, dim=1)
        mean, low, high = means.mean(0), least.amin(0), largest.amax(0)
        deviation = (squares.mean(0) - mean.square()).clamp(min=0).sqrt()
        best = deviation.topk(min(GRID * GRID, len(mean))).indices.sort().values
        low, high = torch.maximum(low, mean - SPREAD * deviation), torch.minimum(high, mean + SPREAD * deviation)
        chosen[stage] = Channels(best, low[best], high[best])
    return chosen


def draw_stage(activation: Tensor, channels: Channels, height: int, width: int) -> NDArray[np.uint8]:
    """(C, h, w) to (height, width, 3): the chosen channels in a grid, each by its own colours, its pixels enlarged."""
    span = (channels.high - channels.low).clamp(min=torch.finfo(torch.float32).tiny)
    shown = (activation[channels.numbers].float() - channels.low[:, None, None]) / span[:, None, None]
    tile = np.zeros((height, width, 3), np.uint8)
    h, w = height // GRID, width // GRID
    for place, values in enumerate(shown.cpu().numpy()):
        row, column = divmod(place, GRID)
        colours = colour_heat(values, top=1.0)
        tile[row * h : (row + 1) * h, column * w : (column + 1) * w] = cv2.resize(colours, (w, h), interpolation=cv2.INTER_NEAREST)
    return tile


def activation_video(network: nn.Module, predictor: Predictor, frames: Iterable[Frame], out: Path, rate_hz: float) -> int:
    """Write the mosaics as an mp4, frame by frame; it appears whole or not at all. Returns how many frames it has.

    Args:
        network: whose layers are looked at while `predictor` runs it.
        frames: in order; the first ones are shown twice, to choose channels before anything is drawn.

    Raises DataError where no frame comes, StadiaError where the network has no stage that is a map.
    """
    frames = iter(frames)
    first, count = list(itertools.islice(frames, FIRST_FRAMES)), 0
    if not first:
        raise DataError("input", found="no frame", expected="a picture or more", cure="pass a video, a folder or a data set")
    enlarged = -(-TILE_WIDTH // predictor.width)
    height, width = enlarged * predictor.height, enlarged * predictor.width
    with recorded(network, predictor.height, predictor.width) as maps, video_file(out, rate_hz) as add:
        channels = choose_channels(dict(maps) for frame in first if _predict(predictor, frame) is not None)
        if not channels:
            raise StadiaError(
                "activations", found="no layer whose answer is a map of the picture", expected="one", cure="use a network of convolutions"
            )
        for frame in itertools.chain(first, frames):
            image, inverse_depth = _predict(predictor, frame)
            tiles = {"picture": to_uint8(image), "inverse depth": colour_inverse_depth(inverse_depth)}
            for stage, of_stage in channels.items():
                numbers = " ".join(f"#{number}" for number in of_stage.numbers.tolist())
                tiles[f"{stage}: {numbers}"] = draw_stage(maps[stage], of_stage, height, width)
            add(_at_most(compose(tiles), WIDEST))
            count += 1
    return count


def _predict(predictor: Predictor, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, H, W) as the network sees it and its inverse depth (H, W)."""
    shown = Shown.to(predictor, frame)
    camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
    return shown.image, predictor.inverse_depth(torch.from_numpy(shown.image)[None], camera)[0, 0].float().cpu().numpy()


def _at_most(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    if picture.shape[1] <= width:
        return picture
    return np.asarray(cv2.resize(picture, (width, round(picture.shape[0] * width / picture.shape[1])), interpolation=cv2.INTER_AREA))
