"""Disturb the poses of four recordings with truth, refine them, and compare with the project's own map.

    python benchmarks/refine.py [--seed 0] [--only kitchen] [--work FOLDER]

The recordings lie in ../shared/data, or in the folder of STADIA_REAL_DATA. Of the walk, every third image is taken, of
the kitchen every fourth one, of the drive every second one. Errors of positions (ATE) are root mean squares after a
similarity alignment.
"""

# mypy: disable-error-code="misc, no-untyped-def, var-annotated"

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from check_conventions import DESK_LENS
from harness import REAL_DATA, make_parser
from scipy.spatial.transform import Rotation

from stadia.data.config import CacheConfig, CameraConfig
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.refine_reconstruction import refine_poses
from stadia.metrics.trajectory_metrics import PathAlignment, align_path, ate_rmse_m
from stadia.sfm.image_matches import ImageMatches, match_images
from stadia.sfm.map_video import map_video

EVERY = {"walk": 3, "desk": 1, "kitchen": 4, "kitti": 2}
"""Of each recording, every EVERY-th image is taken."""


@dataclass
class Recording:
    """A recording with truth.

    T_world_camera: (N, 4, 4) true poses.
    T_own: (N, 4, 4) poses of the project's own map, in its own scale; NaN for images without a pose.
    """

    name: str
    K: np.ndarray
    T_world_camera: np.ndarray
    T_own: np.ndarray
    matches: ImageMatches


def list_images(name: str, data: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Return all images, their true poses (camera to world) and K."""
    if name == "walk":
        folder = data / "walk"
        files = sorted((folder / "images").iterdir())
        return files, np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)[: len(files)], np.loadtxt(folder / "K.txt")
    if name == "kitchen":
        files = sorted((data / "sevenscenes" / "kitchen" / "seq-01").glob("*.color.*"))
        poses = [np.loadtxt(file.with_name(file.name.split(".")[0] + ".pose.txt")) for file in files]
        return files, np.stack(poses), np.array([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])
    if name == "kitti":
        folder = data / "kitti_odometry" / "sequences" / "06"
        files = sorted((folder / "image_0").iterdir())
        T = np.tile(np.eye(4), (len(files), 1, 1))
        T[:, :3] = np.loadtxt(data / "kitti_odometry" / "poses" / "06.txt").reshape(-1, 3, 4)[: len(files)]
        return files, T, np.array((folder / "calib.txt").read_text().split()[1:13], float).reshape(3, 4)[:, :3]
    files = sorted(file for file in (data / "tum_fr2_desk").rglob("*") if file.suffix in (".png", ".jpg"))
    rows = np.loadtxt(data / "trajectories" / "fr2_desk_groundtruth.txt")
    times = np.array([float(file.stem) for file in files])
    nearest = rows[np.abs(rows[:, 0] - times[:, None]).argmin(1)]
    T = np.tile(np.eye(4), (len(files), 1, 1))
    T[:, :3, :3], T[:, :3, 3] = Rotation.from_quat(nearest[:, 4:]).as_matrix(), nearest[:, 1:4]
    return files, T, np.array([[520.9, 0, 325.1], [0, 521.0, 249.7], [0, 0, 1]])


def open_recording(name: str, data: Path, work: Path) -> Recording:
    """Return the images' truth, matches and own map; matches and map are kept in the folder `work`."""
    files, T, K = list_images(name, data)
    files, T = files[:: EVERY[name]], T[:: EVERY[name]]
    folder = work / name / "images"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for row, file in enumerate(files):
            image = cv2.imread(str(file))
            if name == "desk":
                image = cv2.undistort(image, K, np.array(DESK_LENS))
            cv2.imwrite(str(folder / f"{row:04d}.png"), image)
    matches = match_images(folder, work / name / "matches")
    own = work / name / "own.npy"
    if not own.is_file():
        width, height = matches.sizes[0].tolist()
        camera = CameraConfig(K=K.tolist(), size=(height, width))
        mapped = map_video(
            folder, camera=camera, out=work / name / "own", cache=CacheConfig(folder=str(work / "cache"))
        )
        np.save(own, mapped.T_world_camera)
    return Recording(name, K, T, np.load(own), matches)


def disturb(T_world_camera: np.ndarray, degrees: float, share: float, random: np.random.Generator) -> np.ndarray:
    """Turn each camera by an angle about a random axis, and move it by a share of the path in a random direction."""
    T = T_world_camera.copy()
    length = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).sum()
    axes, ways = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in random.normal(size=(2, len(T), 3)))
    T[:, :3, :3] @= Rotation.from_rotvec(np.deg2rad(degrees) * axes).as_matrix()
    T[:, :3, 3] += share * length * ways
    return T


def drift(T_world_camera: np.ndarray, degrees: float, share: float, random: np.random.Generator) -> np.ndarray:
    """Let the poses drift: angles and positions grow from nothing to a turn of `degrees` and a share of the path."""
    T = T_world_camera.copy()
    grown = np.linspace(0, 1, len(T))[:, None]
    length = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).sum()
    axis, way = (row / np.linalg.norm(row) for row in random.normal(size=(2, 3)))
    T[:, :3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * grown * axis).as_matrix() @ T[:, :3, :3]
    T[:, :3, 3] += share * length * grown**2 * way
    return T


CASES = (*(("disturbed", size) for size in (1, 2, 3, 4, 5)), ("drift", 3), ("own map", 0), ("truth", 0))
CASES += (("shuffled", 0), ("wild", 60))
"""Kinds of given poses, and their size: degrees, and percent of the path."""

WORSE = 1.05
"""Factor from which an ATE counts as worse, compared with the larger one of the given poses and the own map. Below the
ATE of the own map it measures the truth: visual paths agree with each other more closely.
"""


def make_case(recording: Recording, kind: str, size: float, random: np.random.Generator) -> np.ndarray:
    """Return given poses, camera to world."""
    T = recording.T_world_camera
    if kind in ("own map", "truth"):
        return T if kind == "truth" else recording.T_own
    if kind == "shuffled":
        return T[random.permutation(len(T))]
    if kind == "wild":
        return disturb(T, size, size / 100, random)
    return (drift if kind == "drift" else disturb)(T, size, size / 100, random)


def measure_ate(T_world_camera: np.ndarray, truth: np.ndarray) -> float:
    known = np.isfinite(T_world_camera).all((1, 2))
    found, true = (T[known] for T in (T_world_camera, truth))
    return ate_rmse_m(align_path(found, true, PathAlignment.SIM3).T_world_camera, true)


def run_case(recording: Recording, kind: str, size: float, random: np.random.Generator) -> dict[str, object]:
    given = make_case(recording, kind, size, random)
    truth, matches, count = recording.T_world_camera, recording.matches, len(given)
    K, lens = np.tile(recording.K, (count, 1, 1)), np.zeros((count, 4))
    start = time.perf_counter(), time.process_time()
    refined = refine_poses(Reconstruction(matches.names, np.linalg.inv(given), K, lens, matches.sizes), matches)
    elapsed = time.perf_counter() - start[0], time.process_time() - start[1]
    after = np.linalg.inv(refined.reconstruction.T_camera_world)
    own, before_m, after_m = (measure_ate(T, truth) for T in (recording.T_own, given, after))
    return {
        "recording": recording.name,
        "kind": kind,
        "size": size,
        "own_ate_m": round(own, 5),
        "before_m": round(before_m, 5),
        "after_m": round(after_m, 5),
        "is_changed": refined.is_changed,
        "is_worse": after_m > WORSE * max(before_m, own),
        "has_risen": after_m > WORSE * before_m,
        "of_own": round(after_m / own, 3),
        "held_px": [round(refined.gain.before_px, 2), round(refined.gain.after_px, 2)],
        "deviation_deg": float(f"{np.nanmedian(refined.deviations_deg):.3g}"),
        "focal_share": refined.error.focal_share and round(refined.error.focal_share.value, 4),
        "seconds": [round(value, 1) for value in elapsed],
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(EVERY), default=list(EVERY))
    parser.add_argument("--kinds", nargs="*", choices=sorted({kind for kind, _ in CASES}))
    parser.add_argument("--work", type=Path, help="folder for matches and own maps, which are kept")
    options = parser.parse_args()
    data = REAL_DATA
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only:
            recording = open_recording(name, data, options.work or Path(temporary))
            for number, (kind, size) in enumerate(CASES):
                if options.kinds and kind not in options.kinds:
                    continue
                row = run_case(recording, kind, size, np.random.default_rng((options.seed, number)))
                rows.append(row)
                print(json.dumps(row), flush=True)
    disturbed = [float(str(row["of_own"])) for row in rows if row["kind"] == "disturbed"]
    counts = {name: sum(bool(row[name]) for row in rows) for name in ("is_worse", "has_risen")}
    print(json.dumps({"cases": len(rows), **counts, "largest_of_own": max(disturbed, default=None)}))


if __name__ == "__main__":
    main()
