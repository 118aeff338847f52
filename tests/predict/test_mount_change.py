"""The change of a mount: rendered drives with a known change, laws of the comparison, and exact points and planes."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.scale.camera_height import mount_change
from stadia.scale.camera_height.mount_change import MountView, Stretch, compare_mounts, measure_stretches

Array = NDArray[np.float64]
Stadia = Callable[..., tuple[int, str, str]]
HEIGHT, WIDTH, FOCAL = 96, 320, 200.0
K = np.array([[FOCAL, 0, 159.5], [0, FOCAL, 47.5], [0, 0, 1]])
HEIGHT_M, STEP_M, FRAMES = 1.5, 0.35, 18


def make_rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Array:
    return Rotation.from_euler("YXZ", (yaw_deg, pitch_deg, roll_deg), degrees=True).as_matrix()


def render(seed: int, angles_deg: tuple[float, float, float] = (0, 0, 0), up_m: float = 0.0) -> list[MountView]:
    """A drive through a corridor with textured road and walls, seen by a camera whose mount is turned and raised."""
    rng = np.random.default_rng(seed)
    surfaces = [cv2.GaussianBlur(rng.uniform(0, 255, (2048, 512)).astype(np.float32), (0, 0), 1.5) for _ in range(3)]
    surfaces = [(surface - surface.mean()) / surface.std() * 40 + 128 for surface in surfaces]
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(u - K[0, 2]) / FOCAL, (v - K[1, 2]) / FOCAL, np.ones_like(u, float)], -1)
    rays = rays @ make_rotation(*angles_deg).T
    views = []
    for frame in range(FRAMES):
        height, z = HEIGHT_M + up_m, frame * STEP_M
        depths = [
            np.where(rays[..., 1] > 1e-3, height / np.maximum(rays[..., 1], 1e-3), np.inf),
            np.where(rays[..., 0] > 1e-3, 4.0 / np.maximum(rays[..., 0], 1e-3), np.inf),
            np.where(rays[..., 0] < -1e-3, -4.0 / np.minimum(rays[..., 0], -1e-3), np.inf),
        ]
        nearest = np.argmin(depths, axis=0)
        image = np.full((HEIGHT, WIDTH), 128, np.float32)
        for number, (depth, texture) in enumerate(zip(depths, surfaces, strict=True)):
            inside = (nearest == number) & (depth < 60)
            points = rays[inside] * depth[inside, None]
            along = (points[:, 2] + z) * 20 % 2000
            across = (points[:, 0] if number == 0 else points[:, 1] - height) * 20 + 250
            at = np.stack((across, along), -1).astype(np.float32)[:, None]
            image[inside] = cv2.remap(texture, at, None, cv2.INTER_LINEAR)[:, 0]
        gray = np.clip(image, 0, 255).astype(np.uint8)
        views.append(MountView(lambda gray=gray: gray, K, np.array([0.0, -height, z])))  # type: ignore[misc]
    return views


@pytest.fixture(scope="module")
def straight() -> list[Stretch]:
    return measure_stretches(render(0))


class TestRenderedDrives:
    @pytest.mark.slow
    def test_the_mount_of_one_drive(self, straight: list[Stretch]) -> None:
        pose = mount_change.average_stretches(straight)
        turn_deg = np.degrees(Rotation.from_matrix(pose.R_camera_vehicle).magnitude())
        assert turn_deg < 0.3
        assert pose.height_m == pytest.approx(HEIGHT_M, rel=0.03)

    @pytest.mark.slow
    def test_a_known_change_is_measured_within_its_deviation(self, straight: list[Stretch]) -> None:
        moved = measure_stretches(render(1, (1.0, -1.5, 2.0), 0.1))
        change = compare_mounts(straight, moved, durations_s=(60, 60))
        assert change.has_moved
        truth = {"yaw_deg": 1.0, "pitch_deg": -1.5, "roll_deg": 2.0, "height_cm": 10.0}
        for name, true in truth.items():
            assert abs(getattr(change, name) - true) < 4 * change.deviations[name], name
        assert np.abs([change.yaw_deg - 1, change.pitch_deg + 1.5, change.roll_deg - 2]).max() < 0.4


def make_stretches(R_vehicle_camera: Array, height_m: float, seed: int = 0, count: int = 20) -> list[Stretch]:
    """Stretches of a mount with swaying by .1 degrees."""
    rng = np.random.default_rng(seed)
    stretches = []
    for _ in range(count):
        R = R_vehicle_camera @ Rotation.from_rotvec(np.radians(rng.normal(0, 0.1, 3))).as_matrix()
        height = height_m * float(np.exp(rng.normal(0, 0.01)))
        stretches.append(Stretch(R.T @ np.array([0, 0, 1.0]), R.T @ np.array([0, -1.0, 0]), height, height, 0.0))
    return stretches


class TestComparison:
    @pytest.mark.slow
    @pytest.mark.parametrize("angles", [(0.0, 0, 0), (3, -2, 4)])
    def test_the_change_is_that_of_the_second_camera_in_the_axes_of_the_first(self, angles: Sequence[float]) -> None:
        first, change = make_rotation(2, 8, -3), make_rotation(*angles)
        found = compare_mounts(make_stretches(first, 1.5), make_stretches(first @ change, 1.6), durations_s=(60, 60))
        measured = [found.yaw_deg, found.pitch_deg, found.roll_deg]
        assert measured == pytest.approx(angles, abs=0.15)
        assert found.height_cm == pytest.approx(10, abs=2)
        assert found.has_moved == any(angles)

    @pytest.mark.slow
    def test_a_recording_against_itself_is_exactly_none(self) -> None:
        some = make_stretches(make_rotation(1, 2, 3), 1.5)
        change = compare_mounts(some, some, durations_s=(60, 60))
        assert [change.yaw_deg, change.pitch_deg, change.roll_deg, change.height_cm] == pytest.approx([0] * 4, abs=1e-9)
        assert change.p_value == pytest.approx(1)

    @pytest.mark.slow
    def test_without_a_road_roll_and_height_are_unknown(self) -> None:
        bare = [Stretch(one.travel, np.full(3, np.nan), np.nan, np.nan, 0.0) for one in make_stretches(np.eye(3), 1.5)]
        change = compare_mounts(bare, make_stretches(make_rotation(1, 0, 0), 1.5), durations_s=(60, 60))
        assert change.to_json()["roll_deg"] is None
        assert change.to_json()["height_cm"] is None
        assert change.has_moved


class TestGeometry:
    def test_the_motion_of_exact_points(self) -> None:
        rng = np.random.default_rng(0)
        points = rng.uniform((-8, -3, 6), (8, 2, 30), (300, 3))
        R, t = make_rotation(0.5, -0.3, 0.2), np.array([0.02, -0.01, -1.0])
        before, after = points @ K.T, (points @ R.T + t) @ K.T
        found = mount_change.find_motion(before[:, :2] / before[:, 2:], after[:, :2] / after[:, 2:], K)
        assert found is not None
        assert found[0] == pytest.approx(R, abs=1e-5)
        assert found[1] == pytest.approx(t / np.linalg.norm(t), abs=1e-4)

    def test_the_road_of_a_warped_image(self) -> None:
        rng = np.random.default_rng(0)
        noise = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 2.0)
        second = np.clip((noise - 127) * 6 + 127, 0, 255).astype(np.uint8)
        R, t = make_rotation(0.1, 0.0, 0.0), np.array([0.0, 0, -1.0])
        roll = np.radians(1.5)
        plane = np.array([np.sin(roll), np.cos(roll), 0]) / 1.4
        H = K @ (R + np.outer(t, plane)) @ np.linalg.inv(K)
        first = cv2.warpPerspective(second, H, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        found = mount_change.find_road(np.asarray(first, np.uint8), second, K, R, t)
        assert found is not None
        assert 1 / np.linalg.norm(found) == pytest.approx(1.4, rel=0.02)
        assert np.degrees(np.arctan2(found[0], found[1])) == pytest.approx(1.5, abs=0.3)


class TestCommand:
    def test_two_recordings_are_needed(self, stadia: Stadia) -> None:
        code, _, err = stadia("compare", "a.mp4", "--mount")
        assert (code, "found 1 name" in err) == (2, True)
