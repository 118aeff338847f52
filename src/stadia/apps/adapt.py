"""`stadia adapt`: fine-tune a published or own network on one video without labels, and keep the better weights."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console

from stadia import recipes
from stadia.apps.adaptation_figures import compare_figures, measure_network
from stadia.core.errors import ConfigError, StadiaError
from stadia.core.types import TrackProgress, no_progress
from stadia.datasets.video.video_map import find_map
from stadia.files.atomic_files import write_json
from stadia.files.paths import expand_home
from stadia.launch.time_budget import TimeBudget, choose_steps, measure_training
from stadia.launch.workflow import train
from stadia.mapping.run_map import MapRequest, run_map
from stadia.models.depth.depth_network import check_trains
from stadia.predict.prediction_inputs import is_own_video, open_network_for
from stadia.process.terminal import Terminal, announce_step
from stadia.recipes.base.config import RecipeConfig, make_paths_absolute
from stadia.recipes.base.network_checkpoint import NetworkCheckpoint, configure_network
from stadia.recipes.presets import merge_values
from stadia.training.checkpoint import Checkpoint

RECORD = "adapted.json"
"""File of the run with the figures before and after."""

SETTINGS: Mapping[str, Any] = {
    "model": {"pretrained": True, "keep_statistics": True, "pose_net": "correlation"},
    "optimizer": {"lr": 1e-4},
    "schedule": {"warmup_steps": 20},
    "training": {"batch_size": 2, "max_epochs": None, "max_steps": 1000, "check_seconds": 0, "validate_every": None},
}
"""Keys that differ from the defaults of `selfsup`."""

MAP_SETTINGS: Mapping[str, Any] = {
    "optimizer": {"lr": 3e-4},
    "backbone_lr_factor": 1.0,
    "loss": {"pyramid": 4, "points": 0.1},
}
"""Keys that differ where the motion is that of a map. Matches lie farther than the slope of the loss reaches at full
size, and points hold what the images do not show.
"""

Scope = Literal["all", "decoder", "head", "adapters"]
"""What is trained, as `model.trained`."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


def adapt_network(
    network: str,
    video: Path,
    *,
    out: Path,
    length: TimeBudget | int,
    scope: Scope = "decoder",
    settings: Sequence[str] = (),
    network_settings: Sequence[str] = (),
    track: TrackProgress = no_progress,
) -> Generator[str, None, str]:
    """Fine-tune a network on a video by `selfsup`; yield lines for people, and print each phase on standard error.

    One camera takes its motion from the map beside the video, which is made where pycolmap is installed.

    Args:
        network: as of `open_network`, without a run.
        video: what `selfsup` trains on.
        out: folder for the run.
        length: the time of the command, map and figures included; or the number of updates.
        scope: what is trained, as `model.trained`.
        settings: keys of `selfsup`, `KEY=VALUE`.
        network_settings: keys of the network, `network.KEY=VALUE`.
        track: shows progress.

    Returns the better network: the run's folder, or `network`.

    Raises ConfigError for a checkpoint of a run: `start_from` goes on from that. Raises the errors of a training.
    """
    options = {
        key: value for text in settings if text.startswith("data.camera") for key, value in _parse_option(text).items()
    }
    console = Terminal(stderr=True)
    with announce_step(console, f"opening {network}"):
        before = open_network_for(network, video, options, network_settings)
    if not isinstance(before, NetworkCheckpoint):
        fix = "stadia train selfsup VIDEO start_from=RUN"
        raise ConfigError("stadia adapt", found=f"the checkpoint {network}", expected="a published network", fix=fix)
    size = _round_size(before)
    config = configure_adaptation(network, video, scope, settings, network_settings, size=size)
    yield from make_map(video, config, console, track)
    config = configure_adaptation(network, video, scope, settings, network_settings, size=size)
    if isinstance(length, TimeBudget):
        _check_time_left(length)
    measured = None if isinstance(length, int) else measure_training(config, console)
    data: Any = getattr(config, "data", None)
    started_s = time.perf_counter()
    with announce_step(console, f"measuring the depth of {network}"):
        start = measure_network(before.recipe.predictor((data.height, data.width)), video, options, track)
    if isinstance(length, int):
        run = train(limit_steps(config, length), out=out, on_stop="warn")
    else:
        assert measured is not None
        after_s = (time.perf_counter() - started_s) / measured.slowdown  # the adapted network is measured as long
        planned = choose_steps(config, replace(length, after_s=after_s), console, measured)
        run = train(planned.config, out=out, opened=planned.opened, on_stop="warn", end=planned.end)
    after, kept, lines = start, "before", ["no validation is better than before the training: give it more minutes"]
    if Checkpoint.open(run.folder).header.step > 0:  # else its best weights are those of the start
        with announce_step(console, "measuring the depth of the adapted network"):
            after = measure_network(recipes.load_predictor(run.folder), video, options, track)
        kept, lines = compare_figures(start, after)
    record = {"before": asdict(start), "after": asdict(after), "kept": kept, "network": before.title}
    write_json(run.folder / RECORD, record)
    yield from lines
    better = str(run.folder) if kept == "after" else network
    yield f"kept: {'the adapted network' if kept == 'after' else 'the network as it was'} ({better})"
    yield f"use it: stadia predict {better} {video} --out DIR"
    return better


def _check_time_left(budget: TimeBudget) -> None:
    """Raise ConfigError where the map took all of the time."""
    if budget.left_s <= 0:
        found = f"{budget.minutes:g}: {budget.spent_s:.0f} s are over after the map"
        fix = "run the same command again: the map is kept"
        raise ConfigError("--minutes", found=found, expected="time for the training", fix=fix)


def limit_steps(config: RecipeConfig, steps: int) -> RecipeConfig:
    """Return a configuration with a number of updates, of which a quarter or fewer warm up."""
    values = config.model_dump(mode="json")
    values["training"] |= {"max_steps": steps, "max_epochs": None, "max_minutes": None}
    values["schedule"] |= {"warmup_steps": min(values["schedule"]["warmup_steps"], steps // 4)}
    return type(config).model_validate(values)


def make_map(video: Path, config: Any, console: Console, track: TrackProgress = no_progress) -> Iterator[str]:
    """Write the map beside a video of one camera that has none; yield lines for people.

    Without pycolmap, and where a video has no map, a note states the reason: the motion has to be learned then.
    """
    data = config.data
    if not takes_map(video, config) or find_map(video):
        return
    request = MapRequest(source=video, camera=data.camera, cache=data.cache)
    try:
        with announce_step(console, f"mapping {video}: its camera, path and points"):
            lines = list(run_map(request, track))
        yield from lines
    except StadiaError as error:
        yield f"note: no map of the video, so its motion is learned in the training: {error}"


def takes_map(video: Path, config: Any) -> bool:
    """Return whether a training takes its motion from the map beside the video, where there is one."""
    data = config.data
    is_mono = data.stereo is not True and data.poses is None and is_own_video(video, data.format)
    return is_mono and getattr(config, "motion", "auto") != "network"


def _parse_option(text: str) -> dict[str, Any]:
    from stadia.predict.requests import parse_source_options

    return parse_source_options([text])


def _round_size(before: NetworkCheckpoint) -> tuple[int, int]:
    """Return the size of the network's images in multiples of 32, which the pose network takes."""
    recipe = before.recipe
    return max(round(recipe.height / 32), 1) * 32, max(round(recipe.width / 32), 1) * 32


def configure_adaptation(
    network: str,
    video: Path,
    scope: str,
    settings: Sequence[str] = (),
    network_settings: Sequence[str] = (),
    *,
    size: tuple[int, int],
) -> RecipeConfig:
    """Return the configuration of `selfsup` that adapts a network to a video; arguments as of `adapt_network`."""
    given = configure_network(network, network_settings)
    check_trains(given)
    model = given.network.model_dump(mode="json")
    values: dict[str, Any] = {group: dict(keys) for group, keys in SETTINGS.items()}
    values["model"] |= {"network": model, "trained": scope}
    values["data"] = {"path": str(expand_home(video)), "height": size[0], "width": size[1]}
    config = recipes.configure("selfsup", settings, name="adapt", **values)
    if takes_map(video, config) and find_map(video) is not None:
        config = recipes.configure("selfsup", settings, name="adapt", **merge_values(values, MAP_SETTINGS))
    return make_paths_absolute(config)
