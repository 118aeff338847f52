"""Resolve strict configurations, list all their mistakes at once, and compare two of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from stadia.core.errors import ConfigError, ConfigMistakes
from stadia.core.registry import Registry, find_nearest_name, find_new_key


class StrictModel(BaseModel):
    """A configuration: unknown keys are errors, defaults are validated, and a resolved one cannot be changed.

    A field's default may be a configuration (`training: TrainingConfig = TrainingConfig(batch_size=16)`). A group of
    keys that is given in part then changes these keys and keeps the default's other values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {name: value for name, value in values.items() if isinstance(value, Mapping)}
        defaults = {name: cls.model_fields[name].default for name in given if name in cls.model_fields}
        groups = {name: default for name, default in defaults.items() if isinstance(default, StrictModel)}
        return {**values, **{name: default.complete(given[name]) for name, default in groups.items()}}

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given values over those that were set explicitly when this configuration was made."""
        explicit = {name: getattr(self, name) for name in self.model_fields_set}
        groups = {name: value for name, value in explicit.items() if isinstance(given.get(name), Mapping)}
        merged = {name: value.complete(given[name]) for name, value in groups.items() if isinstance(value, StrictModel)}
        return {**explicit, **given, **merged}


_M = TypeVar("_M", bound=StrictModel)
_MAX_SHOWN = 200  # characters of a value in a message


def check_registered(table: Registry) -> Callable[[str], str]:
    """Return a check of a name for `AfterValidator`; it raises ValueError, so that pydantic lists all mistakes."""

    def check(name: str) -> str:
        try:
            return table.check(name)
        except ConfigError as error:
            raise ValueError(f"expected {error.expected}; {error.fix}") from error

    return check


def parse_value(text: str) -> Any:
    """Parse `2e-4`, `true`, `null`, `[1,2]` and `{"a": 1}` as JSON; return any other text unchanged."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _submodel(annotation: Any) -> type[StrictModel] | None:
    """Return the StrictModel in an annotation (also in `Model | None`); None for a list of them, which is one value."""
    if get_origin(annotation) in (tuple, list):
        return None
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, StrictModel)), None)


def _named_groups(annotation: Any) -> bool:
    """Return whether the annotation is `dict[str, Model]`: groups of equal keys under names that the user chooses."""
    return get_origin(annotation) is dict and _submodel(annotation) is not None


def list_keys(model: type[StrictModel], prefix: str = "") -> list[str]:
    """Return every dotted key of a configuration, leaves and groups; NAME stands where the user chooses a name."""
    found = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if sub := _submodel(field.annotation):
            found += list_keys(sub, f"{prefix}{name}." + "NAME." * _named_groups(field.annotation))
    return found


def _unknown(model: type[StrictModel], values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line for each key that does not exist, with its new name or the nearest valid one."""
    lines = []
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is None:
            if renamed := _renamed_lines(prefix + name, value):
                lines += renamed
                continue
            every = list_keys(model, prefix)
            same_leaf = (key for key in every if key.rsplit(".", 1)[-1] == name)
            leaf = find_nearest_name(name, list(model.model_fields), similarity=0.5)  # without the group: it is alike
            near = next(same_leaf, None) or (prefix + leaf if leaf else None)
            valid = f", did you mean '{near}'?" if near else f"; expected one of {', '.join(model.model_fields)}"
            lines.append(f"unknown key '{_shorten(prefix + name)}'{valid}")
        elif (sub := _submodel(field.annotation)) and isinstance(value, Mapping):
            groups = {name: value}
            if _named_groups(field.annotation):
                groups = {f"{name}.{chosen}": group for chosen, group in value.items()}
            for group, given in groups.items():
                lines += _unknown(sub, given, f"{prefix}{group}.") if isinstance(given, Mapping) else []
    return lines


def _shorten(text: str) -> str:
    """Return text of at most _MAX_SHOWN characters, its middle left out."""
    half = _MAX_SHOWN // 2
    return text if len(text) <= _MAX_SHOWN else f"{text[:half]} ... {text[-half:]}"


def list_renamed_keys(values: Mapping[str, Any]) -> list[str]:
    """Return a line with the new name for each old key of a stored configuration, such as that of a checkpoint."""
    return [line for key, value in values.items() for line in _renamed_lines(key, value)]


def _renamed_lines(key: str, value: Any) -> list[str]:
    """Return a line for an old key, or for each key of an old group, with the new name; none for other keys."""
    if isinstance(value, Mapping) and (
        lines := [line for k, v in value.items() for line in _renamed_lines(f"{key}.{k}", v)]
    ):
        return lines
    new = find_new_key(key)
    return [f"key '{key}' was renamed to '{new}'"] if new else []


def merge_overrides(base: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply `a.b=value` overrides to a nested mapping. Raises ConfigError for one that is not `key=value`."""
    merged: dict[str, Any] = json.loads(json.dumps(base))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(override, found="no '='", expected="key=value", fix="for example optimizer.lr=2e-4")
        *groups, leaf = key.split(".")
        node = merged
        for group in groups:
            child = node.setdefault(group, {})
            if not isinstance(child, dict):
                raise ConfigError(
                    key, found=f"'{group}' is a value", expected="a group of keys", fix=f"set '{group}' itself"
                )
            node = child
        node[leaf] = parse_value(text)
    return merged


def quote_list(key: str, text: str) -> str:
    """Return how to type a list that arrived as the text `[a,b]`, because the shell removed its double quotes.

    The result is for example `'data.recordings=["a","b"]'`.
    """
    bare = text.strip().removeprefix("[").removesuffix("]")
    words = [word.strip().strip("\"'") for word in bare.split(",")]
    return shlex.quote(f"{key}={json.dumps([parse_value(word) for word in words if word], separators=(',', ':'))}")


def resolve_config(
    model: type[_M],
    base: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    *,
    fix: str = "correct or remove it",
) -> _M:
    """Return the validated configuration. Raises one ConfigMistakes that lists every mistake.

    Args:
        model: the configuration's class.
        base: nested values (a preset, or a resolved config.json).
        overrides: `dotted.key=value`, later ones win.
        fix: what the error message recommends.
    """
    values = merge_overrides(base or {}, overrides)
    mistakes = _unknown(model, values)
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        found: dict[str, list[Any]] = {}  # one mistake for a key, also where it may have several types
        for problem in error.errors():
            if problem["type"] != "extra_forbidden":  # already listed, with the nearest name
                found.setdefault(_find_key(model, problem["loc"]), []).append(problem)
        for key, problems in found.items():
            problem = problems[0]
            if problem["type"] == "tuple_type" and isinstance(problem["input"], str | int | float):
                quoted = _shorten(quote_list(key, str(problem["input"])))
                mistakes.append(f"'{key}': expected a list, quoted for the shell: {quoted}")
                continue
            message = _join_messages([one["msg"] for one in problems])
            # Several keys are wrong together where the input is a group.
            is_group = problem["type"] == "missing" or isinstance(problem["input"], Mapping)
            given = "" if is_group else f" (found {shorten(problem['input'])})"
            mistakes.append((f"'{key}': " if key else "") + f"{message[0].lower()}{message[1:]}{given}")
        raise ConfigMistakes(mistakes, fix=fix) from error
    return config


def _find_key(model: type[StrictModel], place: Sequence[int | str]) -> str:
    """Return the dotted key of a mistake: pydantic's place of it, without the type of a union that it names."""
    annotation: Any = model
    parts: list[str] = []
    for number, part in enumerate(place):
        if isinstance(annotation, type) and issubclass(annotation, StrictModel):
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field else None
        elif len(members := _union_members(annotation)) > 1:
            return ".".join([*parts, *map(str, place[number + 1 :])])
        elif inner := [one for member in members for one in get_args(member) if one is not Ellipsis]:
            annotation = inner[part] if isinstance(part, int) and part < len(inner) else inner[-1]
        parts.append(str(part))
        if len(members := _union_members(annotation)) == 1:
            annotation = members[0]
    return ".".join(parts)


def _union_members(annotation: Any) -> list[Any]:
    """Return the types of a union without None; of another type itself alone."""
    if get_origin(annotation) is Annotated:
        return _union_members(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [one for one in get_args(annotation) if one is not type(None)]


def _join_messages(messages: Sequence[str]) -> str:
    """Return one message for a key; "input should be an integer or 'auto'" for the types of a union."""
    messages = [message.removeprefix("Value error, ") for message in messages]
    first, *others = dict.fromkeys(message.partition(", unable")[0] for message in messages)
    return (
        messages[0] if not others else " or ".join([first, *(one.removeprefix("Input should be ") for one in others)])
    )


def shorten(value: object) -> str:
    """Return the repr of a value from outside, its middle left out where it is long."""
    try:
        return _shorten(repr(value))
    except ValueError:  # a number of more than 4300 digits
        return "a number of thousands of digits"


ABSENT = "not there"

_UNTRAINED = ("workers", "loggers", "checkpoint_every", "images_every", "histograms_every")
KEYS_WITHOUT_EFFECT = frozenset({"name", *(f"training.{key}" for key in _UNTRAINED)})
"""Keys of a configuration that change no loss and no weight."""

LOSS_METRICS = ("train/loss", "train/term/", "val/loss", "val/term/", "val/residual")
"""First letters of the columns of metrics.csv in the unit of the training's loss. Runs with other keys of `loss` log
other measures there, which are not compared.
"""


@dataclass(frozen=True)
class ValueChange:
    """One key whose value differs, both values as text; ABSENT where one side has no such key."""

    key: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.now}"

    def is_within(self, keys: Iterable[str]) -> bool:
        """Return whether the key is one of these keys or lies in one of these groups."""
        return any(f"{self.key}.".startswith(f"{key}.") for key in keys)


def diff_mappings(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[ValueChange]:
    """Return each dotted key that differs; a list, or a group that only one side has, is one change."""
    changes = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key, ABSENT), now.get(key, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += diff_mappings(old, new, f"{prefix}{key}.")
        elif old != new:
            changes.append(ValueChange(f"{prefix}{key}", str(old), str(new)))
    return changes


def select_relevant_changes(changes: Iterable[ValueChange], free: Iterable[str] = ()) -> list[ValueChange]:
    """Return the changes that may alter the result of a training: all but KEYS_WITHOUT_EFFECT and `free` keys.

    free: keys or groups of keys.

    Two runs measure the effect of a key only where it is the only change.
    """
    ignored = {*KEYS_WITHOUT_EFFECT, *free}
    return [change for change in changes if not change.is_within(ignored)]
