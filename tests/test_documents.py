"""Every command of README.md and docs/ is one that works.

A ```sh block holds commands, one a line. Each is parsed by the real command line, so that a renamed option breaks this
test; `stadia train` also resolves its configuration, and `make` must have the target. A block after `<!-- run -->` is
run, line by line in one folder. A line of another program has to be listed in ELSEWHERE.
A ```python block must compile, and what it imports must exist; after `<!-- run -->` it is run.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stadia.cli.main import app, run

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = (
    "git clone ",
    "cd ",
    "pip install ",
    "python benchmarks/",
    "python experiments/",
    ".venv/bin/python benchmarks/",
    "tensorboard ",
    "export ",
)
BLOCK = re.compile(
    r"(?P<mark><!-- run -->\s*\n)?^```(?P<language>sh|bash|shell|console|python)\n(?P<body>.*?)^```", re.M | re.S
)


class Block(NamedTuple):
    where: str
    language: str
    body: str
    is_run: bool


def blocks(text: str, name: str) -> Iterator[Block]:
    for match in BLOCK.finditer(text):
        line = text[: match.start("body")].count("\n") + 1
        yield Block(f"{name}:{line}", match["language"], match["body"], match["mark"] is not None)


BLOCKS = [block for path in DOCUMENTS for block in blocks(path.read_text(encoding="utf-8"), path.name)]
SHELL = [block for block in BLOCKS if block.language != "python"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def commands(block: Block) -> list[str]:
    """The lines of a block, continued ones joined, without comments and `$ `."""
    joined = block.body.replace("\\\n", " ").splitlines()
    lines = [re.sub(r"\s+#.*", "", line).strip().removeprefix("$ ") for line in joined]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Every command of the app only notes that it was reached, with the options it would have been given; train is dry."""
    reached: list[str] = []
    monkeypatch.setattr("stadia.recipes.dry_run", lambda *_, **__: "", raising=False)
    monkeypatch.setattr(
        "stadia.datasets.open_dataset.check_path_exists", lambda _: None
    )  # the folders of examples are nobody's
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    for command in (command for group in groups if group for command in group.registered_commands):

        def note(*_: Any, _real: Any = command.callback, **options: Any) -> None:
            reached.append(_real.__name__)
            if _real.__name__ == "train":  # what a file would say of the data is made up
                data = tmp_path if any(options[name] for name in ("data", "config", "resume")) else None
                _real(**options | {"data": data, "config": None, "resume": None, "dry_run": True})

        monkeypatch.setattr(command, "callback", functools.wraps(command.callback)(note))  # type: ignore[arg-type]
    return reached


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def check(line: str, reached: list[str]) -> None:
    """Raise AssertionError unless the line is a command that exists and takes these words."""
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # settings in front of the command
        words = words[1:]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))]
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= targets(), line
    elif words[0] == "stadia":
        before = len(reached)
        with pytest.raises(SystemExit) as ending:
            run(words[1:])
        assert ending.value.code == 0, line
        assert len(reached) > before or {"--help", "--version"} & set(words), line
    else:
        assert line.startswith(ELSEWHERE), f"{line}: neither make nor stadia, and not listed in ELSEWHERE"


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.where)
def test_commands_exist(block, parsed):
    lines = commands(block)
    assert lines
    for line in lines:
        check(line, parsed)


@pytest.mark.parametrize("block", [block for block in SHELL if block.is_run], ids=lambda block: block.where)
def test_commands_run(block, tmp_path):
    for line in commands(block):
        assert line.startswith("stadia "), "only stadia's own commands are run"
        words = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_python_compiles_and_its_imports_exist(block, tmp_path, monkeypatch):
    tree = ast.parse(block.body)
    if not block.is_run:
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    monkeypatch.chdir(tmp_path)
    exec(compile(tree, block.where, "exec"), {})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """Files of the project; what is on the web is not asked for."""
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tests_that_are_named_exist(path):
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", path.read_text()):
        assert re.search(rf"def {name}\(", (ROOT / "tests" / file).read_text()), f"{file}::{name}"


def test_the_first_screen_is_looked_at():
    """The README has the two commands, and something in the documents is really run."""
    readme = [
        line
        for block in blocks(DOCUMENTS[0].read_text(encoding="utf-8"), "README.md")
        if block.language != "python"
        for line in commands(block)
    ]
    assert {"make demo", "make test"} <= set(readme)
    assert any(block.is_run for block in SHELL)


@pytest.mark.parametrize(
    "line",
    [
        "make dmeo",
        "stadia trian selfsup",
        "stadia train selfsup optimser.lr=1",
        "stadia report",
        "stadia list --filtr x",
        "rm -rf /",
    ],
)
def test_the_guard_sees_wrong_commands(line, parsed, capsys):
    with pytest.raises(AssertionError):
        check(line, parsed)
