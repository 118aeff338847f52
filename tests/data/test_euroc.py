"""EuRoC's layout, read back rectified and compared with the world that was rendered through its lenses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation
from tests.data.euroc_layout import (
    CAM0,
    CAM1,
    EQUIDISTANT,
    FRAME_NS,
    SIZE,
    START_NS,
    T_BS0,
    TANGENTIAL,
    Array,
    T_world_lens,
    csv,
    write_flat_sequence,
    write_ground_truth,
    write_images,
    write_sequence,
)
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.data.formats.euroc import read_camera
from stadia.data.lens_distortion import IMAGES_EXCHANGED, INTRINSICS_EXCHANGED, RectifiedPair, rectify_pair
from stadia.data.open_dataset import open_recordings

OneLine = Callable[..., None]


@pytest.fixture(scope="module")
def rendered(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset's folder with one sequence; not to be written to."""
    root = tmp_path_factory.mktemp("euroc")
    write_sequence(world, root / "V1_01_easy", CAM0.smaller(), CAM1.smaller())
    return root


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """mav0 of a sequence whose images are flat."""
    return write_flat_sequence(tmp_path / "set" / "MH_01_easy")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["radial-tangential", "radtan", "equidistant"])
def test_images_are_rectified(world: Any, tmp_path: Path, rendered: Path, model: str) -> None:
    """Undistortion, rectification, extrinsics, ground truth by timestamp, body to camera and w x y z, all against one
    truth.
    """
    path = rendered
    if model != "radial-tangential":
        coefficients = EQUIDISTANT if model == "equidistant" else TANGENTIAL
        cam0, cam1 = (
            replace(c.smaller(), model=model, coefficients=k) for c, k in zip((CAM0, CAM1), coefficients, strict=True)
        )
        path = write_sequence(world, tmp_path / "V1_01_easy", cam0, cam1, frames=2)
    (recording,) = open_recordings(path)
    assert recording.name == "euroc/V1_01_easy"
    assert recording.sides == ("left", "right")
    assert np.array_equal(recording.K(0), recording.K(0, "right"))
    assert np.allclose(
        recording.T_right_left, [[1, 0, 0, -0.1100778], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-6
    )
    for index in (0, 1):
        for side in recording.sides:
            rays = world.pinhole_rays(recording.K(index, side), 120, 188)
            true = world.paint(recording.T_world_camera(index, side), rays)[0][..., 0]
            picture = recording.image(index, side)
            assert (picture[..., 0] == picture[..., 2]).all(), "one gray channel, repeated"
            apart = np.abs(picture[..., 0].astype(int) - true)
            assert apart.mean() < 1.0


def test_rectification_equals_the_published_calibration(tmp_path: Path) -> None:
    """The numbers that everybody who rectified EuRoC has: f = 435.2047, cx = 367.4517, cy = 252.2009, bf = 47.9064."""
    left, right = (read_camera(camera.write(tmp_path / name)) for name, camera in (("cam0", CAM0), ("cam1", CAM1)))
    T_right_left = np.linalg.inv(right.T_body_lens) @ left.T_body_lens
    assert T_right_left[:3, 3] == pytest.approx((-0.110074, 0.000399, -0.000854), abs=1e-6)
    assert np.degrees(Rotation.from_matrix(T_right_left[:3, :3]).magnitude()) == pytest.approx(0.818, abs=1e-3)
    pair = rectify_pair(left.lens, right.lens, T_right_left, "pair")
    (fx, _, cx), (_, fy, cy), _ = pair.left.new_K
    assert (fx, fy, cx, cy) == pytest.approx((435.2047, 435.2047, 367.4517, 252.2009), abs=1e-3)
    assert pair.baseline_m == pytest.approx(0.110078, abs=1e-6)
    assert fx * pair.baseline_m == pytest.approx(47.9064, abs=1e-3)


def test_rectifying_rotations_equal_opencv(tmp_path: Path) -> None:
    left, right = (read_camera(camera.write(tmp_path / name)) for name, camera in (("cam0", CAM0), ("cam1", CAM1)))
    T = np.linalg.inv(right.T_body_lens) @ left.T_body_lens
    lenses = [part for lens in (left.lens, right.lens) for part in (lens.K, lens.coefficients)]
    R_left, R_right = cv2.stereoRectify(*lenses, SIZE, T[:3, :3], T[:3, 3:].copy())[:2]
    pair = rectify_pair(left.lens, right.lens, T, "pair")
    assert np.allclose(pair.left.R_new_lens, R_left, atol=1e-9)
    assert np.allclose(pair.right.R_new_lens, R_right, atol=1e-9)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_intrinsics_of_resized_images_are_refused(tmp_path: Path, one_line: OneLine, factor: float) -> None:
    """Rectification hides them from the later checks: its own principal point is in the middle."""
    resized = replace(CAM0, intrinsics=tuple(factor * value for value in CAM0.intrinsics))
    with pytest.raises(DataError) as caught:
        read_camera(resized.write(tmp_path / "cam0"))
    one_line(caught.value, f"images of about {'368x249' if factor == 0.5 else '1470x994'}", "752x480")


@pytest.mark.parametrize("ratio", [1 / 1.3, 1 / 1.1, 1.1, 1.3])
def test_a_focal_length_of_one_axis_alone_is_refused(tmp_path: Path, one_line: OneLine, ratio: float) -> None:
    """Wrong in both cameras it leaves the rows equal, and rectified depth is wrong by a factor."""
    fx, fy, cx, cy = CAM0.intrinsics
    changed = replace(CAM0, intrinsics=(ratio * fx, fy, cx, cy)).write(tmp_path / "cam0")
    if 1 / 1.2 < ratio < 1.2:
        assert read_camera(changed).lens.K[0, 0] == ratio * fx
        return
    with pytest.raises(DataError) as caught:
        read_camera(changed)
    one_line(caught.value, f"fx {ratio * fx:g} and fy {fy:g}", "1.30")


def test_ground_truth_is_interpolated_by_time(flat: Path) -> None:
    """Frames before and after it, and in a hole of it, have none; its rate and its rows do not matter."""
    write_ground_truth(
        flat, np.array([-0.2, 0.04, 0.07])
    )  # a hole at frame 0, states on either side of frame 1, none at frame 2
    (recording,) = open_recordings(flat)
    assert [recording.T_world_camera(i) is not None for i in range(3)] == [False, True, False]
    camera = read_camera(flat / "cam0" / "sensor.yaml").lens
    assert camera.height == 120
    T = recording.T_world_camera(1) @ _lens_in_rectified(recording)
    assert np.allclose(T, T_world_lens(0.05), atol=1e-4)


def _lens_in_rectified(recording: Any) -> Array:
    T = np.eye(4)
    T[:3, :3] = recording.rectification.left.R_new_lens
    return T


def test_ground_truth_of_another_sensor_is_moved_to_the_body(flat: Path) -> None:
    (of_body,) = open_recordings(flat)
    (flat / "state_groundtruth_estimate0" / "sensor.yaml").write_text(
        yaml.safe_dump({"T_BS": {"cols": 4, "rows": 4, "data": T_BS0.ravel().tolist()}})
    )
    (of_sensor,) = open_recordings(flat)
    T_world_sensor = T_world_lens(0) @ np.linalg.inv(T_BS0)  # the file now holds poses of the sensor
    expected = T_world_sensor @ np.linalg.inv(_lens_in_rectified(of_sensor))
    assert np.allclose(of_sensor.T_world_camera(0), expected)
    assert not np.allclose(of_sensor.T_world_camera(0), of_body.T_world_camera(0))


def test_frames_without_a_right_image_are_dropped_and_counted(flat: Path) -> None:
    write_images(flat / "cam0", [0, 1, 2, 3], lambda index: np.full((120, 188), 30 * index, np.uint8))
    stamps = [START_NS + FRAME_NS * index for index in (0, 2)]
    csv(flat / "cam1" / "data.csv", "timestamp [ns],filename", [(stamp, f"{stamp}.png") for stamp in stamps])
    (flat / "cam1" / "data" / f"{START_NS + FRAME_NS}.png").unlink()
    (recording,) = open_recordings(flat)
    assert [recording.number(i) for i in range(len(recording))] == [0, 2]
    assert recording.image(1).mean() == 60
    assert recording.T_world_camera(1)[:3, 3] == pytest.approx(T_world_lens(0.1)[:3, 3], abs=1e-3)
    assert str(recording.selection) == "2 of 4 frames kept (stride 2), 2 without an image on the other side left out"


def test_standing_frames_are_dropped_with_option(world: Any, rendered: Path, tmp_path: Path) -> None:
    shown = [0, 0, 0, 1, 2]
    stored = sorted((rendered / "V1_01_easy" / "mav0" / "cam0" / "data").iterdir())
    mav0 = tmp_path / "V1_01_easy" / "mav0"
    for name, camera in (("cam0", CAM0.smaller()), ("cam1", CAM1.smaller())):
        camera.write(mav0 / name)
        write_images(
            mav0 / name, list(range(5)), lambda index: cv2.imread(str(stored[shown[index]]), cv2.IMREAD_GRAYSCALE)
        )
    assert len(open_recordings(mav0)[0]) == 5
    (recording,) = open_recordings(mav0, standing="drop")
    assert [recording.number(i) for i in range(len(recording))] == [0, 3, 4]
    assert "2 without motion left out" in str(recording.selection)
    with refuses(ConfigError, where="data.standing"):
        open_recordings(world.recording(tmp_path / "other"), standing="drop")


def test_exchanged_images_or_intrinsics_leave_the_rows_of_the_right_form(flat: Path) -> None:
    """Points through two lenses, rectified with one mistake: only its cure puts each point into one row."""
    left, right = (read_camera(flat / name / "sensor.yaml").lens for name in ("cam0", "cam1"))
    right = replace(right, K=right.K @ np.diag([1.1, 1.1, 1]))
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", (2.0, 1.0, -1.5), degrees=True).as_matrix()
    T[:3, 3] = -0.11, 0.004, 0.002
    true, rows, columns = rectify_pair(left, right, T, "pair"), *np.mgrid[20:110:10, 30:170:10]
    in_left = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float64)
    in_right = in_left - [true.left.new_K[0, 0] * true.baseline_m / 1.5, 0]
    raw = true.left.find_raw(in_left), true.right.find_raw(in_right)
    assert all(np.abs(rows_px).max() > 1 for rows_px in true.other_rows_px(in_left, in_right).values())

    def place(pair: RectifiedPair, raw_left: Array, raw_right: Array) -> tuple[Array, Array]:
        """Return where a pair shows pixels of the two lenses."""
        sides = (pair.left, raw_left), (pair.right, raw_right)
        return tuple(one.lens.rays(at, one.R_new_lens) @ one.new_K[:2, :2].T + one.new_K[:2, 2] for one, at in sides)

    for name, wrong, images in (
        (IMAGES_EXCHANGED, true, raw[::-1]),
        (INTRINSICS_EXCHANGED, rectify_pair(right, left, T, "pair"), raw),
    ):
        shown = place(wrong, *images)
        assert np.median(np.abs(shown[0][:, 1] - shown[1][:, 1])) > 1
        offsets = {form: np.abs(px).max() for form, px in wrong.other_rows_px(*shown).items()}
        assert offsets.pop(name) < 0.05, "of interpolated maps"
        assert min(offsets.values()) > 1


@pytest.mark.real
def test_real_euroc_sample_is_read(real_data: Path) -> None:
    """Published numbers, from the dataset's own sensor.yaml; the body's path moved to the camera."""
    (recording,) = open_recordings(real_data / "euroc")
    assert recording.name == "euroc/V1_01_easy"
    assert len(recording) == 60
    assert recording.K(0)[[0, 1, 0, 1], [0, 1, 2, 2]] == pytest.approx(
        (435.2047, 435.2047, 367.4517, 252.2009), abs=1e-3
    )
    assert np.allclose(recording.T_right_left[:3], np.column_stack([np.eye(3), (-0.110078, 0, 0)]), atol=1e-6)
    assert recording.image(0, "right").shape == (480, 752, 3)
    body = np.array([0.878895, 2.183400, 0.948427])
    assert np.linalg.norm(recording.T_world_camera(0)[:3, 3] - body) == pytest.approx(
        np.linalg.norm(T_BS0[:3, 3]), abs=1e-5
    )


def _line(path: Path, number: int, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:number] + change(lines[number:])) + "\n")


SECOND, THIRD = (START_NS + FRAME_NS * index for index in (1, 2))
BAD: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no right camera": (lambda m: (m / "cam1").rename(m / "x"), ("cam1", "no such folder", "cameras cam0 (left)")),
    "another distortion": (
        lambda m: CAM0.smaller().write(m / "cam0", distortion_model="omni"),
        ("cam0/sensor.yaml", "distortion_model 'omni'", "equidistant"),
    ),
    "cameras exchanged": (
        lambda m: ((m / "cam0").rename(m / "x"), (m / "cam1").rename(m / "cam0"), (m / "x").rename(m / "cam1")),
        ("right camera at (-0.11", "cam0 is the left camera"),
    ),
    "YAML that makes objects": (
        lambda m: (m / "cam0" / "sensor.yaml").write_text(f"!!python/object/apply:os.mkdir ['{m / 'made'}']"),
        ("cam0/sensor.yaml", "invalid YAML"),
    ),
    "list cut off between lines": (
        lambda m: _line(m / "cam0" / "data.csv", 3, lambda _: []),
        ("cam0/data.csv", "2 of 3 images listed", str(THIRD)),
    ),
    "other moments": (
        lambda m: (
            [p.unlink() for p in (m / "cam1" / "data").iterdir()]
            and write_images(m / "cam1", [7], lambda _: np.zeros((120, 188), np.uint8))
        ),
        ("cam1/data.csv", "images 250 ms and more from the left ones", "250 ms"),
    ),
    "ground truth of another time": (
        lambda m: write_ground_truth(m, np.arange(9) * 0.005, START_NS + 10**12),
        (
            "state_groundtruth_estimate0/data.csv",
            "ground truth from 1403716273.262 to",
            "1403715273.262 to 1403715273.362 s",
        ),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(flat: Path, one_line: OneLine, name: str) -> None:
    spoil, parts = BAD[name]
    spoil(flat)
    with pytest.raises(DataError) as caught:
        open_recordings(flat.parent)
    one_line(caught.value, *parts)
    assert not (flat / "made").exists(), "YAML was run"
