"""Measure RoadWorld's speed and accuracy, in one run.

    python benchmarks/roadworld.py [--height 192] [--width 640] [--worlds 5] [--workers 2] [--json FILE]

speed:    images per second, written to disk with all ground truth and the making of worlds, without compilation.
views:    L1 between an image and its neighbor (the next frame; the right one), unwarped and warped by exact depth and
          pose. matching: how often the exact depth is the photometric best of nine depth factors from .6 to 1.7 (5x5
windows, nearer
          than 40 m). embree:   pixels whose depth differs by more than 1e-5 from a ray through the pixel's center, and
the largest difference
          of the rest. stadia:   H = D h / f over fully visible cars and people: median and deviation of the estimated
over the true height.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from stadia.synthetic.config import ROADWORLD_FULL, RoadWorldConfig
from stadia.synthetic.rendering.dataset_files import count_cores
from stadia.synthetic.roadworld.road_world import RoadRenderer, RoadView, derive_world_seed, make_world
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

FACTORS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.7)


def warp(
    source: RoadView, target: RoadView, K: NDArray, T_source_target: NDArray, factor: float = 1.0
) -> tuple[NDArray, NDArray]:
    """Return the source image warped to the target, and where the target's surface is in it and not hidden."""
    height, width = target.depth_m.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    points = (
        np.linalg.inv(K)
        @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
        * (factor * target.depth_m.ravel().astype(float))
    )
    seen = (K @ (T_source_target[:3, :3] @ points + T_source_target[:3, 3:])).reshape(3, height, width)
    z = seen[2]
    u, v = seen[0] / np.maximum(z, 1e-6), seen[1] / np.maximum(z, 1e-6)
    image = cv2.remap(
        source.image.astype(np.float32) / 255,
        np.float32(u),
        np.float32(v),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = (target.depth_m > 0) & (z > 0.1) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    left, top = np.clip(np.floor(u), 0, width - 2).astype(int), np.clip(np.floor(v), 0, height - 2).astype(int)
    around = np.stack([source.depth_m[top + a, left + b] for a in (0, 1) for b in (0, 1)])
    around = np.where(around > 0, around, 1e9)
    return image, inside & (z < 1.03 * around.min(0) + 0.05) & (around.max(0) < 1.5 * around.min(0))


def compare(
    target: RoadView, source: RoadView, K: NDArray, T_source_target: NDArray, still: NDArray
) -> dict[str, float]:
    """Return residuals of one pair of images, and how well they determine depth."""
    truth = target.image.astype(np.float32) / 255
    image, valid = warp(source, target, K, T_source_target)
    valid &= still
    error = lambda other: np.abs(truth - other).mean(-1)  # noqa: E731
    near = valid & (target.depth_m < 40)
    costs = np.stack(
        [cv2.blur(error(warp(source, target, K, T_source_target, factor)[0]), (5, 5)) for factor in FACTORS]
    )
    return {
        "unwarped": float(error(source.image.astype(np.float32) / 255)[valid].mean()),
        "warped": float(error(image)[valid].mean()),
        "inverse_pose": float(error(warp(source, target, K, np.linalg.inv(T_source_target))[0])[valid].mean()),
        "exact_is_best": float((costs.argmin(0)[near] == FACTORS.index(1.0)).mean()),
    }


def posed_vertices(renderer: RoadRenderer, frame: int) -> NDArray:
    """Return (N, 3) all vertices in the left camera's frame."""
    geometry = renderer.world.geometry
    T = np.linalg.inv(renderer.T_world_camera(frame, "left")) @ geometry.T_world_body[frame][geometry.body]
    return np.einsum("nij,nj->ni", T[:, :3, :3], geometry.vertices) + T[:, :3, 3]


def against_embree(renderer: RoadRenderer, frame: int, view: RoadView, vertices: NDArray) -> tuple[int, int, float]:
    """Return the number of compared pixels, of pixels that differ, and the largest relative difference of the
    others.
    """
    triangles, lens = renderer.world.geometry.triangles, renderer.lens
    rows, columns = np.mgrid[0 : lens.height : 2, 0 : lens.width : 2].reshape(2, -1)
    ray = np.stack([(columns - lens.cx) / lens.fx, (rows - lens.cy) / lens.fy, np.ones(len(rows))], 1)
    mesh = trimesh.Trimesh(vertices, triangles, process=False, validate=False)
    index = trimesh.ray.ray_pyembree.RayMeshIntersector(mesh).intersects_first(np.zeros_like(ray), ray)
    a, b, c = (vertices[triangles[index, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    z = np.where(index >= 0, (normal * a).sum(1) / (normal * ray).sum(1), 0.0)
    found = view.depth_m[rows, columns]
    agree = np.isclose(found, z, rtol=1e-5)
    return len(rows), int((~agree).sum()), float(np.abs(found / np.where(z > 0, z, 1) - 1)[agree & (z > 0)].max())


def height_ratios(renderer: RoadRenderer, view: RoadView, vertices: NDArray) -> list[tuple[str, float]]:
    """Return (class, estimated over true height) of the fully visible cars and people at least 20 pixels high."""
    geometry, lens, found = renderer.world.geometry, renderer.lens, []
    for instance in geometry.instances:
        mask = view.instance == instance.number
        if instance.semantic.label not in ("car", "person") or mask.sum() < 40:
            continue
        points = vertices[np.unique(geometry.triangles[geometry.instance == instance.number])]
        if points[:, 2].min() < 1:
            continue
        pixels = points[:, :2] / points[:, 2:] * (lens.fx, lens.fy) + (lens.cx, lens.cy)
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        box = np.array([columns[0], rows[0], columns[-1], rows[-1]])
        height_px = rows[-1] - rows[0] + 1
        if height_px >= 20 and np.abs(box - np.concatenate([pixels.min(0), pixels.max(0)])).max() < 1.05:
            found.append(
                (
                    instance.semantic.label,
                    float(np.median(view.depth_m[mask]) * height_px / lens.fy / instance.size_hwl_m[0]),
                )
            )
    return found


def exactness(config: RoadWorldConfig, worlds: int) -> dict[str, Any]:
    """Return all measures but speed, over frames of several worlds."""
    temporal, stereo, cast, ratios = [], [], [], []
    for index in range(worlds):
        renderer = RoadRenderer(make_world(derive_world_seed(0, "train", index), config), config)
        K, moving = renderer.world.K, np.array([False, *(i.moves for i in renderer.world.geometry.instances)])
        for frame in range(0, config.frames - 1, 4):
            now, following = renderer.render(frame), renderer.render(frame + 1)["left"]
            T_world_now = renderer.T_world_camera(frame, "left")
            T_next_now = np.linalg.inv(renderer.T_world_camera(frame + 1, "left")) @ T_world_now
            T_right_left = np.linalg.inv(renderer.T_world_camera(frame, "right")) @ T_world_now
            temporal.append(compare(now["left"], following, K, T_next_now, ~moving[now["left"].instance]))
            stereo.append(compare(now["left"], now["right"], K, T_right_left, np.ones_like(now["left"].depth_m, bool)))
            vertices = posed_vertices(renderer, frame)
            cast.append(against_embree(renderer, frame, now["left"], vertices))
            ratios += height_ratios(renderer, now["left"], vertices)
    mean = lambda rows: {key: round(statistics.fmean(row[key] for row in rows), 4) for key in rows[0]}  # noqa: E731
    heights = {label: [ratio for name, ratio in ratios if name == label] for label in ("car", "person")}
    return {
        "next_frame": mean(temporal),
        "right_image": mean(stereo),
        "embree": {
            "pixels": sum(c[0] for c in cast),
            "differ": sum(c[1] for c in cast),
            "largest_of_the_rest": max(c[2] for c in cast),
        },
        "stadia": {
            k: {"n": len(v), "median": round(float(np.median(v)), 4), "sd": round(float(np.std(v)), 4)}
            for k, v in heights.items()
        },
    }


def speed(config: RoadWorldConfig, worlds: int, workers: int) -> dict[str, float]:
    """Write `worlds` worlds of 12 stereo frames to a temporary folder, and return the speed."""
    small = config.model_copy(update={"train": worlds, "val": 0, "test": 0, "frames": 12})
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        write_roadworld(small, Path(folder), workers=workers)
        wall, cpu = time.perf_counter() - started, time.process_time() - used
    images = 24 * worlds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "workers": workers,
        "images_per_s": round(images / wall, 1),
        "cpu_s_per_image": round(cpu / images, 3),
        "peak_rss_mb": round(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=count_cores())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    changes = {
        "height": arguments.height,
        "width": arguments.width,
        "frames": 24,
        "field_of_view_deg": (81.5,),
        "camera_height_m": (1.65,),
    }
    config = ROADWORLD_FULL.model_copy(update=changes)
    started = time.perf_counter()
    tiny = config.model_copy(update={"frames": 1, "height": 32, "width": 96, "stereo": False})
    RoadRenderer(make_world(0, tiny), tiny).render(0)
    result: dict[str, Any] = {
        "size": [arguments.height, arguments.width],
        "first_image_s": round(time.perf_counter() - started, 1),
    }
    result["speed"] = speed(config, arguments.worlds, arguments.workers)
    result |= exactness(config, arguments.worlds)
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
