"""Collect every line that the program can print: `python -m tests.messages` lists them for reading.

Texts are read from the source. `{...}` stands for a value that is known only when the program runs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.source_trees import list_nodes, parse_file

SOURCE = Path(__file__).parents[1] / "src" / "stadia"
PARTS = ("what", "found", "expected", "fix")
PRINTERS = {"print", "echo", "warning", "info"}
UNKNOWN = "{...}"


@dataclass(frozen=True)
class Message:
    """One text. parts: of a StadiaError, by name; a text has several where its source chooses between them."""

    where: str
    kind: str
    parts: dict[str, list[str]]

    def __str__(self) -> str:
        texts = {name: " | ".join(options) for name, options in self.parts.items()}
        if self.kind != "error":
            return f"{self.where} {self.kind}: {texts['text']}"
        text = "{what}: found {found}; expected {expected}. Fix: {fix}.".format(**texts)
        return f"{self.where} {text}"


def read_texts(node: ast.AST | None, names: dict[str, ast.expr], depth: int = 0) -> list[str]:
    """Return the texts that an expression can have. names: what the function assigns to its variables."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(one.value) if isinstance(one, ast.Constant) else UNKNOWN for one in node.values)]
    if isinstance(node, ast.IfExp):
        return [*read_texts(node.body, names, depth), *read_texts(node.orelse, names, depth)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        pairs = [read_texts(side, names, depth) for side in (node.left, node.right)]
        return [left + right for left in pairs[0] for right in pairs[1]]
    if isinstance(node, ast.Name) and node.id in names and depth < 3:
        return read_texts(names[node.id], names, depth + 1)
    return [UNKNOWN]


def read_assignments(function: ast.AST) -> dict[str, ast.expr]:
    """Return the variables of a function that are assigned once, also several on a line."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts, strict=True))
        else:
            pairs = [(target, value)]
        for name, one in pairs:
            if isinstance(name, ast.Name):
                found.setdefault(name.id, []).append(one)
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def find_messages(path: Path) -> Iterator[Message]:
    """Yield the errors, notes and printed lines of a file."""
    tree = parse_file(path)
    functions = [node for node in list_nodes(path) if isinstance(node, ast.FunctionDef)]
    seen: set[int] = set()
    for scope in (*reversed(functions), tree):  # inner functions first
        names = read_assignments(scope)
        for node in ast.walk(scope):
            if id(node) in seen or not isinstance(node, ast.Call | ast.Yield):
                continue
            seen.add(id(node))
            where = f"{path.relative_to(SOURCE)}:{node.lineno}"
            if isinstance(node, ast.Yield):
                texts = [text for text in read_texts(node.value, names) if " " in text]
                if texts:
                    yield Message(where, "line", {"text": texts})
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            keywords = {one.arg: one.value for one in node.keywords if one.arg}
            if {"found", "expected", "fix"} <= keywords.keys():
                given = dict(
                    zip(PARTS, (node.args[0] if node.args else None, *(keywords[p] for p in PARTS[1:])), strict=True)
                )
                yield Message(where, "error", {part: read_texts(value, names) for part, value in given.items()})
            elif name in PRINTERS and node.args:
                yield Message(where, name, {"text": read_texts(node.args[0], names)})


def list_messages() -> list[Message]:
    """Return every message of the package, file by file."""
    return [message for path in sorted(SOURCE.rglob("*.py")) for message in find_messages(path)]


if __name__ == "__main__":
    sys.stdout.writelines(f"{message}\n" for message in list_messages())
