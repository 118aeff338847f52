"""Files and modules of the package that docstrings, comments and docs name exist."""

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from stadia.core.errors import StadiaError

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "stadia"
CONFIGURED = {"data", "training", "losses", "metrics", "report", "overlay", "objectpose", "scale"}
"""Packages whose names also start keys of the configuration or names of files."""

FOLDERS = sorted({path.name for path in PACKAGE.iterdir() if path.is_dir()} - CONFIGURED)

FILE = re.compile(r"(?<![\w./<-])((?:[a-z_]\w*/)*[a-z_]\w*\.py)\b")
MODULE = re.compile(rf"\b(stadia(?:\.[A-Za-z_]\w*)+)|`((?:{'|'.join(FOLDERS)})(?:\.[A-Za-z_]\w*)+)(?:\(\))?`")

OF_OTHERS = {
    "associate.py",
    "eval_depth.py",
    "eval_with_pngs.py",
    "evaluate_depth.py",
    "evaluate_rpe.py",
    "my_loss.py",
    "my_networks.py",
    "simple_trainer.py",
    "train_mine.py",
    "tum.py",
    "visual_util.py",
}
"""Files of other programs, and of users in examples."""

OWN_FOLDERS = {path.name for path in PACKAGE.rglob("*") if path.is_dir()} - {"utils"}
OWN_FOLDERS |= {"tests", "benchmarks", "experiments", "website"}
"""Folders whose files are the project's; paths in other folders are those of other programs."""

NO_MODULES = re.compile(
    r"stadia\.(\w+\.md|audit\.(csv|html|parquet|json)|json|datasets|depth_networks|losses|losses\.log_depth)"
)
"""Names of files, of groups of entry points, and of a user's module in an example."""


def read_texts(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a source file, or the text of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def exists_file(name: str, near: Path) -> bool:
    """Return whether a named file exists, from the root, the package, the folder of the text or any folder."""
    places = (ROOT, PACKAGE, PACKAGE.parent, near.parent, ROOT / "tests")
    return (
        any((place / name).is_file() for place in places)
        or name in NAMES
        or any(path.endswith(f"/{name}") for path in PATHS)
    )


PATHS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("src", "tests", "benchmarks", "experiments", "website", "docs")
    for path in (ROOT / folder).rglob("*.py")
]
NAMES = {path.rpartition("/")[2] for path in PATHS}


def exists_name(name: str) -> bool:
    """Return whether a dotted name is a module of the package, or an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = PACKAGE.parent.joinpath(*parts[:count])
        if place.is_dir() or place.with_suffix(".py").is_file():
            found = importlib.import_module(".".join(parts[:count]))
            try:
                for attribute in parts[count:]:
                    found = getattr(found, attribute, None) or getattr(found, "__annotations__", {})[attribute]
            except (KeyError, StadiaError):
                return False
            return True
    return False


PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md"]
SOURCES = sorted(PACKAGE.rglob("*.py"))


def find_missing(path: Path) -> set[str]:
    """Return the files and modules that a page or a source file names and that do not exist."""
    missing = set()
    for text in read_texts(path):
        files = {name.removeprefix("src/stadia/") for name in FILE.findall(text)} - OF_OTHERS
        files = {name for name in files if "/" not in name or name.partition("/")[0] in OWN_FOLDERS}
        missing |= {name for name in files if not exists_file(name, path)}
        named = {full or f"stadia.{short}" for full, short in MODULE.findall(text)}
        named = {name.removesuffix(".py") for name in named if not NO_MODULES.fullmatch(name)}
        missing |= {name for name in named if not exists_name(name)}
    return missing


@pytest.mark.slow
def test_named_files_and_modules_exist() -> None:
    found = {path.relative_to(ROOT).as_posix(): find_missing(path) for path in (*PAGES, *SOURCES)}
    assert {path: missing for path, missing in found.items() if missing} == {}


def test_a_stale_name_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`judge/no_such_file.py`, `stadia.judge.no_such_module` and `judge.catalog.CATALOG`")
    assert find_missing(page) == {"judge/no_such_file.py", "stadia.judge.no_such_module"}
