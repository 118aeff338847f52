"""`stadia adapt`: fine-tune a published or own network on one video without labels, and keep the better weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from rich.console import Console

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.terminal import Terminal, announce_step
from stadia.core.types import Predictor
from stadia.data.config import parse_source_options
from stadia.data.video.input_camera import is_own_video
from stadia.data.video.video_map import NO_MOTION_OF_MAP, check_usable, find_map
from stadia.geometry.cameras import from_field_of_view
from stadia.io.atomic_files import write_json
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.input_files import expand_home
from stadia.networks.config import DepthModelConfig
from stadia.networks.depth.depth_network import check_trains
from stadia.predict.adapt_time import (
    END_S,
    RECORD,
    check_minutes,
    choose_measured_frames,
    estimate_least_minutes,
    estimate_step_s,
)
from stadia.predict.inputs import open_inputs
from stadia.predict.network import Network, open_network
from stadia.sfm.describe_map import describe_map
from stadia.sfm.map_parts import StandingCameraError
from stadia.sfm.map_video import map_video
from stadia.training.keep import MAX_FRAMES, Decision, DepthErrors, choose_weights, find_trained, measure_video
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.clock import CommandEnd
from stadia.training.loop.fit import shorten_warmup
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import configure
from stadia.training.recipes.base.build_recipe import NetworkCheckpoint, configure_network, load_predictor
from stadia.training.recipes.base.config import RecipeConfig, make_paths_absolute, replace_training
from stadia.training.training_data import open_checked_data
from stadia.training.workflow import train

SETTINGS: Mapping[str, Any] = {
    "model": {"pretrained": True, "keep_statistics": True, "pose_net": "correlation"},
    "optimizer": {"lr": 1e-4},
    "schedule": {"warmup_steps": 20},
    "training": {"batch_size": 2, "max_epochs": None, "max_steps": 1000, "check_seconds": 0, "validate_every": None},
}
"""Keys that differ from the defaults of `selfsup`. There is no validation: depth is measured before and after."""

MAX_STEPS = 10
"""A training by the clock has at most this many times the estimated steps."""

MAP_SETTINGS = ("optimizer.lr=3e-4", "backbone_lr_factor=1.0", "loss.pyramid=4", "loss.points=0.1")
"""Keys that differ if the motion is the map's. Matches are out of reach of the loss at full size."""

MAX_MOVABLE = 1 / 3
"""Masks of a map may cover this share of the image on average: depth there is neither trained nor judged."""

Scope = Literal["all", "decoder", "head", "adapters"]
"""What is trained, as `model.trained`."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Adaptation:
    """The result of adapting a network to a video, from `stadia.adapt`.

    network: name of the better network: the folder of the run, or the network before the adaptation.
    run: folder of the training.
    before, after: depth errors on the video before and after the adaptation; equal if no step was better than the
        start.
    decision: which network is kept, and how each error changed.
    """

    network: str
    run: Path
    before: DepthErrors
    after: DepthErrors
    decision: Decision

    def open(self) -> Network:
        """Open the better network."""
        return open_network(self.network)

    @property
    def kept(self) -> Literal["before", "after"]:
        """Return "after" if the adapted network is kept, else "before"."""
        return self.decision.kept


def adapt_network(
    network: str | Network,
    video: Path | str,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    scope: Scope = "decoder",
    out: Path | str = Path("runs"),
    settings: Sequence[str] = (),
    network_settings: Sequence[str] = (),
    started_s: float | None = None,
    track: TrackProgress = no_progress,
) -> Adaptation:
    """Fine-tune a depth network on a video without labels, and keep the better weights.

    The recipe `selfsup` trains the network. For a single camera, the motion between frames comes from the map of the
    video. The map is made first if pycolmap is installed.

    network: an opened network, or a name that `open_network` accepts; not a run.
    video: the video or folder of images to train on.
    minutes: time limit of the whole call, 5 by default.
    steps: number of updates, instead of a time limit.
    scope: the trained part of the network: "all", "decoder", "head" or "adapters" (`model.trained`).
    out: folder that gets a new folder for the run.
    settings: `KEY=VALUE` texts for keys of the recipe `selfsup`.
    network_settings: `network.KEY=VALUE` texts that configure the network.
    started_s: start of the time limit, seconds by time.perf_counter; now by default.
    track: wraps loops to show their progress.

    Returns both depth errors and the better network. Raises ConfigError for a checkpoint of a run, whose training
    `start_from` continues instead, and StadiaError if the training fails.
    """
    network = network.name if isinstance(network, Network) else network
    check_length(minutes, steps)
    started_s = time.perf_counter() if started_s is None else started_s
    minutes = 5.0 if minutes is None else minutes
    video, console = Path(video), Terminal(stderr=True)
    options = parse_source_options([text for text in settings if text.startswith("data.camera")])

    # the network, and the training that adapts it
    opened = open_start(network, network_settings, video, options, console)
    size = opened.recipe.height, opened.recipe.width
    config: Any = configure_adaptation(network, video, scope, settings, network_settings, size=size)
    predictor = opened.recipe.predictor((config.data.height, config.data.width))
    limit, measured = None, MAX_FRAMES
    if steps is None:
        needs_map = takes_map(video, config) and find_map(video) is None
        mapped_frames = open_inputs(video, **options)[0].count or 0 if needs_map else 0
        limit = check_time(predictor, minutes, started_s, mapped_frames, console)
        measured = choose_measured_frames(limit.prediction_s, minutes, MAX_FRAMES)

    # the motion of the camera
    if takes_map(video, config):
        make_map(video, config, console, track)
        config = use_map(config, video, settings)

    # the depth of the start
    def measure_depth(predictor: Predictor, title: str) -> DepthErrors:
        with announce_step(console, f"measuring the depth of {title}"):
            return measure_video(predictor, video, options, track, max_frames=measured)

    config, opened_data = open_checked_data(config, console)
    data: Any = replace(opened_data, val=None)  # type: ignore[type-var]
    measuring_s = time.perf_counter()
    before = measure_depth(predictor, network)

    # the training
    end = None
    if limit is None:
        config = limit_steps(config, steps or 0)
    else:
        # Time to measure the adapted network, and the mean of both networks.
        after_s = 2 * (time.perf_counter() - measuring_s) + END_S
        config, end = limit_time(config, limit, after_s, console)
    run = train(config, out=Path(out), on_stop="warn", data=data, has_scores=False, compares_start=False, end=end)

    # the better weights
    after, decision = keep_better(
        before, run, opened, config.model, lambda checkpoint, title: measure_depth(load_predictor(checkpoint), title)
    )
    better = str(run.folder) if decision.kept == "after" else network
    return Adaptation(better, run.folder, before, after, decision)


def open_start(
    network: str, network_settings: Sequence[str], video: Path, options: Mapping[str, Any], console: Console
) -> NetworkCheckpoint:
    """Open in PyTorch the network that a video adapts.

    network: a name that `open_network` accepts; not a run.
    network_settings: `network.KEY=VALUE` texts that configure the network.
    video: the video or folder of images.
    options: the camera of the video.
    console: gets the name of the network.

    Raises DataError for one image, and ConfigError for a checkpoint of a run.
    """
    if video.suffix.lower() in IMAGE_SUFFIXES and video.is_file():
        fix = f"predict this image: stadia predict {video}"
        raise DataError(video, found="one image", expected="a video or a folder of images", fix=fix)
    with announce_step(console, f"opening {network}"):
        opened = open_network(network, network_settings).fit_source(video, options).open_in_torch().checkpoint
    if not isinstance(opened, NetworkCheckpoint):
        fix = "stadia train selfsup VIDEO start_from=RUN"
        raise ConfigError("stadia adapt", found=f"the checkpoint {network}", expected="a published network", fix=fix)
    return opened


def keep_better(
    before: DepthErrors,
    run: Run,
    opened: NetworkCheckpoint,
    model: DepthModelConfig,
    measure: Callable[[Checkpoint, str], DepthErrors],
) -> tuple[DepthErrors, Decision]:
    """Keep the better weights of a run, and write the depth errors into its folder; return the errors after it.

    before: depth errors of the start.
    run: the training.
    opened: the start.
    model: networks of the training.
    measure: returns the depth errors of a checkpoint with this title.
    """
    after, decision = before, Decision("before")
    record: dict[str, Any] = {"before": before.averages(), "network": opened.title}
    if (trained := find_trained(run)) is not None:
        after, decision, kept = choose_weights(before, run, trained, model, measure)
        record["weights"] = kept.path.stem
    write_json(run.folder / RECORD, record | {"after": after.averages(), "kept": decision.kept})
    return after, decision


def check_length(minutes: float | None, steps: int | None) -> None:
    """Raise ConfigError for minutes or steps that are not above 0."""
    if (minutes is not None and not minutes > 0) or (steps is not None and steps < 1):
        name, value = ("steps", steps) if steps is not None else ("minutes", minutes)
        raise ConfigError(name, found=value, expected="a number above 0")


@torch.no_grad()
def time_prediction(predictor: Predictor) -> float:
    """Return the seconds of a prediction on an image of the predictor's size: the fastest of three."""
    image = np.random.default_rng(0).random((1, 3, predictor.height, predictor.width), np.float32)
    camera = from_field_of_view(60.0, height=predictor.height, width=predictor.width)
    seconds = []
    for _ in range(3):
        begun_s = time.perf_counter()
        predictor.inverse_depth(image, camera)
        seconds.append(time.perf_counter() - begun_s)
    return min(seconds)


@dataclass(frozen=True)
class CommandTime:
    """The time of a command: its limit, and what the machine needs.

    minutes: time limit of the whole command, minutes.
    started_s: start of the command, seconds by time.perf_counter.
    loaded_s: seconds until the network was open.
    prediction_s: seconds of one prediction.
    """

    minutes: float
    started_s: float
    loaded_s: float
    prediction_s: float


def check_time(
    predictor: Predictor, minutes: float, started_s: float, mapped_frames: int, console: Console
) -> CommandTime:
    """Measure the machine, and print the fewest minutes for a video. Raises ConfigError if the limit is shorter.

    predictor: the network to adapt.
    minutes: time limit of the whole command, minutes.
    started_s: start of the command, seconds by time.perf_counter.
    mapped_frames: number of frames to map first.
    console: gets the line.
    """
    prediction_s, loaded_s = time_prediction(predictor), time.perf_counter() - started_s
    least = estimate_least_minutes(prediction_s, loaded_s=loaded_s, mapped_frames=mapped_frames)
    console.print(f"needs at least {least} minutes for this video on this machine", highlight=False)
    check_minutes(minutes, least)
    return CommandTime(minutes, started_s, loaded_s, prediction_s)


def limit_time(
    config: RecipeConfig, limit: CommandTime, after_s: float, console: Console
) -> tuple[RecipeConfig, CommandEnd]:
    """Return a configuration whose training ends with the time limit, and the end of the command.

    If the map took longer than estimated, the command takes longer, and a note is printed.

    config: configuration of the training.
    limit: time limit of the command.
    after_s: seconds of the command after the training.
    console: gets the estimated number of steps.
    """
    least = estimate_least_minutes(limit.prediction_s, loaded_s=limit.loaded_s)
    now_s = time.perf_counter()
    at_s, least_s = limit.started_s + 60 * limit.minutes, now_s + after_s + 30 * least
    if at_s < least_s:
        found = f"{now_s - limit.started_s:.0f} s are over before the first step"
        late = math.ceil((least_s - limit.started_s) / 60)
        console.print(f"note: {found}: the command takes about {late} minutes", highlight=False, soft_wrap=True)
        at_s = least_s
    left_s = at_s - after_s - time.perf_counter()
    steps = max(int(left_s / estimate_step_s(limit.prediction_s)), 1)
    console.print(f"--minutes {limit.minutes:g}: about {steps} steps, until the time is over", highlight=False)
    config = replace_training(limit_steps(config, steps), max_steps=MAX_STEPS * steps, max_minutes=left_s / 60)
    return config, CommandEnd(at_s, after_s)


def limit_steps(config: RecipeConfig, steps: int) -> RecipeConfig:
    """Return a configuration with a number of updates, few of which warm up."""
    values = config.model_dump(mode="json")
    values["training"] |= {"max_steps": steps, "max_epochs": None, "max_minutes": None}
    values["schedule"] |= {"warmup_steps": shorten_warmup(values["schedule"]["warmup_steps"], steps)}
    return type(config).model_validate(values)


def make_map(video: Path, config: Any, console: Console, track: TrackProgress = no_progress) -> None:
    """Map a video of one camera that has no map. Prints a note if that fails.

    Raises StandingCameraError if the camera stands, since its video teaches no depth.
    """
    if find_map(video):
        return
    try:
        with announce_step(console, f"mapping {video}: its camera, path and points"):
            mapped = map_video(video, camera=config.data.camera, cache=config.data.cache, track=track)
        lines = list(describe_map(mapped))
    except StandingCameraError:
        raise
    except StadiaError as error:
        lines = [f"note: no map of the video, so its motion is learned in the training: {error}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def takes_map(video: Path, config: Any) -> bool:
    """Return whether a training takes its motion from the video's map, if there is one."""
    data = config.data
    is_mono = data.stereo is not True and data.poses is None and is_own_video(video, data.format)
    return is_mono and getattr(config, "motion", "auto") != "network"


def use_map(config: RecipeConfig, video: Path, settings: Sequence[str]) -> RecipeConfig:
    """Return the configuration with MAP_SETTINGS if the video has a map. Keys of `settings` stay.

    Raises DataError if the map's verdict is unusable, or its masks cover too much.
    """
    if (mapped := find_map(video)) is None:
        return config
    check_usable(mapped, fix=NO_MOTION_OF_MAP)
    if (share := mapped.measure_movable()) > MAX_MOVABLE:
        found = f"masks that cover {share:.0%} of the image, where depth is neither trained nor judged"
        fix = "choose a part of the video with less traffic"
        raise DataError(mapped.folder, found=found, expected=f"at most {MAX_MOVABLE:.0%}", fix=fix)
    given = {text.partition("=")[0] for text in settings}
    chosen = [text for text in MAP_SETTINGS if text.partition("=")[0] not in given]
    return resolve_config(type(config), config.model_dump(mode="json"), chosen)


def configure_adaptation(
    network: str,
    video: Path,
    scope: str,
    settings: Sequence[str] = (),
    network_settings: Sequence[str] = (),
    *,
    size: tuple[int, int],
) -> RecipeConfig:
    """Return the configuration of `selfsup` that adapts a network to a video; see `adapt_network`.

    size: height and width of the network's images, which the configuration rounds to multiples of 32 pixels.
    """
    given = configure_network(network, network_settings)
    check_trains(given)
    values: dict[str, Any] = {group: dict(keys) for group, keys in SETTINGS.items()}
    values["model"] |= {"network": given.network.model_dump(mode="json"), "trained": scope}
    height, width = (max(round(pixels / 32), 1) * 32 for pixels in size)
    values["data"] = {"path": str(expand_home(video)), "height": height, "width": width}
    return make_paths_absolute(configure("selfsup", settings, name="adapt", **values))
