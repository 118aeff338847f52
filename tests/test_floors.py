"""Each floor runs without the libraries of the floors above; the first one loads matplotlib only to draw."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.sfm.textured_room import HEIGHT, WIDTH, K, TexturedRoom, find_arc_pose, write_images

from stadia.core.floors import FLOORS

BLOCKED = [library for floor in FLOORS.values() for library in floor.libraries]
RUN_LINES = """
import contextlib, io, json, os, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

blocked, lines = json.loads(sys.argv[1])
sys.meta_path.insert(0, Blocker())
from stadia.cli.main import run

ended = []
for line in lines:
    out, code = io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            run(line)
        except SystemExit as ending:
            code = ending.code
    ended.append((code, out.getvalue(), "matplotlib" in sys.modules))
print(json.dumps(ended))
"""
"""A program that runs command lines; for each it prints the exit code, the text and whether matplotlib is loaded."""


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


def run_lines(blocked: list[str], lines: list[str]) -> list[tuple[int | None, str, bool]]:
    """Run command lines in one process that cannot import the given libraries."""
    words = [sys.executable, "-c", RUN_LINES, json.dumps([blocked, [line.split() for line in lines]])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(code, text, drawn) for code, text, drawn in json.loads(done.stdout.splitlines()[-1])]


def test_results_and_scores_are_judged_without_a_library_of_the_floors_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    at = write_result(tmp_path)
    lines = [
        "list datasets",
        "explain U01",
        f"evaluate --depth {at}/depth --reference {at}/truth --protocol metric --depth-factor 256",
        f"evaluate --trajectory {at}/path.txt --reference {at}/path.txt",
        f"scale {at}/transforms.json --images {at}/room --scale-from distance=000000.png..000007.png:5",
        f"check {at}/transforms.json --images {at}/room --report {at}/page",
        f"camera {at}/room --fov 56",
    ]
    for line, (code, text, has_matplotlib) in zip(lines, run_lines(BLOCKED, lines), strict=True):
        assert code == 0, f"stadia {line}\n{text}"
        assert not has_matplotlib, f"stadia {line} draws nothing"
    assert (at / "page" / "result.html").is_file()


def test_images_are_mapped_and_poses_refined_without_a_library_of_the_floors_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    at = write_result(tmp_path)
    lines = [
        f"refine {at}/transforms.json --images {at}/room --out {at}/refined.json",
        f"map {at}/room --out {at}/map data.camera.horizontal_fov_deg=56",
        f"view {at}/map --out {at}/view.html",
    ]
    for line, (code, text, _) in zip(lines, run_lines(BLOCKED, lines), strict=True):
        assert code == 0, f"stadia {line}\n{text}"
    assert (at / "map" / "map.json").is_file()


def test_images_that_show_no_drive_are_refused_without_a_library_of_the_floors_above(tmp_path: Path) -> None:
    """The commands find after they opened the images that these are too few, and have no masks."""
    at = write_result(tmp_path)
    lines = [f"camera {at}/room --fov 56", f"compare {at}/room {at}/room --mount", f"camera-height {at}/room"]
    ended = run_lines(BLOCKED, lines)
    assert [code for code, *_ in ended] == [0, 2, 2], ended
    assert "drive" in ended[1][1]
    assert "masks" in ended[2][1]


def test_base_predicts_and_is_scored_without_a_library_of_the_third_floor(tmp_path: Path) -> None:
    """A photo, frames of a video without a map, and a score of depth maps; a training is refused by its floor."""
    at = write_result(tmp_path)
    write_depth_data(at / "scored", at / "room")
    blocked = [*FLOORS["train"].libraries, "torchvision"]
    lines = [
        f"predict {at}/room/000000.png --out {at}/photo",
        f"predict {at}/room --out {at}/frames data.camera.horizontal_fov_deg=56",
        f"evaluate base {at}/scored --protocol relative --out {at}/scores",
        f"train supervised {at}/scored",
    ]
    *ended, (refused, text, _) = run_lines(blocked, lines)
    for line, (code, printed, _) in zip(lines, ended, strict=False):
        assert code == 0, f"stadia {line}\n{printed}"
    assert (at / "photo" / "depth" / "000000.npz").is_file()
    assert json.loads((at / "frames" / "predictions.json").read_text())["motion"] == "network"
    assert (refused, "stadia[train]" in text) == (2, True)
