"""Docstrings: every public name has one, and the examples in them give the output that they print.

ruff's D100 to D104 (`make lint`) require one of each module, function and class.
"""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.source_trees import parse_file

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "stadia").rglob("*.py"))
WITH_EXAMPLES = [path for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]
EVERY_FUNCTION = (
    *(f"geometry.{name}" for name in ("align", "camera", "depth_maps", "numpy_camera", "se3", "segments", "warp")),
    *(f"losses.{name}" for name in ("affine_brightness", "class_masks", "photometric")),
    "objectpose.losses",
)
"""Modules whose every public function has an example: what people call first. That of metrics is of the module."""

Definition = ast.FunctionDef | ast.ClassDef


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_examples_give_their_output(path: Path) -> None:
    """An example may use `torch`, `np` and every name of its module."""
    module = importlib.import_module(module_name(path))
    torch.manual_seed(0)
    tried = doctest.testmod(module, extraglobs={"torch": torch, "np": np}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried.attempted > 0
    assert tried.failed == 0


@pytest.mark.parametrize("name", EVERY_FUNCTION)
def test_every_public_function_has_an_example(name: str) -> None:
    tree = parse_file(ROOT / "src" / "stadia" / f"{name.replace('.', '/')}.py")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert functions
    assert [node.name for node in functions if ">>> " not in (ast.get_docstring(node) or "")] == []


def list_classes() -> dict[str, list[ast.ClassDef]]:
    """Return the classes of the package by name; of several with one name all."""
    found: dict[str, list[ast.ClassDef]] = {}
    for path in SOURCES:
        for node in ast.walk(parse_file(path)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def base_names(node: ast.ClassDef) -> list[str]:
    plain = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    return [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in plain]


def inherits_docstring(node: ast.ClassDef, method: str, classes: dict[str, list[ast.ClassDef]]) -> bool:
    """Return whether a base documents the method; torch documents `forward`."""
    for name in base_names(node):
        if name in ("Module", "Sequential") and method == "forward":
            return True
        for base in (one for one in classes.get(name, []) if one is not node):
            own = [one for one in base.body if isinstance(one, ast.FunctionDef) and one.name == method]
            if any(ast.get_docstring(one) for one in own) or inherits_docstring(base, method, classes):
                return True
    return False


def is_public_method(node: ast.stmt) -> bool:
    """Return whether a statement of a class is a method for users; a setter has the docstring of its getter."""
    if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
        return False
    return not any(getattr(decorator, "attr", "") == "setter" for decorator in node.decorator_list)


def methods_without_docstring(classes: dict[str, list[ast.ClassDef]]) -> Iterator[str]:
    public = [(name, node) for name, nodes in classes.items() if not name.startswith("_") for node in nodes]
    for name, node in public:
        for method in (one for one in node.body if is_public_method(one)):
            assert isinstance(method, ast.FunctionDef)
            if not ast.get_docstring(method) and not inherits_docstring(node, method.name, classes):
                yield f"{name}.{method.name}"


@pytest.mark.slow
def test_every_public_method_has_a_docstring_or_overrides_one_that_has() -> None:
    assert sorted(methods_without_docstring(list_classes())) == []


def test_the_guard_sees_methods_without_a_docstring() -> None:
    text = (
        'class A:\n    def f(self):\n        """Do it."""\n\nclass B(A):\n    def f(self): ...\n    def g(self): ...\n'
    )
    classes = {node.name: [node] for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    assert list(methods_without_docstring(classes)) == ["B.g"]
