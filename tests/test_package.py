"""The source archive and the wheel hold the whole package, and the wheel works where the source is not."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import stadia

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEVELOPER_EXTRAS = {"all", "audit", "dev", "fuzz", "docs"}
MACHINE_PATH = re.compile(rb"/(?:home|Users|root)/\w|" + re.escape(str(ROOT).encode()))


def run(*words: object, cwd: Path) -> str:
    """Run a program, and return its output; its error output is the message of a failure."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = list(map(str, words))
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def list_project_files() -> list[str]:
    """Names of the files that belong to the project: those that git does not ignore, or all where there is no git."""
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
        return [name for name in names if name and (ROOT / name).is_file()]
    kept = [path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [path.relative_to(ROOT).as_posix() for path in kept]


def test_files_that_the_project_file_names_exist() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    tool = tomllib.loads(text)["tool"]
    package = ROOT / "src" / "stadia"
    named = [(package, name) for name in tool["setuptools"]["package-data"]["stadia"]]
    named += [(ROOT, name) for name in (*tool["ruff"]["lint"]["per-file-ignores"], *tool["mypy"]["files"])]
    comments = " ".join(re.findall(r"#(.*)", text))
    named += [
        (ROOT, name) for name in re.findall(r"[\w*/]+\.(?:py|txt|md)\b", comments) if not name.startswith("networks/")
    ]
    named += [(package, name) for name in re.findall(r"(?<!/)networks/[\w*/]+\.py\b", comments)]
    assert [name for folder, name in named if not any(folder.glob(name))] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the project, built from its source archive as `make wheel` does."""
    folder = tmp_path_factory.mktemp("package")
    for name in list_project_files():
        if name.startswith("src/") or "/" not in name:
            (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "copy" / name)
    build = "from setuptools import build_meta; build_meta.build_sdist('../dist')"
    run(sys.executable, "-W", "ignore", "-c", build, cwd=folder / "copy")
    (archive,) = (folder / "dist").iterdir()
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, archive, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package_and_the_license(wheel: Path) -> None:
    tracked = {name.removeprefix("src/") for name in list_project_files() if name.startswith("src/stadia/")}
    with zipfile.ZipFile(wheel) as content:
        held = {name for name in content.namelist() if ".dist-info/" not in name}
        (license_file,) = (name for name in content.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        assert content.read(license_file) == (ROOT / "LICENSE").read_bytes()
        assert [name for name in held if MACHINE_PATH.search(content.read(name))] == []
    assert held == tracked
    assert {Path(name).suffix for name in held} >= {".py", ".pyi", ".toml", ".yaml", ".html", ".css", ".js", ".typed"}


@pytest.mark.slow
def test_source_archive_holds_what_the_wheel_needs(wheel: Path) -> None:
    (archive,) = (wheel.parent / "dist").iterdir()
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "src/stadia/py.typed"}
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.slow
def test_installed_wheel_runs_without_the_source(wheel: Path, tmp_path: Path) -> None:
    """A new environment holds the wheel; it finds the dependencies of this one behind it."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    places = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=places))
    scripts = Path(sysconfig.get_path("scripts", "venv", vars=places))
    options = ("--quiet", "--no-deps", "--no-index", "--ignore-installed", "--no-warn-script-location", "--no-compile")
    python = scripts / Path(sys.executable).name
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=tmp_path)
    behind = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (packages / "behind.pth").write_text("\n".join(behind), encoding="utf-8")  # not its own .pth files

    program = scripts / "stadia"
    place = run(python, "-c", "import stadia; print(stadia.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(packages)
    assert run(program, "--version", cwd=tmp_path).split()[-1] == wheel.name.split("-")[1]
    assert "selfsup" in run(program, "list", "recipes", cwd=tmp_path)
    assert "tiny-laptop" in run(program, "list", "presets", cwd=tmp_path), "the presets are files of the package"
    assert "K03" in run(program, "explain", "K03", cwd=tmp_path), "so is the catalog"
    (tmp_path / "path.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {z}\n" for z in range(6)))
    scored = run(program, "evaluate", "--trajectory", "path.txt", "--reference", "path.txt", cwd=tmp_path)
    assert scored.startswith("ATE 0 m"), "libraries that are imported where they are used are found"


def test_extra_all_holds_every_optional_part_of_the_program() -> None:
    extras = PROJECT["optional-dependencies"]
    (held,) = map(Requirement, extras["all"])
    assert held.name == "stadia"
    assert held.extras == set(extras) - DEVELOPER_EXTRAS - {"matching", "ray", "dask"}, (
        "matching would replace opencv-python-headless; a cluster has its own version of ray"
    )


def read_dockerfile(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and their words, continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line]


def test_image_holds_the_wheel_and_runs_it_as_another_user_than_root() -> None:
    """No engine builds it here: its instructions, and the files that it copies, are compared."""
    instructions = read_dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    words = dict(instructions)
    names = [name for name, _ in instructions]
    assert set(names) <= {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert names[0] == "FROM"
    assert json.loads(words["ENTRYPOINT"]) == ["stadia"]
    assert words["ARG"] == "TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    assert words["USER"] == "1000"
    assert "--uid 1000 stadia" in dict(reversed(instructions))["RUN"]
    python = words["FROM"].removeprefix("python:").removesuffix("-slim")
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"]
    assert words["COPY"].split()[:-1] == kept


def test_the_page_of_installation_names_this_version_and_every_extra() -> None:
    text = (ROOT / "docs" / "start" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"stadia-([\d.]+)-py3", text)) == {stadia.__version__}
    rows = re.findall(r"^\| (`.*?) \|", text, re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(PROJECT["optional-dependencies"])
