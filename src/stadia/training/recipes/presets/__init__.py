"""Presets: YAML files with the configuration of a training, explained in a comment. Imports no torch."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name
from stadia.io.input_files import expand_home

AUTO = "auto"
"""This preset is chosen by measuring steps on this machine."""

AUTO_RECIPES = "selfsup", "metric"

FOLDER = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
_EXPECTED = "a mapping of keys as YAML, with a key 'recipe'"
_COPY = "copy a preset of `stadia list presets`"


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def list_presets() -> list[tuple[str, str]]:
    """Return each preset's name, and its recipe with the first line of its comment; AUTO first."""
    from stadia.io.input_files import read_text  # imports numpy

    rows = []
    for name in preset_names():
        first_line = read_text(FOLDER / f"{name}.yaml", expected=_EXPECTED).partition("\n")[0]
        rows.append((name, f"{read_preset(name)['recipe']}: {first_line.removeprefix('# ')}"))
    return [(AUTO, "selfsup: sizes and batches by the steps that this machine takes on the data"), *rows]


def list_presets_of(recipe: str) -> list[tuple[str, str]]:
    """Return the presets of a recipe with their whole comments, without commands; AUTO first."""
    names = [name for name in preset_names() if read_preset(name)["recipe"] == recipe]
    return [(AUTO, "Measures steps on this machine, and chooses."), *((name, _read_comment(name)) for name in names)]


def _read_comment(name: str) -> str:
    from stadia.io.input_files import read_text  # imports numpy

    lines = read_text(FOLDER / f"{name}.yaml", expected=_EXPECTED).splitlines()
    comment = [line.removeprefix("#") for line in itertools.takewhile(lambda line: line[:1] == "#", lines)]
    return " ".join(line.strip() for line in comment if not line.startswith("  "))  # commands are indented


def read_preset(preset: str | Path) -> dict[str, Any]:
    """Return the nested values of a preset, with its "recipe".

    preset: a name, or the path of a YAML file. Raises ConfigError for an unknown name, DataError for a file that is
        no preset.
    """
    from stadia.io.yaml_files import read_yaml

    path = _find_file(str(preset))
    values = read_yaml(path, expected=_EXPECTED, fix=_COPY)
    if not isinstance(values, dict) or not isinstance(values.get("recipe"), str):
        raise ConfigError(path, found="no key 'recipe'", expected=_EXPECTED, fix=_COPY)
    return values


def read_preset_for(recipe: str, preset: str | Path) -> dict[str, Any]:
    """Return the values of a preset of this recipe. Raises ConfigError for a preset of another recipe."""
    values = read_preset(preset)
    if values["recipe"] != recipe:
        raise ConfigError(
            "--preset",
            found=f"'{preset}', a preset of recipe '{values['recipe']}'",
            expected=f"one of recipe '{recipe}'",
            fix=f"name a preset of {recipe} (`stadia list presets`), or the recipe {values['recipe']}",
        )
    return values


def preset_overrides(preset: str | Path) -> tuple[str, ...]:
    """Return a preset as `dotted.key=value` overrides, without its recipe."""
    values = {key: value for key, value in read_preset(preset).items() if key != "recipe"}
    return tuple(_flatten(values))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


def _find_file(preset: str) -> Path:
    if preset.endswith(SUFFIXES):
        path = expand_home(preset)
        if not path.exists():
            raise ConfigError("--preset", found=f"no file {path}", expected="a YAML file", fix="check the path")
        return path
    names = preset_names()
    if preset == AUTO:
        fix = "stadia.training.choose_configuration(overrides, minutes=20), or stadia train selfsup --preset auto"
        expected = "a preset that is a file: auto measures steps on the data"
        raise ConfigError("--preset", found=f"'{preset}'", expected=expected, fix=fix)
    if preset not in names:
        names = [AUTO, *names]
        near = find_nearest_name(preset, names)
        fix = f"did you mean '{near}'?" if near else "see `stadia list presets`, or pass the path of a .yaml file"
        raise ConfigError("--preset", found=f"'{preset}'", expected=f"one of {', '.join(names)}", fix=fix)
    return FOLDER / f"{preset}.yaml"
