"""Measure the focal lengths that `stadia map` claims, on videos of RoadWorld with known lenses and motions.

    python benchmarks/map_lenses.py --count 40 [--frames 40] [--width 448] [--samples 3] [--distorted] [--folder FOLDER]

Four motions: a car in turns, a car on a straight road, a camera in the hand of a walker, and a drone. Each video has a
focal length of its own. `--distorted` bends the images by a radial-tangential lens with known coefficients. Printed is
a JSON line for each video, and a summary: whether the focal length is claimed, its ratio to the true one, whether the
95 % interval holds it, and by how many pixels the found lens differs from the true one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from map import score_path

from stadia.core.errors import StadiaError
from stadia.data.config import CacheConfig
from stadia.data.lens_distortion import DistortedCamera
from stadia.data.video.video_map import read_map
from stadia.io.records.formats import RADTAN
from stadia.sfm.map_video import map_video
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_course import make_course
from stadia.synthetic.roadworld.road_world import CameraDrive, RoadRenderer, compute_drive_s, make_world

MOTIONS = ("turning", "straight", "hand", "drone")
MIN_TURN_DEG, MAX_STRAIGHT_DEG = 25.0, 4.0
MARGIN = 1.25
"""Width of the rendered pinhole image over that of the bent one, so that a lens has no empty corner."""


def rotate(pitch: np.ndarray, yaw: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Return (F, 3, 3), about y by yaw, x by pitch, z by roll, radians."""
    return np.stack(
        [
            cv2.Rodrigues(np.array([0, y, 0.0]))[0]
            @ cv2.Rodrigues(np.array([p, 0.0, 0]))[0]
            @ cv2.Rodrigues(np.array([0, 0.0, r]))[0]
            for p, y, r in zip(pitch, yaw, roll, strict=True)
        ]
    )


def sway(random: np.random.Generator, frames: int, degrees: float, periods: tuple[float, float]) -> np.ndarray:
    """Return (F,) radians: three sines with this root mean square over the video."""
    phase = np.linspace(0, 2 * np.pi, frames)
    waves = [np.sin(random.uniform(*periods) * phase + random.uniform(0, 2 * np.pi)) for _ in range(3)]
    return np.radians(degrees) * np.sqrt(2 / 3) * np.sum(waves, 0)


def find_turn_deg(T: np.ndarray) -> float:
    R = T[:, :3, :3]
    cosine = (np.einsum("aij,bij->ab", R, R) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine.min(), -1, 1))))


def find_seed(motion: str, seed: int, config: RoadWorldConfig) -> int:
    """Return the seed of a world whose road turns, or does not, as the motion of a car wants."""
    longest = config.frames * config.speed_m_per_frame[1] * 1.3
    for tried in range(1000 * seed, 1000 * seed + 999):
        course = make_course(tried, longest + 100)
        s = compute_drive_s(tried, course, config.frames, config.speed_m_per_frame, config.frame_rate_hz)
        turn = find_turn_deg(np.stack([course.frame(at, 0.0) for at in s]))
        if {"turning": turn > MIN_TURN_DEG, "straight": turn < MAX_STRAIGHT_DEG}.get(motion, True):
            return tried
    raise AssertionError(motion)


def make_video(motion: str, seed: int, frames: int, size: tuple[int, int], samples: int) -> RoadRenderer:
    """Return the renderer of a video whose camera moves in a way; its focal length is drawn by the seed."""
    random = np.random.default_rng((seed, MOTIONS.index(motion)))
    pace = {"turning": (0.7, 1.2), "straight": (0.7, 1.2), "hand": (0.12, 0.2), "drone": (0.7, 1.3)}[motion]
    config = RoadWorldConfig(
        train=1, val=0, test=0, frames=frames, height=size[0], width=size[1], stereo=False, supersampling=samples,
        field_of_view_deg=(float(random.uniform(45, 90)),), speed_m_per_frame=pace,
        camera_height_m=(float(random.uniform(18, 35)) if motion == "drone" else 1.6,),
        pitch_deg=(-55, -30) if motion == "drone" else None,
    )  # fmt: skip
    world = make_world(find_seed(motion, seed, config), config)
    if motion in ("hand", "drone"):
        T = world.drive.T_world_camera.copy()
        degrees = (3, 12, 2) if motion == "hand" else (4, 18, 3)
        turns = [sway(random, frames, value, (0.4, 2.0)) for value in degrees]
        T[:, :3, :3] = T[:, :3, :3] @ rotate(*turns)
        if motion == "hand":
            T[:, 1, 3] += 0.03 * np.sin(np.linspace(0, 0.9 * frames, frames))
        world = replace(world, drive=CameraDrive(T, world.drive.road_plane))
    return RoadRenderer(world, config)


def draw_lens(K: np.ndarray, size: tuple[int, int], seed: int) -> DistortedCamera:
    """Return a lens that moves the corners by 2 to 6 % of the width."""
    random = np.random.default_rng(seed)
    half = np.hypot(*size) / 2 / K[0, 0]
    k1 = -random.uniform(0.05, 0.12) / half**2 * 0.8
    return DistortedCamera(K, RADTAN, np.array([k1, 0.15 * k1**2, 0.0, 0.0]), *size)


def bend(image: np.ndarray, K: np.ndarray, lens: DistortedCamera) -> np.ndarray:
    """Return the image of a lens (h, w, 3) from one of a pinhole (H, W, 3) with K."""
    pixels = np.stack(np.meshgrid(np.arange(lens.width), np.arange(lens.height)), -1).reshape(-1, 2).astype(float)
    xy = lens.rays(pixels, np.eye(3))
    at = (xy * (K[0, 0], K[1, 1]) + K[:2, 2]).astype(np.float32).reshape(lens.height, lens.width, 2)
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LANCZOS4)


def compare_lenses(found: DistortedCamera, true: DistortedCamera, *, scale_focal: bool = False) -> float:
    """Return the largest distance of the same ray's pixels in two lenses over a grid, pixels, after the best rotation.

    A shift of the principal point is a rotation of the camera, and is in the poses: it is removed.
    scale_focal: give the found lens the focal length that fits best, so that the distortion alone is compared.
    """
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 13), np.linspace(0, 1, 9)), -1).reshape(-1, 2)
    pixels = grid * (true.width - 1, true.height - 1)
    xy, true_xy = (lens.rays(pixels, np.eye(3)) for lens in (found, true))
    if scale_focal:
        xy = xy * (xy * true_xy).sum() / (xy * xy).sum()
    rays = [np.column_stack((seen, np.ones(len(pixels)))) for seen in (xy, true_xy)]
    a, b = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays)
    U, _, V = np.linalg.svd(a.T @ b)
    turned = a @ (U @ np.diag((1, 1, np.linalg.det(U @ V))) @ V)
    shown, _ = cv2.projectPoints(turned, np.zeros(3), np.zeros(3), true.K, true.coefficients)
    return float(np.linalg.norm(shown[:, 0] - pixels, axis=1).max())


def measure(index: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    motion, seed = MOTIONS[index % len(MOTIONS)], index // len(MOTIONS)
    height, width = round(0.6 * options.width / 2) * 2, options.width
    factor = MARGIN if options.distorted else 1.0
    size = round(factor * height / 2) * 2, round(factor * width / 2) * 2
    renderer = make_video(motion, seed, options.frames, size, options.samples)
    K = renderer.world.K
    small = np.array([[K[0, 0], 0, (width - 1) / 2], [0, K[1, 1], (height - 1) / 2], [0, 0, 1]])
    lens = DistortedCamera(small, RADTAN, np.zeros(4), height, width)
    if options.distorted:
        lens = draw_lens(small, (height, width), seed)
    images = folder / f"{motion}-{seed:02d}"
    images.mkdir(parents=True, exist_ok=True)

    def write(frame: int) -> None:
        path = images / f"{frame:06d}.png"
        if not path.is_file():
            image = renderer.render(frame)["left"].image
            cv2.imwrite(str(path), (bend(image, K, lens) if options.distorted else image)[..., ::-1])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(options.frames)))
    T = renderer.world.drive.T_world_camera
    row: dict[str, Any] = {"video": images.name, "turn_deg": round(find_turn_deg(T), 1), "true_px": round(K[0, 0], 1)}
    started, out = time.perf_counter(), folder / f"{images.name}.map"
    try:
        map_video(images, out=out, cache=CacheConfig(folder=str(folder / "cache")))
    except StadiaError as error:
        return row | {"failed": str(error)[:160]}
    row["s"] = round(time.perf_counter() - started, 1)
    found = read_map(out)
    camera = found.camera
    low, high = camera.intervals_95.get("focal_px", (np.nan, np.nan))
    row |= {"origin": camera.origin, "ratio": round(camera.focal_px / K[0, 0], 3)}
    row |= {"interval": [round(low / K[0, 0], 3), round(high / K[0, 0], 3)], "holds": bool(low <= K[0, 0] <= high)}
    row |= score_path(found.poses, T)
    fitted = DistortedCamera(camera.intrinsics.K, RADTAN, np.array(camera.distortion), height, width)
    row["true_shift_px"] = round(lens.corner_shift_px, 2)
    row["lens_px"] = round(compare_lenses(fitted, lens), 3)
    row["distortion_px"] = round(compare_lenses(fitted, lens, scale_focal=True), 3)
    return row


def summarize(rows: list[dict[str, Any]]) -> Iterator[str]:
    for motion in (*MOTIONS, ""):
        of = [row for row in rows if row["video"].startswith(motion)]
        claimed = [row for row in of if row.get("origin") == "estimated"]
        text = f"{motion or 'all'}: {len(of)} videos, {len(claimed)} claimed"
        if claimed:
            within = sum(abs(row["ratio"] - 1) < 0.05 for row in claimed)
            holds = sum(row["holds"] for row in claimed)
            text += f", {within} within 5 %, {holds} inside the 95 % interval"
            text += f"; distortion within {max(row['distortion_px'] for row in claimed):.2f} px"
        yield text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument("--samples", type=int, default=3, help="of N x N in a pixel: one aliases")
    parser.add_argument("--distorted", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    rows = []
    for index in range(options.first, options.first + options.count):
        rows.append(measure(index, options, folder))
        print(json.dumps(rows[-1]), flush=True)
    print("\n".join(summarize(rows)))


if __name__ == "__main__":
    main()
