"""Every command of README.md and docs/ exists, and so does every name in their text.

A ```sh block holds commands, one a line. Each is parsed by the real command line, so that a renamed option breaks this
test; `stadia train` also resolves its configuration, and `make` must have the target. A line of another program has to
be listed in ELSEWHERE. `test_documented_commands.py` runs the lines of `stadia` as printed.
A ```python block must compile, and what it imports must exist; after `<!-- run -->` it is run.
"""

import ast
import functools
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from stadia.cli.main import app, run
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


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Record the commands that are reached, instead of running them; `train` becomes a dry run."""
    reached: list[str] = []
    monkeypatch.setattr("stadia.launch.dry_run", lambda *_, **__: None, raising=False)
    monkeypatch.setattr("stadia.files.paths.check_path_exists", lambda _: None)  # the folders of examples are nobody's
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
    return reached


def check(line: str, reached: list[str]) -> None:
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
        keys = re.findall(r"""[\s'"]([a-z]\w*(?:\.\w+)+)=""", line)
        unknown += [key for key in keys if not configuration_keys()[0].fullmatch(key)]
        assert unknown == [], line
    elif words[0] == "stadia":
        before = len(reached)
        with pytest.raises(SystemExit) as ending:
            run(words[1:])
        assert ending.value.code == 0, line
        assert len(reached) > before or {"--help", "--version"} & set(words), line
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


@pytest.mark.slow
def test_headings_have_the_same_anchor_on_github_and_on_the_site():
    """The site joins hyphens that GitHub keeps apart, as in `a + b`."""
    differing = {path.name: [a for a in find_anchors(read_page(path)) if "--" in a] for path in DOCUMENTS}
    linked = {link for path in DOCUMENTS for link in re.findall(r"\]\([^)\s]*#([^)\s]+)\)", path.read_text("utf-8"))}
    assert {name: set(anchors) & linked for name, anchors in differing.items() if set(anchors) & linked} == {}


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


# -- Names in the text: `stadia.x.y`, paths, configuration keys, options and commands must exist.

SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PACKAGE = ROOT / "src" / "stadia"
OUTPUT_SUFFIX = re.compile(
    r"\.(json|jsonl|csv|png|jpg|jpeg|npz|npy|txt|mp4|pt|pt2|ply|md|yaml|py|js|log|svg|patch|html|safetensors|onnx|tflite)$"
)
NOT_CONFIGURATION = {"align_corners", "least", "map", "on_stop"}
"""Keyword arguments and values of options that the documents name as `key=value`."""


@functools.cache
def configuration_keys() -> tuple[re.Pattern[str], frozenset[str]]:
    """A pattern of every dotted key of every configuration, and the last words of all of them."""
    from stadia.apps.camera_height.config import CameraHeightConfig
    from stadia.apps.studies.config import StudyConfig
    from stadia.core.config import list_keys
    from stadia.datasets.config import SourceOptions
    from stadia.objectpose.config import TableWorldConfig
    from stadia.overlay.config import CutoutConfig, OverlayDataConfig
    from stadia.recipes import CONFIGS
    from stadia.synthetic.config import RoadWorldConfig

    commands = (CameraHeightConfig, StudyConfig, OverlayDataConfig, RoadWorldConfig, TableWorldConfig, CutoutConfig)
    keys = {key for name in CONFIGS for key in list_keys(CONFIGS.load(name))}
    keys |= {key for model in commands for key in list_keys(model)}
    keys |= {f"data.{key}" for key in list_keys(SourceOptions)}
    patterns = (re.escape(key).replace("NAME", r"\w+") for key in sorted(keys))
    return re.compile("|".join(patterns)), frozenset(key.rpartition(".")[2] for key in keys)


@functools.cache
def groups() -> frozenset[str]:
    """First words of the dotted configuration keys: data, model, loss, training, ..."""
    return frozenset(key.partition("\\.")[0] for key in configuration_keys()[0].pattern.split("|") if "\\." in key)


@functools.cache
def modules() -> dict[str, str]:
    """Module or package by its dotted name without `stadia.`, and by its last word where that is unique."""
    paths = [path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py")]
    names = {".".join(part for part in parts if part != "__init__") for parts in paths} - {""}
    last = [name.rpartition(".")[2] for name in names]
    unique = {name.rpartition(".")[2]: name for name in names if last.count(name.rpartition(".")[2]) == 1}
    return unique | {name: name for name in names}


def has_attribute(name: str) -> bool:
    """Whether `package.module.Class.member` exists, by import; fields of dataclasses and configurations count."""
    words = name.split(".")
    head = next((".".join(words[:n]) for n in range(len(words), 0, -1) if ".".join(words[:n]) in modules()), None)
    if head is None:
        return False
    owner: Any = importlib.import_module(f"stadia.{modules()[head]}")
    for word in words[head.count(".") + 1 :]:
        fields = {**getattr(owner, "__dataclass_fields__", {}), **getattr(owner, "model_fields", {})}
        annotated = {key for base in getattr(owner, "__mro__", ()) for key in getattr(base, "__annotations__", {})}
        if not hasattr(owner, word):
            return word in fields or word in annotated
        owner = getattr(owner, word)
    return True


def command_names() -> dict[str, set[str]]:
    """Command (or "data overlay") -> its options."""
    root = typer.main.get_command(app)
    found: dict[str, set[str]] = {}

    def collect(command: Any, name: str) -> None:
        found[name] = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for sub, inner in getattr(command, "commands", {}).items():
            collect(inner, f"{name} {sub}".strip())

    collect(root, "")
    return found


@functools.cache
def options() -> frozenset[str]:
    """Every option of `stadia`, and of the programs in experiments/ and benchmarks/."""
    programs = [*(ROOT / "experiments").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    theirs = {name for path in programs for name in re.findall(r'"(--[a-z0-9-]+)"', path.read_text(encoding="utf-8"))}
    return frozenset(theirs.union(*command_names().values()))


OUTPUTS = ("runs", "build")
"""Folders that commands write: in a checkout where none has run they are missing."""


def find_wrong_names(span: str) -> list[str]:
    """What a backticked span names and the code does not have."""
    wrong: list[str] = []
    if re.search(r"\.[A-Z]{3,}\b", span):  # a placeholder such as loss.NAME
        return wrong
    pattern, last_words = configuration_keys()
    for key in re.findall(r"""(?:^|[\s'"])([a-z][A-Za-z_]*(?:\.\w+)*)=""", span):
        if key not in NOT_CONFIGURATION and not (pattern.fullmatch(key) or ("." not in key and key in last_words)):
            wrong.append(f"key {key}")
    if re.fullmatch(r"[a-z_]\w*(\.\w+)+([(\[].*[)\]])?", span) and not OUTPUT_SUFFIX.search(span):
        name = re.sub(r"[(\[].*", "", span)
        first = name.partition(".")[0]
        is_key = first in groups() and pattern.fullmatch(name)
        if first == "stadia" and not has_attribute(name.removeprefix("stadia.")):
            wrong.append(f"name {name}")
        elif first in groups() | set(modules()) and not is_key and not has_attribute(name):
            wrong.append(f"name or key {name}")
    path = span.partition("::")[0]
    if re.fullmatch(r"[\w./-]+/[\w.-]+\.(py|md|yaml|toml)|[a-z]\w*(/[\w-]+)*/", path):
        roots = (ROOT, PACKAGE, ROOT / "tests", PACKAGE / "recipes", PACKAGE / "diagnostics", ROOT / "docs")
        first = path.partition("/")[0]
        is_ours = path.endswith(".py") or any((root / first).is_dir() for root in roots[:3] if first not in OUTPUTS)
        if is_ours and not any((root / path).exists() for root in roots):
            wrong.append(f"path {path}")
    if words := re.fullmatch(r"stadia ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?.*", span):
        first = words[1]
        if first not in command_names() or (first == "data" and words[2] and f"data {words[2]}" not in command_names()):
            wrong.append(f"command stadia {first}")
    if span.startswith(("--", "stadia ")):
        given = re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)", span)
        wrong += [f"option {option}" for option in given if option not in options()]
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_names_in_the_text_exist(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    wrong = {f"`{span}`: no {what}" for span in SPAN.findall(text) for what in find_wrong_names(span)}
    assert sorted(wrong) == []


@pytest.mark.slow
def test_glossary_is_alphabetical_and_of_terms_in_the_code():
    """A row of docs/reference/glossary.md has a term, its name in the code, its meaning and its source."""
    lines = (ROOT / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert [row for row in rows if len(row) != 4 or not all(row)] == []
    terms = [re.sub(r"[^a-z0-9 ]", "", row[0].lower()) for row in rows]
    assert terms == sorted(set(terms))
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.toml")]
    words = {word for path in files for word in re.findall(r"[\w-]+", path.read_text(encoding="utf-8"))}
    words |= {part for path in files for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert [row[0] for row in rows if row[1].strip("`") not in words] == []


RIGHT_NAMES = (
    *("training.max_steps", "optimizer.lr=1e-3", "data.extra_datasets.euroc.path=EUROC", "stadia list losses"),
    *("stadia.geometry.camera.resize", "camera.resize", "core.types.Batch.inputs", "geometry/camera.py"),
    *("src/stadia/datasets/", "tests/conformance/", "run.json", "val/abs_rel", "--held-out", "depth/STEM.npz"),
)


@pytest.mark.parametrize(
    ("span", "found"),
    [
        ("training.max_stepz", ["name or key training.max_stepz"]),
        ("stadia.geometry.camera.resized", ["name stadia.geometry.camera.resized"]),
        ("geometry/cameras.py", ["path geometry/cameras.py"]),
        ("src/stadia/data/", ["path src/stadia/data/"]),
        ("stadia parts", ["command stadia parts"]),
        ("--picture", ["option --picture"]),
        *((span, []) for span in RIGHT_NAMES),
    ],
)
def test_wrong_names_are_found(span, found):
    assert find_wrong_names(span) == found
