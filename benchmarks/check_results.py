"""Write the 40 right and 40 wrong maps of `map_verdict.py` as results of other programs, and judge the files.

    python benchmarks/check_results.py [--seed 0] [--formats "COLMAP text" TUM]

Each map is written in one of five formats in turn, or in those of `--formats`. The matches of its scene are passed in
place of images. A right map is judged well unless it is unusable; a wrong one only if it is unusable.
"""

# mypy: disable-error-code="arg-type, dict-item, misc, no-untyped-def, var-annotated"

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import make_parser, write_transforms
from map_verdict import list_right, list_wrong
from scipy.spatial.transform import Rotation

from stadia.io.records.read import read_reconstruction
from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction, replace_camera
from stadia.sfm.image_matches import ImageMatches


@dataclass
class Scene:
    """What a program estimated: names, T_camera_world (N, 4, 4), K (3, 3), k1 k2 p1 p2, image size, times, depth maps.

    is_w_misplaced: whether quaternions are written in the wrong order.
    """

    names: list[str]
    T: np.ndarray
    K: np.ndarray
    size: tuple[int, int]
    lens: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    times_s: np.ndarray | None = None
    depth: np.ndarray | None = None
    is_w_misplaced: bool = False


def write_colmap_text(scene: Scene, folder: Path) -> None:
    folder.mkdir()
    fx, fy, cx, cy = scene.K[0, 0], scene.K[1, 1], scene.K[0, 2] + 0.5, scene.K[1, 2] + 0.5
    width, height = scene.size
    numbers = " ".join(map(repr, map(float, (fx, fy, cx, cy, *scene.lens))))
    (folder / "cameras.txt").write_text(f"1 OPENCV {width} {height} {numbers}\n")
    lines = []
    for row, (name, T) in enumerate(zip(scene.names, scene.T, strict=True), 1):
        q = Rotation.from_matrix(T[:3, :3]).as_quat()
        q = q if scene.is_w_misplaced else q[[3, 0, 1, 2]]
        lines += [f"{row} {' '.join(map(repr, map(float, (*q, *T[:3, 3]))))} 1 {name}", ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("")


def write_colmap_binary(scene: Scene, folder: Path) -> None:
    import pycolmap

    write_colmap_text(scene, folder)
    pycolmap.Reconstruction(str(folder)).write_binary(str(folder))
    for name in ("cameras.txt", "images.txt", "points3D.txt"):
        (folder / name).unlink()


def write_nerfstudio(scene: Scene, path: Path) -> None:
    write_transforms(path, [f"images/{name}" for name in scene.names], scene.T, scene.K, scene.size, scene.lens)


def write_tum(scene: Scene, path: Path) -> None:
    times = np.arange(len(scene.T)) / 30 if scene.times_s is None else scene.times_s
    lines = []
    for time_s, T in zip(times, np.linalg.inv(scene.T), strict=True):
        q = Rotation.from_matrix(T[:3, :3]).as_quat()
        q = q[[3, 0, 1, 2]] if scene.is_w_misplaced else q
        lines.append(" ".join([f"{time_s:.6f}", *(f"{value:.9f}" for value in (*T[:3, 3], *q))]))
    path.write_text("\n".join(lines) + "\n")


def write_kitti(scene: Scene, path: Path) -> None:
    poses = np.linalg.inv(scene.T)[:, :3].reshape(-1, 12)
    path.write_text("".join(" ".join(f"{value:.9e}" for value in row) + "\n" for row in poses))


def write_npz(scene: Scene, path: Path) -> None:
    arrays = {"extrinsic": scene.T[:, :3], "intrinsic": np.tile(scene.K, (len(scene.T), 1, 1))}
    if scene.depth is not None:
        height, width = scene.depth.shape[1:]
        scale = np.array([width, height]) / scene.size
        K = scene.K.copy()
        K[:2] *= scale[:, None]
        K[:2, 2] += 0.5 * scale - 0.5
        arrays |= {"intrinsic": np.tile(K, (len(scene.T), 1, 1)), "depth": scene.depth[..., None]}
    np.savez(path, **arrays)


WRITERS = {
    "COLMAP text": (write_colmap_text, ""),
    "COLMAP binary": (write_colmap_binary, ""),
    "transforms.json": (write_nerfstudio, ".json"),
    "TUM": (write_tum, ".txt"),
    "KITTI": (write_kitti, ".txt"),
    "npz": (write_npz, ".npz"),
}
NAMELESS = ("TUM", "KITTI")
"""Formats without a camera."""


def write_foreign(scene: Scene, format: str, folder: Path) -> tuple[Path, str | None]:
    """Write a scene; return its path, and the camera option that the format needs."""
    write, suffix = WRITERS[format]
    path = folder / f"result{suffix}"
    write(scene, path)
    fx, fy, cx, cy = (float(scene.K[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    k1, k2, p1, p2 = scene.lens
    camera = f"fx={fx},fy={fy},cx={cx},cy={cy},k1={k1},k2={k2},p1={p1},p2={p2}"
    return path, camera if format in NAMELESS else None


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="*", choices=list(WRITERS), default=[*WRITERS][:1] + [*WRITERS][2:])
    parser.add_argument("--only", nargs="*", help="kinds of maps")
    options = parser.parse_args()
    grades = {side: Counter[str]() for side in ("right", "wrong")}
    for side, listed in (("right", list_right), ("wrong", list_wrong)):
        for number, case in enumerate(listed(options.seed)):
            if options.only and case.kind not in options.only:
                continue
            count, format = len(case.T), options.formats[number % len(options.formats)]
            size = (case.camera.width, case.camera.height)
            names = [f"{row:06d}.png" for row in range(count)]
            matches = ImageMatches(tuple(names), np.tile(size, (count, 1)), case.scene.pairs)
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                path, camera = write_foreign(Scene(names, case.T, case.camera.K, size), format, Path(folder))
                verdict = judge_reconstruction(replace_camera(read_reconstruction(path), matches, camera), matches)
            grades[side][verdict.grade] += 1
            shown = {"map": side, "kind": case.kind, "scene": case.scene.name, "format": format, "grade": verdict.grade}
            reasons = {name: getattr(verdict, name).reason for name in ("path", "camera", "conventions")}
            seconds = round(time.perf_counter() - start, 1)
            is_wrong = (side == "right") == (verdict.grade == "unusable")
            print(json.dumps({**shown, "failed": is_wrong, **reasons, "seconds": seconds}), flush=True)
    print(json.dumps({side: dict(counts) for side, counts in grades.items()}))


if __name__ == "__main__":
    main()
