"""What the source may not hold: pickle, paths of one machine, functions too long to read."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.source_trees import list_nodes

from stadia.cli.machine_check import EXTRAS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_FUNCTION_LINES = 90

LONG_FUNCTIONS: dict[str, str] = {
    "src/stadia/synthetic/rendering/shading_kernels.py:shade_samples": (
        "a compiled loop over samples; a view handed to a second function costs more than its work"
    )
}
"""`file:function` that may be longer, and why."""

PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SAFE_WORDS = {
    "torch.load": ("weights_only", "True"),
    "torch.save": None,
    "np.load": ("allow_pickle", "False"),
    "numpy.load": ("allow_pickle", "False"),
}
"""Function that reads or writes pickles -> the argument with which it does not."""


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts() -> list[Path]:
    """The text files of the project: all that git does not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("git lists the files")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    paths = [ROOT / name for name in names if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


def find_pickles(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield each import of pickle and its kin (but for its error), each torch.load of more than tensors, and each
    np.load that does not refuse pickles.
    """
    for node in nodes:
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module or ""] if names != ["UnpicklingError"] else []
            if node.module == "torch" and {"load", "save"} & set(names):
                yield node.lineno, "torch.load"
        yield from ((node.lineno, module) for module in modules if module.partition(".")[0] in PICKLES)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if (called := ast.unparse(node.func)) in SAFE_WORDS:
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if SAFE_WORDS[called] not in words.items():
                yield node.lineno, called


@pytest.mark.slow
def test_nothing_is_pickled():
    found = {where(path): list(find_pickles(list_nodes(path))) for path in SOURCES}
    assert {path: uses for path, uses in found.items() if uses} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import UnpicklingError, loads",
        "from torch import load",
        "def f():\n  torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.save(p, weights_only=True)",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_the_guard_sees_pickles(source):
    assert list(find_pickles(ast.walk(ast.parse(source))))


def find_unpinned_loads(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield each load from the hub that may run code of it, read a pickle, or take what is newest unseen."""
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        called, words = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        *_, name = called.split(".")
        required: dict[str, str | None] = {}
        if name == "from_pretrained":
            required = {"trust_remote_code": "False", "revision": None}
            required |= {"use_safetensors": "True"} if "Model" in called else {}
        elif name in ("hf_hub_download", "snapshot_download"):
            required = {"revision": None}
        elif words.get("pretrained") == "True" and name in ("create", "create_model"):
            required = {"pretrained_cfg_overlay": None}  # a file that was downloaded and named
        if any(key not in words or value not in (None, words[key]) for key, value in required.items()):
            yield node.lineno, called


LOCAL_LOADS = {"networks/depth/published.py"}
"""Load files that `download_repository` fetched, by packages of other authors."""


@pytest.mark.slow
def test_networks_of_the_hub_bring_no_code_and_no_pickle():
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES if not str(path).endswith(tuple(LOCAL_LOADS))}
    paths = [path for path, text in texts.items() if "hub" in text or "pretrained" in text]
    assert {where(path): uses for path in paths if (uses := list(find_unpinned_loads(list_nodes(path))))} == {}
    called = [node for path in paths for node in list_nodes(path) if isinstance(node, ast.Attribute)]
    assert "from_pretrained" in {node.attr for node in called}


@pytest.mark.parametrize(
    "source",
    [
        "AutoConfig.from_pretrained(name, revision=used)",
        "AutoConfig.from_pretrained(name, trust_remote_code=False)",
        "(A if one else B).from_pretrained(name, revision=used)",
        "AutoModel.from_pretrained(name, revision=used, trust_remote_code=False, use_safetensors=False)",
        "huggingface_hub.hf_hub_download(name, 'config.json')",
        "timm.create_model(name, pretrained=True)",
    ],
)
def test_the_guard_sees_loads_from_the_hub(source):
    assert list(find_unpinned_loads(ast.walk(ast.parse(source))))


@pytest.mark.slow
def test_functions_are_short():
    """Docstring and decorators are not counted. LONG_FUNCTIONS has the longer ones, and no other."""
    long = []
    for path in SOURCES:
        for node in list_nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
                if node.end_lineno - node.lineno + 1 - docstring > MAX_FUNCTION_LINES:
                    long.append(f"{where(path)}:{node.name}")
    assert sorted(long) == sorted(LONG_FUNCTIONS)


MACHINE_PATHS = re.compile(
    r"""(?<![\w.~-])/(?:work|home|root|Users|opt|mnt|media|srv|tmp/[a-z])/?[\w.-]*/[\w.-]+  # of a person or a machine
      | [A-Z]:\\\\?Users | file:// | (?:--|_)(?:extra-)?index-url(?!\s(?:https://download\.pytorch\.org/whl/|"\$TORCH_INDEX"\s))""",
    re.X,
)
"""Private places of files and of packages. PyTorch's index is public; TORCH_INDEX of the Dockerfile is its address."""


@pytest.mark.slow
def test_no_path_of_one_machine():
    found = [
        f"{where(path)}:{number}: {match[0]}"
        for path in texts()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if (match := MACHINE_PATHS.search(line))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "is_private"),
    [
        ("see /home/ada/kitti/x", True),
        ("C:\\Users\\ada", True),
        ("pip install --index-url https://x/whl/", True),
        ("../shared/data", False),
        ("https://arxiv.org/abs/1806.01260", False),
        ("~/home/x/y", False),
        ("--index-url https://download.pytorch.org/whl/cpu", False),
    ],
)
def test_private_paths_differ_from_others(text, is_private):
    assert bool(MACHINE_PATHS.search(text)) == is_private


@pytest.mark.slow
def test_what_is_imported_is_declared():
    """Every library that the package imports stands in pyproject.toml; a transitive one may disappear."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name != "dev"}
    requirements = [*project["dependencies"], *(requirement for wanted in extras.values() for requirement in wanted)]
    declared = {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}
    # What is not installed here is looked up in its extra: `rerun` is what rerun-sdk installs.
    absent = {
        module: [re.split(r"[^\w.-]", requirement)[0] for requirement in extras[extra]]
        for extra, modules in EXTRAS.items()
        for module in modules
    }
    distributions = {**absent, **importlib.metadata.packages_distributions()}
    undeclared = {
        f"{where(path)} imports {module}"
        for path in SOURCES
        for node in list_nodes(path)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if (module := (name or "").partition(".")[0]) not in {*sys.stdlib_module_names, "stadia", ""}
        and not declared & {d.lower().replace("_", "-") for d in distributions.get(module, [module])}
    }
    assert not undeclared, "\n".join(sorted(undeclared))


TERMS = {
    r"equal medians": "median scaling",
    r"telephones?": "phone",
    r"differences of brightness|brightness differences": "photometric error",
    r"data sets?": "dataset",
    r"key frames?": "keyframe",
    r"trainings": "training runs",
    r"frames that (did not )?train(ed)?": "training frames, held-out frames",
    r"trained nothing": "held out",
    r"depth leans|leaning depth": "depth tilts",
    r"standing camera": "stationary camera",
    r"stabilisers?": "stabilizer",
}
"""Pattern in prose -> the term of the glossary. In the source only the first three: others are names of its output."""
IN_SOURCE = 3
NOTEBOOKS = "docs/results/notebooks.md"
"""Quotes the words of the notebooks that it answers."""


@pytest.mark.slow
def test_prose_has_the_terms_of_the_glossary() -> None:
    pages = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    found = []
    for path in (path for path in [*pages, *SOURCES] if where(path) != NOTEBOOKS):
        text = path.read_text(encoding="utf-8")
        is_source = path.suffix == ".py"
        prose = text if is_source else re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", " ", text, flags=re.S)
        for pattern, term in list(TERMS.items())[: IN_SOURCE if is_source else None]:
            hits = re.findall(rf"\b(?:{pattern})\b", " ".join(prose.split()), re.I)
            found += [f"{where(path)}: found {len(hits)} of {pattern}; expected {term}"] if hits else []
    assert found == []
