"""Parse each source file once for all tests that read the source; they only read the trees."""

import ast
import functools
import gc
from pathlib import Path


@functools.cache
def list_nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return every node of a file, in the order of ast.walk.

    The nodes of all files are a million objects, which stay to the end: the garbage collector does not search them.
    """
    gc.disable()
    try:
        return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    finally:
        gc.freeze()
        gc.enable()
