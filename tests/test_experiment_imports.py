"""The programs in experiments/ and benchmarks/ import names that exist."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "experiments", ROOT / "benchmarks")
PROGRAMS = sorted(path for folder in FOLDERS for path in folder.glob("*.py"))
OURS = {"stadia", *(path.stem for path in PROGRAMS)}


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
def test_names_imported_from_stadia_and_from_other_programs_exist(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(folder)
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    imported = [(node.module, alias.name) for node in nodes if node.module for alias in node.names]
    ours = [(module, name) for module, name in imported if module.partition(".")[0] in OURS]
    assert [f"{module}.{name}" for module, name in ours if not has_name(module, name)] == []
