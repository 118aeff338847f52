"""Judge 40 right and 40 wrong maps of scenes with known poses, and print the confusion.

    python benchmarks/map_verdict.py [--seed 0] [--only zoom]

A map is drawn from the matches of a scene: poses are given, points are triangulated, and observations that miss them
are dropped, as structure from motion does. Right maps have the true poses. Wrong ones have poses, matches or a camera
that cannot be theirs. A right map is judged well unless it is unusable; a wrong one only if it is unusable.
"""

# mypy: disable-error-code="misc, no-untyped-def, var-annotated"

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stadia.judge.map_verdict import MapVerdict, judge_map
from stadia.sfm.map_evidence import measure_evidence
from stadia.sfm.pair_matching import FramePair, list_neighbors
from stadia.sfm.sparse_map import LensCamera, SparseMap

LENS = LensCamera(500.0, (319.5, 199.5), (0.0, 0.0, 0.0, 0.0), 400, 640)
COUNT, POINTS, OVERLAP = 24, 1200, 5
NOISE_PX, WRONG_SHARE, MAX_MISS_PX = 0.4, 0.03, 4.0
HELD_SHARE = 0.1  # of the features of a frame


@dataclass
class Scene:
    """Matches of a video with its true camera and poses T_camera_world (F, 4, 4).

    outside: frames of the video that no map can place.
    """

    name: str
    T: np.ndarray
    pairs: list[FramePair]
    camera: LensCamera = field(default_factory=lambda: LENS)
    is_camera_given: bool = True
    outside: int = 0


def make_path(kind: str, random: np.random.Generator) -> np.ndarray:
    """Return T_camera_world (F, 4, 4) of a car, a person who walks and looks around, or a camera around an object."""
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    phase = random.uniform(0, 6)
    for row in range(COUNT):
        t = row / (COUNT - 1)
        if kind == "car":
            yaw, pitch = 20 * np.sin(2 * t + phase), 0.4 * np.sin(9 * t)
            center = np.array([3 * np.sin(2 * t + phase), 0.02 * np.sin(20 * t), 0.6 * row])
        elif kind == "walk":
            yaw, pitch = 45 * np.sin(7 * t + phase), 8 * np.sin(5 * t)
            center = np.array([0.15 * row, 0.05 * np.sin(row), 1.5 * np.sin(3 * t + phase)])
        else:
            yaw, pitch = 90 * t, 5 * np.sin(4 * t + phase)
            R = cv2.Rodrigues(np.radians([0.0, yaw, 0]))[0]
            center = np.array([0, 0, 8.0]) - R @ (0, 0, 8.0)
        R = cv2.Rodrigues(np.radians([0.0, yaw, 0]))[0] @ cv2.Rodrigues(np.radians([pitch, 0.0, 0]))[0]
        poses[row, :3, :3], poses[row, :3, 3] = R.T, -R.T @ center
    return poses


def make_scene(
    kind: str, seed: int, *, traffic: float = 0.0, is_plane: bool = False, noise_px: float = NOISE_PX
) -> Scene:
    """Return a scene of random points; a share of them moves by itself."""
    random = np.random.default_rng(seed)
    T = make_path(kind, random)
    centers = np.linalg.inv(T)[:, :3, 3]
    around = random.uniform((-12, -4, -12), (12, 4, 12), (POINTS, 3)) + centers[random.integers(0, COUNT, POINTS)]
    around[:, 2] += 8 if kind == "car" else 0
    if is_plane:
        around[:, 2] = centers[:, 2].max() + 6
    speed = np.zeros((POINTS, 3))
    speed[random.random(POINTS) < traffic] = (0.05, 0, 0.9)
    return Scene(f"{kind}-{seed}", T, draw_matches(T, around, speed, random, noise_px=noise_px))


def draw_matches(
    T: np.ndarray,
    points: np.ndarray,
    speed: np.ndarray,
    random: np.random.Generator,
    *,
    noise_px: float = NOISE_PX,
    zoom: np.ndarray | None = None,
) -> list[FramePair]:
    """Return the matches of each frame with the next ones and of frames that see much in common, as a loop does."""
    zooms = np.ones(len(T)) if zoom is None else zoom
    seen, xy = [], []
    for row in range(len(T)):
        inside = (points + row * speed) @ T[row, :3, :3].T + T[row, :3, 3]
        inside[:, :2] *= zooms[row]
        pixels = LENS.project(np.where(inside[:, 2:] > 0.8, inside, 1.0))
        shown = (inside[:, 2] > 0.8) & (inside[:, 2] < 30) & (pixels > 0).all(1) & (pixels < (640, 400)).all(1)
        shown &= random.random(len(points)) < 0.6  # a detector finds a feature in part of the frames
        seen.append(shown)
        xy.append(np.round(pixels + noise_px * random.standard_normal(pixels.shape), 3))
    held = random.random((len(T), len(points))) < HELD_SHARE
    wanted = list_neighbors(range(len(T)), OVERLAP)
    common = np.array(seen, float) @ np.array(seen, float).T
    wanted += [(a, b) for a, b in np.argwhere(np.triu(common, OVERLAP + 1) > 120).tolist()]
    pairs = []
    for first, second in sorted(wanted):
        both = np.flatnonzero(seen[first] & seen[second])
        if len(both) < 20:
            continue
        wrong = random.random(len(both)) < WRONG_SHARE
        moved = xy[second][both] + wrong[:, None] * np.round(random.uniform(-40, 40, (len(both), 2)), 3)
        is_held = held[first, both] | held[second, both]
        pairs.append(FramePair(first, second, xy[first][both], moved, is_held))
    return pairs


def draw_map(scene: Scene, T: np.ndarray, camera: LensCamera | None = None) -> SparseMap:
    """Return the map with these poses T_camera_world (F, 4, 4): tracks of matches that the poses explain."""
    camera = camera or scene.camera
    frame, xy, track = join_tracks(scene.pairs)
    rays = cv2.undistortPoints(xy[:, None], camera.K, np.array(camera.distortion))[:, 0]
    order = np.argsort(track, kind="stable")
    points, observed, places = [], [], []
    for rows in np.split(order, np.flatnonzero(np.diff(track[order])) + 1):
        for _ in range(3):
            if len(rows) < 2:
                break
            P = T[frame[rows], :3]
            A = (rays[rows, :, None] * P[:, 2:3] - P[:, :2]).reshape(-1, 4)
            X = np.linalg.svd(A)[2][-1]
            inside = P @ (X / (X[3] if abs(X[3]) > 1e-9 else 1e-9))
            missed = np.full(len(rows), np.inf)
            ahead = inside[:, 2] > 1e-6
            missed[ahead] = np.linalg.norm(camera.project(inside[ahead]) - xy[rows[ahead]], axis=1)
            if missed.max() < MAX_MISS_PX:
                break
            rows = np.delete(rows, missed.argmax())
        else:
            rows = rows[:0]
        if len(rows) >= 2:
            observed += [(row, len(points)) for row in frame[rows]]
            places.append(xy[rows])
            points.append(X[:3] / X[3])
    shown = np.array(points).reshape(-1, 3)
    colors = np.zeros(shown.shape, np.uint8)
    return SparseMap(
        camera,
        np.arange(len(T)),
        T,
        shown,
        colors,
        np.array(observed).reshape(-1, 2),
        np.concatenate([*places, np.empty((0, 2))]),
    )


def join_tracks(pairs: list[FramePair]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frame (M,), xy (M, 2) and track (M,) of each feature in matches that are not held out."""
    keys = []
    for pair in pairs:
        used = ~pair.is_held
        for frame, xy in ((pair.first, pair.xy_first), (pair.second, pair.xy_second)):
            keys.append(np.column_stack((np.full(used.sum(), frame), xy[used])))
    features, ids = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    ends, at = [], 0
    for pair in pairs:
        count = int((~pair.is_held).sum())
        ends.append(np.column_stack((ids[at : at + count], ids[at + count : at + 2 * count])))
        at += 2 * count
    first, second = np.concatenate(ends).T
    graph = coo_matrix((np.ones(len(first)), (first, second)), (len(features), len(features)))
    return features[:, 0].astype(int), features[:, 1:], connected_components(graph, directed=False)[1]


def judge(scene: Scene, T: np.ndarray, camera: LensCamera | None = None) -> MapVerdict:
    """Return the verdict on the map of these poses; frames of the video that it misses are lost."""
    lost = np.full((scene.outside, 4, 4), np.nan)
    poses = np.concatenate((np.linalg.inv(T), lost))
    return judge_map(measure_evidence(draw_map(scene, T, camera), scene.pairs, poses, has_camera=scene.is_camera_given))


# -- wrong poses of a scene


def scale_from(T: np.ndarray, row: int, factor: float) -> np.ndarray:
    """Return the path with another scale from a frame on, about this frame."""
    centers = np.linalg.inv(T)[:, :3, 3]
    centers[row:] = centers[row] + factor * (centers[row:] - centers[row])
    return place(T, centers)


def place(T: np.ndarray, centers: np.ndarray) -> np.ndarray:
    moved = T.copy()
    moved[:, :3, 3] = -np.einsum("fij,fj->fi", T[:, :3, :3], centers)
    return moved


def swap_halves(T: np.ndarray) -> np.ndarray:
    return np.roll(T, len(T) // 2, axis=0)


def bend(T: np.ndarray, deg: float) -> np.ndarray:
    """Return the path with a turn of its own between frames."""
    turned = T.copy()
    for row in range(len(T)):
        turned[row, :3] = cv2.Rodrigues(np.radians([0, deg * row, 0.0]))[0] @ T[row, :3]
    return turned


def jump_group(T: np.ndarray) -> np.ndarray:
    """Return the path with frames in the middle at another scale, as a group that a global mapping joined wrongly."""
    start, stop = len(T) // 3, 2 * len(T) // 3
    centers = np.linalg.inv(T)[:, :3, 3]
    centers[start:stop] = centers[start] + 8 * (centers[start:stop] - centers[start])
    return place(T, centers)


@dataclass(frozen=True)
class Case:
    """A map of a scene: its kind, its poses T_camera_world (F, 4, 4) and its camera."""

    kind: str
    scene: Scene
    T: np.ndarray
    camera: LensCamera


def list_right(seed: int) -> Iterator[Case]:
    for number in range(5):
        for kind in ("car", "walk", "around"):
            yield make_case("plain", make_scene(kind, seed + number))
    for number in range(4):
        yield make_case("traffic", make_scene("car", seed + 20 + number, traffic=0.1 + 0.05 * number))
        yield make_case("noise", make_scene("walk", seed + 30 + number, noise_px=0.8))
        yield make_case("plane", make_scene("walk", seed + 40 + number, is_plane=True))
        scene = make_scene("car", seed + 50 + number)
        scene.outside = COUNT // 2
        yield make_case("part of a video with cuts", scene)
        small = np.random.default_rng(seed + number).normal(0, 0.002, (COUNT, 3))
        scene = make_scene("walk", seed + 60 + number)
        yield make_case("small errors", scene, place(scene.T, np.linalg.inv(scene.T)[:, :3, 3] + small))
    for number in range(5):
        kind = ("car", "walk", "around")[number % 3]
        scene = make_scene(kind, seed + 70 + number)
        yield make_case("focal length 1 % off", scene, factor=(1.01, 0.99)[number % 2])


def make_case(kind: str, scene: Scene, T: np.ndarray | None = None, factor: float = 1.0) -> Case:
    """Return a map with poses T, and the scene's camera with its focal length times a factor."""
    return Case(
        kind, scene, scene.T if T is None else T, replace(scene.camera, focal_px=scene.camera.focal_px * factor)
    )


def list_wrong(seed: int) -> Iterator[Case]:
    for number in range(4):
        kind = ("car", "walk", "around")[number % 3]
        scene, other = make_scene(kind, seed + 100 + number), make_scene("walk", seed + 110 + number)
        random = np.random.default_rng(seed + number)
        yield make_case("scale jump", scene, scale_from(scene.T, COUNT // 2, (0.4, 2.5, 1.8, 0.55)[number]))
        yield make_case("wrong group", scene, jump_group(scene.T))
        yield make_case("swapped halves", scene, swap_halves(scene.T))
        yield make_case("shuffled", scene, scene.T[random.permutation(COUNT)])
        yield make_case("another video's path", scene, other.T if kind != "walk" else make_path("around", random))
        yield make_case("turns of its own", scene, bend(scene.T, (8, -8, 12, 20)[number]))
        back = np.linalg.inv(scene.T)[:, :3, 3]
        back[np.arange(COUNT) % 4 == 2] -= 3 * np.diff(back, axis=0).mean(0)
        yield make_case("steps back", make_scene("car", seed + 120 + number), place(scene.T, back))
        still = np.tile(np.eye(4), (COUNT, 1, 1))
        points = random.uniform((-12, -4, 3), (12, 4, 25), (POINTS, 3))
        standing = draw_matches(still, points, np.zeros((POINTS, 3)), random, noise_px=0.2)
        shaken = place(still, 0.02 * random.standard_normal((COUNT, 3)))
        yield make_case("standing", Scene(f"standing-{number}", still, standing), shaken)
        factor = np.linspace(1, 1.6, COUNT)
        zooming = draw_matches(still, points, np.zeros((POINTS, 3)), random, zoom=factor)
        ahead = still.copy()
        ahead[:, 2, 3] = -10 * (1 - 1 / factor)  # a plane 10 units away grows as much
        yield make_case("zoom", Scene(f"zoom-{number}", still, zooming, is_camera_given=False), ahead)
        yield make_case("wrong focal length", scene, factor=(0.6, 1.6, 0.7, 1.4)[number])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="kinds of maps")
    options = parser.parse_args()
    grades = {side: Counter[str]() for side in ("right", "wrong")}
    for side, listed in (("right", list_right), ("wrong", list_wrong)):
        for case in listed(options.seed):
            if options.only and case.kind not in options.only:
                continue
            verdict = judge(case.scene, case.T, case.camera)
            grades[side][verdict.grade] += 1
            reasons = {reason.field: round(reason.value, 3) for reason in verdict.reasons}
            print(
                json.dumps(
                    {"map": side, "kind": case.kind, "scene": case.scene.name, "grade": verdict.grade, "by": reasons}
                ),
                flush=True,
            )
    print(json.dumps({side: dict(counts) for side, counts in grades.items()}))


if __name__ == "__main__":
    main()
