"""Describe every key of a configuration: its default, its range, and its text in the docstring of the class."""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

from stadia.core.config import RegisteredName, StrictModel, choose_submodel, has_named_groups, list_union_members

_ENTRY = re.compile(r"(?:^|(?<=  ))(\w+(?:,? (?:and |with )?\w+){0,6}(?: \([^)\n]*\))?): ", re.MULTILINE)
"""Start of an entry of a docstring: `lr: `, `height, width: `, `focal_mm with sensor_width_mm (wider side): `."""


_NO_LIMIT = 1e9
"""Larger limits only exclude nonsense. The help does not show them."""


@dataclass(frozen=True)
class KeyHelp:
    """The help for one key of a configuration.

    key: the dotted key.
    default: default as a user would type it; None if the key is required.
    allowed: description of its values.
    sentence: its text in the docstring of the configuration class.
    is_experimental: whether it had no effect, or a worse one, where it was measured.
    """

    key: str
    default: str | None
    allowed: str
    sentence: str
    is_experimental: bool = False


def describe_keys(model: type[StrictModel], prefix: str = "", defaults: StrictModel | None = None) -> Iterator[KeyHelp]:
    """Yield the help for every key of a configuration class, in order. NAME stands for a name that the user chooses.

    model: configuration class.
    prefix: text in front of every key.
    defaults: a configuration whose values are shown as defaults; None takes the defaults of the class.
    """
    sentences = _read_sentences(model)
    for name, field in model.model_fields.items():
        default = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        required = field.is_required() and defaults is None
        if (sub := choose_submodel(model, name, None)) is not None:
            named = has_named_groups(field.annotation)
            of_group = default if isinstance(default, sub) else None
            yield from describe_keys(sub, f"{prefix}{name}." + "NAME." * named, of_group)
        else:
            annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            text = None if required else _format_value(default)
            sentence, is_experimental = sentences.get(name, ""), name in model.experimental
            yield KeyHelp(prefix + name, text, describe_values(annotation), sentence, is_experimental)


def _format_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=lambda one: one.model_dump(mode="json"), separators=(",", ":"))


def describe_values(annotation: Any) -> str:
    """Describe the values that a type annotation allows as text: "an integer, 1 to 512", "'32', 'bf16' or 'fp16'"."""
    of_annotation = list(get_args(annotation)[1:]) if get_origin(annotation) is Annotated else []
    inner = get_args(annotation)[0] if of_annotation else annotation
    members = list_union_members(inner)
    can_be_null = type(None) in get_args(inner)
    texts = [_describe_type(member, of_annotation) for member in members]
    return " or ".join(dict.fromkeys([*texts, *(["null"] if can_be_null else [])]))


def _describe_type(member: Any, metadata: list[Any]) -> str:
    if get_origin(member) is Annotated:
        inner, *more = get_args(member)
        return _describe_type(inner, [*metadata, *more])
    if table := next(
        (one.func.table for one in metadata if isinstance(getattr(one, "func", None), RegisteredName)), None
    ):
        return f"one of {', '.join(table)}" if len(table) <= 8 else f"a {table.kind}, see `stadia list`"
    if get_origin(member) is Literal:
        words = [json.dumps(choice) if not isinstance(choice, str) else f"'{choice}'" for choice in get_args(member)]
        return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
    if get_origin(member) in (tuple, list):
        return _describe_list(member, metadata)
    if isinstance(member, type) and issubclass(member, Enum):
        return " or ".join(f"'{one.value}'" for one in member)
    names = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
    return names.get(member, "a mapping") + _describe_range(metadata)


def _describe_list(member: Any, metadata: list[Any]) -> str:
    items = get_args(member)
    if len(items) == 2 and items[1] is Ellipsis:
        least = next((one.min_length for one in metadata if hasattr(one, "min_length")), 0)
        return "a list" + f" of at least {least}" * bool(least) + f", each {describe_values(items[0])}"
    return f"{len(items)} values, each {describe_values(items[0])}"


def _describe_range(metadata: list[Any]) -> str:
    bounds = [one for constraint in metadata for one in getattr(constraint, "metadata", [constraint])]
    texts = []
    for attribute, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        limits = [getattr(one, attribute) for one in bounds if hasattr(one, attribute)]
        texts += [f"{word} {limit:g}" for limit in limits if limit < _NO_LIMIT]
    return f", {' and '.join(texts)}" if texts else ""


def _read_sentences(model: type[StrictModel]) -> dict[str, str]:
    """Return the sentence of each field, from the docstrings of the class and its bases."""
    sentences: dict[str, str] = {}
    # Class variables have entries too.
    known = {name for base in model.__mro__ for name in getattr(base, "__annotations__", {})}
    for base in reversed(model.__mro__):
        if base is StrictModel or not issubclass(base, StrictModel) or not base.__doc__:
            continue
        text = re.sub(r"(?m)^(Source|Raises|Returns):?.*\Z", "", inspect.cleandoc(base.__doc__), flags=re.DOTALL)
        heads = [(match, re.findall(r"\w+", re.sub(r"\([^)]*\)", "", match[1]))) for match in _ENTRY.finditer(text)]
        starts = [(match, words) for match, words in heads if words[0] in known]
        for (match, words), end in zip(starts, [*(one.start() for one, _ in starts[1:]), len(text)], strict=False):
            entry = text[match.end() : end].split("\n\n")[0]
            sentence = " ".join(entry.split())
            names = [word for word in words if word in model.model_fields]
            sentences |= dict.fromkeys(names, f"{match[1]}: {sentence}" if len(names) > 1 else sentence)
    return sentences
