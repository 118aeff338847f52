"""Move cameras of rendered drives by .2 to 5 degrees: error and ROC of `stadia compare A B --mount`.

    python benchmarks/mount_change.py --seed 0 --worlds 12 --cache FOLDER [--data FOLDER_OF_REAL_SAMPLES]

Each world of RoadWorld (416x128, 60 frames at 10 Hz, .6 to 1.3 m a frame, swaying as a car does) gives two recordings
of its drive: with the mount straight ahead, and moved by a random rotation and height. Worlds are straightened by their
true poses, so that any two straight recordings have the same mount, and any straight and moved one differ by a known
change. Recordings with too few straight stretches are counted as refused.

KITTI raw and KITTI odometry 06 are compared with themselves: their first half with their second half.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA, make_parser
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.data.open_dataset import open_recordings
from stadia.predict.inputs import open_inputs
from stadia.scale.camera_height.mount_change import (
    MIN_STRETCHES,
    SIGNIFICANCE,
    MountChange,
    MountView,
    Stretch,
    compare_mounts,
    measure_input,
    measure_stretches,
)
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

Array = NDArray[np.float64]
CONFIG = RoadWorldConfig(
    train=1, val=0, test=0, frames=60, height=128, width=416, stereo=False, supersampling=1, frame_rate_hz=10
)
DURATION_S = CONFIG.frames / CONFIG.frame_rate_hz
ANGLES_DEG = (0.2, 5.0)  # smallest and largest rotation of a moved mount, evenly drawn in the logarithm
MAX_HEIGHT_CM = 10.0
BINS_DEG = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Mounted:
    """A recording of a mounted camera.

    stretches: what was measured.
    angles_deg: true yaw, pitch and roll of the mount.
    height_cm: true height over that of the straight mount.
    """

    stretches: list[Stretch]
    angles_deg: tuple[float, float, float]
    height_cm: float

    @property
    def size_deg(self) -> float:
        """Return the angle by which the mount was moved."""
        return float(np.linalg.norm(self.angles_deg))


def find_true_mount(T_world_camera: Array, road_plane: Array) -> Array:
    """Return R_camera_vehicle (3, 3), the mean orientation of the camera on its vehicle, from poses and road planes."""
    moved = T_world_camera[2:, :3, 3] - T_world_camera[:-2, :3, 3]
    local = np.einsum("nji,nj->ni", T_world_camera[1:-1, :3, :3], moved)
    forward = (local / np.linalg.norm(local, axis=1, keepdims=True)).mean(0)
    forward /= np.linalg.norm(forward)
    down = -road_plane[:, :3].mean(0)
    down -= forward * (forward @ down)
    down /= np.linalg.norm(down)
    return np.column_stack((np.cross(down, forward), down, forward))


def render_views(seed: int, angles_deg: tuple[float, float, float], height_cm: float) -> list[MountView]:
    """Render a drive whose camera is straight ahead on average, and then moved."""
    world = make_world(seed, CONFIG)
    T_camera_mount = np.eye(4)
    straight = find_true_mount(world.drive.T_world_camera, world.drive.road_plane)
    T_camera_mount[:3, :3] = straight @ Rotation.from_euler("YXZ", angles_deg, degrees=True).as_matrix()
    T_camera_mount[:3, 3] = straight @ np.array([0, -height_cm / 100, 0])
    poses = world.drive.T_world_camera @ T_camera_mount
    renderer = RoadRenderer(replace(world, drive=replace(world.drive, T_world_camera=poses)), CONFIG)
    views = []
    for frame in range(CONFIG.frames):
        gray = np.asarray(cv2.cvtColor(renderer.render(frame)["left"].image, cv2.COLOR_RGB2GRAY), np.uint8)
        views.append(MountView(lambda gray=gray: gray, world.K, poses[frame, :3, 3]))  # type: ignore[misc]
    return views


def draw_move(random: np.random.Generator) -> tuple[tuple[float, float, float], float]:
    """Return yaw, pitch and roll in degrees, and the height in cm, of a moved mount."""
    axis = random.normal(size=3)
    size = np.exp(random.uniform(*np.log(ANGLES_DEG)))
    yaw, pitch, roll = (axis / np.linalg.norm(axis) * size).tolist()
    return (yaw, pitch, roll), float(random.uniform(-MAX_HEIGHT_CM, MAX_HEIGHT_CM))


def measure_worlds(seed: int, worlds: int, cache: Path) -> tuple[list[Mounted], list[Mounted]]:
    """Return the straight and the moved recordings; finished ones are read from the cache."""
    random = np.random.default_rng(seed)
    straight, moved = list[Mounted](), list[Mounted]()
    for number in range(worlds):
        change = draw_move(random)
        for kind, (angles, height), kept in (("straight", ((0.0, 0.0, 0.0), 0.0), straight), ("moved", change, moved)):
            file = cache / f"mount-{seed}-{number}-{kind}.pickle"
            if not file.exists():
                started = time.perf_counter()
                stretches = measure_stretches(render_views(1000 * seed + number, angles, height))
                file.write_bytes(pickle.dumps(stretches))
                print(f"{file.stem}: {len(stretches)} stretches, {time.perf_counter() - started:.0f} s", flush=True)
            kept.append(Mounted(pickle.loads(file.read_bytes()), angles, height))
    return straight, moved


def compare(first: Mounted, second: Mounted) -> tuple[MountChange, Array]:
    """Return the measured change, and its errors in yaw, pitch, roll (degrees) and height (cm)."""
    found = compare_mounts(first.stretches, second.stretches, durations_s=(DURATION_S, DURATION_S))
    measured = np.array([found.yaw_deg, found.pitch_deg, found.roll_deg, found.height_cm])
    return found, measured - np.array([*second.angles_deg, second.height_cm - first.height_cm])


def main() -> None:
    """Render, measure, compare and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=12)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    everything = measure_worlds(given.seed, given.worlds, given.cache)
    usable = [[one for one in some if len(one.stretches) >= MIN_STRETCHES] for some in everything]
    print(f"refused: {sum(map(len, everything)) - sum(map(len, usable))} of {2 * given.worlds} recordings")
    straight, moved = usable
    unchanged = [compare(first, second) for first, second in combinations(straight, 2)]
    changed = [(second.size_deg, *compare(first, second)) for first in straight for second in moved]
    print_errors("unchanged", unchanged)
    print_errors("changed", [(found, error) for _, found, error in changed])
    false = np.mean([found.has_moved for found, _ in unchanged])
    print(f"false alarms: {false:.1%} of {len(unchanged)} pairs at p < {SIGNIFICANCE}")
    scores = np.array([-found.p_value for found, _ in unchanged])
    for low, high in pairwise(BINS_DEG):
        some = [found for size, found, _ in changed if low <= size < high]
        if some:
            found = np.array([-one.p_value for one in some])
            area = ((found[:, None] > scores).mean() + (found[:, None] == scores).mean() / 2).item()
            detected = np.mean([one.has_moved for one in some])
            print(
                f"moved by {low} to {high} degrees: {detected:.0%} of {len(some)} found, area under the ROC {area:.3f}"
            )
    compare_real(given.data)


def print_errors(name: str, compared: list[tuple[MountChange, Array]]) -> None:
    """Print the median error of each value, and how often it is within two of its deviations."""
    errors = np.array([error for _, error in compared])
    deviations = np.array([list(found.deviations.values()) for found, _ in compared])
    cells = []
    for column, value in enumerate(("yaw deg", "pitch deg", "roll deg", "height cm")):
        known = np.isfinite(errors[:, column])
        size, within = np.abs(errors[known, column]), np.abs(errors[known, column]) < 2 * deviations[known, column]
        cells.append(
            f"{value} median {np.median(size):.2f}, 90 % {np.quantile(size, 0.9):.2f}, in 2 s {within.mean():.0%}"
        )
    print(f"{name} ({len(compared)} pairs): {'; '.join(cells)}")


def compare_real(data: Path) -> None:
    """Compare the halves of KITTI raw and of KITTI odometry 06."""
    for name in ("kitti_raw", "kitti_odometry"):
        if (data / name).is_dir():
            (recording,) = open_recordings(data / name)
            middle, end = len(recording) // 2, len(recording)
            parts = (open_inputs(data / name, frames=[start, stop]) for start, stop in ((0, middle), (middle, end)))
            inputs = [given for (given,) in parts]
            halves = [measure_input(given) for given in inputs]
            first_s, second_s = ((given.count or 0) / given.rate_hz for given in inputs)
            if min(map(len, halves)) < MIN_STRETCHES:
                print(f"{name}: {[len(part) for part in halves]} stretches, too few")
                continue
            print(f"{name}: {compare_mounts(*halves, durations_s=(first_s, second_s)).to_json()}", flush=True)


if __name__ == "__main__":
    main()
