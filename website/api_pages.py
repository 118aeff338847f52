"""Write a page for each package, with an entry of mkdocstrings for every public name."""

from __future__ import annotations

import ast
from pathlib import Path

from website.markdown_text import escape, table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "stadia"

INTRODUCTION = """\
# Python API

Every public name, by package. `from stadia.geometry import umeyama` works for each name of a page.
Importing a package is fast: it loads a module when one of its names is used.

Examples use `torch`, `np` (NumPy) and the names of their module. A test runs them.
"""


def list_public_names() -> dict[str, dict[str, str]]:
    """Return, by package, the full dotted name of each public name, as the module defines it."""
    packages = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    names = {}
    for folder in packages:
        package = ".".join(("stadia", *folder.relative_to(PACKAGE).parts))
        stub = folder / "__init__.pyi"
        found = _read_stub(stub, package) if stub.exists() else _read_module(folder / "__init__.py", package)
        if found:
            names[package] = found
    return names


def _read_stub(stub: Path, package: str) -> dict[str, str]:
    found = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, (package, node.module))) if node.level else str(node.module)
            found |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = f"{package}.{node.target.id}"
    return {name: where for name, where in found.items() if not name.startswith("_") and where.startswith("stadia.")}


def _read_module(path: Path, package: str) -> dict[str, str]:
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = f"{package}.{node.name}"
        elif isinstance(node, ast.Assign):
            found |= {t.id: f"{package}.{t.id}" for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = f"{package}.{node.target.id}"
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            inner = [one for one in node.body if isinstance(one, ast.ImportFrom)]
            found |= {a.asname: f"{one.module}.{a.name}" for one in inner for a in one.names if a.asname}
    return {name: where for name, where in found.items() if not name.startswith("_")}


def write_api() -> dict[str, str]:
    """Return the text of each page by its path below docs/."""
    names = list_public_names()
    documented: set[str] = set()
    pages, rows = {}, []
    for package, found in sorted(names.items(), key=lambda item: item[0].count("."), reverse=True):
        own = {name: where for name, where in sorted(found.items()) if where not in documented}
        documented |= set(own.values())
        pages[f"reference/api/{package}.md"] = _write_package(package, found, own)
    for package, found in sorted(names.items()):
        rows.append((f"[`{package}`](api/{package}.md)", escape(_first_line(package)), str(len(found))))
    return {"reference/api.md": "\n".join((INTRODUCTION, table(("package", "holds", "names"), rows), "")), **pages}


def _first_line(package: str) -> str:
    path = PACKAGE.joinpath(*package.split(".")[1:], "__init__.py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]


def _write_package(package: str, found: dict[str, str], own: dict[str, str]) -> str:
    parts = [f"# {package}", escape(_first_line(package))]
    if elsewhere := sorted(set(found) - set(own)):
        links = ", ".join(f"[`{name}`][{found[name]}]" for name in elsewhere)
        parts.append(f"Also exported, and defined elsewhere: {links}.")
    parts += [f"::: {where}" for _, where in sorted(own.items())]
    return "\n\n".join(parts) + "\n"
