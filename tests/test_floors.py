"""Each floor runs without the libraries of the floors above; the first one loads matplotlib only to draw."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.sfm.textured_room import HEIGHT, WIDTH, K, TexturedRoom, find_arc_pose, write_images

from stadia.core.floors import FLOORS, MissingFloorError, find_missing_floor

BLOCKED = [library for floor in FLOORS.values() for library in floor.libraries]
HEAVY = ["matplotlib", "tensorboard", "huggingface_hub"]
"""Libraries of the first floor that only drawing or downloading needs."""
HIDE = """
import contextlib, io, json, sys
from importlib.machinery import PathFinder

class FloorFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else PathFinder.find_spec(name, path, target)

hidden, heavy, *lines = json.loads(sys.argv[1])
sys.meta_path[:] = [FloorFinder if finder is PathFinder else finder for finder in sys.meta_path]
"""
"""Hide libraries from the imports of a program, as if they were not installed."""
RUN_LINES = f"""
{HIDE}
from stadia.cli.main import run

ended = []
for line in lines:
    text, code = io.StringIO(), None
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            run(line.split())
        except SystemExit as ending:
            code = ending.code
    ended.append((code, text.getvalue(), sorted(set(heavy) & sys.modules.keys())))
print(json.dumps(ended))
"""
"""A program that runs command lines; for each it prints the exit code, the text and the heavy libraries so far."""
CALL_TRAINING = f"""
{HIDE}
import stadia

for name in ("train", "adapt"):
    try:
        getattr(stadia, name)("nothing", "nowhere")
    except stadia.StadiaError as error:
        print(error)
"""
TRAIN = "This needs the train floor of stadia. Install it: pip install 'stadia[train]'"

pytestmark = pytest.mark.slow  # each test starts a process


def write_result(folder: Path) -> Path:
    """Write images of a room, a result of nerfstudio with them, its path as rows of TUM, and depth maps with truth."""
    view = TexturedRoom()
    poses = [find_arc_pose(index) for index in range(0, 24, 3)]
    write_images(folder / "room", [view.draw(*pose) for pose in poses])
    camera = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2] + 0.5, "cy": K[1, 2] + 0.5, "w": WIDTH, "h": HEIGHT}
    frames, rows = [], []
    for index, (R, center) in enumerate(poses):
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R.T, center
        matrix = (T @ np.diag([1, -1, -1, 1])).tolist()
        frames.append({"file_path": f"room/{index:06d}.png", "transform_matrix": matrix})
        rows.append(" ".join(map(str, (0.1 * index, *center, 0, 0, 0, 1))))
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    (folder / "path.txt").write_text("\n".join(rows))
    for name in ("depth", "truth"):
        (folder / name).mkdir()
        cv2.imwrite(str(folder / name / "000000.png"), np.full((20, 30), 2560, np.uint16))
    return folder


def write_depth_data(folder: Path, images: Path) -> None:
    """Write a recording of two of the images with depth, in the layout of stadia."""
    camera = {"K": K.tolist(), "height": HEIGHT, "width": WIDTH}
    (folder / "depth" / "left").mkdir(parents=True)
    (folder / "left").mkdir()
    (folder / "recording.json").write_text(json.dumps({"cameras": {"left": camera}}))
    for index in range(2):
        name = f"{index:06d}"
        (folder / "left" / f"{name}.png").write_bytes((images / f"{name}.png").read_bytes())
        np.save(folder / "depth" / "left" / f"{name}.npy", np.full((HEIGHT, WIDTH), 2.0, np.float32))


def run_program(program: str, hidden: list[str], *lines: str) -> str:
    """Run a program without some libraries; return what it prints."""
    words = [sys.executable, "-c", program, json.dumps([hidden, HEAVY, *lines])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_lines(hidden: list[str], *lines: str) -> list[tuple[int | None, str, list[str]]]:
    """Run command lines in one process without some libraries."""
    printed = run_program(RUN_LINES, hidden, *lines)
    return [(code, text, heavy) for code, text, heavy in json.loads(printed.splitlines()[-1])]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_result(tmp_path_factory.mktemp("floors"))


def test_results_and_scores_are_judged_without_a_library_of_the_floors_above(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that draws or downloads is loaded either, so that a check starts fast and fits into a small memory."""
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    depth = f"--depth {result}/depth --reference {result}/truth"
    lines = [
        "list datasets",
        "explain U01",
        f"evaluate {depth} --protocol metric --depth-factor 256",
        f"evaluate --trajectory {result}/path.txt --reference {result}/path.txt",
        f"scale {result}/transforms.json --images {result}/room --scale-from distance=000000.png..000007.png:5",
        f"check {result}/transforms.json --images {result}/room --report {tmp_path}/page",
        f"camera {result}/room/000000.png --fov 56",
        f"camera {result}/room --fov 56",
        f"check {result}/room data.camera.horizontal_fov_deg=56",
    ]
    for line, (code, text, heavy) in zip(lines, run_lines(BLOCKED, *lines), strict=True):
        assert code == 0, f"stadia {line}\n{text}"
        assert heavy == [], f"stadia {line}"
    assert (tmp_path / "page" / "result.html").is_file()


def test_images_are_mapped_and_poses_refined_without_a_library_of_the_floors_above(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that need a drive or masks find after they opened the images that these are too few, or have none."""
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    room = f"{result}/room"
    lines = [
        f"refine {result}/transforms.json --images {room} --out {tmp_path}/refined.json",
        f"map {room} --out {tmp_path}/map data.camera.horizontal_fov_deg=56",
        f"view {tmp_path}/map --out {tmp_path}/view.html",
        f"data shard {room} {tmp_path}/shards data.camera.horizontal_fov_deg=56",
        f"camera {room} --fov 56",
        f"compare {room} {room} --mount",
        f"camera-height {room}",
    ]
    ended = run_lines(BLOCKED, *lines)
    assert [code for code, *_ in ended] == [0, 0, 0, 0, 0, 2, 2], ended
    assert (tmp_path / "map" / "map.json").is_file()
    assert "drive" in ended[5][1]
    assert "masks" in ended[6][1]


def test_the_first_floor_lists_parts_examines_the_machine_and_names_the_extra_of_a_command() -> None:
    lists = [f"list {kind}" for kind in ("recipes", "networks", "losses", "metrics", "checks", "optimizers")]
    missing = ["train selfsup .", "adapt base .", "demo", "data roadworld --out world", "list encoders --filter resnet"]
    doctor, *ended = run_lines(BLOCKED, "doctor", *lists, *missing)
    assert doctor[0] == 0, doctor
    assert "floors: judge and map installed\n" in doctor[1]
    assert "- train: not installed" in doctor[1]
    assert "pip install 'stadia[train]'" in doctor[1]
    assert [(code, bool(text)) for code, text, _ in ended[: len(lists)]] == [(0, True)] * len(lists)
    refused = [(code, text.strip()) for code, text, _ in ended[len(lists) :]]
    assert refused == [(2, f"stadia: {TRAIN}")] * len(missing)
    assert run_program(CALL_TRAINING, BLOCKED).splitlines() == [TRAIN] * 2


def test_only_libraries_of_a_floor_are_explained() -> None:
    assert find_missing_floor(ModuleNotFoundError(name="mypackage")) is None
    assert find_missing_floor(ImportError(name="torch")) is None
    missing = find_missing_floor(ModuleNotFoundError(name="onnxruntime"))
    assert isinstance(missing, MissingFloorError)
    assert (missing.where, missing.fix) == ("onnxruntime", "pip install 'stadia[depth]'")


def test_base_predicts_and_is_scored_without_a_library_of_the_third_floor(result: Path, tmp_path: Path) -> None:
    """A photo, frames of a video without a map, and a score of depth maps; a training is refused by its floor."""
    at = tmp_path
    write_depth_data(at / "scored", result / "room")
    hidden = [*FLOORS["train"].libraries, "torchvision"]
    lines = [
        f"predict {result}/room/000000.png --out {at}/photo",
        f"predict {result}/room --out {at}/frames data.camera.horizontal_fov_deg=56",
        f"evaluate base {at}/scored --protocol relative --out {at}/scores",
        f"train supervised {at}/scored",
    ]
    *ended, (refused, text, _) = run_lines(hidden, *lines)
    for line, (code, printed, _) in zip(lines, ended, strict=False):
        assert code == 0, f"stadia {line}\n{printed}"
    assert (at / "photo" / "depth" / "000000.npz").is_file()
    assert json.loads((at / "frames" / "predictions.json").read_text())["motion"] == "network"
    assert (refused, "stadia[train]" in text) == (2, True)
