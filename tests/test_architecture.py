"""Which package may import which: the table of docs/developing/architecture.md, held against every import."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.source_trees import list_nodes

import stadia

PACKAGE = Path(stadia.__file__).parent
DOCUMENT = Path(__file__).parents[1] / "docs" / "developing" / "architecture.md"
SHARED = {"base": set[str](), "presets": set[str]()}
"""Packages of `recipes` that are no recipe -> packages of `recipes` that they may import."""
RECIPES = {"selfsup", "metric", "supervised"}
WINGS = {"objectpose", "overlay"}
"""Packages that tables name, and that no other package imports."""
FREE_FOR_CLI = {
    "stadia.core.errors",
    "stadia.core.floors",
    "stadia.core.progress",
    "stadia.core.registry",
    "stadia.core.signals",
    "stadia.predict.options",
}
"""What a file of the command line may import outside its functions: it costs nothing, so `--help` stays fast."""
LIBRARIES_ABOVE = {
    1: {"torch", "torchvision", "numba", "timm", "lightning_fabric", "safetensors", "onnx", "onnxruntime", "openvino"},
    2: {"torch", "torchvision", "numba", "timm", "lightning_fabric"},
}
"""Floor -> libraries that it never imports, not even inside a function."""
HEAVY = {
    "torch",
    "pydantic",
    "numpy",
    "cv2",
    "lightning_fabric",
    "timm",
    "matplotlib",
    "scipy",
    "numba",
    "jinja2",
    "av",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def read_table() -> dict[str, set[str]]:
    """Package -> packages that it may import, from the document."""
    rows = read_rows()
    allowed: dict[str, set[str]] = {}
    for row in rows:
        start, _, others = row[4].partition("all lower but ")
        lower = {name for level, name, *_ in rows if int(level) < int(row[0])}
        if row[4].startswith("all lower"):
            allowed[row[1]] = lower - set(others.split(", "))
        else:
            allowed[row[1]] = set() if row[4] == "nothing" else set(start.split(", "))
    return allowed


def read_rows() -> list[list[str]]:
    """Return (level, package, floor, content, imports) of each row of the document."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d+ \|", line)]
    return [row for row in rows if len(row) == 5]


ALLOWED = read_table()
FLOORS = {row[1]: int(row[2]) for row in read_rows() if row[2].isdigit()}
"""Package -> the floor that installs it. The command line is on all floors."""


def package_of(path: Path) -> str:
    """The row of the table for a file; "" for those beside the packages (`stadia/__init__.py`, `__main__.py`)."""
    return find_row(".".join(path.relative_to(PACKAGE).parent.parts))


def find_row(package: str) -> str:
    """The longest row of the table that contains a dotted package: `training.loop` has a row of its own."""
    rows = [row for row in ALLOWED if package == row or package.startswith(f"{row}.")]
    return max(rows, key=len, default="")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("stadia", *(parts[:-1] if parts[-1] == "__init__" else parts)))


@functools.cache
def find_imports(path: Path) -> tuple[tuple[int, str, str], ...]:
    """(line, module, place) of every import and of every "module:attribute" string; place: "top", "inside" or "table".

    `from stadia.training import demo` may import the module stadia.training.demo, so it counts as that one.
    """
    return tuple(_list_imports(path))


def _list_imports(path: Path) -> Iterator[tuple[int, str, str]]:
    inside = {
        id(inner)
        for node in list_nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for inner in ast.walk(node)
    }
    package = ".".join(("stadia", *path.relative_to(PACKAGE).parent.parts))
    for node in list_nodes(path):
        place = "inside" if id(node) in inside else "top"
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, place) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package) if node.level else node.module or ""
            yield from ((node.lineno, f"{base}.{alias.name}", place) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and "import_module" in vars(node.func).values():
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield node.lineno, named.value, place
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"stadia(\.\w+)+:\w+", node.value)
        ):
            yield node.lineno, node.value.replace(":", "."), "table"


def imported_package(module: str) -> str | None:
    """The row of the table for a module, None for other libraries and for `stadia` itself."""
    root, _, inside = module.partition(".")
    return find_row(inside) if root == "stadia" and (PACKAGE / inside.partition(".")[0]).is_dir() else None


def find_wrong_imports(path: Path) -> list[str]:
    package = package_of(path)
    if not package:
        return []
    found = ((line, module, imported_package(module), place) for line, module, place in find_imports(path))
    return [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for line, module, other, place in found
        if other and place != "table" and other not in ALLOWED[package] | {package}
    ]


def find_cycle(edges: dict[str, set[str]]) -> list[str]:
    """One cycle of a directed graph, as the nodes along it; empty where there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for following in sorted(edges.get(node, ())):
            if cycle := visit(following, [*path, node]):
                return cycle
        done.add(node)
        return []

    return next((cycle for node in sorted(edges) if (cycle := visit(node, []))), [])


def module_graph() -> dict[str, set[str]]:
    """Module -> modules that it imports, also inside functions and for types only.

    `__init__` files export names lazily, and a table names its parts: both are left out.
    """
    modules = {module_of(path) for path in FILES if path.name != "__init__.py"}
    edges: dict[str, set[str]] = {}
    for path in FILES:
        if path.name == "__init__.py":
            continue
        imported = {
            candidate
            for _, module, place in find_imports(path)
            if place != "table"
            for candidate in (module, module.rpartition(".")[0])
            if candidate in modules
        }
        edges[module_of(path)] = imported - {module_of(path)}
    return edges


@pytest.mark.slow
def test_packages_import_what_the_table_allows() -> None:
    assert [wrong for path in FILES for wrong in find_wrong_imports(path)] == []


def test_the_table_has_every_package() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages == {row.partition(".")[0] for row in ALLOWED}
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert not [path for path in FILES if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_nobody_imports_a_wing() -> None:
    """Tables name the wings, and no row of the document has one; a wing imports no other wing."""
    assert [row for row, packages in ALLOWED.items() if packages & WINGS] == []


def test_the_table_has_no_cycle() -> None:
    assert find_cycle(ALLOWED) == []


@pytest.mark.slow
def test_modules_import_without_cycles() -> None:
    assert find_cycle(module_graph()) == []


def test_a_cycle_is_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.slow
def test_packages_of_recipes_import_one_way() -> None:
    """`base` is below the recipes, which never import each other."""
    allowed = {**SHARED, **{recipe: {"base"} for recipe in RECIPES}}
    packages = {path.parent.name: path.parent for path in (PACKAGE / "training" / "recipes").glob("*/__init__.py")}
    assert packages.keys() == allowed.keys()
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for name, package in packages.items()
        for path in package.rglob("*.py")
        for line, module, _ in find_imports(path)
        if module.startswith("stadia.training.recipes.")
        and module.split(".")[3] in packages.keys() - {name, *allowed[name]}
    ]
    assert wrong == []


def find_imports_upwards(path: Path) -> list[str]:
    """Return the imports of a higher floor, and of a library that only a higher floor installs."""
    floor = FLOORS.get(package_of(path))
    if floor is None:
        return []
    found = ((line, module, imported_package(module), place) for line, module, place in find_imports(path))
    return [
        f"floor {floor}, {path.relative_to(PACKAGE)}:{line} imports {module}"
        for line, module, other, place in found
        if place != "table"
        and (FLOORS.get(other or "", 1) > floor or module.partition(".")[0] in LIBRARIES_ABOVE.get(floor, ()))
    ]


@pytest.mark.slow
def test_no_floor_imports_a_higher_one() -> None:
    assert [wrong for path in FILES for wrong in find_imports_upwards(path)] == []


@pytest.mark.slow
def test_the_command_line_imports_inside_its_functions() -> None:
    for path in (*(PACKAGE / "cli").rglob("*.py"), *(PACKAGE / wing / "commands.py" for wing in WINGS)):
        for line, module, place in find_imports(path):
            parent = module.rpartition(".")[0]
            if (
                place == "top"
                and module.startswith("stadia.")
                and not module.startswith(("stadia.cli", "stadia.__version__"))
            ):
                assert parent in FREE_FOR_CLI, f"{path.name}:{line} imports {module} outside a function"


@pytest.mark.slow
def test_importing_a_package_is_light() -> None:
    """Names are listed and checked without anything heavy."""
    packages = [module_of(path) for path in PACKAGE.rglob("__init__.py")]
    program = f"import sys, {', '.join(packages)}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("source", "package"),
    [
        ("from stadia.networks import DEPTH_NETWORKS", "losses"),
        ("def f():\n    import stadia.data.video.video_files", "networks"),
        ("def f():\n    from stadia.training import recipes", "training.loop"),
        ("from ..data import recordings", "networks"),
        ("import importlib\n\nimportlib.import_module('stadia.overlay.task')", "web"),
        ("def f():\n    import stadia.objectpose.task", "cli"),
        ("import stadia.geometry.poses", "core"),
        ("if TYPE_CHECKING:\n    from stadia.training.loop.run_folder import Run", "report"),
    ],
)
def test_every_form_of_import_is_found(
    source: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the top, inside a function, relative, in a table, for types only."""
    for name in ALLOWED:
        tmp_path.joinpath(*name.split(".")).mkdir(parents=True, exist_ok=True)
    path = tmp_path.joinpath(*package.split("."), "wrong.py")
    path.write_text(source, encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert find_wrong_imports(path)


def test_levels_of_the_document_follow_from_the_imports() -> None:
    given = {row[1]: int(row[0]) for row in read_rows()}
    assert [name for name, others in ALLOWED.items() if any(given[other] >= given[name] for other in others)] == []
    assert list(given.values()) == sorted(given.values())
    floors = [FLOORS[row[1]] for row in read_rows() if row[1] in FLOORS]
    assert floors == sorted(floors)
