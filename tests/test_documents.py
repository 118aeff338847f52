"""Every command of README.md and docs/ exists, and every link leads somewhere.

A ```sh block holds commands, one a line. Each is parsed by the real command line, so that a renamed option breaks this
test; `stadia train` also resolves its configuration, and `make` must have the target. A line of another program has to
be listed in ELSEWHERE. `test_documented_commands.py` runs the lines of `stadia` as printed.
A ```python block must compile, and what it imports must exist; after `<!-- run -->` it is run.
"""

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from stadia.cli.main import app
from website.site_source import generate_pages

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = (
    "git clone ",
    "cd ",
    "pip install ",
    "pip download ",
    "python3 -m venv ",
    "uv ",
    "docker ",
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


BLOCKS = [
    block for path in DOCUMENTS for block in blocks(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
]
SHELL = [block for block in BLOCKS if block.language != "python"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def commands(block: Block) -> list[str]:
    """The lines of a block, continued ones joined, without comments and `$ `."""
    joined = block.body.replace("\\\n", " ").splitlines()
    lines = [re.sub(r"\s+#.*", "", line).strip().removeprefix("$ ") for line in joined]
    return [line for line in lines if line and not line.startswith("#")]


class CommandLine(NamedTuple):
    """The command line of stadia, and the names of the commands that were reached."""

    command: Any
    reached: list[str]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """Record the commands that are reached, instead of running them; `train` becomes a dry run."""
    reached: list[str] = []
    monkeypatch.setattr("stadia.training.dry_run", lambda *_, **__: None, raising=False)
    monkeypatch.setattr("stadia.io.input_files.check_path_exists", lambda _: None)  # nobody's folders
    monkeypatch.setattr("stadia.cli.main._build_command", functools.partial(typer.main.get_command, app))  # not kept
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    for command in (command for group in groups if group for command in group.registered_commands):

        def note(*_: Any, _real: Any = command.callback, **options: Any) -> None:
            reached.append(_real.__name__)
            if _real.__name__ == "train":  # what a file would say of the data is made up
                data = tmp_path if any(options[name] for name in ("data", "config", "resume")) else None
                made_up = {"data": data, "config": None, "resume": None, "minutes": None, "dry_run": True}
                named = None if options["preset"] == "auto" else options["preset"]  # neither measures a step
                _real(**options | made_up | {"preset": named})

        monkeypatch.setattr(command, "callback", functools.wraps(command.callback)(note))  # type: ignore[arg-type]
    return CommandLine(typer.main.get_command(app), reached)


def check(line: str, parsed: CommandLine) -> None:
    """Raise AssertionError unless the line is a command that exists and takes these words."""
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # settings in front of the command
        words = words[1:]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))]
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), line
    elif program := re.match(r"(?:\S*/)?python (\S+\.py)", line):
        source = (ROOT / program[1]).read_text(encoding="utf-8")
        unknown = [option for option in re.findall(r"\s(--[a-z][a-z0-9-]*)", line) if f'"{option}"' not in source]
        assert unknown == [], line
    elif words[0] == "stadia":
        before = len(parsed.reached)
        try:
            code = parsed.command(words[1:], prog_name="stadia", standalone_mode=False)
        except Exception as error:
            raise AssertionError(f"{line}: {error}") from error
        assert not code, line
        assert len(parsed.reached) > before or {"--help", "--version"} & set(words), line
    else:
        assert line.startswith(ELSEWHERE), f"{line}: neither make nor stadia, and not listed in ELSEWHERE"


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.where)
def test_commands_exist(block, parsed):
    lines = commands(block)
    assert lines
    for line in lines:
        check(line, parsed)


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_python_compiles_and_its_imports_exist(block, tmp_path, monkeypatch):
    tree = ast.parse(block.body)
    if not block.is_run:
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    used = [node for node in ast.walk(ast.parse(block.body)) if isinstance(node, ast.Attribute)]
    monkeypatch.chdir(tmp_path)
    exec(compile(tree, block.where, "exec"), names := {})
    for node in used:
        owner = names.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if isinstance(owner, type(ast) | type):  # a module or a class that the block imports
            assert hasattr(owner, node.attr), f"{block.where}: {ast.unparse(node)}"


@functools.cache
def generated_pages() -> dict[Path, str]:
    """Text of each page of the reference that `make docs` generates, by its place beside the pages of docs/."""
    return {(ROOT / "docs" / name).resolve(): text for name, text in generate_pages().items()}


def read_page(path: Path) -> str:
    """Return the text of a page, written by hand or generated."""
    return generated_pages().get(path.resolve()) or path.read_text(encoding="utf-8")


def remove_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)


def find_broken_links(path: Path, text: str) -> list[str]:
    """Return the links of a page to files of the project or headings that do not exist; not those of the web."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", remove_code(text)):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path.resolve()
        if "://" in link or link.startswith("mailto:"):
            continue
        if not (target.exists() or target in generated_pages()) or (
            anchor and anchor not in find_anchors(read_page(target))
        ):
            broken.append(link)
    return broken


def find_anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings: those of GitHub and of the site, or the one that `{ #name }` gives."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    named = [re.fullmatch(r"(.*?)(?: \{ #(\S+) \})?", title) for title in titles]
    plain = (re.sub(r"[^\w\- ]", "", match[1].lower()).strip() for match in named if match and not match[2])
    return {match[2] for match in named if match and match[2]} | {title.replace(" ", "-") for title in plain}


@pytest.mark.slow
def test_links_lead_somewhere():
    written = [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    pages = {path: path.read_text(encoding="utf-8") for path in written} | generated_pages()
    broken = {str(path): find_broken_links(path, text) for path, text in pages.items()}
    assert {name: links for name, links in broken.items() if links} == {}


@pytest.mark.slow
def test_the_guard_sees_broken_links():
    page = ROOT / "docs" / "index.md"
    text = "[a](start/demo.md) [b](start/demos.md) [c](start/install.md#docker) [d](start/install.md#podman) `[e](f)`"
    assert find_broken_links(page, text) == ["start/demos.md", "start/install.md#podman"]


@pytest.mark.parametrize(
    "line",
    [
        *("make dmeo", "stadia trian selfsup", "stadia train selfsup optimser.lr=1", "stadia list --filtr x"),
        *("rm -rf /", "python benchmarks/step.py --bach 4"),
    ],
)
def test_the_guard_sees_wrong_commands(line, parsed, capsys):
    with pytest.raises(AssertionError):
        check(line, parsed)
