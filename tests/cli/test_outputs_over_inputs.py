"""No command replaces what it reads, also with `--force`."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Stadia = Callable[..., tuple[int, str, str]]

PARTS = ("backgrounds.path=backgrounds", "foregrounds.path=cutouts", "height=32", "width=32")
LIST = "backgrounds.split_by.train_file=list.txt"
LINES: dict[str, tuple[str, ...]] = {
    "report of a run": ("report", "RUN", "--out", "RUN/config.json"),
    "comparison of runs": ("compare", "RUN", "RUN", "--plot", "RUN/images/a.png"),
    "exported network": ("export", "RUN", "--out", "RUN/checkpoints/a.onnx"),
    "video of activations": ("activations", "RUN/checkpoints/last.safetensors", "drive.mp4", "--out", "drive.mp4"),
    "overview of composites": ("data", "overlay", *PARTS, LIST, "--sheet", "list.txt"),
    "overview of cut-outs": ("data", "overlay", *PARTS, "--sheet", "cutouts/disc0.png"),
    "findings": ("check", "images", "data.camera.focal_px=120", "data.poses=out/poses.txt", "--out", "out"),
    "camera height": ("camera-height", "images", "masks=out/poses.txt", "--out", "out"),
    "scores of paths": ("evaluate", "--trajectory", "poses.txt", "--reference", "poses.txt", "--scores", "poses.txt"),
    "drawing of paths": ("evaluate", "--trajectory", "a.png", "--reference", "a.png", "--plot", "a.png"),
    "camera of images": ("camera", "images", "--calibration", "images/K.json"),
}
"""A command line whose output is the last file of `INPUTS` that it names."""

INPUTS = ("RUN/config.json", "RUN/run.json", "RUN/images/a.png", "RUN/checkpoints/a.onnx", "drive.mp4", "list.txt")
INPUTS += ("cutouts/disc0.png", "out/poses.txt", "poses.txt", "a.png", "images/K.json")


@pytest.fixture
def place(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of sound inputs, in the current folder."""
    for name in ("run", "backgrounds", "cutouts", "images"):
        shutil.copytree(sound / name, tmp_path / ("RUN" if name == "run" else name))
    shutil.copy(sound / "drive.mp4", tmp_path)
    for name in INPUTS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text('{"K": [[120, 0, 48], [0, 120, 32], [0, 0, 1]]}' if name.endswith("K.json") else "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", LINES)
def test_an_input_is_never_replaced(name: str, place: Path, stadia: Stadia) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    code, _, err = stadia(*LINES[name], "--force")
    assert code, "it is refused"
    assert "an input of this command" in err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


INTO_A_RUN = {
    "check": ("check", "images", "data.camera.focal_px=120", "--out", "RUN"),
    "camera-height": ("camera-height", "images", "--out", "RUN"),
    "report": ("report", "OTHER", "--out", "RUN/report.html"),
    "data roadworld": ("data", "roadworld", "--preset", "tiny", "--out", "RUN"),
    "data tableworld": ("data", "tableworld", "--preset", "tiny", "--out", "RUN"),
    "data foregrounds": ("data", "foregrounds", "train=1", "val=0", "test=0", "--out", "RUN"),
    "data overlay": ("data", "overlay", *PARTS, "--count", "1", "--val", "1", "--out", "RUN"),
    "prepare": ("masks", "images", "--by", "masks", "--out", "RUN"),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", INTO_A_RUN)
def test_no_command_writes_into_the_folder_of_a_run(name: str, force: bool, place: Path, stadia: Stadia) -> None:
    """`check --out RUN` wrote over the findings of the training, and its verdict was better afterwards."""
    shutil.copytree("RUN", "OTHER")
    (place / "RUN" / "findings.jsonl").write_text('{"code": "K03", "severity": "stop"}\n')
    assert stadia("report", "RUN")[0] == 0
    (place / "masks" / "semantic" / "left").mkdir(parents=True)
    (place / "masks" / "classes.json").write_text('{"1": "road"}')
    for image in (place / "images").glob("*.png"):
        shutil.copy(place / "a.png", place / "masks" / "semantic" / "left" / image.name)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    words = ("--force",) if force and "--force" in stadia(*INTO_A_RUN[name][:1], "--help")[1] else ()
    code, _, err = stadia(*INTO_A_RUN[name], *words)
    assert code == 2, err
    assert "found a run in it (run.json)" in err or "found a file of another run" in err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
