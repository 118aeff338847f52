"""Every fix that the program prints and that names a command, an option or a setting: its names exist, and it was run.

`list_runnable_fixes` reads the fixes from the code and the catalog. A new one needs a row in TRIED: a line that prints
it, and the line of the fix, which then succeeds; or one in ELSEWHERE, with the test that runs it. `untried_fixes.txt`
lists those without a row; it only gets shorter.
"""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.printed_fixes import list_fixes, list_runnable_fixes
from tests.sound import write_files

from stadia.cli.list_parts import PART_KINDS
from stadia.cli.main import app
from stadia.core.config import list_keys
from stadia.scale.camera_height.config import CameraHeightConfig
from stadia.scale.sources import SCALE_SOURCES
from stadia.training.recipes import CONFIGS

ROOT = Path(__file__).parents[1]
FIXES = list_runnable_fixes()
UNTRIED = (Path(__file__).with_name("untried_fixes.txt")).read_text(encoding="utf-8").splitlines()

COMMAND = re.compile(r"(?<![\w/.'])stadia ((?:list|data|prior) [a-z]+|[a-z]+(?:-[a-z]+)*)\b(?! (?:that|of|can))")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
SETTING = re.compile(r"(?<![\w.:/-])([a-z][a-z_]*(?:\.[a-z_]+)*)=(?![= ])")
OF_OTHERS = re.compile(
    r"(?:colmap|ffmpeg|pip install|srun|torchrun)[^;,`]*|(?:numpy|torch)\.\w+\(.*?\)|`training\.train\(.*?\)`"
)
"""What other programs or Python get."""

OTHER_SETTINGS = {
    *("fx", "fy", "cx", "cy"),  # --camera
    *("abs_rel", "rmse", "crop", "max"),  # published scores, and parts of a protocol
    *("data_range", "scale_from", "minutes", "allow_pickle"),  # Python
    *("network.encoder", "network.motion", "network.weights"),  # stadia import
}


@dataclass(frozen=True)
class Tried:
    """A fix that is run.

    line: words after `stadia` that print the fix.
    cure: the words with the fix. It succeeds.
    figure: pattern of a number that both lines print; empty if the exit status is the figure: 2 before, 0 after.
    prepare: line of Python that makes the mistake in the folder of `write_files`.
    between: command that the fix says to run first.
    """

    line: str
    cure: str
    figure: str = ""
    prepare: str = ""
    between: str = ""


EDIT_MAPS = "import glob, numpy as np; [np.save(f, {}) for f in glob.glob('depth_npy/*.npy')]"
LATE = "import numpy as np; a = np.loadtxt('tum.txt'); a[:, 0] += 0.05; np.savetxt('late.txt', a)"
WRONG_CENTER = "import pathlib; pathlib.Path('K.txt').write_text('100 0 900\\n0 100 40\\n0 0 1\\n')"
COPY_VIDEO = "import os, shutil; os.mkdir('videos'); shutil.copy('drive.mp4', 'videos/a.mp4')"
FOUR_POSES = "import numpy as np; np.savetxt('kitti.txt', np.loadtxt('kitti.txt')[:4])"
WRITE_JSON = "import json, pathlib; pathlib.Path('K.json').write_text(json.dumps({}))"
WRITE_PAIR = (
    "import pathlib; pathlib.Path('P.txt').write_text("
    "'P0: 120 0 77 0 0 120 41 0 0 0 1 0\\nP1: 120 0 77 {} 0 120 41 0 0 0 1 0\\n')"
)

TRIED = {
    "see stadia evaluate --help": Tried("evaluate", "evaluate --help"),
    "see `stadia list networks`": Tried("app none/run", "list networks"),
    "see `stadia list checks`": Tried("check images --only nope", "list checks"),
    "see `stadia list`": Tried("odometry base images --out o --method foo", "list"),
    "see `stadia list presets`, or pass the path of a .yaml file": Tried("train --preset foo", "list presets"),
    "`stadia list recipes` lists them": Tried("train", "list recipes"),
    "choose another folder, or pass --force to replace them": Tried(
        "rig pin videos --out rig",
        "rig pin videos --out rig --force",
        prepare=f"{COPY_VIDEO}; os.mkdir('rig'); shutil.copy('calib.json', 'rig/rig.json')",
    ),
    "--plot {}.png": Tried(
        "evaluate --trajectory tum.txt --reference tum.txt --plot a.pdf",
        "evaluate --trajectory tum.txt --reference tum.txt --plot a.png",
    ),
    "stadia evaluate --trajectory {} --reference {}": Tried(
        "compare tum.txt kitti.txt", "evaluate --trajectory tum.txt --reference kitti.txt"
    ),
    "the nearest are {} s apart: pass --max-difference {}": Tried(
        "evaluate --trajectory late.txt --reference tum.txt",
        "evaluate --trajectory late.txt --reference tum.txt --max-difference 0.075",
        prepare=LATE,
    ),
    "pass --depth-scale {} --protocol relative": Tried(
        "evaluate --depth depth_npy --reference depth_png",
        "evaluate --depth depth_npy --reference depth_png --depth-scale affine-inverse --protocol relative",
        figure=r"abs_rel +([\d.e-]+)",
        prepare=EDIT_MAPS.format("1 / np.load(f)"),
    ),
    "pass {}": Tried(
        "evaluate --depth depth_npy --reference depth_png --reference-factor 1000",
        "evaluate --depth depth_npy --reference depth_png --reference-factor 256",
        figure=r"abs_rel +([\d.e-]+)",
    ),
    "pass one of these, such as --fov {} for a phone's main camera": Tried("camera images", "camera images --fov 69"),
    "name each video, such as stadia camera {}": Tried(
        "camera videos --fov 60", "camera videos/a.mp4 --fov 60", prepare=COPY_VIDEO
    ),
    "pass --calibration FILE": Tried("camera images --camera K", "camera images --camera K --calibration calib.json"),
    "choose it by --camera": Tried(
        "camera images --calibration calib.json --camera cam9", "camera images --calibration calib.json --camera K"
    ),
    "; or pass --force for cropped images": Tried(
        "camera photo.jpg --calibration K.txt", "camera photo.jpg --calibration K.txt --force", prepare=WRONG_CENTER
    ),
    "run stadia camera VIDEO --fov DEGREES": Tried(
        "check images --only intrinsics", "check images --only intrinsics", between="camera images --fov 67"
    ),
    "run first: stadia camera {} --fov DEGREES": Tried(
        "calibrate images point=80,60:2.0@000000 --network base",
        "calibrate images point=80,60:2.0@000000 --network base",
        between="camera images --fov 67",
    ),
    "for example optimizer.lr=2e-4": Tried(
        "check drive.mp4 --only frames data.frames", "check drive.mp4 --only frames data.frames=[0,12]"
    ),
    'for example --change "fast: optimizer.lr=1e-3"': Tried(
        "ablate --data stadia --recipe selfsup --dry-run --change x",
        "ablate --data stadia --recipe selfsup --dry-run --change 'fast: optimizer.lr=1e-3'",
    ),
    "choose frames that the recording has, such as data.frames=[0,{}]": Tried(
        "check drive.mp4 --only frames data.frames=[90,99]", "check drive.mp4 --only frames data.frames=[0,12]"
    ),
    "choose a new name for --out that ends in .csv": Tried(
        "data survey videos --out x.txt", "data survey videos --out x.csv", prepare=COPY_VIDEO
    ),
    "pass --out DIR": Tried("odometry base images", "odometry base images --out path --method aligned"),
    "choose another --out": Tried(
        "scale depth_npy --images images --scale-from height=1.5 --out images",
        "scale depth_npy --images images --scale-from height=1.5 --out scaled",
    ),
    "choose another --out: nothing is overwritten": Tried("data shard stadia images", "data shard stadia shards"),
    "for example --scale-from height=1.5, or --scale-from gps=track.gpx": Tried(
        "scale depth_npy --images images --out s", "scale depth_npy --images images --out s --scale-from height=1.5"
    ),
    "for example --scale-from height=1.5": Tried(
        "scale depth_npy --images images --out s --scale-from xx",
        "scale depth_npy --images images --out s --scale-from height=1.5",
    ),
    "for example point=640,200:12.3, or point=640,200:12.3@000010": Tried(
        "scale depth_npy --images images --out s --scale-from point=3",
        "scale depth_npy --images images --out s --scale-from point=64,40:12.3@000001",
    ),
    "for example distance=000000..000050:59.9, or distance=120,300..480,310:2.1@000010 for two pixels": Tried(
        "scale depth_npy --images images --out s --scale-from distance=3",
        "scale depth_npy --images images --out s --scale-from distance=20,60..140,62:2.1@000001",
        between="camera images --fov 67",
    ),
    "pass --baseline METRES, or a file with both projections (P1 and P2)": Tried(
        "stereo images images calib.json --out s", "stereo images images calib.json --out s --baseline 0.1"
    ),
    "pass fx=700,fy=700,cx=640,cy=360, and width, height, k1, k2, p1, p2 if they are known": Tried(
        "check kitti.txt --images images --camera fx=x",
        "check kitti.txt --images images --camera fx=120,fy=120,cx=77,cy=41",
        prepare=FOUR_POSES,
    ),
    "pass the camera: --camera FILE, or --camera fx=700,fy=700,cx=640,cy=360": Tried(
        "check kitti.txt --images images", "check kitti.txt --images images --camera calib.json", prepare=FOUR_POSES
    ),
    "predict this image: stadia predict {}": Tried("adapt base photo.jpg --out a", "predict photo.jpg --out p"),
    "pass the folder of its sequence, or predict this image: `stadia predict {}`": Tried(
        "check photo.jpg", "predict photo.jpg --out p"
    ),
    "remove --every": Tried(
        "evaluate base stadia --frames frames.txt --every 2", "evaluate base stadia --frames frames.txt"
    ),
    "leave it out, and choose a new name for --fix": Tried(
        "check kitti.txt --images images --camera calib.json --fix new.txt --force",
        "check kitti.txt --images images --camera calib.json --fix new.txt",
        prepare=FOUR_POSES,
    ),
    "add --scale-from, such as point=X,Y:METRES, or leave --max-depth out": Tried(
        "predict base images --max-depth 3 --out o",
        "predict base images --max-depth 3 --out p --scale-from point=80,60:2.0@000000",
    ),
    "set --better": Tried(
        "ablate --data stadia --recipe selfsup --dry-run --metric train/foo --change 'f: optimizer.lr=1e-3'",
        "ablate --data stadia --recipe selfsup --dry-run --metric train/foo --change 'f: optimizer.lr=1e-3' "
        "--better lower",
    ),
    "set training.max_steps, and training.max_epochs=null": Tried(
        "ablate --data stadia --recipe selfsup --dry-run --change 'f: training.batch_size=4'",
        "ablate --data stadia --recipe selfsup --dry-run training.max_steps=9 training.max_epochs=null "
        "--change 'f: training.batch_size=4 training.max_steps=18'",
    ),
    "such as crop=eigen,max=50": Tried(
        "evaluate --depth depth_npy --reference depth_png --protocol foo=3",
        "evaluate --depth depth_npy --reference depth_png --protocol crop=none,max=50",
    ),
    "set the field of view, such as data.camera.horizontal_fov_deg={} of a phone, or save it: "
    "`stadia camera {} --fov {}`": Tried(
        "data shard images shards", "data shard images shards", between="camera images --fov 69"
    ),
    "pass --predictions FOLDER of `stadia predict`": Tried(
        "view drive.mp4 data.camera.focal_px=120 --out v.html",
        "view drive.mp4 data.camera.focal_px=120 --out v.html --predictions p",
        between="predict base drive.mp4 --out p data.camera.focal_px=120",
    ),
    "for poses: stadia check {} --images FOLDER; else check the path (`stadia list datasets`)": Tried(
        "check kitti.txt", "check kitti.txt --images images --camera calib.json", prepare=FOUR_POSES
    ),
    "choose frames that the video has, such as data.frames=[0,{}]": Tried(
        "predict base drive.mp4 --out o data.frames=[90,99]", "predict base drive.mp4 --out o data.frames=[0,12]"
    ),
    "pass --focal-mm {}": Tried(
        "camera images --calibration K.json",
        "camera images --focal-mm 39.375",
        prepare=WRITE_JSON.format({"camera": {"focal_length": 35.0, "sensor_width": 32.0}}),
    ),
    "rename it to K, or convert another program's file: stadia camera INPUT --calibration FILE": Tried(
        "check images --only intrinsics data.camera.K_file=K.json",
        "camera images --calibration K.json",
        prepare=WRITE_JSON.format({"A": [[120, 0, 77], [0, 120, 41], [0, 0, 1]]}),
    ),
    "for example --cameras P2,P3": Tried(
        "stereo images images P.txt --out s --cameras P0",
        "stereo images images P.txt --out s --cameras P0,P1",
        prepare=WRITE_PAIR.format(-60),
    ),
    "change --cameras": Tried(
        "stereo images images P.txt --out s --cameras P2,P3",
        "stereo images images P.txt --out s --cameras P0,P1",
        prepare=WRITE_PAIR.format(-60),
    ),
    "swap LEFT and RIGHT; if the images are in order, Tx has a wrong sign: pass --baseline {}": Tried(
        "stereo images images P.txt --out s",
        "stereo images images P.txt --out s --baseline 0.5",
        prepare=WRITE_PAIR.format(60),
    ),
    "pass --baseline METRES: the file has none (Tx is 0)": Tried(
        "stereo images images P.txt --out s",
        "stereo images images P.txt --out s --baseline 0.5",
        prepare=WRITE_PAIR.format(0),
    ),
    "pass --baseline in metres: {}": Tried(
        "stereo images images P.txt --out s",
        "stereo images images P.txt --out s --baseline 0.5",
        prepare=WRITE_PAIR.format(-60000),
    ),
    "add --network NETWORK, or leave it out": Tried(
        "check drive.mp4 --only frames network.x=1", "check drive.mp4 --only frames"
    ),
}

ELSEWHERE = {
    "put the frames of each camera into a folder of their own, or read one camera with data.stride=2: its neighbors "
    "have {} matches ({} now)": "tests/judge/recordings/test_sequence_checks.py::test_two_cameras_in_turns_are_named",
    "look at which of them is inverse, and invert it: the camera in the {} is then at {} mm (camera file), and "
    "--calibration FILE tells them apart; or the camera is on the {}: pass --camera-on {}": (
        "tests/judge/rigs/test_hand_eye.py::test_either_file_may_be_the_inverse_one"
    ),
    "set training.precision=auto": "tests/differentiable/test_number_rates.py::test_slow_bf16_has_one_note_and_its_fix",
}
"""Fix -> the test that runs it."""


def list_names(command: Any, prefix: str = "") -> Iterator[str]:
    """Yield the commands as users type them, and every option."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for name, inner in getattr(command, "commands", {}).items():
        yield f"{prefix}{name}"
        yield from list_names(inner, f"{prefix}{name} ")


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The commands, options and settings that exist."""
    found = {*list_names(typer.main.get_command(app)), *OTHER_SETTINGS, *SCALE_SOURCES, *list_keys(CameraHeightConfig)}
    found |= {f"list {kind}" for kind in PART_KINDS}
    for recipe in CONFIGS:
        found |= {*list_keys(CONFIGS.load(recipe))}
    return found


def find_unknown_names(fix: str, names: set[str]) -> set[str]:
    """Return the commands, options and settings in a fix that do not exist."""
    own = OF_OTHERS.sub("", fix)
    return {*COMMAND.findall(own), *OPTION.findall(own), *SETTING.findall(own)} - names


@pytest.mark.parametrize("fix", FIXES)
def test_commands_options_and_settings_of_a_fix_exist(fix: str, names: set[str]) -> None:
    assert find_unknown_names(fix, names) == set()


def test_unknown_names_are_found(names: set[str]) -> None:
    fix = "pass --no-such-option, set undistort=false, or run stadia chek DATA, or colmap mapper --output_path OUT"
    assert find_unknown_names(fix, names) == {"--no-such-option", "undistort", "chek"}


def test_every_fix_is_tried_or_listed_as_untried() -> None:
    tried = {*TRIED, *ELSEWHERE}
    assert sorted({*FIXES} - tried - {*UNTRIED}) == [], "add a row to TRIED for a new fix"
    assert sorted({*UNTRIED} - {*FIXES} | ({*UNTRIED} & tried)) == [], "remove them from untried_fixes.txt"
    assert sorted(tried - {*list_fixes()}) == [], "no code prints these fixes"


@pytest.mark.parametrize("test", sorted(ELSEWHERE.values()))
def test_the_test_of_a_fix_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_a_new_fix_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'FIX = "set a.b=1"\n'
        "def read(path):\n"
        '    fix = f"pass --size {path}" if path else "look at it"\n'
        "    if not path:\n"
        "        raise DataError(path, found=1, expected=2, fix=FIX)\n"
        "    raise DataError(path, found=1, expected=2, fix=fix)\n"
    )
    assert list_runnable_fixes(tmp_path) == {"set a.b=1": {"a.py"}, "pass --size {}": {"a.py"}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data sets, a video, images, depth and paths."""
    return write_files(tmp_path_factory.mktemp("fixes") / "inputs")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("fix", TRIED)
def test_a_fix_helps(
    fix: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    tried = TRIED[fix]
    folder = tmp_path / "inputs"
    shutil.copytree(inputs, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "400")
    if tried.prepare:
        exec(tried.prepare, {})
    code, out, err = stadia(*shlex.split(tried.line))
    printed = re.escape(fix.lstrip("; ")).replace(re.escape("{}"), ".*")
    assert re.search(printed, " ".join((out + err).split())), out + err
    assert code == (0 if tried.figure else 2)
    if tried.between:
        assert stadia(*shlex.split(tried.between))[0] == 0
    cured_code, cured_out, cured_err = stadia(*shlex.split(tried.cure))
    assert cured_code == 0, cured_out + cured_err
    if tried.figure:
        before, after = (float(re.findall(tried.figure, text)[0]) for text in (out, cured_out))
        assert after < MAX_OF_BEFORE * before


MAX_OF_BEFORE = 0.1
"""Largest error with the fix, as a share of the error before."""
