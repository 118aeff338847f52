"""Resolve strict configurations, list all mistakes in them at once, and compare two of them."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from stadia.core.errors import CheckpointError, ConfigError, ConfigMistakes
from stadia.core.registry import Registry, find_nearest_name


class StrictModel(BaseModel):
    """A strict, immutable configuration: unknown keys are errors, and defaults are validated.

    The default of a field may itself be a configuration. If a user sets only some of its keys, the others keep the
    values of the default.

    part_of_keys: for fields that choose a component (`PartConfig`): the component that owns keys without a name. Fields
        that are not listed use the component of their default.
    former_keys: keys of earlier versions and the value that is now constant. Runs that have this value still load.
    experimental: keys that had no effect, or a worse one, where they were measured. Help and reference list them last.
    """

    part_of_keys: ClassVar[Mapping[str, str]] = {}
    former_keys: ClassVar[Mapping[str, Any]] = {}
    experimental: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = {name: value for name, value in values.items() if (name, value) not in cls.former_keys.items()}
        values = {name: _as_choice(cls, name, value) for name, value in values.items()}
        values = {name: _complete_part(cls, name, value) for name, value in values.items()}
        given = {name: value for name, value in values.items() if isinstance(value, Mapping)}
        defaults = {name: cls.model_fields[name].default for name in given if name in cls.model_fields}
        groups = {name: default for name, default in defaults.items() if _is_completed_by(default, given[name])}
        return {**values, **{name: default.complete(given[name]) for name, default in groups.items()}}

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that this configuration sets explicitly, with the given values in their place.

        given: new values by field; a mapping changes only its own keys of a group.
        """
        explicit = {name: getattr(self, name) for name in self.model_fields_set}
        groups = {name: value for name, value in explicit.items() if isinstance(given.get(name), Mapping)}
        merged = {name: value.complete(given[name]) for name, value in groups.items() if isinstance(value, StrictModel)}
        return {**explicit, **given, **merged}


class PartConfig(StrictModel):
    """The configuration of one interchangeable component, such as a network. Its `name` chooses its keys.

    A field that contains one is annotated `Annotated[SerializeAsAny[Base], BeforeValidator(Base.choose)]`. Its value is
    a name or a group of keys. Without a name, the group belongs to the component of the default.
    """

    name: str

    @classmethod
    def find_class(cls, name: str) -> type[Self]:
        """Return the configuration class of the component with this name. Raises ConfigError for an unknown name."""
        raise NotImplementedError

    @classmethod
    def choose(cls, value: Any) -> Any:
        """Convert a name or a group of keys to the configuration of the component that it chooses, for
        `BeforeValidator`.

        Other values are returned unchanged. Raises ValueError for an unknown name.
        """
        values = {"name": value} if isinstance(value, str) else value
        if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
            return value  # pydantic names what it expected
        try:
            chosen = cls.find_class(values["name"])
        except ConfigError as error:
            raise ValueError(f"expected {error.expected}") from error
        named = chosen.model_fields["name"].annotation
        return chosen.model_validate({**values, "name": values["name"]} if named is str else values)


def _complete_part(model: type[StrictModel], name: str, value: Any) -> Any:
    part = find_part(model, name)
    if part is None:
        return value
    if isinstance(value, str):
        return {"name": value}
    default = model.model_fields[name].default
    if isinstance(value, Mapping) and "name" not in value and isinstance(default, PartConfig):
        return {"name": model.part_of_keys.get(name, default.name) if value else default.name, **value}
    return value


def _is_completed_by(default: Any, given: Mapping[str, Any]) -> bool:
    """Return whether a partial group keeps other values of the default; another part does not."""
    if isinstance(default, PartConfig):
        return given.get("name") == default.name
    return isinstance(default, StrictModel)


def find_part(model: type[StrictModel], name: str) -> type[PartConfig] | None:
    """Return the base class of the component configurations that a field can contain.

    It is None if the field chooses no component.

    model: configuration class.
    name: name of the field.
    """
    field = model.model_fields.get(name)
    sub = None if field is None else get_submodel(field.annotation)
    return sub if sub is not None and issubclass(sub, PartConfig) else None


def choose_submodel(model: type[StrictModel], name: str, value: Any) -> type[StrictModel] | None:
    """Return the configuration class of a field, which may depend on the component that the field's value chooses.

    The result is None for a field that is not a configuration, and for an unknown name of a component.

    model: configuration class.
    name: name of the field.
    value: value of the field; None takes the component of the default.
    """
    field = model.model_fields.get(name)
    sub = None if field is None else get_submodel(field.annotation)
    if field is None or sub is None or not issubclass(sub, PartConfig):
        return sub
    given = value.get("name") if isinstance(value, Mapping) else value
    chosen = given if isinstance(given, str) else model.part_of_keys.get(name, getattr(field.default, "name", None))
    try:
        return sub.find_class(str(chosen))
    except ConfigError:
        return None


def _as_choice(model: type[StrictModel], name: str, value: Any) -> Any:
    """Return "32" for the number 32 if the field allows only texts, such as `training.precision`."""
    field = model.model_fields.get(name)
    if field is None or type(value) not in (int, float):
        return value
    members = list_union_members(field.annotation)
    choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
    return str(value) if str(value) in choices and len(members) == 1 else value


_M = TypeVar("_M", bound=StrictModel)
_MAX_SHOWN = 200  # largest number of characters of a value in a message

_COMMON_NAMES: Mapping[str, str] = {
    "learning_rate": "lr",
    "epochs": "max_epochs",
    "steps": "max_steps",
    "num_workers": "workers",
}
"""Names that other programs use for keys. Their spelling differs too much to be found by similarity."""


@dataclass(frozen=True)
class RegisteredName:
    """A validator (for `AfterValidator`) that accepts only the names in a registry.

    table: the registry.
    """

    table: Registry

    def __call__(self, name: str) -> str:
        try:
            return self.table.check(name)
        except ConfigError as error:
            raise ValueError(f"expected {error.expected}") from error


def check_registered(table: Registry) -> RegisteredName:
    """Return a validator (for `AfterValidator`) that accepts only the names in a registry."""
    return RegisteredName(table)


def check_range(minimum: float, maximum: float = math.inf) -> AfterValidator:
    """Return a validator for fields (low, high): minimum <= low <= high <= maximum."""

    def check(limits: tuple[float, float]) -> tuple[float, float]:
        if not minimum <= limits[0] <= limits[1] <= maximum:
            raise ValueError(f"must be (low, high) with {minimum:g} <= low <= high <= {maximum:g}")
        return limits

    return AfterValidator(check)


def parse_value(text: str) -> Any:
    """Parse a value of the command line as JSON, such as `2e-4`, `true`, `null`, `[1,2]` and `{"a": 1}`.

    Any other text is returned unchanged.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_BARE_DICTIONARY = re.compile(r"\{([^{}\[\],:]+:[^{}\[\],:]+(?:,[^{}\[\],:]+:[^{}\[\],:]+)*)\}")


def _parse_override(model: type[StrictModel] | None, key: str, text: str, values: Mapping[str, Any]) -> Any:
    """Return the value of `key=text`; a list may be `a,b`, `[a,b]` or `192x640`, a dictionary `{a: 1}`.

    A shell removes the double quotes of `key=["a","b"]` and of `key={"a": 1}`.
    """
    value = parse_value(text)
    members = [] if model is None else list_union_members(_find_annotation(model, key.split("."), values))
    if any(get_origin(member) is dict for member in members) and isinstance(value, str):
        return _parse_bare_dictionary(value)
    lists = [member for member in members if get_origin(member) in (tuple, list)]
    if not lists or len(lists) < len(members) or value is None or isinstance(value, list | dict):
        return value
    of_item, *others = get_args(lists[0])
    if get_origin(of_item) in (tuple, list) or get_submodel(of_item) is not None:  # a list of lists or of groups
        return value
    bare = text.strip().removeprefix("[").removesuffix("]")
    pair = _SIZE.fullmatch(bare) if others and others[0] is not Ellipsis else None
    words = [word.strip().strip("\"'") for word in (pair.groups() if pair else bare.split(","))]
    is_text = list_union_members(of_item) == [str]
    return [word if is_text else parse_value(word) for word in words if word]


def _parse_bare_dictionary(text: str) -> Any:
    """Return the dictionary of `{a: 1, b: 2}`, without quotes; any other text unchanged."""
    found = _BARE_DICTIONARY.fullmatch(text.strip())
    if found is None:
        return text
    pairs = [one.partition(":") for one in found[1].split(",")]
    return {key.strip().strip("\"'"): parse_value(value.strip()) for key, _, value in pairs}


def _find_annotation(model: type[StrictModel], parts: Sequence[str], values: Any) -> Any:
    """Return the annotation of a dotted key in these values, or None."""
    field = model.model_fields.get(parts[0])
    if field is None or len(parts) == 1:
        return None if field is None else field.annotation
    rest = parts[2:] if has_named_groups(field.annotation) else parts[1:]
    value = values.get(parts[0]) if isinstance(values, Mapping) else None
    sub = choose_submodel(model, parts[0], value)
    return None if sub is None or not rest else _find_annotation(sub, rest, value)


def get_submodel(annotation: Any) -> type[StrictModel] | None:
    """Return the StrictModel that a type annotation contains, also in `Model | None`.

    It is None for other annotations, and for lists of configurations.
    """
    if get_origin(annotation) in (tuple, list):
        return None
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, StrictModel)), None)


def has_named_groups(annotation: Any) -> bool:
    """Return whether a type annotation is `dict[str, Model]`: groups of keys whose names the user chooses."""
    return get_origin(annotation) is dict and get_submodel(annotation) is not None


def list_keys(model: type[StrictModel], prefix: str = "") -> list[str]:
    """Return every dotted key of a configuration class, of single values and of groups.

    NAME stands for a name that the user chooses.

    model: configuration class.
    prefix: text in front of every key.
    """
    found = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if sub := choose_submodel(model, name, None):
            found += list_keys(sub, f"{prefix}{name}." + "NAME." * has_named_groups(field.annotation))
    return found


def _unknown(model: type[StrictModel], values: Mapping[str, Any], prefix: str = "") -> list[ConfigError]:
    """Return an error for each unknown key, with the nearest valid one."""
    mistakes = []
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is None:
            every, usual = list_keys(model, prefix), _COMMON_NAMES.get(name, name)
            same_leaf = (key for key in every if key.rsplit(".", 1)[-1] == usual)
            # names without their group, because keys of one group are all similar
            leaf = find_nearest_name(usual, list(model.model_fields), similarity=0.5)
            near = next(same_leaf, None) or (prefix + leaf if leaf else None)
            valid = "a key that exists" if near else f"one of {', '.join(model.model_fields)}"
            fix = f"did you mean '{near}'?" if near else None
            mistakes.append(ConfigError(_shorten(prefix + name), found="an unknown key", expected=valid, fix=fix))
        elif (sub := choose_submodel(model, name, value)) and isinstance(value, Mapping):
            groups = {name: value}
            if has_named_groups(field.annotation):
                groups = {f"{name}.{chosen}": group for chosen, group in value.items()}
            for group, given in groups.items():
                mistakes += _unknown(sub, given, f"{prefix}{group}.") if isinstance(given, Mapping) else []
    return mistakes


def _shorten(text: str) -> str:
    half = _MAX_SHOWN // 2
    return text if len(text) <= _MAX_SHOWN else f"{text[:half]} ... {text[-half:]}"


def merge_overrides(
    base: Mapping[str, Any], overrides: Iterable[str], model: type[StrictModel] | None = None
) -> dict[str, Any]:
    """Return a nested mapping after the texts `a.b=value` replace or add values.

    base: nested values; not changed.
    overrides: texts `dotted.key=value`.
    model: class of the configuration; it determines which keys contain lists. None without a class.

    Raises ConfigError for a text that is not `key=value`, or a key inside a single value.
    """
    merged: dict[str, Any] = json.loads(json.dumps(base, default=_to_json))
    pairs = [_split_override(override) for override in overrides]
    if model is not None:  # a part is chosen before its keys are set, in any order
        pairs.sort(key=lambda pair: not _names_part(model, pair[0].split(".")))
    for key, text in pairs:
        *groups, leaf = key.split(".")
        node = merged
        for depth, group in enumerate(groups, 1):
            child = node.setdefault(group, {})
            if isinstance(child, str) and model is not None and _names_part(model, groups[:depth]):
                child = node[group] = {"name": child}
            if not isinstance(child, dict):
                raise ConfigError(
                    key, found=f"'{group}' is a value", expected="a group of keys", fix=f"set '{group}' itself"
                )
            node = child
        node[leaf] = _parse_override(model, key, text, merged)
    return merged


def _split_override(override: str) -> tuple[str, str]:
    key, equals, text = override.partition("=")
    if not equals or not key or "/" in key:
        raise ConfigError(
            override,
            found="no key in front of '='" if equals else "no '='",
            expected="key=value",
            fix="for example optimizer.lr=2e-4",
        )
    return key, text


def _names_part(model: type[StrictModel], parts: Sequence[str]) -> bool:
    *groups, leaf = parts
    for group in groups:
        sub = choose_submodel(model, group, None)
        if sub is None:
            return False
        model = sub
    return find_part(model, leaf) is not None


def _to_json(value: object) -> object:
    """Return a configuration's given keys, a path's text or an array's lists, for JSON."""
    if isinstance(value, StrictModel):
        return {name: getattr(value, name) for name in value.model_fields_set}
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # Arrays of NumPy and torch have this method; the module imports neither.
        return value.tolist()
    found, expected = f"a value of type {type(value).__name__}", "texts, numbers, lists, mappings or configurations"
    raise ConfigError("configuration", found=found, expected=expected, fix="convert it")


def resolve_config(
    model: type[_M],
    base: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    *,
    fix: str | None = None,
    missing: Mapping[str, str] | None = None,
) -> _M:
    """Build and validate a configuration from nested values and command-line texts.

    model: class of the configuration.
    base: nested values (a preset, or a resolved config.json); they may contain configurations, paths and arrays.
    overrides: texts `dotted.key=value`. Later ones take precedence.
    fix: recommendation for mistakes that have no fix of their own.
    missing: recommendation if one of these dotted keys is missing.

    Raises ConfigMistakes, one error that lists every mistake.

    Examples:
        >>> class Small(StrictModel):
        ...     lr: float = 0.1
        >>> resolve_config(Small, overrides=["lr=0.2"]).lr
        0.2
    """
    values = merge_overrides(base or {}, overrides, model)
    mistakes = _unknown(model, values)
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        found: dict[str, list[Any]] = {}  # one mistake for a key, even if it may have several types
        for problem in error.errors():
            cause = getattr(problem.get("ctx", {}).get("error"), "__cause__", None)
            if isinstance(cause, CheckpointError) and not mistakes:
                raise cause from error  # files that a key names: the key's value is right
            if problem["type"] != "extra_forbidden":  # already listed, with the nearest name
                found.setdefault(_find_key(model, problem["loc"]), []).append(problem)
        for key, problems in found.items():
            mistakes.append(_describe_mistake(key, problems, missing or {}))
        raise ConfigMistakes(mistakes, fix=fix) from error
    return config


def _describe_mistake(key: str, problems: Sequence[Any], missing: Mapping[str, str]) -> ConfigError:
    first, messages = problems[0], [one["msg"] for one in problems]
    where = _shorten(key) or "configuration"
    if first["type"] == "missing":
        return ConfigError(where, found="nothing", expected="a value", fix=missing.get(key))
    # If the input is a group, several keys are wrong together.
    found = "" if isinstance(first["input"], Mapping) else shorten(first["input"])
    cause = getattr(first.get("ctx", {}).get("error"), "__cause__", None)
    if isinstance(cause, ConfigError) and messages[0] == f"Value error, expected {cause.expected}":
        return ConfigError(where, found=found, expected=cause.expected, fix=cause.fix)
    if all(message.startswith("Input should be ") for message in messages):
        expected = _join_expected([message.removeprefix("Input should be ") for message in messages])
        return ConfigError(where, found=found or "a group of keys", expected=expected)
    message = messages[0].removeprefix("Value error, ")
    if message.startswith("expected "):
        expected, _, fix = message.removeprefix("expected ").partition("; ")
        return ConfigError(where, found=found, expected=expected, fix=fix or None)
    message = f"{message[0].lower()}{message[1:]}"
    if not found:
        return ConfigError(where, found=f"values that do not fit together: {message}", expected="values that do")
    return ConfigError(where, found=f"{found}, which is not allowed: {message}", expected="another value")


def _join_expected(expected: Sequence[str]) -> str:
    """Return "an integer or 'auto'" for the types of a union."""
    plain = (re.sub(r"^a valid (?=[aeiou])", "an ", text.partition(", unable")[0]) for text in expected)
    plain = (re.sub(r"^(?=greater|less)", "a number ", text.replace("a valid ", "a ")) for text in plain)
    return " or ".join(dict.fromkeys(text.replace("tuple", "list") for text in plain))


def _find_key(model: type[StrictModel], place: Sequence[int | str]) -> str:
    """Return the dotted key of pydantic's place of a mistake, without the name of a union's type."""
    annotation: Any = model
    parts: list[str] = []
    for number, part in enumerate(place):
        if isinstance(annotation, type) and issubclass(annotation, StrictModel):
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field else None
        elif len(members := list_union_members(annotation)) > 1:
            return ".".join([*parts, *map(str, place[number + 1 :])])
        elif inner := [one for member in members for one in get_args(member) if one is not Ellipsis]:
            annotation = inner[part] if isinstance(part, int) and part < len(inner) else inner[-1]
        parts.append(str(part))
        if len(members := list_union_members(annotation)) == 1:
            annotation = members[0]
    return ".".join(parts)


def list_union_members(annotation: Any) -> list[Any]:
    """Return the types of a union annotation except None; for any other annotation a list with itself."""
    if get_origin(annotation) is Annotated:
        return list_union_members(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [one for one in get_args(annotation) if one is not type(None)]


def shorten(value: object) -> str:
    """Return the repr of a value for a message, without its middle if it is long."""
    try:
        return _shorten(repr(value))
    except ValueError:  # a number of more than 4300 digits
        return "a number of thousands of digits"


ABSENT = "not there"

_UNTRAINED = ("workers", "loggers", "checkpoint_every", "images_every", "histograms_every", "check_seconds")
KEYS_WITHOUT_EFFECT = frozenset({"name", "model.checkpoint_gradients", *(f"training.{key}" for key in _UNTRAINED)})
"""Configuration keys of a training that change no loss and no weight."""

LOSS_METRICS = ("train/loss", "train/term/", "val/loss", "val/term/", "val/residual")
"""Columns of metrics.csv that begin like this are in the unit of the loss.

They cannot be compared between trainings whose key `loss` differs.
"""


_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{4,}\b")


@dataclass(frozen=True)
class ValueChange:
    """A dotted key whose values differ between two configurations or records.

    key: the dotted key.
    before, now: both values as text; ABSENT if there is none.
    """

    key: str
    before: str
    now: str

    def __str__(self) -> str:
        """Return the change in a line; long values lose their middle."""
        before, now = (text if len(text) <= 160 else f"{text[:100]} … {text[-50:]}" for text in (self.before, self.now))
        return f"{self.key}: {before} -> {now}"

    def is_within(self, keys: Iterable[str]) -> bool:
        """Return whether the key is one of the given keys, or belongs to one of the given groups of keys."""
        return any(f"{self.key}.".startswith(f"{key}.") for key in keys)


def diff_mappings(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[ValueChange]:
    """Compare two nested mappings; return a change for each dotted key whose values differ.

    A list, or a group that only one of the mappings has, counts as one change.

    before, now: the mappings.
    prefix: text in front of every key.
    """
    changes = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key, ABSENT), now.get(key, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += diff_mappings(old, new, f"{prefix}{key}.")
        elif old != new:
            changes.append(ValueChange(f"{prefix}{key}", str(old), str(new)))
    return changes


def shorten_hashes(change: ValueChange) -> ValueChange:
    """Return a change of values in whose texts hashes are shortened to 12 digits."""
    return ValueChange(change.key, *(_HASH.sub(r"\1…", text) for text in (change.before, change.now)))


def select_relevant_changes(changes: Iterable[ValueChange], free: Iterable[str] = ()) -> list[ValueChange]:
    """Return only the changes of configuration keys that may alter the result of a training.

    changes: changes between two configurations.
    free: further keys or groups whose changes are left out, besides KEYS_WITHOUT_EFFECT.
    """
    ignored = {*KEYS_WITHOUT_EFFECT, *free}
    return [change for change in changes if not change.is_within(ignored)]
