"""Draw the activations of a network for a video: one mosaic a frame, with a few channels of each stage."""

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
from stadia.evaluation.frame_preparation import Frame, PreparedFrame
from stadia.evaluation.plots.colormaps import color_heat, color_inverse_depth, to_uint8
from stadia.evaluation.plots.videos import open_video_file
from stadia.training.loggers import compose_image_sheet

FIRST_FRAMES = 8  # number of frames that channels and their colors are chosen from
GRID = 2  # channels along either side of a stage's tile
MOST_BLOCKS, EXTRA_TOKENS = 4, 8
"""Largest number of a transformer's blocks that are drawn, and of tokens before the image tokens."""

FEWEST_CHANNELS = 4  # a map with fewer channels is an output, not a stage
TILE_WIDTH, WIDEST = 384, 1920  # pixels: smallest width of a tile, largest width of a mosaic
SPREAD = 3.0  # range of a channel's colors about its mean, in standard deviations, within its values
_WRAPPERS = ("model", "network", "backbone")

Maps = Mapping[str, Tensor]  # activations (C, h, w) by the name of their stage: "depth.encoder 1/4"


@contextmanager
def record_activations(network: nn.Module, height: int, width: int) -> Iterator[dict[str, Tensor]]:
    """Record the last map of each size in each part of the network, after each pass of one image of this size.

    A stage is any map with the image's shape, in either order of its axes. Tokens of a numbered transformer block, row
    by row behind the extra tokens, count too: "encoder.layer.11 tokens 1/16".
    """
    maps: dict[str, Tensor] = {}

    def keep_as(part: str, block: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and len(output) == 1:
                for activation in (output[0], output[0].permute(2, 0, 1)):
                    stride, rest = divmod(height, activation.shape[-2])
                    is_map = rest == 0 and width == stride * activation.shape[-1]
                    if is_map and len(activation) >= FEWEST_CHANNELS:
                        maps[f"{part} 1/{stride}"] = activation.detach()
                        return
            is_single = isinstance(output, Tensor) and output.ndim == 3 and len(output) == 1
            has_tokens = block and is_single and output.shape[-1] >= FEWEST_CHANNELS
            if has_tokens and (patch := _stride_of(output.shape[1], height, width)):
                h, w = height // patch, width // patch
                maps[f"{block} tokens 1/{patch}"] = output[0, -h * w :].detach().T.unflatten(1, (h, w))

        return keep

    hooks = []
    for name, module in network.named_modules():
        words = [word for word in name.split(".") if word not in _WRAPPERS]
        numbered = next((at for at, word in enumerate(words) if word.isdigit()), None)
        if part := ".".join(words[:2]):
            block = "" if numbered is None else ".".join(words[: numbered + 1])
            hooks.append(module.register_forward_hook(keep_as(part, block)))
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _stride_of(tokens: int, height: int, width: int) -> int | None:
    """Return the stride of the grid with this number of tokens; None without one."""
    for stride in range(1, min(height, width) + 1):
        if height % stride == width % stride == 0 and 0 <= tokens - height * width // stride**2 <= EXTRA_TOKENS:
            return stride
    return None


def select_blocks(stages: Mapping[str, SelectedChannels]) -> dict[str, SelectedChannels]:
    """Keep at most MOST_BLOCKS blocks of each transformer, evenly with the last, and all other stages."""
    rows: dict[str, list[str]] = {}
    for stage in stages:
        if " tokens " in stage:
            rows.setdefault(stage.partition(" tokens ")[0].rpartition(".")[0], []).append(stage)
    kept = set[str]()
    for row in rows.values():
        count = min(len(row), MOST_BLOCKS)
        kept |= {row[round((i + 1) * len(row) / count) - 1] for i in range(count)}
    return {stage: channels for stage, channels in stages.items() if " tokens " not in stage or stage in kept}


@dataclass(frozen=True)
class SelectedChannels:
    """Numbers of the drawn channels of a stage, (k,), and the values of their darkest and brightest color, (k,)."""

    numbers: Tensor
    low: Tensor
    high: Tensor


def select_channels(frames: Iterable[Maps]) -> dict[str, SelectedChannels]:
    """Choose GRID x GRID channels of each stage with the largest variance over pixels and frames."""
    moments_by_stage: dict[str, list[Tensor]] = {}  # of each frame (4, C): means of value and square, minimum, maximum
    for maps in frames:
        for stage, activation in maps.items():
            values = activation.float().flatten(1)
            moments = torch.stack([values.mean(1), values.square().mean(1), values.amin(1), values.amax(1)])
            moments_by_stage.setdefault(stage, []).append(moments)
    chosen = {}
    for stage, of_frames in moments_by_stage.items():
        means, squares, least, largest = torch.stack(of_frames, dim=1)
        mean, low, high = means.mean(0), least.amin(0), largest.amax(0)
        deviation = (squares.mean(0) - mean.square()).clamp(min=0).sqrt()
        best = deviation.topk(min(GRID * GRID, len(mean))).indices.sort().values
        low, high = torch.maximum(low, mean - SPREAD * deviation), torch.minimum(high, mean + SPREAD * deviation)
        chosen[stage] = SelectedChannels(best, low[best], high[best])
    return chosen


def draw_stage(activation: Tensor, channels: SelectedChannels, height: int, width: int) -> NDArray[np.uint8]:
    """Draw the chosen channels of (C, h, w) in a grid (height, width, 3), each with its own colors."""
    span = (channels.high - channels.low).clamp(min=torch.finfo(torch.float32).tiny)
    shown = (activation[channels.numbers].float() - channels.low[:, None, None]) / span[:, None, None]
    tile = np.zeros((height, width, 3), np.uint8)
    h, w = height // GRID, width // GRID
    for place, values in enumerate(shown.cpu().numpy()):
        row, column = divmod(place, GRID)
        colors = cv2.resize(color_heat(values, top=1.0), (w, h), interpolation=cv2.INTER_NEAREST)
        tile[row * h : (row + 1) * h, column * w : (column + 1) * w] = colors
    return tile


def write_activation_video(
    network: nn.Module, predictor: Predictor, frames: Iterable[Frame], out: Path, rate_hz: float
) -> int:
    """Write the mosaics as an mp4 atomically, frame by frame. Return the number of frames.

    A network that compares two images gets each frame with the one before it, the first one with itself.

    network: whose layers are recorded while `predictor` runs it.
    frames: in order. The first ones are run twice, to choose the channels before anything is drawn.

    Raises DataError without a frame, StadiaError where the network has no stage that is a map.
    """
    frames = iter(frames)
    first, count = list(itertools.islice(frames, FIRST_FRAMES)), 0
    if not first:
        fix = "pass a video, a folder or a data set"
        raise DataError("input", found="no frame", expected="an image or more", fix=fix)
    enlarged = -(-TILE_WIDTH // predictor.width)
    height, width = enlarged * predictor.height, enlarged * predictor.width
    with (
        record_activations(network, predictor.height, predictor.width) as maps,
        open_video_file(out, rate_hz, comment="stadia-activations") as add,
    ):
        run_frame = _FrameRunner(predictor)
        channels = select_blocks(select_channels(dict(maps) for frame in first if run_frame(frame) is not None))
        if not channels:
            found = "no layer whose output is a map of the image"
            raise StadiaError("activations", found=found, expected="one", fix="use a network of convolutions")
        run_frame = _FrameRunner(predictor)
        for frame in itertools.chain(first, frames):
            image, inverse_depth = run_frame(frame)
            tiles = {"image": to_uint8(image), "inverse depth": color_inverse_depth(inverse_depth)}
            for stage, of_stage in channels.items():
                numbers = " ".join(f"#{number}" for number in of_stage.numbers.tolist())
                tiles[f"{stage}: {numbers}"] = draw_stage(maps[stage], of_stage, height, width)
            sheet = compose_image_sheet(tiles)
            if sheet.shape[1] > WIDEST:
                size = WIDEST, round(sheet.shape[0] * WIDEST / sheet.shape[1])
                sheet = np.asarray(cv2.resize(sheet, size, interpolation=cv2.INTER_AREA))
            add(sheet)
            count += 1
    return count


def run_predictor(predictor: Predictor, shown: PreparedFrame) -> NDArray[np.float32]:
    """Return the inverse depth (h, w) of a prepared frame."""
    camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
    inverse_depth = predictor.inverse_depth(torch.from_numpy(shown.image)[None], camera)
    return np.asarray(inverse_depth[0, 0].float().cpu().numpy(), np.float32)


class _FrameRunner:
    """Runs a predictor frame by frame: depth, and motion from the frame before, if it predicts motion."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.before: tuple[Tensor, Camera] | None = None

    def __call__(self, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the network's input (3, H, W) and its inverse depth (H, W)."""
        shown = PreparedFrame.prepare(self.predictor, frame)
        camera = Camera(torch.from_numpy(shown.K), self.predictor.height, self.predictor.width)
        now = torch.from_numpy(shown.image)[None], camera
        inverse_depth = run_predictor(self.predictor, shown)
        self.predictor.T_next_now(*(self.before or now), *now)
        self.before = now
        return shown.image, inverse_depth
