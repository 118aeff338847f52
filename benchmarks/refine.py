"""Disturb the poses of four recordings with truth, refine them, and compare with the project's own map.

    python benchmarks/refine.py [--seed 0] [--only kitchen] [--work FOLDER] [--cases 40]

The recordings lie in ../shared/data, or in the folder of STADIA_REAL_DATA. Of the walk,
every third image is taken, of the kitchen every fourth one, of the drive every second one. Errors of positions (ATE) are root mean
squares after a similarity alignment.
"""

# mypy: disable-error-code="misc, no-untyped-def, var-annotated"

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from benchmarks.check_conventions import DESK_LENS

from stadia.data.config import CacheConfig, CameraConfig
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
    from scipy.spatial.transform import Rotation

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
        height, width = cv2.imread(str(folder / "0000.png")).shape[:2]
        camera = CameraConfig(K=K.tolist(), size=(height, width))
        mapped = map_video(
            folder, camera=camera, out=work / name / "own", cache=CacheConfig(folder=str(work / "cache"))
        )
        np.save(own, mapped.T_world_camera)
    return Recording(name, K, T, np.load(own), matches)
