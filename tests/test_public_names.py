"""Every package exports its public names, without importing what they need before they are used."""

import ast
import importlib
from pathlib import Path

import pytest

import stadia

PACKAGE = Path(stadia.__file__).parent
STUBS = sorted(PACKAGE.rglob("__init__.pyi"))


def package_name(stub: Path) -> str:
    return ".".join(("stadia", *stub.relative_to(PACKAGE).parts[:-1]))


@pytest.mark.parametrize("stub", STUBS, ids=package_name)
def test_exported_names_exist(stub: Path) -> None:
    package = importlib.import_module(package_name(stub))
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert names
    assert names == set(package.__all__)
    assert [name for name in sorted(names) if getattr(package, name, None) is None] == []
