"""The programs in experiments/ and benchmarks/ import names that exist."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("experiments", "benchmarks")
PROGRAMS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))


def defined_names(path: Path) -> set[str]:
    """Return what `from PROGRAM import NAME` finds in a program."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return names


def imports(path: Path) -> list[tuple[str, str]]:
    """Return (module, name) of each `from MODULE import NAME` in a program."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in found if node.module for alias in node.names]


def has_name(module: str, name: str) -> bool:
    try:
        if hasattr(importlib.import_module(module), name):
            return True
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_names_imported_from_another_program_exist(path):
    files = [(path.parent / f"{module}.py", name) for module, name in imports(path)]
    assert [(file.name, name) for file, name in files if file.exists() and name not in defined_names(file)] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_names_imported_from_stadia_exist(path):
    ours = [one for one in imports(path) if one[0].partition(".")[0] == "stadia"]
    assert [one for one in ours if not has_name(*one)] == []
