"""`stadia train RECIPE [key=value ...]`: resolve the configuration, then train."""

from __future__ import annotations

import json
import shutil
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from stadia.cli.options import RUNS, DataOption, RunsOption, argument, flag, number, option, refuse_options
from stadia.cli.output import echo
from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from stadia.judge.finding import OnStop
    from stadia.training.recipes.base.config import RecipeConfig
    from stadia.training.step_measurement import DryRunResult
    from stadia.training.time_budget import PlannedTraining

NOT_CHECKED = 1
"""Exit code of a dry run that had no time for the checks of its loss."""

EXAMPLE = "PATH"
"""Placeholder of data.path for `--dry-run` without data."""


class TrainCommand(TyperCommand):
    """The command `stadia train`; `stadia train RECIPE --help` also prints every key of the recipe's configuration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, and keep them for the help."""
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, followed by the keys of the recipe's configuration."""
        super().format_help(ctx, formatter)
        _print_keys(ctx.meta["words"])


def _print_keys(words: list[str]) -> None:
    from stadia.training.recipes import CONFIGS

    recipe = next((word for word in words if word in CONFIGS), None)
    if recipe is None:
        word = next((word for word in words if not word.startswith("-")), "")
        near = find_nearest_name(word, CONFIGS) or "RECIPE"
        echo(f"`stadia train {near} --help` lists every key. Recipes: {', '.join(CONFIGS)}.")
        return

    from stadia.core.config_help import describe_keys

    width = min(shutil.get_terminal_size().columns, 100)
    echo(f"Every key of {recipe}, with its default. KEY=VALUE sets it.")
    group = None
    keys = [key for key in describe_keys(CONFIGS.load(recipe)) if ".NAME." not in key.key]  # .NAME.: other datasets
    for key in sorted(keys, key=lambda key: key.is_experimental):
        now = "experimental: no effect, or a worse one, where measured"
        if not key.is_experimental:
            now = key.key.rpartition(".")[0]
        if now != group:
            group = now
            echo(f"\n{group}" if group else "")
        default = "  (required)" if key.default is None else f"={key.default}"
        echo(f"  {key.key}{default}  ({key.allowed})")
        echo(textwrap.fill(key.sentence, width, initial_indent="      ", subsequent_indent="      "))


def train(
    context: typer.Context,
    recipe: Annotated[str | None, argument("`stadia list recipes` lists them. Not needed with --resume.")] = None,
    words: Annotated[
        list[str] | None,
        argument(
            "The data, then keys: drive.mp4 optimizer.lr=2e-4. `stadia train RECIPE --help` lists them.",
            metavar="[DATA] [KEY=VALUE]",
        ),
    ] = None,
    data: DataOption = None,
    out: RunsOption = RUNS,
    preset: Annotated[
        str | None, option("A preset of `stadia list presets`, or a YAML file; auto fits this machine.")
    ] = None,
    config: Annotated[Path | None, option("A config.json of a run or of --dry-run to start from.")] = None,
    resume: Annotated[Path | None, option("A run's folder to resume.")] = None,
    minutes: Annotated[float | None, number("Train for this time.", min=0.1)] = None,
    on_stop: Annotated[
        Literal["halt", "warn"], typer.Option(help="If a finding stops the training: halt, or warn and continue.")
    ] = "halt",
    dry_run: Annotated[bool, flag("--dry-run", "Print the configuration, run three steps, and stop.")] = False,
    no_scores: Annotated[bool, flag("--no-scores", "Skip scores and verdict at the end.")] = False,
) -> None:
    """Train a network on your data. Checks the data, trains, and writes the run's report."""
    started_s = time.perf_counter()
    from stadia.io.input_files import check_writable
    from stadia.judge.finding import OnStop
    from stadia.training.loop.config import check_launcher
    from stadia.training.recipes.presets import AUTO, AUTO_RECIPES

    check_launcher()
    if resume is not None and preset is not None:
        found = "used together with --resume"
        raise ConfigError("--preset", found=found, expected="one of the two", fix="remove --preset")
    if resume is not None:
        found, expected = "no effect with --resume, which writes into its run", "a new run"
        refuse_options(context, ["out"], found=found, expected=expected)
    if dry_run:
        found = "no effect with --dry-run, which scores nothing"
        refuse_options(context, ["no_scores"], found=found, expected="a training")
    settings = list(words or [])
    if resume is not None:
        _check_stored_config(resume)
    if recipe is None or "=" in recipe:  # RECIPE is left out: the first word is a setting
        settings, recipe = ([recipe] if recipe else []) + settings, _find_recipe(resume, preset)
    if preset == AUTO and recipe not in AUTO_RECIPES:
        found, expected = f"recipe '{recipe}'", " or ".join(AUTO_RECIPES)
        raise ConfigError("--preset auto", found=found, expected=expected, fix="name a preset")
    if settings and "=" not in settings[0]:
        data = _positional_data(settings.pop(0), data)
    is_auto = preset == AUTO
    preset = None if is_auto else preset
    base = config if config is not None or resume is None else resume / "config.json"
    given = [f"data.path={json.dumps(str(data))}"] if data is not None else []
    example = _example_data(recipe) if dry_run else {}
    resolved = resolve_recipe(recipe, base, given + settings, example=example, preset=preset)
    if minutes is not None or is_auto:
        _check_minutes("--preset auto" if is_auto else "--minutes", settings, resume, dry_run=dry_run)
    if dry_run:
        _try_training(resolved, OnStop(on_stop), out)
        return

    check_writable(out if resume is None else resume)
    if resume is None:
        _check_data(resolved)
        from stadia.training.recipes.base.config import make_paths_absolute

        resolved = make_paths_absolute(resolved)

    _load_libraries()
    from stadia import training

    opened, end = None, None
    if is_auto or minutes is not None:
        chosen_by = partial(resolve_recipe, recipe, base, example={}) if is_auto else None
        planned = _plan_training(resolved, minutes, started_s, chosen_by, given + settings)
        resolved, opened, end = planned.config, planned.data, planned.end
    training.train(
        resolved,
        out=out,
        resume=resume,
        on_stop=OnStop(on_stop),
        data=opened,
        has_scores=not no_scores,
        end=end,
        is_command=True,
    )


def _plan_training(
    config: RecipeConfig,
    minutes: float | None,
    started_s: float,
    resolve: Callable[[list[str]], RecipeConfig] | None,
    settings: list[str],
) -> PlannedTraining:
    from stadia.core.terminal import Terminal
    from stadia.training.recipes.base.config import make_paths_absolute
    from stadia.training.time_budget import AUTO_MINUTES, choose_for_machine, choose_steps

    console = Terminal(stderr=True)
    if resolve is None:
        return choose_steps(config, minutes or AUTO_MINUTES, console, started_s=started_s)

    def resolve_absolute(chosen: list[str]) -> RecipeConfig:
        return make_paths_absolute(resolve(chosen + settings))

    return choose_for_machine(resolve_absolute, minutes or AUTO_MINUTES, console, started_s=started_s)


def _load_libraries() -> None:
    from stadia.core.floors import require_library
    from stadia.core.terminal import Terminal, announce_step

    require_library("torch")  # before the line that announces it
    with announce_step(Terminal(stderr=True), "loading the libraries"):
        import stadia.training.workflow  # noqa: F401


def _check_minutes(option: str, settings: list[str], resume: Path | None, *, dry_run: bool) -> None:
    lengths = ("training.max_steps", "training.max_epochs", "training.max_minutes")
    others = [word.partition("=")[0] for word in settings if word.partition("=")[0] in lengths]
    others += ["--resume"] * (resume is not None) + ["--dry-run"] * dry_run
    if others:
        expected = f"{option} alone, which sets training.max_steps"
        raise ConfigError(option, found=f"used together with {', '.join(others)}", expected=expected, fix="remove it")


def _positional_data(word: str, data: Path | None) -> Path:
    if data is not None:
        found = f"--data {data} too"
        raise ConfigError(word, found=found, expected="the data once", fix="remove one of them")
    return Path(word)


def _find_recipe(resume: Path | None, preset: str | None) -> str:
    from stadia.training.loop.run_folder import Run
    from stadia.training.recipes.presets import AUTO, read_preset

    if resume is None and preset is not None:
        return "selfsup" if preset == AUTO else str(read_preset(preset)["recipe"])
    if resume is None:
        expected = "stadia train RECIPE [KEY=VALUE]..., --preset NAME, or --resume RUN"
        raise ConfigError("train", found="no recipe", expected=expected, fix="`stadia list recipes` lists them")
    return Run.open(resume).recipe


def _check_stored_config(folder: Path) -> None:
    from stadia.training.loop.run_folder import Run
    from stadia.training.recipes.base.config import read_stored_config

    run = Run.open(folder)
    read_stored_config(folder / "config.json", run.recipe, run.config)


def _example_data(recipe: str) -> dict[str, str]:
    from stadia.training.recipes import CONFIGS

    data = CONFIGS.load(recipe).model_fields.get("data")
    path = getattr(data.annotation, "model_fields", {}).get("path") if data else None
    return {"path": EXAMPLE} if path is not None and path.is_required() else {}


def _check_data(config: RecipeConfig) -> None:
    from stadia.io.input_files import check_path_exists, expand_home

    data = config.model_dump().get("data", {})
    for path in (dataset.get("path", EXAMPLE) for dataset in (data, *data.get("extra_datasets", {}).values())):
        if path not in (EXAMPLE, None):
            check_path_exists(expand_home(path))


def _try_training(config: RecipeConfig, on_stop: OnStop, out: Path) -> None:
    from stadia.core.terminal import Terminal

    _check_data(config)
    _check_encoders(config)
    Terminal().print_json(config.model_dump_json())
    measured = _measure_dry_run(config, on_stop)
    steps = f"{measured}; " if measured is not None else ""
    echo(f"dry run: {steps}'{config.recipe}' would train with this configuration in {out}", err=True)
    if measured is not None and measured.not_checked:
        from stadia.training.start_checks import describe_longer_checks
        from stadia.training.step_measurement import find_check_seconds

        seconds = find_check_seconds(config.training, is_estimated=measured.is_estimated)
        unchecked = f"Not checked within {seconds:g} s: {', '.join(measured.not_checked)}"
        echo(f"{unchecked}. Fix: {describe_longer_checks(seconds)}", err=True)
        raise typer.Exit(NOT_CHECKED)


def _measure_dry_run(config: RecipeConfig, on_stop: OnStop) -> DryRunResult | None:
    if config.model_dump().get("data", {}).get("path") == EXAMPLE:
        return None

    _load_libraries()
    from stadia import training

    return training.dry_run(config, on_stop=on_stop)


def _check_encoders(config: RecipeConfig) -> None:
    model: Any = getattr(config, "model", None)
    data: Any = getattr(config, "data", None)
    parts = [(model, "encoder"), (model, "pose_encoder"), (getattr(model, "network", None), "encoder")]
    named = [part for part in parts if hasattr(*part)]
    for name in sorted({getattr(part, key) for part, key in named if key in part.model_fields_set}):
        from stadia.networks.encoders import check_encoder

        check_encoder(name, height=data.height, width=data.width)


def resolve_recipe(
    recipe: str, base: Path | None, overrides: list[str], *, example: dict[str, str], preset: str | None = None
) -> RecipeConfig:
    """Build the complete configuration of a training: defaults, then a preset, then a JSON file, then single settings.

    recipe: kind of training.
    base: JSON file with a configuration; None without.
    overrides: `dotted.key=value` settings; later ones win.
    example: values of `data` that are used if no data are given.
    preset: name of a preset, or a YAML file; None without.

    Raises ConfigError with all mistakes, or for a file of another recipe; DataError if a file cannot be read.
    """
    from stadia.core.config import resolve_config
    from stadia.io.input_files import read_json
    from stadia.training.recipes import CONFIGS, add_model_of_start, merge_values
    from stadia.training.recipes.presets import read_preset_for

    config: type[RecipeConfig] = CONFIGS.load(recipe)
    values = read_json(base) if base is not None else {}
    if not isinstance(values, dict):
        found, fix = type(values).__name__, f"`stadia train {recipe} --dry-run` prints one"
        raise ConfigError(base, found=found, expected="a JSON object of keys", fix=fix)
    of_file = values.get("recipe")
    if base is not None and of_file != recipe and of_file in [*CONFIGS]:  # one line instead of each wrong key
        found, fix = f"the configuration of recipe '{of_file}'", f"`stadia train {of_file}` with the same options"
        raise ConfigError(base, found=found, expected=f"one of recipe '{recipe}'", fix=fix)
    values = merge_values(read_preset_for(recipe, preset), values) if preset is not None else values
    given = values.get("data", {})
    values = add_model_of_start(recipe, values, overrides)
    values = values | {"data": example | given if isinstance(given, dict) else given}
    fix, missing = f"`stadia train {recipe} --help` lists every key", f"pass the data: `stadia train {recipe} DATA`"
    return resolve_config(config, values, overrides, fix=fix, missing={"data.path": f"{missing}, or --data DATA"})
