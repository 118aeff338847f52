"""Draw the activations of a network as a video: each frame is a mosaic with some channels of each stage."""

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
from stadia.data.frame_preparation import Frame, PreparedFrame
from stadia.data.frame_selection import spread_indices
from stadia.evaluation.plots.colormaps import color_heat, color_inverse_depth, to_uint8
from stadia.evaluation.plots.videos import open_video_file
from stadia.io.image_io import compose_image_sheet, write_image
from stadia.predict.predict_frames import predict_inverse_depth
from stadia.training.loop.checkpoint import Checkpoint, list_kept_checkpoints

FIRST_FRAMES = 8  # frames that channels and their colors are chosen from
GRID = 2  # channels along either side of a stage's tile
MOST_BLOCKS = 4  # drawn blocks of a transformer
EXTRA_TOKENS = 8  # most tokens before the image tokens of a transformer
FEWEST_CHANNELS = 4  # a map with fewer channels is an output
TILE_WIDTH = 384  # smallest width of a tile, pixels
WIDEST = 1920  # largest width of a mosaic, pixels
SPREAD = 3.0  # range of a channel's colors about its mean, in standard deviations
_WRAPPERS = ("model", "network", "backbone")

Maps = Mapping[str, Tensor]  # activations (C, h, w) by the name of their stage: "depth.encoder 1/4"


@contextmanager
def record_activations(network: nn.Module, height: int, width: int) -> Iterator[dict[str, Tensor]]:
    """Record, after each pass of one image, the last map (1, C, h, w) of each size in each part of the network.

    A stage is any map with the aspect ratio of the image, or the tokens of a transformer block, such as
    "encoder.layer.11 tokens 1/16".

    height, width: size of the image.
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


def select_blocks(stages: "Mapping[str, SelectedChannels]") -> "dict[str, SelectedChannels]":
    """Return all stages, but at most MOST_BLOCKS blocks of each transformer, evenly spaced and with the last one."""
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
    """Name the k channels of a network stage that are drawn, and the range of values of each.

    numbers: (k,) channel numbers.
    low: (k,) value of each channel that gets the darkest color.
    high: (k,) value of each channel that gets the brightest color.
    """

    numbers: Tensor
    low: Tensor
    high: Tensor


def select_channels(frames: Iterable[Maps]) -> dict[str, SelectedChannels]:
    """Return for each stage the GRID x GRID channels with the largest variance over pixels and frames."""
    # Tensors (4, C), one a frame: means of value and square, minimum, maximum.
    moments_by_stage: dict[str, list[Tensor]] = {}
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


def select_drawn(frames: Iterable[Maps]) -> dict[str, SelectedChannels]:
    """Return the channels of the stages that are drawn. Raises StadiaError if no stage is a map."""
    channels = select_blocks(select_channels(frames))
    if not channels:
        found = "no layer whose output is a map of the image"
        raise StadiaError("activations", found=found, expected="one", fix="use a network of convolutions")
    return channels


def _compose_mosaic(tiles: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    sheet = compose_image_sheet(tiles)
    if sheet.shape[1] <= WIDEST:
        return sheet
    size = WIDEST, round(sheet.shape[0] * WIDEST / sheet.shape[1])
    return np.asarray(cv2.resize(sheet, size, interpolation=cv2.INTER_AREA), np.uint8)


def draw_stage(activation: Tensor, channels: SelectedChannels, height: int, width: int) -> NDArray[np.uint8]:
    """Draw the selected channels of an activation (C, h, w) as a grid (height, width, 3), each with its own colors."""
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
    """Write an mp4 with mosaics of the network's layers while `predictor` runs it. Return the number of frames.

    The first frames are run twice, because they determine the channels.

    network: network whose layers are drawn.
    rate_hz: frame rate.

    Raises DataError without a frame, and StadiaError if no layer is a map.
    """
    frames = iter(frames)
    first, count = list(itertools.islice(frames, FIRST_FRAMES)), 0
    if not first:
        fix = "pass a video, a folder or a dataset"
        raise DataError("input", found="no frame", expected="an image or more", fix=fix)
    enlarged = -(-TILE_WIDTH // predictor.width)
    height, width = enlarged * predictor.height, enlarged * predictor.width
    with (
        record_activations(network, predictor.height, predictor.width) as maps,
        open_video_file(out, rate_hz, comment="stadia-activations") as add,
    ):
        run_frame = _FrameRunner(predictor)
        channels = select_drawn(dict(maps) for frame in first if run_frame(frame) is not None)
        run_frame = _FrameRunner(predictor)
        for frame in itertools.chain(first, frames):
            image, inverse_depth = run_frame(frame)
            tiles = {"image": to_uint8(image), "inverse depth": color_inverse_depth(inverse_depth)}
            for stage, of_stage in channels.items():
                numbers = " ".join(f"#{number}" for number in of_stage.numbers.tolist())
                tiles[f"{stage}: {numbers}"] = draw_stage(maps[stage], of_stage, height, width)
            add(_compose_mosaic(tiles))
            count += 1
    return count


class _FrameRunner:
    """Runs a predictor frame by frame: depth, and motion from the frame before, if it predicts motion."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.before: tuple[NDArray[np.float32], Camera] | None = None

    def __call__(self, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the network's input (3, H, W) and its inverse depth (H, W)."""
        shown = PreparedFrame.prepare(self.predictor, frame)
        image, camera = shown.image[None], Camera(shown.K, self.predictor.height, self.predictor.width)
        inverse_depth = predict_inverse_depth(self.predictor, shown)
        before, camera_before = self.before or (image, camera)
        self.predictor.T_next_now(before, camera_before, image, camera)
        self.before = image, camera
        return shown.image, inverse_depth


STEPS_A_SECOND = 2.0  # checkpoints that the video shows in a second
SHEET_STEPS = 5  # checkpoints of the sheet; the video has all
MAX_LAYERS = 12  # layers whose weights are drawn, evenly spaced over the network

OpenNetwork = Callable[[Checkpoint], tuple[nn.Module, Predictor]]  # returns a checkpoint's network and what runs it


def write_activations_over_steps(run: Path, open_network: OpenNetwork, frame: Frame, out: Path) -> tuple[int, Path]:
    """Write a video with one mosaic for each stored checkpoint of a run, and a sheet with some of them next to it.

    The last checkpoint determines channels and colors.

    run: folder of the run.
    open_network: opens a checkpoint.
    frame: image to predict.
    out: .mp4 file; the sheet has the same name with .png.

    Returns the number of checkpoints and the path of the sheet. Raises StadiaError for fewer than two checkpoints.
    """
    opened = [Checkpoint.open(path) for path in list_kept_checkpoints(run)]
    if len(opened) < 2:
        fix = "train with training.keep_every=STEPS"
        found = f"{len(opened)} kept checkpoint{'s' * (len(opened) != 1)}"
        raise StadiaError(run, found=found, expected="two or more", fix=fix)
    opened.sort(key=lambda checkpoint: checkpoint.header.step)
    last, predictor = open_network(opened[-1])
    maps, _, _ = _run(last, predictor, frame)
    channels = select_drawn([maps])
    tops = {name: float(np.quantile(weight.abs().cpu().numpy(), 0.99)) for name, weight in select_layers(last).items()}
    sheets = []
    with open_video_file(out, STEPS_A_SECOND, comment="stadia-activations") as add:
        for checkpoint in opened:
            network, predictor = open_network(checkpoint)
            sheet = draw_step(network, predictor, frame, channels, tops, checkpoint.header.step)
            add(sheet)
            sheets.append(sheet)
    chosen = spread_indices(len(sheets), SHEET_STEPS)
    path = out.with_suffix(".png")
    write_image(path, np.concatenate([sheets[place] for place in chosen])[..., ::-1])
    return len(sheets), path


def select_layers(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights (O, I, k, k) of up to MAX_LAYERS convolutions, evenly spaced, by name.

    O and I are the numbers of output and input channels.
    """
    layers = {name: weight for name, weight in network.named_parameters() if weight.ndim == 4}
    names = list(layers)
    places = spread_indices(len(names), MAX_LAYERS)
    return {names[place]: layers[names[place]].detach() for place in places}


def draw_step(
    network: nn.Module,
    predictor: Predictor,
    frame: Frame,
    channels: dict[str, SelectedChannels],
    tops: dict[str, float],
    step: int,
) -> NDArray[np.uint8]:
    """Draw an image, its inverse depth, the channels of each stage, and the layers' weights as one image (H, W, 3)."""
    enlarged = -(-TILE_WIDTH // predictor.width)
    height, width = enlarged * predictor.height, enlarged * predictor.width
    maps, image, inverse_depth = _run(network, predictor, frame)
    tiles = {f"step {step}": to_uint8(image), "inverse depth": color_inverse_depth(inverse_depth)}
    for stage, of_stage in channels.items():
        tiles[stage] = draw_stage(maps[stage], of_stage, height, width)
    weights = select_layers(network)
    for name, top in tops.items():
        values = weights[name].abs().flatten(1).float().cpu().numpy()
        resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
        tiles[name.removesuffix(".weight")] = color_heat(resized / max(top, 1e-12), top=1.0)
    return _compose_mosaic(tiles)


def _run(
    network: nn.Module, predictor: Predictor, frame: Frame
) -> tuple[dict[str, Tensor], NDArray[np.float32], NDArray[np.float32]]:
    prepared = PreparedFrame.prepare(predictor, frame)
    with record_activations(network, predictor.height, predictor.width) as maps:
        inverse_depth = predict_inverse_depth(predictor, prepared)
        return dict(maps), prepared.image, inverse_depth
