"""Draw how one image's activations and each layer's weights change over a training, from its kept checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stadia.core.errors import StadiaError
from stadia.core.types import Predictor
from stadia.evaluation.frame_preparation import Frame, PreparedFrame
from stadia.evaluation.plots.activations import (
    TILE_WIDTH,
    WIDEST,
    SelectedChannels,
    draw_stage,
    record_activations,
    run_predictor,
    select_blocks,
    select_channels,
)
from stadia.evaluation.plots.colormaps import color_heat, color_inverse_depth, to_uint8
from stadia.evaluation.plots.videos import open_video_file
from stadia.files.image_io import write_image
from stadia.training.checkpoint import Checkpoint, list_kept_checkpoints
from stadia.training.loggers import compose_image_sheet

STEPS_A_SECOND = 2.0
SHEET_STEPS = 5
"""Checkpoints of the sheet, evenly spaced with the first and the last; the video has all."""

MAX_LAYERS = 12
"""Layers whose weights are drawn, evenly spaced over the network."""

OpenNetwork = Callable[[Checkpoint], tuple[nn.Module, Predictor]]
"""Returns the network of a checkpoint and what runs it."""


def write_activations_over_steps(run: Path, open_network: OpenNetwork, frame: Frame, out: Path) -> tuple[int, Path]:
    """Write one mosaic for each kept checkpoint of a run as a video, and some of them as a sheet beside it.

    Channels and colors are those of the last checkpoint, so that they can be compared.

    Args:
        run: folder with kept checkpoints (`training.keep_every`).
        open_network: of a checkpoint.
        frame: the image.
        out: .mp4 file; the sheet has its name and .png.

    Returns the number of checkpoints and the path of the sheet. Raises StadiaError for fewer than two checkpoints, or a
    network without a layer that is a map.
    """
    opened = [Checkpoint.open(path) for path in list_kept_checkpoints(run)]
    if len(opened) < 2:
        fix = "train with training.keep_every=STEPS"
        found = f"{len(opened)} kept checkpoint{'s' * (len(opened) != 1)}"
        raise StadiaError(run, found=found, expected="two or more", fix=fix)
    opened.sort(key=lambda checkpoint: checkpoint.header.step)
    last, predictor = open_network(opened[-1])
    maps, _, _ = _run(last, predictor, frame)
    channels = select_blocks(select_channels([maps]))
    if not channels:
        found = "no layer whose output is a map of the image"
        raise StadiaError("activations", found=found, expected="one", fix="use a network of convolutions")
    tops = {name: _largest(weight) for name, weight in select_layers(last).items()}
    sheets = []
    with open_video_file(out, STEPS_A_SECOND, comment="stadia-activations") as add:
        for checkpoint in opened:
            network, predictor = open_network(checkpoint)
            sheet = draw_step(network, predictor, frame, channels, tops, checkpoint.header.step)
            add(sheet)
            sheets.append(sheet)
    chosen = np.unique(np.linspace(0, len(sheets) - 1, min(SHEET_STEPS, len(sheets))).round().astype(int))
    path = out.with_suffix(".png")
    write_image(path, np.concatenate([sheets[place] for place in chosen])[..., ::-1])
    return len(sheets), path


def select_layers(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights (out, in, k, k) of at most MAX_LAYERS convolutions by name, evenly spaced, first and last."""
    layers = {name: weight for name, weight in network.named_parameters() if weight.ndim == 4}
    names = list(layers)
    places = np.unique(np.linspace(0, len(names) - 1, min(MAX_LAYERS, len(names))).round().astype(int))
    return {names[place]: layers[names[place]].detach() for place in places}


def draw_step(
    network: nn.Module,
    predictor: Predictor,
    frame: Frame,
    channels: dict[str, SelectedChannels],
    tops: dict[str, float],
    step: int,
) -> NDArray[np.uint8]:
    """Draw the image, its inverse depth, the channels of each stage, and the weights of the layers, (H, W, 3)."""
    enlarged = -(-TILE_WIDTH // predictor.width)
    height, width = enlarged * predictor.height, enlarged * predictor.width
    maps, image, inverse_depth = _run(network, predictor, frame)
    tiles = {f"step {step}": to_uint8(image), "inverse depth": color_inverse_depth(inverse_depth)}
    for stage, of_stage in channels.items():
        tiles[stage] = draw_stage(maps[stage], of_stage, height, width)
    weights = select_layers(network)
    for name, top in tops.items():
        tiles[name.removesuffix(".weight")] = draw_weights(weights[name], top, height, width)
    sheet = compose_image_sheet(tiles)
    if sheet.shape[1] > WIDEST:
        size = WIDEST, round(sheet.shape[0] * WIDEST / sheet.shape[1])
        sheet = np.asarray(cv2.resize(sheet, size, interpolation=cv2.INTER_AREA))
    return sheet


def draw_weights(weight: Tensor, top: float, height: int, width: int) -> NDArray[np.uint8]:
    """Draw |weight| (out, in, k, k) as an image (height, width, 3), a row for each output; `top` is the brightest."""
    values = weight.abs().flatten(1).float().cpu().numpy()
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    return color_heat(resized / max(top, 1e-12), top=1.0)


def _largest(weight: Tensor) -> float:
    """Return the size that 99 % of the weights are below."""
    return float(np.quantile(weight.abs().cpu().numpy(), 0.99))


def _run(
    network: nn.Module, predictor: Predictor, frame: Frame
) -> tuple[dict[str, Tensor], NDArray[np.float32], NDArray[np.float32]]:
    """Return the activations, the network's input (3, h, w), and its inverse depth (h, w)."""
    prepared = PreparedFrame.prepare(predictor, frame)
    with record_activations(network, predictor.height, predictor.width) as maps:
        inverse_depth = run_predictor(predictor, prepared)
        return dict(maps), prepared.image, inverse_depth
