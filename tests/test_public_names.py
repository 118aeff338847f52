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


@pytest.mark.parametrize("stub", STUBS, ids=package_name)
def test_stub_declares_the_tables_of_the_package(stub: Path) -> None:
    def assigned(path: Path) -> set[str]:
        targets: list[ast.expr] = []
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets += node.targets if isinstance(node, ast.Assign) else []
            targets += [node.target] if isinstance(node, ast.AnnAssign) else []
        return {target.id for target in targets if isinstance(target, ast.Name) and not target.id.startswith("_")}

    assert assigned(stub.with_suffix(".py")) <= assigned(stub)
