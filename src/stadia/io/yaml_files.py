"""Read YAML that others wrote: only plain values, and a limited number of them."""

from pathlib import Path
from typing import Any

import yaml

from stadia.core.errors import DataError, summarize_exception
from stadia.io.input_files import LONG_INTEGER, MAX_INTEGER_DIGITS, PARSER_ERRORS, read_text

MAX_YAML_BYTES = 1 << 20
MAX_YAML_NODES = 100_000
_MAX_DIGITS = 400  # largest number of digits: a float has up to 309, and base 60 takes quadratic time
_YAML_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")


class _StrictLoader(yaml.SafeLoader):
    """YAML of numbers, strings, lists and maps. Dates stay text; a repeated key is an error."""

    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.count += 1
        if self.count > MAX_YAML_NODES:
            raise yaml.composer.ComposerError(problem=f"more than {MAX_YAML_NODES} values")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(problem=f"the key '{key.value}' appears twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        self._check_length(node)
        value = super().construct_yaml_int(node)
        if abs(value) >= 10**MAX_INTEGER_DIGITS:
            raise yaml.constructor.ConstructorError(problem=LONG_INTEGER)
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        self._check_length(node)
        return super().construct_yaml_float(node)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        text = super().construct_yaml_str(node)
        text.encode()  # raises UnicodeError for half of a surrogate pair
        return text

    def _check_length(self, node: yaml.ScalarNode) -> None:
        if len(node.value) > _MAX_DIGITS:
            raise yaml.constructor.ConstructorError(problem=f"a number of {len(node.value)} characters")


_StrictLoader.yaml_constructors = {
    **{f"tag:yaml.org,2002:{kind}": getattr(_StrictLoader, f"construct_yaml_{kind}") for kind in _YAML_KINDS},
    None: yaml.SafeLoader.construct_undefined,
}


_StrictLoader.yaml_implicit_resolvers = {
    first: [entry for entry in resolvers if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path, *, expected: str, fix: str | None = None, max_bytes: int = MAX_YAML_BYTES) -> Any:
    """Read a YAML file of numbers, strings, lists and maps, and return its content. Dates stay text.

    path: the file.
    expected: description of a valid file, for messages.
    fix: what the user can do, for messages.
    max_bytes: largest accepted size.

    Raises DataError for repeated keys, too many values and other damage.
    """
    return parse_yaml(path, read_text(path, expected=expected, fix=fix, max_bytes=max_bytes), expected, fix=fix)


def parse_yaml(path: object, text: str, expected: str, *, fix: str | None = None) -> Any:
    """Parse YAML text as `read_yaml` does, and return its content.

    path: the file, for messages.
    text: its content.
    expected: description of a valid file, for messages.
    fix: what the user can do, for messages.

    Raises DataError as `read_yaml` does.
    """
    loader = None
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count_yaml_nodes(node, {}) > MAX_YAML_NODES:
            found = f"aliases that expand to more than {MAX_YAML_NODES} values"
            raise DataError(path, found=found, expected=expected, fix=fix)
        return loader.construct_document(node)
    except (yaml.YAMLError, *PARSER_ERRORS) as error:
        problem = getattr(error, "problem", None) or (
            "nested too deep" if isinstance(error, RecursionError) else summarize_exception(error)
        )
        mark = getattr(error, "problem_mark", None)
        found = f"invalid YAML ({problem}{f', line {mark.line + 1}' if mark else ''})"
        raise DataError(path, found=found, expected=expected, fix=fix) from error
    finally:
        if loader is not None:
            loader.dispose()


def _count_yaml_nodes(node: yaml.Node, counts: dict[int, int | None]) -> int:
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise ValueError("an anchor that contains itself")
        return known
    counts[id(node)] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    total = 1 + sum(_count_yaml_nodes(child, counts) for child in children)
    counts[id(node)] = total
    return total
