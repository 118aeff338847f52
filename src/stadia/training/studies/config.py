"""An ablation study and its planned runs. Imports no torch."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from stadia.core.config import StrictModel, ValueChange, diff_mappings, resolve_config, select_relevant_changes
from stadia.core.errors import ConfigError, ConfigMistakes, DataError
from stadia.io.input_files import read_json
from stadia.io.output_files import ANOTHER_OUT
from stadia.io.yaml_files import read_yaml
from stadia.metrics.statistics import FIRST_LOOK, MIN_SEEDS, Better, Expected
from stadia.training.recipes.base.config import RecipeConfig

BASE = "base"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_SEED = 2**32 - 1  # the largest that NumPy accepts
SEE_DOCS = "see docs/how-to/experiments.md"

METRIC_COLUMNS = ("val/", "train/", "time/", "gradient/")

Words = tuple[str, ...]
Name = Annotated[str, Field(pattern=NAME)]


def _split_words(value: Any) -> Any:
    return tuple(value.split()) if isinstance(value, str) else value


def _as_group(change: Any) -> Any:
    return change if isinstance(change, dict) else {"set": change}


class StudyChange(StrictModel):
    """One change of the base.

    set: one or several `dotted.key=value`; the effects of several are not separated.
    expect: hypothesis about the metric.
    claim: the hypothesis as a sentence in the table.
    """

    set: Words = Field(min_length=1)
    expect: Expected = "different"
    claim: str = ""

    _split = field_validator("set", mode="before")(_split_words)


class StudyConfig(StrictModel):
    """An ablation: a base, changes of it, and seeds.

    base: `dotted.key=value` over the recipe's defaults, for all runs.
    changes: by name, each compared with the base alone.
    metric: a column of metrics.csv, or SCOREFILE.metric; null = the metric of the recipe's best checkpoint.
    better: direction of the metric; null = as in the table of metrics.
    at: the last validation, or the best one, which improves with the number of validations.
    margin: smallest relevant difference, in the metric's unit; null = no change is called equal.
    alpha: family-wise error rate over all changes.
    budget: equal "samples" (steps x batch x grad_accumulation_steps x devices), or equal "seconds" within 5 %.
    until: seeds are added until the half-width of the interval is below this value, in the metric's unit, or below
        |effect|; null = only `seeds`.
    max_seeds: largest number of seeds with `until`; the intervals hold for this many interim analyses.
    scores: score and judge each run at its end; "auto": if the metric is in a score file.
    post_hoc_choices: what was chosen after results existed; stadia writes it.
    """

    name: Name
    recipe: str
    base: Words = ()
    changes: dict[Name, StudyChange] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...] = (0, 1, 2, 3, 4)
    metric: str | None = None
    better: Better | None = None
    at: Literal["last", "best"] = "last"
    margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    budget: Literal["samples", "seconds"] = "samples"
    until: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_seeds: int = Field(default=30, ge=FIRST_LOOK, le=200)
    scores: bool | Literal["auto"] = "auto"
    post_hoc_choices: tuple[str, ...] = ()

    _split = field_validator("base", mode="before")(_split_words)

    @property
    def has_scores(self) -> bool:
        """Return whether each run is scored and judged at its end."""
        is_column = self.metric is None or self.metric.startswith(METRIC_COLUMNS)
        return not is_column if self.scores == "auto" else self.scores

    @field_validator("changes", mode="before")
    @classmethod
    def _expand_changes(cls, value: Any) -> Any:
        return {name: _as_group(change) for name, change in value.items()} if isinstance(value, dict) else value

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) < MIN_SEEDS:
            found = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
            raise ValueError(f"{found} cannot separate a change from chance. Use at least {MIN_SEEDS}, better 5 to 10")
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds must be different")
        return seeds

    @model_validator(mode="after")
    def _check_names(self) -> "StudyConfig":
        if BASE in self.changes:
            raise ValueError(f"'{BASE}' is the name of the base run. Give this entry of `changes` another name")
        if self.margin is None and (same := [name for name, change in self.changes.items() if change.expect == "same"]):
            raise ValueError(f"'{same[0]}' expects the same result. Set 'margin', the smallest difference that matters")
        if self.until is not None and len(self.seeds) < FIRST_LOOK:
            raise ValueError(f"{len(self.seeds)} seeds are too few for 'until'. Use at least {FIRST_LOOK}")
        return self


def parse_change(text: str) -> tuple[str, str]:
    """Parse `"name: key=value key=value"` into name and settings. Raises ConfigError."""
    name, colon, words = text.partition(":")
    if not colon or "=" in name or not words.strip():
        fix = 'for example --change "fast: optimizer.lr=1e-3"'
        raise ConfigError("--change", found=repr(text), expected='"NAME: KEY=VALUE ..."', fix=fix)
    return name.strip(), words.strip()


def read_study(
    file: Path | None, given: Mapping[str, Any], changes: Sequence[str], *, preset: Sequence[str] = ()
) -> StudyConfig:
    """Return the study of a YAML file, with overrides from the command line.

    file: a study.yaml; None = all from the command line.
    given: values that replace the file's; None keeps the file's, and `base` is appended.
    changes: "NAME: KEY=VALUE ...", added to the file's.
    preset: settings before `base`.

    Raises DataError if the file is not a YAML mapping, ConfigError with every mistake.
    """
    values = {"name": file.stem, **read_yaml_mapping(file, "a study as YAML")} if file is not None else {}
    base, listed = _split_words(values.get("base") or ()), values.get("changes") or {}
    values |= {key: value for key, value in given.items() if value is not None}
    values |= {"base": base, "changes": listed}
    if isinstance(base, list | tuple):
        values["base"] = [*preset, *base, *given.get("base", ())]
    if isinstance(listed, dict):
        parsed = list(map(parse_change, changes))
        more = dict(parsed)
        counts = Counter([*map(str, listed), *(name for name, _ in parsed)])
        if twice := [name for name, count in counts.items() if count > 1]:
            found, fix = f"'{twice[0]}' twice", "rename one of them"
            raise ConfigError("--change", found=found, expected="a name of its own", fix=fix)
        # As groups, so that a misspelt key of a change is reported with the nearest valid one.
        values["changes"] = {str(name): _as_group(change) for name, change in {**listed, **more}.items()}
    if file is not None and values["name"] == file.stem and not re.fullmatch(NAME, file.stem):
        fix = "rename the file, or pass --name"
        raise DataError(
            file, found="a name that no folder can have", expected="letters, digits, '.', '_', '-'", fix=fix
        )
    return resolve_config(StudyConfig, values, fix=SEE_DOCS)


def read_yaml_mapping(path: Path, expected: str) -> dict[str, Any]:
    """Return the mapping of a YAML file. Raises DataError."""
    return _check_mapping(path, read_yaml(path, expected=expected, fix=SEE_DOCS), SEE_DOCS)


def read_json_mapping(path: Path, expected: str) -> dict[str, Any]:
    """Return the object of a JSON file in a study's folder. Raises DataError."""
    return _check_mapping(path, read_json(path, expected=expected, fix=ANOTHER_OUT), ANOTHER_OUT)


def _check_mapping(path: Path, values: Any, fix: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(path, found=type(values).__name__, expected="a mapping of keys", fix=fix)
    return values


# -- Plan the runs: one change at a time against the base, each seed, equal budget


LENGTH_KEYS = ("max_epochs", "max_steps", "stages")
SAMPLE_KEYS = ("batch_size", "grad_accumulation_steps", "devices")
"""Keys of the configuration section `training` whose product with the steps is the number of training samples.
"""

SAME_COUNT_KEYS = (
    "augmentation",
    "cache",
    "color",
    "crop",
    "fresh",
    "ground_truth_depth",
    "height",
    "per_background",
    "placement",
    "sparse_depth",
    "val_samples",
    "width",
)
"""Keys of the configuration section `data` that do not alter the number of samples in an epoch."""

Resolve = Callable[[str, list[str]], RecipeConfig]


@dataclass(frozen=True)
class PlannedRun:
    """Describe one planned training of a study.

    name: name of the run and of its folder.
    change: name of the change that it tests, or "base".
    seed: seed of its random numbers.
    config: complete configuration of the training.
    """

    name: str
    change: str
    seed: int
    config: dict[str, Any]


def plan_runs(study: StudyConfig, resolve: Resolve) -> list[PlannedRun]:
    """Return every run, ordered by seed, so that an interrupted study has complete pairs.

    resolve: returns the configuration of a recipe and `dotted.key=value` settings; raises ConfigMistakes.

    Raises ConfigMistakes with all mistakes: also for a change that changes nothing, sets seed or name, or has another
    budget.
    """
    settings = {BASE: (), **{name: change.set for name, change in study.changes.items()}}
    _check_settings(resolve, study, settings)
    runs = []
    for seed in study.seeds:
        for name, words in settings.items():
            run_name = f"{name}-seed{seed}"
            config = resolve(study.recipe, [*study.base, *words, f"seed={seed}", f"name={run_name}"])
            runs.append(PlannedRun(run_name, name, seed, config.model_dump(mode="json")))
    mistakes = list[ConfigError]()
    for run in runs[1 : len(settings)]:
        try:
            _check_change(run.change, study, runs[0].config, run.config)
        except ConfigError as error:
            mistakes.append(error)
    if mistakes:
        raise ConfigMistakes(mistakes)
    return runs


def _check_settings(resolve: Resolve, study: StudyConfig, settings: Mapping[str, Words]) -> None:
    mistakes = list[ConfigError]()
    base_mistakes = set[str]()
    for name, words in settings.items():
        try:
            resolve(study.recipe, [*study.base, *words])
        except ConfigMistakes as error:
            mistakes += [
                ConfigError(f"{name}: {one.where}", found=one.found, expected=one.expected, fix=one.fix)
                for one in error.mistakes
                if str(one) not in base_mistakes
            ]
            if name == BASE:
                base_mistakes = set(map(str, error.mistakes))
    if mistakes:
        raise ConfigMistakes(mistakes)


def changed_keys(base: dict[str, Any], config: dict[str, Any]) -> list[ValueChange]:
    """Return the configuration keys whose values differ between a changed run and the base run, with their values.

    Keys that cannot alter a result, such as the name, and the seed are left out.

    base: configuration of the base run.
    config: configuration of the changed run.
    """
    return select_relevant_changes(diff_mappings(base, config), ("seed",))


def count_samples(config: dict[str, Any]) -> int | None:
    """Return the number of training samples of a run; None if epochs define its length."""
    training = config["training"]
    if training.get("max_steps") is None or training.get("max_epochs") is not None:
        return None
    factors = [training.get(key, 1) for key in SAMPLE_KEYS]
    if not all(isinstance(factor, int) for factor in factors):
        return None
    return math.prod([int(training["max_steps"]), *factors])


def _check_change(name: str, study: StudyConfig, base: dict[str, Any], config: dict[str, Any]) -> None:
    what, taken = f"change '{name}'", [word.partition("=")[0] for word in study.changes[name].set]
    if own := [key for key in taken if key in ("seed", "name", "recipe")]:
        raise ConfigError(
            what, found=f"'{own[0]}'", expected="keys of the recipe", fix="remove the key, because the study sets it"
        )
    changes = changed_keys(base, config)
    if not changes:
        found = f"{', '.join(study.changes[name].set)}, as in the base"
        raise ConfigError(what, found=found, expected="another value", fix="remove the change, or change the base")
    # A time limit may end runs of a study with budget "samples".
    base_minutes, minutes = (values["training"].get("max_minutes") for values in (base, config))
    if base_minutes != minutes or (study.budget == "samples" and minutes is not None):
        raise ConfigError(
            what,
            found=f"training.max_minutes={minutes}, {base_minutes} in the base, with `budget: {study.budget}`",
            expected="one value for all runs with `budget: seconds`, else null",
            fix="set `budget: seconds` and training.max_minutes in `base`, or remove it",
        )
    if study.budget == "seconds":
        return
    budget_keys = [f"training.{key}" for key in (*LENGTH_KEYS, *SAMPLE_KEYS)]
    unequal = [change for change in changes if change.is_within(budget_keys)]
    base_samples, samples = count_samples(base), count_samples(config)
    if base_samples is None:  # epochs and data define the length
        same_count = [f"data.{key}" for key in SAME_COUNT_KEYS]
        unequal += [change for change in changes if change.is_within(["data"]) and not change.is_within(same_count)]
    if unequal and (base_samples is None or base_samples != samples):
        counts = "" if base_samples is None or samples is None else f", {samples:,} samples against {base_samples:,}"
        fix = "set training.max_steps, and training.max_epochs=null"
        raise ConfigError(
            what,
            found=f"another budget than the base ({'; '.join(map(str, unequal))}{counts})",
            expected="equal samples: steps x batch_size x grad_accumulation_steps x devices",
            fix=f"{fix}, or set `budget: seconds`",
        )
