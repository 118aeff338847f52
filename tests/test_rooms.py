"""Who may import whom: the table of docs/rooms.md, read off every import of every file, lazy ones too."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stadia
from stadia.recipes import RECIPES

PACKAGE = Path(stadia.__file__).parent
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "geometry": {"core"},
    "data": {"core", "geometry"},
    "models": {"core", "geometry"},
    "losses": {"core", "geometry"},
    "metrics": {"core", "geometry"},
    "training": {"core", "losses"},
    "diagnostics": {"core", "geometry", "losses", "metrics", "training"},
    "evaluation": {"core", "geometry", "metrics", "training"},
    "recipes": {"core", "geometry", "data", "models", "losses", "metrics", "training", "diagnostics", "evaluation"},
    "report": {"core"},
    "web": {"core", "report"},
    "cli": {
        "core",
        "geometry",
        "data",
        "models",
        "losses",
        "metrics",
        "training",
        "diagnostics",
        "evaluation",
        "recipes",
        "report",
        "web",
    },
}
"""Every room may import its own files, and the package's version."""

WITHOUT_TORCH = {"report", "web"}
CLI_AT_THE_TOP = {"stadia.core.errors", "stadia.core.renamed", "stadia.core.tables"}
"""What a file of the command line may import outside its functions: it costs nothing, so `--help` stays instant."""

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room of a file; "" for those beside the rooms (`stadia/__init__.py`, `__main__.py`)."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, module, at the top) of every import, and of every "module:attribute" string of a table, in a file.

    `from stadia.recipes import demo` may import the module stadia.recipes.demo, so it counts as that one.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for inner in ast.walk(node)
    }
    package = ".".join(("stadia", *path.relative_to(PACKAGE).parent.parts))
    for node in ast.walk(tree):
        top = id(node) not in late
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if node.level
                else node.module or ""
            )
            yield from ((node.lineno, f"{base}.{alias.name}", top) for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("stadia.")
            and ":" in node.value
        ):
            yield node.lineno, node.value.replace(":", "."), False


def room_of_module(module: str) -> str | None:
    """The room that a module lies in, or None for those of others and for `stadia` itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "stadia" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def wrong_arrows(path: Path) -> list[str]:
    room = room_of(path)
    if not room:
        return []
    found = ((line, module, room_of_module(module)) for line, module, _ in imports(path))
    return [
        f"{path.name}:{line} imports {module}"
        for line, module, other in found
        if other and other not in MAY_IMPORT[room] | {room}
    ]


def test_there_are_files():
    assert len(FILES) > 30


def test_the_document_says_the_same():
    """docs/rooms.md holds the table for people."""
    lines = (Path(__file__).parents[1] / "docs" / "rooms.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d \|", line)]
    assert {
        room: set() if rooms == "nothing of ours" else set(rooms.split(", ")) for _, room, _, rooms in rows
    } == MAY_IMPORT


def test_every_room_is_in_the_table():
    """There is no room called utils, helpers or common: docs/rooms.md says where a thing belongs."""
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= MAY_IMPORT.keys()
    loose = {path.name for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}
    assert not [path for path in FILES if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_arrows():
    assert [arrow for path in FILES for arrow in wrong_arrows(path)] == []


def recipe_of(name: str) -> str | None:
    """The recipe that a module of recipes/ belongs to (`selfsup_config` to selfsup), None for what recipes share."""
    return next((recipe for recipe in RECIPES if name == recipe or name.startswith(f"{recipe}_")), None)


def test_recipes_do_not_import_each_other():
    for path in (PACKAGE / "recipes").glob("*.py"):
        for line, module, _ in imports(path):
            other = (
                recipe_of(module.removeprefix("stadia.recipes.").partition(".")[0])
                if module.startswith("stadia.recipes.")
                else None
            )
            mine = recipe_of(path.stem)
            assert mine is None or other in (None, mine), f"{path.name}:{line} imports the recipe {other}"


@pytest.mark.parametrize("room", sorted(WITHOUT_TORCH))
def test_rooms_without_torch(room):
    heavy = {"torch", "lightning", "timm", "torchmetrics", "torchvision", "safetensors"}
    for path in (PACKAGE / room).rglob("*.py"):
        for line, module, _ in imports(path):
            assert module.partition(".")[0] not in heavy, f"{path.name}:{line}"
            assert module.rpartition(".")[0] != "stadia.core.types", (
                f"{path.name}:{line} imports core.types, whose values are tensors"
            )


def test_command_line_imports_inside_its_functions():
    for path in (PACKAGE / "cli").glob("*.py"):
        for line, module, top in imports(path):
            parent = module.rpartition(".")[0]
            if top and module.startswith("stadia.") and not module.startswith(("stadia.cli", "stadia.__version__")):
                assert parent in CLI_AT_THE_TOP, f"{path.name}:{line} imports {module} outside a function"


def test_importing_a_room_is_light():
    """A room's `__init__.py` holds a table at most, so that names are listed and checked without anything heavy."""
    rooms = [f"stadia.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")]
    heavy = {"torch", "pydantic", "numpy", "cv2", "lightning", "timm", "matplotlib", "scipy", "numba", "jinja2", "av"}
    program = f"import sys, {', '.join(rooms)}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("source", "room"),
    [
        ("from stadia.models import MODELS", "losses"),
        ("def f():\n    import stadia.data.cache", "models"),
        ("def f():\n    from stadia import recipes", "training"),
        ("from ..data import cache", "models"),
        ('X = {"a": "stadia.losses.selfsup:Loss"}', "models"),
        ("import stadia.geometry.se3", "core"),
        ("if TYPE_CHECKING:\n    from stadia.training.run import Run", "report"),
    ],
)
def test_the_guard_sees_it(source, room, tmp_path, monkeypatch):
    """Every way to import another room is seen: at the top, inside a function, relative, in a table, for types only."""
    for name in MAY_IMPORT:
        (tmp_path / name).mkdir()
    path = tmp_path / room / "wrong.py"
    path.write_text(source, encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert wrong_arrows(path)
