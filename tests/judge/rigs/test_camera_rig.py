"""Four cameras that move together: which one is off, on points without images; and a rig of rendered images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from tests.data.rendered_world import write_video
from tests.refusals import refuses

from stadia.cli.main import run
from stadia.core.errors import DataError
from stadia.geometry.poses import from_rotation_translation, invert_pose, se3_exp, so3_exp
from stadia.judge.rigs.camera_pair import Instant
from stadia.judge.rigs.camera_rig import CameraRigVerdict, Matches, RigCamera, judge_rig, read_rig

Array = NDArray[np.float64]

K = np.array([[500.0, 0, 319.5], [0, 500, 199.5], [0, 0, 1]])
MOUNTS = (((0, 0, 0), (0, 0, 0)), ((0.4, 0, 0), (0, 3, 0)), ((0, 0.4, 0.1), (4, 0, 0)), ((0.4, 0.3, 0), (2, 2, 3)))
"""Position in metres and rotation in degrees of each camera in the first."""


def make_cameras() -> list[RigCamera]:
    cameras = []
    for number, (t, angles) in enumerate(MOUNTS):
        pose = invert_pose(from_rotation_translation(so3_exp(np.radians(angles)), np.array(t, float)))
        cameras.append(RigCamera(f"cam{number}", K, pose, np.zeros(4), 640))
    return cameras


def make_matches(*, exchanged: Sequence[int] = (), late: int = -1, late_s: float = 0.0) -> Matches:
    """Matches of cameras as MOUNTS has them; the images of two of them are exchanged, or one is late."""
    random = np.random.default_rng(0)
    order = list(range(len(MOUNTS)))
    if exchanged:
        order[exchanged[0]], order[exchanged[1]] = exchanged[1], exchanged[0]
    found: dict[tuple[int, int], list[Instant]] = {pair: [] for pair in combinations(range(len(MOUNTS)), 2)}
    cameras = make_cameras()
    for _ in range(5):
        depth = np.exp(random.uniform(np.log(3), np.log(30), 100))
        pixels = random.uniform((0, 0), (640, 400), (100, 2))
        points = np.column_stack([(pixels - K[:2, 2]) / 500 * depth[:, None], depth])
        motion = np.array([0.2, 0.1, 1.0, 0.02, 0.06, 0.02]) * random.uniform(-1, 1, 6)
        seen, following = [], []
        for row, place in enumerate(order):
            pose = cameras[place].T_camera_first
            step = motion * (late_s / 0.1 if row == late else 0.0)
            seen.append(project(transform(pose @ se3_exp(step), points), random))
            following.append(project(transform(pose @ se3_exp(motion), points), random))
        for one, other in found:
            found[one, other].append(Instant(seen[one], seen[other], seen[one], following[one], 0.1))
    return found


def project(points: Array, random: np.random.Generator) -> Array:
    pixels = points @ K.T
    return pixels[:, :2] / pixels[:, 2:] + random.normal(size=(len(points), 2)) * 0.2


def transform(T: Array, points: Array) -> Array:
    return points @ T[:3, :3].T + T[:3, 3]


def list_causes(verdict: CameraRigVerdict) -> list[tuple[str, tuple[str, ...]]]:
    return [(cause.name, cause.items) for cause in verdict.causes]


def test_a_right_rig_is_not_accused() -> None:
    verdict = judge_rig("rig", make_cameras(), make_matches())
    assert (list_causes(verdict), verdict.grade, len(verdict.pairs)) == ([], "usable", 6)


@pytest.mark.parametrize("row", [0, 2])
def test_the_camera_that_is_turned_is_named(row: int) -> None:
    cameras = make_cameras()
    turn = from_rotation_translation(so3_exp(np.radians([0.5, -0.4, 0.6])), np.zeros(3))
    cameras[row] = replace(cameras[row], T_camera_first=turn @ cameras[row].T_camera_first)
    verdict = judge_rig("rig", cameras, make_matches())
    assert list_causes(verdict) == [("camera", (f"cam{row}",))]
    assert "rotation" in verdict.causes[0].what


def test_a_K_of_another_size_is_named() -> None:
    cameras = make_cameras()
    cameras[2] = replace(cameras[2], K=np.diag([2.0, 2, 1]) @ K)
    assert list_causes(judge_rig("rig", cameras, make_matches())) == [("camera", ("cam2",))]


def test_a_late_camera_is_named() -> None:
    verdict = judge_rig("rig", make_cameras(), make_matches(late=3, late_s=0.02))
    assert list_causes(verdict) == [("camera", ("cam3",))]
    assert "not-synchronized" in verdict.causes[0].what


@pytest.mark.parametrize("pair", [(0, 1), (1, 3)])
def test_exchanged_images_are_named(pair: tuple[int, int]) -> None:
    verdict = judge_rig("rig", make_cameras(), make_matches(exchanged=pair))
    assert list_causes(verdict) == [("exchanged", tuple(f"cam{row}" for row in pair))]
    assert verdict.grade == "unusable"


def write_rig(folder: Path, names: Sequence[str], count: int = 2) -> tuple[Path, Path]:
    """Images of a textured wall 4 m ahead for three cameras next to each other, and Kalibr's camchain."""
    random = np.random.default_rng(1)
    wall = cv2.resize(random.integers(0, 255, (90, 160), np.uint8), (960, 480), interpolation=cv2.INTER_CUBIC)
    for row, name in enumerate(names):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(count):
            left = 100 + 25 * row + 10 * index  # .2 m are 25 pixels at 4 m
            cv2.imwrite(str(folder / "images" / name / f"{index:03d}.png"), wall[40:440, left : left + 640])
    T = np.eye(4)
    T[0, 3] = -0.2
    chain = {
        f"cam{row}": {
            "camera_model": "pinhole",
            "intrinsics": [500, 500, 319.5, 199.5],
            "distortion_model": "radtan",
            "distortion_coeffs": [0, 0, 0, 0],
            "resolution": [640, 400],
            **({"T_cn_cnm1": T.tolist()} if row else {}),
        }
        for row in range(3)
    }
    (folder / "camchain.yaml").write_text(yaml.safe_dump(chain))
    return folder / "images", folder / "camchain.yaml"


def test_a_rig_of_kalibr_is_judged_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, chain = write_rig(tmp_path, ("cam0", "cam1", "cam2"))
    with pytest.raises(SystemExit) as ended:
        run(["rig", "cameras", str(images), "--calibration", str(chain), "--json"])
    record = json.loads(capsys.readouterr().out)
    assert len(record["pairs"]) + record["pairs_without_a_shared_view"] == 3
    assert [pair["name"] for pair in record["pairs"]] == ["cam0, cam1", "cam0, cam2", "cam1, cam2"]
    assert ended.value.code in (0, None)


def test_K_is_that_of_smaller_images_of_one_shape(tmp_path: Path) -> None:
    images, chain = write_rig(tmp_path, ("cam0", "cam1", "cam2"))
    for file in images.rglob("*.png"):
        cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), (320, 200)))
    for camera in read_rig(images, chain):
        np.testing.assert_allclose(camera.K, [[250, 0, 159.5], [0, 250, 99.5], [0, 0, 1]])
    for file in images.rglob("*.png"):
        cv2.imwrite(str(file), cv2.imread(str(file))[:, 40:280])
    with refuses(DataError, found="images of 240x200", expected="640x400"):
        read_rig(images, chain)


def test_a_video_in_place_of_a_folder_of_images_is_refused(tmp_path: Path) -> None:
    images, chain = write_rig(tmp_path, ("cam0", "cam1", "cam2"))
    shutil.rmtree(images / "cam1")
    write_video(images / "cam1.mp4", [np.zeros((48, 64, 3), np.uint8)] * 3)
    with refuses(DataError, where="cam1.mp4", expected="a folder of images"):
        read_rig(images, chain)


def test_images_that_do_not_belong_to_the_rig_are_refused(tmp_path: Path) -> None:
    images, chain = write_rig(tmp_path, ("left", "right"))
    with refuses(DataError, found="left, right"):
        read_rig(images, chain)
    (images / "third").mkdir()
    (images / "third" / "x.png").write_bytes((images / "left" / "000.png").read_bytes())
    with refuses(DataError, found="2 and 2 and 1 images"):
        read_rig(images, chain)
    (tmp_path / "one.yaml").write_text("fx: 500\nfy: 500\ncx: 320\ncy: 200\n")
    with refuses(DataError, expected="cameras with their poses"):
        read_rig(images, tmp_path / "one.yaml")
