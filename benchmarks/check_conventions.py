"""Make 40 mistakes of convention and 40 correct files of four recordings with truth, and count what is named.

    python benchmarks/check_conventions.py [--seed 0] [--only kitchen] [--work FOLDER]
    python benchmarks/check_conventions.py --every --table docs/results/conventions.csv

The recordings lie in ../shared/data, or in the folder of STADIA_REAL_DATA. Each mistake is written into a file of a
random format, read again, and searched by matches of the images. A mistake is named with the right cure if the cured
cameras move as the true ones and see as they do. A correct file must not be accused.

--every makes each mistake in each format of each recording. --table writes, for each mistake and format, how many of
the mistakes were named, and how many correct files were not accused; a page of the results links to this file.
"""

# mypy: disable-error-code="arg-type, misc, no-untyped-call, no-untyped-def, operator, union-attr, var-annotated"

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA, make_parser, write_transforms
from scipy.spatial.transform import Rotation

from stadia.geometry.conventions import OPENGL
from stadia.io.image_io import read_image
from stadia.io.records.read import read_reconstruction
from stadia.judge.reconstructions.check_reconstruction import replace_camera
from stadia.judge.reconstructions.convention_search import search_conventions
from stadia.judge.reconstructions.depth_meaning import measure_depth
from stadia.judge.reconstructions.result_convention import apply_convention
from stadia.sfm.image_matches import ImageMatches, match_images
from stadia.sfm.match_triangulation import pose_images, triangulate_view, view_matches
from stadia.sfm.pair_matching import FramePair

NED = np.eye(4)
NED[:3, :3] = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
DESK_LENS = (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)
MAX_TURN_DEG, MAX_DIRECTION_DEG, MAX_FOCAL = 1.0, 3.0, 0.06


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


@dataclass
class Recording:
    """Images with true cameras.

    dense: for some recordings, times and poses at a higher rate than that of the images.
    """

    scene: Scene
    matches: ImageMatches
    dense: tuple[np.ndarray, np.ndarray] | None = None


def open_recording(name: str, data: Path, work: Path | None) -> Recording:
    images = {
        "walk": data / "walk" / "images",
        "desk": data / "tum_fr2_desk",
        "kitchen": data / "sevenscenes" / "kitchen" / "seq-01",
        "kitti": data / "kitti_odometry" / "sequences" / "06" / "image_0",
    }[name]
    matches = match_images(images, None if work is None else work / name)
    names = [Path(image).name for image in matches.names]
    matches = replace(matches, names=tuple(names))
    count, size = len(names), tuple(matches.sizes[0].tolist())
    if name == "walk":
        T = np.loadtxt(data / "walk" / "poses.txt").reshape(-1, 4, 4)[:count]
        depth = [data / "walk" / "depth" / f"{Path(image).stem}.png" for image in names]
        scene = Scene(names, np.linalg.inv(T), np.loadtxt(data / "walk" / "K.txt"), size, depth=read_depths(depth))
    elif name == "kitchen":
        files = [images / image.replace(".color.jpg", ".pose.txt") for image in names]
        T = np.stack([np.loadtxt(file) for file in files])
        depth = [images / image.replace(".color.jpg", ".depth.png") for image in names]
        K = np.array([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])
        scene = Scene(names, np.linalg.inv(T), K, size, depth=read_depths(depth))
    elif name == "kitti":
        T = np.tile(np.eye(4), (count, 1, 1))
        T[:, :3] = np.loadtxt(data / "kitti_odometry" / "poses" / "06.txt").reshape(-1, 3, 4)[:count]
        numbers = (images.parent / "calib.txt").read_text().split()[1:13]
        scene = Scene(names, np.linalg.inv(T), np.array(numbers, float).reshape(3, 4)[:, :3], size)
    else:
        return open_desk(names, matches, data)
    scene.times_s = np.arange(count) / 10
    return Recording(scene, replace(matches, times_s=scene.times_s))


def open_desk(names: list[str], matches: ImageMatches, data: Path) -> Recording:
    rows = np.loadtxt(data / "trajectories" / "fr2_desk_groundtruth.txt")
    times = np.array([Path(name).stem for name in names], float)
    rows = rows[(rows[:, 0] > times[0] - 2) & (rows[:, 0] < times[-1] + 2)]
    dense = np.tile(np.eye(4), (len(rows), 1, 1))
    dense[:, :3, :3], dense[:, :3, 3] = Rotation.from_quat(rows[:, 4:]).as_matrix(), rows[:, 1:4]
    T = np.linalg.inv(dense[np.abs(rows[:, 0] - times[:, None]).argmin(1)])
    K = np.array([[520.9, 0, 325.1], [0, 521.0, 249.7], [0, 0, 1]])
    scene = Scene(names, T, K, (640, 480), fit_lens(K, (640, 480), DESK_LENS), times)
    return Recording(scene, replace(matches, times_s=times), (rows[:, 0], np.linalg.inv(dense)))


def fit_lens(K: np.ndarray, size: tuple[int, int], lens: tuple[float, ...]) -> tuple[float, ...]:
    """Return k1, k2, p1, p2 that distort as five coefficients do, by least squares over the image."""
    corners = (np.array(size) / 2) / K[(0, 1), (0, 1)]
    straight = np.stack(np.meshgrid(*(np.linspace(-end, end, 30) for end in 1.05 * corners)), -1).reshape(-1, 2)
    seen = cv2.projectPoints(
        np.column_stack((straight, np.ones(900))), np.zeros(3), np.zeros(3), np.eye(3), np.array(lens)
    )[0][:, 0]
    x, y = straight.T
    squared = x**2 + y**2
    A = np.stack(
        [
            np.stack([x * squared, x * squared**2, 2 * x * y, squared + 2 * x**2], -1),
            np.stack([y * squared, y * squared**2, squared + 2 * y**2, 2 * x * y], -1),
        ],
        1,
    ).reshape(-1, 4)
    return tuple(np.linalg.lstsq(A, (seen - straight).reshape(-1), rcond=None)[0].tolist())


def read_depths(files: list[Path]) -> np.ndarray:
    """Return depth (N, H, W) in metres at half size, 0 where unknown."""
    maps = []
    for file in files:
        values = read_image(file, cv2.IMREAD_UNCHANGED)[::2, ::2] if file.is_file() else None
        maps.append(values)
    shape = next(values.shape for values in maps if values is not None)
    stacked = np.stack(
        [np.zeros(shape, np.float32) if values is None else values.astype(np.float32) for values in maps]
    )
    stacked[stacked == 65535] = 0
    return stacked / 1000


# -- mistakes


def turn_axes(scene: Scene, format: str, R: np.ndarray) -> Scene:
    """Return the scene with camera axes from which R (4, 4) leads to OpenCV's, written into the file as they are."""
    native = OPENGL.T_axes_camera if format == "transforms.json" else np.eye(4)
    return replace(scene, T=native @ np.linalg.inv(R) @ scene.T)


def invert(scene: Scene, format: str) -> Scene:
    native = OPENGL.T_axes_camera if format == "transforms.json" else np.eye(4)
    return replace(scene, T=native @ np.linalg.inv(scene.T) @ native)


def scale_K(scene: Scene, factor: float) -> Scene:
    K = scene.K.copy()
    K[:2] *= factor
    K[:2, 2] += 0.5 * factor - 0.5
    return replace(scene, K=K)


def move_center(scene: Scene) -> Scene:
    K = scene.K.copy()
    K[:2, 2] = 0
    return replace(scene, K=K)


def mirror(matches: ImageMatches) -> ImageMatches:
    def flip(xy):
        return np.column_stack((matches.sizes[0, 0] - 1 - xy[:, 0], xy[:, 1]))

    pairs = [FramePair(p.first, p.second, flip(p.xy_first), flip(p.xy_second), p.is_held) for p in matches.pairs]
    return replace(matches, pairs=pairs)


FAULTS = ("inverse", "opengl", "ned", "quaternion", "shifted", "reversed", "K size", "mirrored", "corner", "disparity",
          "time")  # fmt: skip
FORMATS = ("COLMAP text", "COLMAP binary", "transforms.json", "TUM", "KITTI", "npz")
FORMATS_OF = {"quaternion": ("COLMAP text", "COLMAP binary", "TUM"), "time": ("TUM",), "disparity": ("npz",),
              "corner": ("COLMAP text", "COLMAP binary", "transforms.json", "TUM", "KITTI")}  # fmt: skip


def make_fault(fault: str, format: str, recording: Recording, random: np.random.Generator):
    """Return the scene with a mistake, the matches of its images, and what the mistake is in numbers."""
    scene, matches = recording.scene, recording.matches
    match fault:
        case "inverse":
            return invert(scene, format), matches, None
        case "opengl":
            return (
                turn_axes(scene, format, np.eye(4) if format == "transforms.json" else OPENGL.T_axes_camera),
                matches,
                None,
            )
        case "ned":
            return turn_axes(scene, format, NED), matches, None
        case "quaternion":
            return replace(scene, is_w_misplaced=True), matches, None
        case "shifted":
            shift = int(random.choice([-5, -4, -3, -2, 2, 3, 4, 5]))
            return replace(scene, T=np.roll(scene.T, shift, 0)), matches, shift
        case "reversed":
            return replace(scene, T=scene.T[::-1].copy()), matches, None
        case "K size":
            factor = float(random.choice([0.25, 0.5, 2 / 3, 1.5, 2]))
            return scale_K(scene, factor), matches, factor
        case "mirrored":
            return scene, mirror(matches), None
        case "corner":
            return move_center(scene), matches, None
        case "disparity":
            depth = np.divide(1.0, scene.depth, out=np.zeros_like(scene.depth), where=scene.depth > 0)
            return replace(scene, depth=depth), matches, None
    late_s = float(random.choice([-0.5, -0.35, 0.3, 0.45]))
    times, T = recording.dense if recording.dense is not None else (scene.times_s, scene.T)
    return replace(scene, times_s=times + late_s, T=T), matches, late_s


def list_faults(recording: Recording, name: str, random: np.random.Generator) -> list[tuple[str, str]]:
    """Return ten mistakes and their formats; each mistake that the recording allows comes before one is repeated."""
    allowed = [fault for fault in FAULTS if fault != "disparity" or recording.scene.depth is not None]
    chosen = list(random.permutation(allowed))[:10]
    return [(fault, choose_format(fault, name, random)) for fault in chosen]


def choose_format(fault: str, name: str, random: np.random.Generator) -> str:
    return str(random.choice(list_formats(fault, name)))


def list_formats(fault: str, name: str) -> list[str]:
    """Return the formats that can hold the mistake; an npz file has no lens distortion, which the desk needs."""
    no_lens = ("npz",) if name == "desk" else ()
    return [format for format in FORMATS_OF.get(fault, FORMATS) if format not in no_lens]


def list_every_case(recording: Recording, name: str) -> list[tuple[str, str]]:
    """Return each mistake, and "" for a correct file, in each format that can hold it."""
    faults = [fault for fault in FAULTS if fault != "disparity" or recording.scene.depth is not None]
    return [(fault, format) for fault in (*faults, "") for format in list_formats(fault, name)]


def write_table(outcomes: list[tuple[str, str, bool]], file: Path) -> None:
    """Write rows of mistakes and columns of formats with "named/total", from mistake, format and whether it is right.

    The last row counts the correct files that were not accused.
    """
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("mistake", *FORMATS))
        for fault in (*FAULTS, ""):
            cells = []
            for format in FORMATS:
                rights = [right for made, written, right in outcomes if (made, written) == (fault, format)]
                cells.append(f"{sum(rights)}/{len(rights)}" if rights else "")
            writer.writerow((fault or "none (not accused)", *cells))


def make_correct(format: str, recording: Recording, random: np.random.Generator) -> Scene:
    """Return the scene in another world, at another scale, with K of the image size that the file names."""
    scene = recording.scene
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = (
        Rotation.random(random_state=int(random.integers(1 << 30))).as_matrix(),
        random.normal(size=3),
    )
    T = scene.T @ np.linalg.inv(moved)
    T[:, :3, 3] *= float(np.exp(random.normal()))
    depth = None if format != "npz" or random.random() < 0.5 else scene.depth
    changed = replace(scene, T=T, depth=depth)
    if format in ("COLMAP text", "COLMAP binary", "transforms.json") and random.random() < 0.5:
        changed = replace(scale_K(changed, 0.5), size=(scene.size[0] // 2, scene.size[1] // 2))
    return changed


def is_cured(fixed, matches: ImageMatches, truth: Scene, fault: str) -> bool:
    """Return whether the cured cameras move as the true ones, and have their focal lengths and centers."""
    posed = pose_images(fixed, matches)
    T = truth.T[posed.images]
    step = max(len(T) // 10, 1)
    flip = np.diag([-1.0, 1, 1, 1]) if fault == "mirrored" else np.eye(4)
    truth_motion = flip @ T[step:] @ np.linalg.inv(T[:-step]) @ flip
    motion = posed.T_camera_world[step:] @ np.linalg.inv(posed.T_camera_world[:-step])
    cosine = (np.einsum("nij,nij->n", truth_motion[:, :3, :3], motion[:, :3, :3]) - 1) / 2
    turn = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    t, s = (
        m[:, :3, 3] / np.maximum(np.linalg.norm(m[:, :3, 3], axis=1, keepdims=True), 1e-12)
        for m in (truth_motion, motion)
    )
    direction = np.degrees(np.arccos(np.clip((t * s).sum(1), -1, 1)))
    focal = abs(np.log(float(np.median(posed.K[:, 0, 0])) / truth.K[0, 0]))
    return bool(np.median(turn) < MAX_TURN_DEG and np.median(direction) < MAX_DIRECTION_DEG and focal < MAX_FOCAL)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="recordings")
    parser.add_argument("--work", type=Path, help="folder for cached matches")
    parser.add_argument("--every", action="store_true", help="make each mistake in each format")
    parser.add_argument("--table", type=Path, help="file for the counts by mistake and format (CSV)")
    options = parser.parse_args()
    data = REAL_DATA
    if not data.is_dir():
        print(f"skipped: no folder {data}; set STADIA_REAL_DATA")
        sys.exit(0)
    random = np.random.default_rng(options.seed)
    counts = Counter[str]()
    outcomes: list[tuple[str, str, bool]] = []
    for name in options.only or ("walk", "desk", "kitchen", "kitti"):
        recording = open_recording(name, data, options.work)
        if options.every:
            cases = list_every_case(recording, name)
        else:
            cases = list_faults(recording, name, random)
            cases += [("", choose_format("", name, random)) for _ in range(10)]
        for fault, format in cases:
            start = time.perf_counter()
            if fault:
                scene, matches, amount = make_fault(fault, format, recording, random)
            else:
                scene, matches, amount = make_correct(format, recording, random), recording.matches, None
            with tempfile.TemporaryDirectory() as folder:
                path, camera = write_foreign(scene, format, Path(folder))
                read = replace_camera(read_reconstruction(path), matches, camera)
                search, meaning = search_conventions(read, matches), None
                found = search.found
                if read.depth is not None:
                    view = view_matches(pose_images(read, matches), matches)
                    meaning = measure_depth(read, view, triangulate_view(view))
                if not fault:
                    good = found is None and (meaning is None or meaning.name == "depth")
                elif fault == "disparity":
                    good = meaning is not None and meaning.name == "disparity" and found is None
                else:
                    fixed = None if found is None else apply_convention(read, matches, found.convention)
                    good = fixed is not None and is_cured(fixed, matches, recording.scene, fault)
                    if fault == "shifted" and good:
                        convention = found.convention
                        good = convention.shift == amount or abs(convention.offset_s - 0.1 * amount) <= 0.05
            outcomes.append((fault, format, good))
            counts[("named" if good else "missed") if fault else ("not accused" if good else "accused")] += 1
            shown = {"recording": name, "fault": fault or "none", "amount": amount, "format": format, "right": good}
            about = {
                "what": found and found.what,
                "others": found and found.others,
                "given": round(search.fits_given, 2),
            }
            seconds = round(time.perf_counter() - start, 1)
            print(json.dumps({**shown, **about, "seconds": seconds}), flush=True)
    print(json.dumps(counts))
    if options.table is not None:
        write_table(outcomes, options.table)


if __name__ == "__main__":
    main()
