"""Every command line of README.md and docs/ is run as printed, on small files of the names that the documents use.

test_tutorials.py runs those of the tutorials, in order.

A line that is not in NOT_RUN is run. SMALLER adds words that shorten a line; the printed ones are all there.
`test_documents.py` parses every line, also those that are not run.
"""

import json
import os
import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import pytest
from benchmarks.campaign.cases import copy_sound
from PIL import Image
from tests.combinations import mark_repeats
from tests.sound import TINY, export_at_training_size
from tests.test_documents import SHELL, commands

from stadia.cli.main import run

NOT_RUN = {
    r"KITTI/raw|KITTI/odometry.*extra_datasets|EUROC|CITY|7scenes|kitti_object|bop/lmo|DATA data.split|ROADWORLD": (
        "data that cannot be published with the tests"
    ),
    r"-supervised\b|dpt-": "a run of supervised, which tests/training/recipes/test_supervised.py trains",
    r"RUN (table|image).jpg|train objectpose|evaluate RUN DATA|DATA --recipe objectpose|show DATA": (
        "data and a run of objectpose, which tests/objectpose/test_recipe.py has"
    ),
    r"train overlay|RUN composed|data overlay|data foregrounds": (
        "minutes of rendering; tests/overlay/test_recipe.py and tests/overlay/world have small ones"
    ),
    r"--by |camera-height|train metric|masks=": "a segmentation network, and cars in a drive of a minute",
    r"stadia demo": "ten minutes: tests/training/test_demo.py",
    r"data (roadworld|tableworld) --preset (demo|full)": "minutes of rendering",
    r"data roadworld --preset tiny": "seconds of rendering: tests/synthetic/roadworld/test_roadworld_command.py",
    r"^stadia export": "an export takes seconds: tests/predict/test_export.py",
    r"--backend": "an optional package, and an export of a minute: tests/predict/test_backends.py",
    r"^stadia sweep|^stadia ablate (?!.*--dry-run)": "several trainings: tests/training/test_studies.py",
    r"--frames|--depth crops|kitti-eigen": "images of KITTI's size: tests/evaluation/test_protocols.py",
    r"--resume": "tests/training/loop/test_resume.py",
    r"monodepth2-kitti": "data that cannot be published with the tests",
    r"(check|refine) .*--images": "results of other programs: tests/sfm/test_check_reconstruction.py",
    r"compare .*--mount": "two drives with a road: tests/predict/test_mount_change.py",
    r"--data PATH --dry-run": "a placeholder for your own recipe",
}
"""Pattern of a line -> what it needs, or which test runs the command."""

NETWORK = [word for word in TINY if "=" in word and not word.startswith("training.")]
SHORT = ["training.max_steps=2", "training.batch_size=2", "--on-stop", "warn"]
SMALLER = {
    r"^stadia train selfsup .*--minutes": [*NETWORK, "--minutes", "60", "--on-stop", "warn"],
    r"^stadia train selfsup (?!.*(--help|--minutes))": ["--preset", "tiny-laptop", *NETWORK, *SHORT],
}
"""Pattern of a line -> words that are added to it. The last setting of a key counts."""

NAMES = {
    "run": ("RUN", "RUN_A", "RUN_B", *(f"runs/2026-{day}-selfsup" for day in ("01-31-120000", "03-01-142530"))),
    "drive.mp4": ("video.mp4", "left.mp4", "right.mp4"),
    "images": ("photos", "left", "right", "street", "undistorted"),
    "kitti": ("KITTI/odometry", "data/kitti_odometry"),
    "stadia": ("DATASET", "DATA"),
    "kitti.txt": ("estimate.txt", "truth.txt"),
    "depth.onnx": ("model.onnx",),
    "depth_png": ("truth", "ground_truth"),
}
"""Sound input of tests/sound.py -> names in the documents."""

ALWAYS = ("study.yaml", "runs", "depth_npz")
"""Inputs of lines that do not name them; of all others a line gets those that it names."""

IN_ORDER = ("docs/tutorials/", "docs/start/first-video.md", "docs/start/train.md")
"""Pages whose lines test_tutorials.py runs one after the other."""

ALONE = [block for block in SHELL if not block.where.startswith(IN_ORDER)]
LINES = {line: block.where for block in ALONE for line in commands(block) if line.startswith("stadia ")}


def find_reason(line: str) -> str | None:
    """Return why a line is not run; None for one that is run."""
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, line)), None)


RUN = sorted(line for line in LINES if find_reason(line) is None)


@pytest.fixture(scope="module")
def examples(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a run, predictions and calibrations under the names in the documents."""
    folder = tmp_path_factory.mktemp("examples") / "files"
    folder.mkdir()
    copy_sound(sound, folder, [path.name for path in sound.iterdir()])
    for own, names in NAMES.items():
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (folder / own).is_dir() else shutil.copy
            copy(folder / own, folder / name)
    shutil.copytree(folder / "run", folder / "runs" / "2026-03-02-101500-selfsup")
    with Image.open(folder / "images" / "000000.png") as image:
        width, height = image.size
    x, y = (width - 1) / 2, (height - 1) / 2
    chain = f"cam0: {{camera_model: pinhole, intrinsics: [120, 120, {x}, {y}], resolution: [{width}, {height}]}}"
    rows = [f"P{n}: 120 0 {x} {-60 * n} 0 120 {y} 0 0 0 1 0\n" for n in range(2)]
    texts = {"camchain.yaml": chain, "calib.txt": "".join(rows), "K.txt": f"120 0 {x}\n0 120 {y}\n0 0 1\n"}
    poses = [f"1 0 0 0 0 1 0 0 0 0 1 {z}\n" for z, _ in enumerate((folder / "left").iterdir())]
    texts["gt.txt"] = "".join(poses)
    for n, side in enumerate(("left", "right")):
        P = [120, 0, x, -60 * n, 0, 120, y, 0, 0, 0, 1, 0]
        sizes = f"image_width: {width}\nimage_height: {height}"
        texts[f"{side}.yaml"] = f"{sizes}\nprojection_matrix: {{data: {P}}}\n"
    texts["undistorted/K.txt"] = texts["K.txt"]
    for name, text in texts.items():
        (folder / name).write_text(text)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    for path in (folder / "photos").iterdir():
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    K = [[120, 0, x], [0, 120, y], [0, 0, 1]]
    known = {"format": "stadia-camera", "K": K, "height": height, "width": width, "origin": "focal length 120 px"}
    for name in ("drive", "video"):
        (folder / f"{name}.K.json").write_text(json.dumps(known))
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("line", mark_repeats(RUN, lambda line: line.split()[1]))
def test_a_line_runs_as_printed(
    line: str, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    for source in examples.iterdir():
        if source.name.partition(".")[0] in line or source.name in ALWAYS:
            copy = partial(shutil.copytree, copy_function=os.link) if source.is_dir() else os.link
            copy(source, tmp_path / "files" / source.name)
    monkeypatch.chdir(tmp_path / "files")
    added = next((words for pattern, words in SMALLER.items() if re.search(pattern, line)), [])
    if " camera " in line:
        Path("drive.K.json").unlink(missing_ok=True)  # what this line writes
    if "--depth drive-depth" in line:
        Path("depth_npz").rename("drive-depth")  # what an earlier line wrote
    # Few of the steps that fit, and more minutes than a busy machine needs.
    monkeypatch.setattr("stadia.training.prediction.export.export_onnx", export_at_training_size)
    monkeypatch.setattr("stadia.training.time_budget.PLANNED_STEPS", 0.0009)
    with pytest.raises(SystemExit) as ending:
        run([*shlex.split(line)[1:], *added])
    done = (0, 1) if line.split()[1] in ("check", "diagnose") else (0,)  # 1: they found what stops a training
    assert ending.value.code in done, f"{LINES[line]}: {line}\n{capfd.readouterr().err}"


def test_every_line_is_run_or_has_a_reason() -> None:
    """Each reason belongs to a line, and the commands that a new user needs are run."""
    assert [pattern for pattern in NOT_RUN if not any(re.search(pattern, line) for line in LINES)] == []
    assert len(RUN) > len(LINES) / 3
    needed = {"doctor", "camera", "check", "train", "predict", "stereo", "odometry", "diagnose", "explain"}
    assert {line.split()[1] for line in RUN} >= needed
