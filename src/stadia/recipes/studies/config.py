"""Configuration of an ablation: base, changes, seeds and metric, from YAML or the command line. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from stadia.core.config import StrictModel, resolve
from stadia.core.errors import ConfigError, DataError
from stadia.metrics.verdicts import LEAST_SEEDS, Better, Expected

BASE = "base"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_BYTES = 1 << 20

Words = tuple[str, ...]
Name = Annotated[str, Field(pattern=NAME)]


def _words(value: Any) -> Any:
    """Split `key=value key=value`; keep a list, which allows blanks in values."""
    return tuple(value.split()) if isinstance(value, str) else value


class Change(StrictModel):
    """One change of the base.

    set: `dotted.key=value`, one or several; the effects of several are not separated.
    expect: hypothesis about the metric: different, better, worse, or the same within the study's margin.
    claim: the hypothesis as a sentence, for the table.
    """

    set: Words = Field(min_length=1)
    expect: Expected = "different"
    claim: str = ""

    _split = field_validator("set", mode="before")(_words)


class StudyConfig(StrictModel):
    """An ablation.

    name: of the study and its folder.
    recipe, base: shared by all runs: `dotted.key=value` over the recipe's defaults.
    changes: by name, each against the base alone.
    seeds: every run is trained with each; chosen before any result exists.
    metric: a column of metrics.csv, or SCOREFILE.metric; null = the metric of the recipe's best checkpoint.
    better: direction of the metric; null = from the table of metrics.
    at: the value of the last validation, or the best one of the run (which improves with the number of validations).
    margin: smallest relevant difference, in the metric's unit; null = no change is called equal.
    alpha: family-wise error rate over all changes.
    budget: "samples": steps x batch x accumulate x devices are equal; "seconds": training time is equal within 5 %.
    """

    name: Name
    recipe: str
    base: Words = ()
    changes: dict[Name, Change] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2, 3, 4)
    metric: str | None = None
    better: Better | None = None
    at: Literal["last", "best"] = "last"
    margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    budget: Literal["samples", "seconds"] = "samples"

    _split = field_validator("base", mode="before")(_words)

    @field_validator("changes", mode="before")
    @classmethod
    def _expand_changes(cls, value: Any) -> Any:
        """Accept a change given by its settings alone."""
        if not isinstance(value, dict):
            return value
        return {name: change if isinstance(change, dict) else {"set": change} for name, change in value.items()}

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) < LEAST_SEEDS:
            raise ValueError(
                f"{len(seeds)} seed{'s' * (len(seeds) != 1)} cannot separate a change from chance: "
                f"at least {LEAST_SEEDS}, better 5 to 10"
            )
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds must be different")
        return seeds

    @model_validator(mode="after")
    def _check_names(self) -> StudyConfig:
        if BASE in self.changes:
            raise ValueError(f"'{BASE}' is what changes are compared with; name the change otherwise")
        if self.margin is None and (same := [name for name, change in self.changes.items() if change.expect == "same"]):
            raise ValueError(
                f"'{same[0]}' is expected to be the same: set 'margin', the smallest difference that matters"
            )
        return self


def parse_change(text: str) -> tuple[str, str]:
    """Parse `"name: key=value key=value"` into name and settings. Raises ConfigError."""
    name, colon, words = text.partition(":")
    if not colon or "=" in name or not words.strip():
        raise ConfigError(
            "--change",
            found=repr(text),
            expected='"NAME: KEY=VALUE ..."',
            fix='for example --change "fast: optimizer.lr=1e-3"',
        )
    return name.strip(), words.strip()


def read_study(file: Path | None, given: dict[str, Any], changes: list[str]) -> StudyConfig:
    """Return the study of a YAML file, with overrides from the command line.

    file: a study.yaml; None = all from the command line.
    given: values of StudyConfig's keys; `base` is appended to the file's.
    changes: "NAME: KEY=VALUE ...", added to the file's.

    Raises DataError if the file is no YAML mapping, ConfigError with every mistake.
    """
    values = _read_yaml(file) if file is not None else {}
    if file is not None:
        values.setdefault("name", file.stem)
    words = tuple(_words(values.get("base", ()))) + tuple(given.pop("base", ()))
    brief = values.get("changes") or {}
    if not isinstance(brief, dict):
        raise DataError(
            file,
            found=f"changes: {type(brief).__name__}",
            expected="a name for each change",
            fix="see docs/experiments.md",
        )
    more = dict(map(parse_change, changes))
    if twice := sorted(brief.keys() & more.keys()):
        raise ConfigError(
            "--change", found=f"'{twice[0]}' again", expected="a name of its own", fix="the file has it already"
        )
    values |= {"base": list(words), "changes": {**brief, **more}} | {
        key: value for key, value in given.items() if value is not None
    }
    plain_values = json.loads(json.dumps(_named(values), default=str))  # YAML has dates
    return resolve(StudyConfig, plain_values, fix="see docs/experiments.md")


def _named(values: dict[str, Any]) -> dict[str, Any]:
    """Return changes as groups, so that a misspelt key is reported with the nearest valid one."""
    return values | {
        "changes": {str(name): c if isinstance(c, dict) else {"set": c} for name, c in values["changes"].items()}
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(path, found="no such file", expected="a study as YAML", fix="see docs/experiments.md")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(
            path, found=f"{path.stat().st_size} bytes", expected=f"at most {MAX_BYTES}", fix="is this the right file?"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            path, found=f"invalid YAML ({error})", expected="a study as YAML", fix="correct the file"
        ) from error
    if not isinstance(values, dict):
        raise DataError(path, found=type(values).__name__, expected="a mapping of keys", fix="see docs/experiments.md")
    return values
