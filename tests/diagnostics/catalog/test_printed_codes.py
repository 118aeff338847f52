"""Every code of a finding that a text of the program names is one of the catalog."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.source_trees import list_nodes

import stadia
from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.finding import Family

CODE = re.compile(rf"(?<![\w/.#-])[{''.join(Family)}]-?\d\d(?!\w|\.\d)")
"""Also with a hyphen: `D-08` is a line of another document, which `stadia explain` does not know."""


def find_texts(path: Path) -> list[str]:
    """Every string of a file that is no docstring."""
    nodes = list_nodes(path)
    notes = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    notes |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in texts if id(node) not in notes]


def test_codes_are_recognized() -> None:
    assert CODE.findall("stop K03 (D-08), M-21. R18, 2D10, SHA-25") == ["K03", "D-08", "M-21", "R18"]


@pytest.mark.slow
def test_every_code_in_a_text_exists() -> None:
    folder = Path(stadia.__file__).parent
    named = {
        (str(path.relative_to(folder)), code)
        for path in sorted(folder.rglob("*.py"))
        for text in find_texts(path)
        for code in CODE.findall(text)
    }
    assert len(named) > 50, "the search finds the codes of the checks"
    assert sorted((path, code) for path, code in named if code not in CATALOG) == []
