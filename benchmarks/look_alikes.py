"""Fold scenes whose two sides look alike, and count how many are found: python benchmarks/look_alikes.py [--seed 0].

Each scene is a building on textured ground, with the same facade in front and behind, seen from both sides without
pictures between them. Things of different number stand before each facade. Right poses keep the sides apart; folded
ones make them one place, as matches of the facades alone do. Half of the scenes are folded as well.

--work keeps pictures and matches for the next run. --json writes the rows.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from harness import make_parser, print_table, write_results
from numpy.typing import NDArray

from stadia.io.image_io import write_image
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction
from stadia.sfm.image_matches import match_images

Array = NDArray[np.float64]
WIDTH, HEIGHT, FOCAL_PX = 640, 480, 520.0
K = np.array([[FOCAL_PX, 0, (WIDTH - 1) / 2], [0, FOCAL_PX, (HEIGHT - 1) / 2], [0, 0, 1]])
SCENES, FOLDED, SIDE_IMAGES = 20, 10, 12
HALF, TALL = 8.0, 8.0
"""Half of the sides of the building, and its height, metres."""

Quad = tuple[Array, Array, Array, NDArray[np.uint8]]
"""A corner, both edges, and the texture of a rectangle."""


def draw_texture(random: np.random.Generator, height: int, width: int, grain: int = 6) -> NDArray[np.uint8]:
    """Return noise of several grains."""
    texture = np.zeros((height, width, 3), np.float32)
    for factor, weight in ((4, 0.5), (2, 0.35), (1, 0.3), (0.5, 0.2)):
        step = max(int(grain * factor), 1)
        noise = random.random((max(height // step, 2), max(width // step, 2), 3)).astype(np.float32)
        texture += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    texture -= texture.min()
    return (255 * texture / texture.max()).astype(np.uint8)


def build_scene(random: np.random.Generator) -> list[Quad]:
    """Return the rectangles of a scene, in metres: x points to the front, z up."""
    sides = [draw_texture(random, 320, 640) for _ in range(4)]
    sides[2] = sides[0]
    ground = draw_texture(random, 2400, 2400, 10)
    quads: list[Quad] = [(np.array([-60.0, -60, 0]), np.array([120.0, 0, 0]), np.array([0, 120.0, 0]), ground)]
    things = int(random.integers(2, 9))
    for number, facade in enumerate(sides):
        angle = number * np.pi / 2
        out, along = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
        corner = HALF * (out - along) + (0, 0, TALL)
        quads.append((corner, 2 * HALF * along, np.array([0, 0, -TALL]), facade))
        far = 45 * (out - along) + (0, 0, 18)
        quads.append((far, 90 * along, np.array([0, 0, -18.0]), draw_texture(random, 360, 1800, 8)))
        for _ in range(things):
            place = random.uniform(HALF + 2, HALF + 5) * out + random.uniform(-HALF, HALF) * along
            wide = random.uniform(0.8, 2)
            edge = wide * (random.uniform(0.5, 1) * along + random.uniform(-0.4, 0.4) * out)
            picture = draw_texture(random, 200, 160)
            quads.append((place - edge / 2 + (0, 0, 1.2 * wide), edge, np.array([0, 0, -1.2 * wide]), picture))
    return quads


def look_at(center: Array, target: Array) -> Array:
    """Return the camera-to-world pose at a center, upright, that looks at a target."""
    ahead = (target - center) / np.linalg.norm(target - center)
    right = np.cross(ahead, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, 0], T[:3, 1], T[:3, 2], T[:3, 3] = right, np.cross(ahead, right), ahead, center
    return T


def walk(random: np.random.Generator, middle: float) -> list[Array]:
    """Return the poses of a walk past one side, which is in the direction `middle`, radians."""
    poses = []
    for angle in middle + np.deg2rad(np.linspace(-35, 35, SIDE_IMAGES)):
        radius = 20 + random.normal(0, 0.3)
        center = np.array([radius * np.cos(angle), radius * np.sin(angle), 1.7 + random.normal(0, 0.15)])
        poses.append(look_at(center, np.append(random.normal(0, 0.5, 2), 3 + random.normal(0, 0.3))))
    return poses


def render(quads: list[Quad], T_world_camera: Array, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture (HEIGHT, WIDTH, 3) of rectangles, nearer ones in front, with noise."""
    T = np.linalg.inv(T_world_camera)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    rays = np.stack(((columns - K[0, 2]) / FOCAL_PX, (rows - K[1, 2]) / FOCAL_PX, np.ones((HEIGHT, WIDTH))), -1)
    picture, depth = np.full((HEIGHT, WIDTH, 3), 200, np.uint8), np.full((HEIGHT, WIDTH), np.inf)
    for corner, across, down, texture in quads:
        o, u, v = T[:3, :3] @ corner + T[:3, 3], T[:3, :3] @ across, T[:3, :3] @ down
        corners = np.stack((o, o + u, o + v, o + u + v))
        window = (slice(None), slice(None))
        if corners[:, 2].min() > 0.1:
            xy = corners[:, :2] / corners[:, 2:] * FOCAL_PX + K[:2, 2]
            (left, top), (right, bottom) = (xy.min(0).clip(0), np.ceil(xy.max(0)).clip(0) + 1)
            window = slice(int(top), int(bottom)), slice(int(left), int(right))
        ray, normal = rays[window], np.cross(u, v)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (o @ normal) / (ray @ normal)
        inside = ray * z[..., None] - o
        a, b = (inside @ u) / (u @ u), (inside @ v) / (v @ v)
        is_seen = (z > 0.1) & (z < depth[window]) & (a >= 0) & (a < 1) & (b >= 0) & (b < 1)
        if is_seen.any():
            at = [
                (share * side - 0.5).astype(np.float32)
                for share, side in ((a, texture.shape[1]), (b, texture.shape[0]))
            ]
            shown = cv2.remap(texture, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            picture[window][is_seen], depth[window][is_seen] = shown[is_seen], z[is_seen]
    return (picture + random.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)


def run_scene(seed: int, number: int, work: Path) -> list[dict[str, object]]:
    """Render a scene if it is not kept, judge its right poses, and the folded ones of the first FOLDED scenes."""
    random = np.random.default_rng((seed, number))
    quads, folder = build_scene(random), work / f"{seed}-{number}"
    T = np.array([*walk(random, 0), *walk(random, np.pi)])
    names = tuple(f"{row:04d}.png" for row in range(len(T)))
    for row, name in enumerate(names):
        file = folder / "images" / name
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_image(file, render(quads, T[row], np.random.default_rng((seed, number, row))))
    matches = match_images(folder / "images", folder / "matches")
    folded = T.copy()
    folded[SIDE_IMAGES:] = np.diag([-1.0, -1, 1, 1]) @ folded[SIDE_IMAGES:]
    rows = []
    for kind, poses in (("right", T), ("folded", folded))[: 1 + (number < FOLDED)]:
        count = len(poses)
        result = Reconstruction(
            names, np.linalg.inv(poses), np.tile(K, (count, 1, 1)), np.zeros((count, 4)), matches.sizes
        )
        start = time.process_time()
        verdict = judge_reconstruction(result, matches)
        causes = [cause.name for cause in verdict.causes]
        rows.append(
            {
                "scene": number,
                "poses": kind,
                "grade": str(verdict.grade),
                "causes": "; ".join(causes),
                "is_right": ("look-alikes" in causes) if kind == "folded" else verdict.grade == "usable",
                "cpu_s": round(time.process_time() - start, 1),
            }
        )
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--work", type=Path, help="folder for pictures and matches, which are kept")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.scenes):
            rows += run_scene(options.seed, number, options.work or Path(temporary))
            print(json.dumps(rows[-1]), flush=True)
    print_table(rows)
    for kind, word in (("folded", "found"), ("right", "not accused")):
        of_kind = [row for row in rows if row["poses"] == kind]
        print(f"{kind}: {sum(bool(row['is_right']) for row in of_kind)} of {len(of_kind)} {word}")
    if options.json is not None:
        write_results(options.json, rows)


if __name__ == "__main__":
    main()
