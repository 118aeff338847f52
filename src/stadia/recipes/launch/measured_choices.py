"""Resolve the settings that depend on the machine by three training steps: `training.precision`, `training.compile`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console

from stadia.core.errors import StadiaError, summarize_exception
from stadia.recipes import RECIPES
from stadia.recipes.base.build_recipe import TrainingData
from stadia.recipes.base.config import RecipeConfig
from stadia.recipes.launch.step_measurement import measure_steps
from stadia.training.batches import select_device

GPU_KINDS = ("off", "loss", "networks", "all", "graphs")
"""Values of `training.compile` that "auto" measures on a GPU."""

MEASURED_KEYS = ("precision", "compile")
"""Keys of `training` whose "auto" is resolved by measuring; the data do not depend on them."""

_NOT_COMPILED = "note: training.compile={} failed ({}). Nothing is compiled. Fix: set training.compile=off"


def choose_fastest(config: RecipeConfig, data: TrainingData, console: Console) -> RecipeConfig:
    """Return the configuration with `training.precision=auto` resolved, and `training.compile` as it works here.

    data: of the configuration.
    """
    return choose_compilation(choose_precision(config, data, console), data, console)


def keep_measured_choices(config: RecipeConfig, saved: Mapping[str, Any]) -> RecipeConfig:
    """Replace "auto" by what a previous run chose, so that a resumed run measures nothing and stays the same."""
    known = saved.get("training", {})
    kept = {name: known[name] for name in MEASURED_KEYS if getattr(config.training, name) == "auto" and name in known}
    return _replace_training(config, **kept) if kept else config


def choose_precision(config: RecipeConfig, data: TrainingData, console: Console) -> RecipeConfig:
    """Return the configuration with `training.precision=auto` resolved; any other one as it is.

    On one CPU, three steps are trained in float32 and in bfloat16, and the faster precision is taken. Weights and
    optimizer are float32 in both. On a GPU it is bf16 where the GPU has it, without measuring.
    """
    if config.training.precision != "auto":
        return config
    if select_device(config.training.accelerator).type == "cuda":
        return _replace_training(config, precision="bf16" if torch.cuda.is_bf16_supported() else "32")
    precisions = ("32", "bf16")
    seconds = {one: _measure(_replace_training(config, precision=one, compile="off"), data) for one in precisions}
    return _replace_training(config, precision=_print_fastest("precision", seconds, console))


def choose_compilation(config: RecipeConfig, data: TrainingData, console: Console) -> RecipeConfig:
    """Return the configuration with a value of `training.compile` whose three steps train here; "off" where none does.

    Compiled code can fail as late as in the backward pass, so a value is tried before it is taken. "auto" is "off" on a
    CPU, where it was never faster; on a GPU it is the fastest of GPU_KINDS.
    """
    training, kind = config.training, config.training.compile
    if kind == "off" or (kind != "auto" and (training.devices != 1 or training.stages)):
        return config  # the three steps are of one device and one image size
    if kind == "auto" and select_device(training.accelerator).type != "cuda":
        return _replace_training(config, compile="off")
    kinds: Sequence[str] = GPU_KINDS if kind == "auto" else (kind,)
    seconds: dict[str, float] = {}
    for one in kinds:
        try:
            seconds[one] = _measure(_replace_training(config, compile=one), data)
        except StadiaError:
            raise
        except Exception as error:  # the compiler has errors of many kinds
            if one == "off":
                raise
            line = _NOT_COMPILED.format(one, summarize_exception(error)[:200])
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if kind != "auto":
        return _replace_training(config, compile=kind if kind in seconds else "off")
    return _replace_training(config, compile=_print_fastest("compile", seconds, console))


def _measure(config: RecipeConfig, data: TrainingData) -> float:
    """Return the seconds of the fastest step but the first, which compiles."""
    return min(measure_steps(RECIPES.load(config.recipe), config, data).seconds[1:])


def _replace_training(config: RecipeConfig, **values: Any) -> RecipeConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def _print_fastest(key: str, seconds: dict[str, float], console: Console) -> str:
    """Print and return the value with the fewest seconds a step."""
    fastest = min(seconds, key=lambda value: seconds[value])
    times = ", ".join(f"{value} {step_s:.2g} s" for value, step_s in seconds.items())
    line = f"training.{key}=auto: {fastest}, measured in three steps each ({times} a step)"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return fastest
