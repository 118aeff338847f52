"""Poses in a pipeline: `stadia.assert_poses` and the exit codes, JUnit XML and annotations of `stadia check`."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.refusals import refuses
from tests.sfm.textured_room import HEIGHT, WIDTH, K, TexturedRoom, find_arc_pose, write_images
from typer.testing import CliRunner

import stadia
from stadia.cli.main import app
from stadia.core.errors import ConfigError
from stadia.geometry.poses import invert_pose
from stadia.io.records.json_scenes import write_transforms
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.pose_assertion import PoseAssertionError

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]
COUNT = 10


@pytest.fixture(scope="module")
def poses() -> Array:
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    for pose, index in zip(T, np.linspace(0, 23, COUNT), strict=True):
        R_camera_world, center = find_arc_pose(index)
        pose[:3, :3], pose[:3, 3] = R_camera_world.T, center
    return T


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, poses: Array) -> Path:
    folder = tmp_path_factory.mktemp("room") / "images"
    room = TexturedRoom()
    write_images(folder, [room.draw(T[:3, :3].T, T[:3, 3]) for T in poses])
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matches")


def turn(poses: Array, degrees: float) -> Array:
    """Turn each camera by an angle about a random axis."""
    axes = np.random.default_rng(0).normal(size=(len(poses), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    turned = poses.copy()
    turned[:, :3, :3] @= Rotation.from_rotvec(np.radians(degrees) * axes).as_matrix()
    return turned


def write(path: Path, poses: Array, images: Path) -> Path:
    count = len(poses)
    given = Reconstruction(
        names=tuple(f"{images.name}/{file.name}" for file in sorted(images.iterdir())),
        T_camera_world=invert_pose(poses),
        K=np.tile(K, (count, 1, 1)),
        distortion=np.zeros((count, 4)),
        sizes=np.tile(np.array([WIDTH, HEIGHT]), (count, 1)),
        format="",
        path=path,
    )
    write_transforms(given, path)
    return path


def test_right_poses_pass_and_are_measured(images: Path, poses: Array, work: Path) -> None:
    verdict = stadia.assert_poses(images, K, poses, good_for=["splats", "localization=1m"], work=work)
    assert verdict.error.rotation_deg is not None
    assert [purpose.purpose.key for purpose in verdict.purposes] == ["splats", "localization=1m"]


def test_wrong_poses_raise_the_measurement_and_the_cure(images: Path, poses: Array, work: Path) -> None:
    with pytest.raises(PoseAssertionError) as raised:
        stadia.assert_poses(images, K, turn(poses, 5), work=work)
    error = raised.value
    assert isinstance(error, AssertionError)
    assert "navigation" in error.found
    assert error.verdict is not None
    assert error.verdict.error.rotation_deg.value == pytest.approx(5, rel=0.2)  # type: ignore[union-attr]
    assert error.fix is not None
    assert all(cause.fix in error.fix for cause in error.verdict.causes)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_wrong_convention_is_named(images: Path, poses: Array, work: Path) -> None:
    with pytest.raises(PoseAssertionError) as raised:
        stadia.assert_poses(images, K, np.linalg.inv(poses), work=work)
    assert raised.value.verdict is not None
    assert raised.value.verdict.causes[0].name == "convention"
    assert raised.value.fix is not None


def test_names_assign_poses(images: Path, poses: Array, work: Path) -> None:
    names = [file.name for file in sorted(images.iterdir())]
    stadia.assert_poses(images, np.tile(K, (COUNT, 1, 1)), poses[::-1], names[::-1], good_for="splats", work=work)


def test_arrays_of_another_shape_are_refused(images: Path, poses: Array) -> None:
    with refuses(ConfigError, where="T_world_camera"):
        stadia.assert_poses(images, K, poses[0])
    with refuses(ConfigError, where="K"):
        stadia.assert_poses(images, K[:2], poses)
    with refuses(ConfigError, where="names"):
        stadia.assert_poses(images, K, poses, ["a"])
    with refuses(ConfigError, where="distortion"):
        stadia.assert_poses(images, K, poses, distortion=[0.1])
    with refuses(ConfigError, where="--for"):
        stadia.assert_poses(images, K, poses, good_for="cooking")


def test_asserting_loads_no_torch() -> None:
    code = "import stadia, sys; stadia.assert_poses; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("degrees", "purposes", "code", "outcomes"),
    [
        (0.0, ["splats", "localization=1m"], 0, {"testcase": 2}),
        (5.0, ["navigation"], 1, {"failure": 2}),
        (0.0, ["localization=LEFT_OPEN"], 3, {"error": 1}),
        (0.0, ["cooking"], 2, None),
    ],
)
def test_exit_codes_and_junit(
    degrees: float, purposes: list[str], code: int, outcomes: dict[str, int] | None, images: Path, poses: Array,
    tmp_path: Path,
) -> None:  # fmt: skip
    result, junit = write(tmp_path / "transforms.json", turn(poses, degrees), images), tmp_path / "stadia.xml"
    if "LEFT_OPEN" in purposes[0]:
        error = stadia.check_reconstruction(result, images).error
        assert error.position_share is not None
        open_m = 0.9 * error.extent * max(error.position_share)  # below the value, or below the deviation
        purposes = [f"localization={1000 * open_m:.6f}mm"]
    words = ["check", str(result), "--images", str(images), "--junit", str(junit), "--github"]
    ended = CliRunner().invoke(app, [*words, *(f"--for={purpose}" for purpose in purposes)])
    if outcomes is None:
        assert isinstance(ended.exception, ConfigError)  # which `main` turns into exit code 2
        assert not junit.exists()
        return
    assert ended.exit_code == code
    root = ElementTree.parse(junit).getroot()
    assert {tag: len(list(root.iter(tag))) for tag in outcomes} == outcomes
    lines = ended.stdout.splitlines()
    assert len(lines) == len(list(root.iter("testcase")))
    assert all(line.startswith("::") for line in lines)


def test_junit_replaces_only_its_own_file(images: Path, poses: Array, tmp_path: Path) -> None:
    result, junit = write(tmp_path / "transforms.json", poses, images), tmp_path / "notes.xml"
    junit.write_text("<mine/>")
    words = ["check", str(result), "--images", str(images), "--for", "splats", "--junit", str(junit)]
    assert CliRunner().invoke(app, words).exception is not None
    assert junit.read_text() == "<mine/>"
    assert CliRunner().invoke(app, [*words, "--force"]).exit_code == 0
