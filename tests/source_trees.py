"""Parse each source file once for all tests that read the source; they only read the trees."""

import ast
import functools
from pathlib import Path


@functools.cache
def parse_file(path: Path) -> ast.Module:
    """Return the tree of a file, which is parsed at the first call."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def list_nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return every node of a file, in the order of ast.walk."""
    return tuple(ast.walk(parse_file(path)))
