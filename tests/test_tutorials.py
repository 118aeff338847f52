"""Each tutorial runs from its first line to its last, in one folder, on small data; so does the README's Python.

RUN is the newest run. SMALLER changes a printed line so that it ends in seconds; NOT_RUN names the lines that are
tested elsewhere.
"""

import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.data.rendered_world import World, pose, rows
from tests.sound import STUDY, export_at_training_size, write_video
from tests.test_documented_commands import NETWORK
from tests.test_documents import ROOT, blocks, commands

from stadia.cli.main import run
from stadia.io.metrics_table import read_rows
from stadia.io.records.trajectory import Trajectory, write_tum_trajectory
from website.notebooks import NOTEBOOKS, locate_notebook, make_notebook, write_notebook

TUTORIALS = [path for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")) if path.stem != "index"]
LONG = ("fine-tune-published-depth", "metres-from-stereo", "wrong-calibration")
"""Pages of a quarter to half a minute: `make test-all` runs them, and test_documents.py parses their lines."""

PAGES = [*TUTORIALS, *(ROOT / "docs" / "start" / f"{name}.md" for name in ("first-video", "train"))]

SHORT = "training.max_steps=2 training.batch_size=2 training.validate_every=2 training.threads=1 --on-stop warn"
TINY_LAPTOP = f"--preset tiny-laptop {shlex.join(NETWORK)} {SHORT}"
SMALLER = {
    r"--preset (demo --worlds 8,1,1|tiny(?= --out road$))": "--preset tiny --worlds 1,1,1 frames=12 "
    "height=128 width=416",
    r"^(stadia train selfsup \S+) --preset (?!metric-)\S+( --minutes \d+)?": f"\\1 {TINY_LAPTOP}",
    r"^(stadia train \S+ \S+ --preset metric-\S+)": f"\\1 {shlex.join(NETWORK)} {SHORT}",
    r"model.network=depth_anything data.height=98 data.width=322": "model.network=dpt model.network.size=tiny "
    "data.height=64 data.width=96",
    r"^stadia evaluate RUN roads data.split=test": "\\g<0> --protocol relative",  # two steps give no metres
    r"minutes=5, settings=camera": "steps=1, scope='head', settings=[*camera, 'data.height=64', 'data.width=96']",
    r"^(stadia train supervised .*) training.max_steps=1000": f"\\1 {SHORT}",
}
"""Pattern in a printed line -> its replacement."""

NOT_RUN = {
    r"^stadia ablate (?!.*--dry-run)|--reuse": "several trainings: tests/training/test_studies.py",
    r"--resume": "tests/training/loop/test_resume.py",
    r"tum:Tum": "a format of the reader: tests/data/test_open_dataset.py",
    r"training.devices=2": "two processes: tests/training/loop/test_distributed.py",
}
"""Pattern of a line -> what it needs, or which test runs the command."""

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


def make_smaller(line: str) -> str:
    for pattern, replacement in SMALLER.items():
        line = re.sub(pattern, replacement, line)
    return line


def find_newest_run() -> Path:
    return max(Path("runs").iterdir(), key=lambda folder: (folder / "config.json").stat().st_mtime_ns)


def run_line(line: str, build_once: BuildOnce) -> None:
    """Run a line of `stadia` in this process, made smaller. A world that several pages render is rendered once."""
    if any(re.search(pattern, line) for pattern in NOT_RUN):
        return
    words = shlex.split(re.sub(r"\bRUN\b", lambda _: str(find_newest_run()), make_smaller(line)))
    assert words[0] == "stadia", line
    if words[1:3] != ["data", "roadworld"]:
        run_words(words, line)
        return
    out = words.index("--out") + 1
    name = re.sub(r"\W+", "-", " ".join(words[: out - 1] + words[out + 1 :]))
    world = build_once(name, lambda folder: run_words([*words[:out], str(folder), *words[out + 1 :]], line))
    shutil.copytree(world, words[out])


def run_words(words: list[str], line: str) -> None:
    """Run the words of a line, which must not fail."""
    started = time.time()
    with pytest.raises(SystemExit) as ending:
        run(words[1:])
    allowed = (0, 1) if words[1] in ("check", "diagnose") else (0,)  # 1: they found what stops a training
    assert ending.value.code in allowed, f"{line} ended with {ending.value.code} after {time.time() - started:.0f} s"


def read_steps(path: Path) -> Iterator[tuple[str, str]]:
    """Yield language and text of each command and each Python block; a YAML block that is to be saved, too."""
    text = path.read_text(encoding="utf-8")
    saved = [(m.start(), "save " + m[1], m[2]) for m in re.finditer(r"as `(\S+)`:\s+```yaml\n(.*?)```", text, re.S)]
    steps: list[tuple[int, str, str]] = list(saved)
    for block in blocks(text, path.name):
        line = int(block.where.rpartition(":")[2])
        position = sum(map(len, text.splitlines(keepends=True)[: line - 1]))
        parts = [block.body] if block.language == "python" else commands(block)
        steps += [(position, block.language, part) for part in parts]
    for _, language, part in sorted(steps, key=lambda step: step[0]):
        yield language, part


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has before the first line, as the current folder: photo, video and K, dataset, paths, a study."""
    World().dataset(tmp_path / "DATASET", {"train": ["a"], "val": ["b"], "test": ["b"]}, frames=6)
    write_video(tmp_path / "drive.mp4")
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8))
    (tmp_path / "K.txt").write_text("116 0 80\n0 116 48\n0 0 1\n")
    for name in ("estimate.txt", "truth.txt"):
        (tmp_path / name).write_text(rows([pose(index) for index in range(6)]))
        timed = Trajectory(np.stack([pose(index) for index in range(6)]), np.arange(6) / 2)
        write_tum_trajectory(tmp_path / name.replace(".", "-tum."), timed)
    (tmp_path / "study.yaml").write_text(STUDY.replace("data.path=stadia", "data.path=DATASET"))
    monkeypatch.setattr("stadia.training.prediction.export.export_onnx", export_at_training_size)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.exhaustive] * (path.stem in LONG), id=path.stem) for path in PAGES]
)
def test_a_tutorial_runs_from_top_to_bottom(path: Path, folder: Path, build_once: BuildOnce) -> None:
    page: dict[str, Any] = {"__name__": "tutorial"}  # a block may continue the one before
    for language, text in read_steps(path):
        if language.startswith("save "):
            Path(language.removeprefix("save ")).write_text(text)
        elif language == "python":
            if path.stem not in ("add-a-loss", "add-a-dataset"):  # test_documents.py has them
                exec(compile(make_smaller(text), path.name, "exec"), page)
        elif text.startswith("stadia "):
            run_line(text, build_once)


def read_python(page: str) -> list[str]:
    """Return the Python blocks of a tutorial."""
    text = (ROOT / "docs" / "tutorials" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


SMALL = [word for word in (*NETWORK, *SHORT.split()) if "=" in word]
"""Settings of a training that ends in seconds."""


@pytest.fixture
def small_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that a page starts from Python end in seconds."""
    from stadia import training as launch
    from stadia.training import recipes

    configure, train = recipes.configure, launch.train

    def configure_small(name: str, words: Sequence[str] = (), **values: Any) -> Any:
        return configure(name, [*words, *SMALL], **values)

    monkeypatch.setattr(recipes, "configure", configure_small)
    monkeypatch.setattr(launch, "train", lambda config, **values: train(config, on_stop="warn", **values))


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("folder", "small_trainings")
def test_the_loss_of_the_reader_is_compared_over_seeds_and_its_gradient_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page: dict[str, Any] = {"__name__": "train_mine"}
    for block in read_python("train-with-your-loss")[:2]:
        exec(compile(block, "train_mine.py", "exec"), page)
    page |= {"__name__": "__main__", "HuberRecipe": page["MeasuredRecipe"]}
    loop = read_python("compare-two-losses")[1]
    assert "range(5)" in loop
    exec(compile(loop.replace("range(5)", "range(2)"), "train_mine.py", "exec"), page)
    assert "PairedDifference(n=2" in capsys.readouterr().out
    first_rows = {path: read_rows(path / "metrics.csv")[0] for path in Path("runs").iterdir()}
    measured = {path: row for path, row in first_rows.items() if "train/my_share" in row}
    assert len(measured) == 2
    for path, row in measured.items():
        assert 0 < float(row["train/my_share"]) < 1
        assert "train/term/huber/slope" in row
        assert "not loss_cases" not in (path / "findings.jsonl").read_text(), "the loss checks see the term"


@pytest.mark.slow
def test_the_loss_of_the_reader_is_checked(folder: Path) -> None:
    """As it is, nothing is found. With a term that has a unit, the checks of the same class find it."""
    from rich.console import Console

    from stadia.training import recipes
    from stadia.training.loss_checks.loss_case import LossCase
    from stadia.training.loss_checks.loss_check_runner import check_losses
    from stadia.training.loss_checks.loss_properties import check_relief

    page: dict[str, Any] = {"__name__": "train_mine"}
    exec(compile(read_python("train-with-your-loss")[0], "train_mine.py", "exec"), page)
    config = recipes.configure("selfsup", ["data.path=DATASET", *SMALL])
    config, data = page["HuberRecipe"].prepare(config, Console(quiet=True))

    def make_case() -> LossCase:
        """Return a case of its own: reports are kept, and the loss below is another one."""
        return page["HuberRecipe"](config).loss_cases(next(iter(data.train)))["loss"]

    assert check_losses({"loss": make_case()}) == []
    page["huber_slope"] = lambda inverse_depth: 10 * inverse_depth.diff(dim=3).abs().mean()
    assert "L24" in {finding.code for finding in check_relief(make_case())}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("folder")
def test_the_python_of_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    marked = re.search(r"<!-- run in small -->\n```python\n(.*?)```", text, re.S)
    assert marked is not None
    code = marked[1]
    page: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), page)
    assert abs(page["photo"].depth_m[240, 320] - 4) < 0.5
    assert page["frame"].depth.ndim == 2


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_a_notebook_is_that_of_its_page_and_compiles(page: str) -> None:
    path = locate_notebook(page)
    assert path.read_text(encoding="utf-8") == write_notebook(page), "run: python -m website.notebooks"
    for cell in make_notebook(page)["cells"]:
        if cell["cell_type"] == "code":
            compile("".join(line for line in cell["source"] if line[0] not in "!%"), page, "exec")
