"""Measure panoramas of 360 degrees with ground truth: depth and map, next to a perspective camera at the same places.

    python benchmarks/panoramas.py depth --out FOLDER
    python benchmarks/panoramas.py map --out FOLDER

RoadWorld is rendered as the six faces of a cube, which are joined to panoramas of 1024x512 pixels. `depth` predicts
panoramas with the network `base`, and the forward view of 90 degrees alone; AbsRel is with median scaling, once per
image. `map` maps a video of the panoramas, one of two fisheye lenses of 195 degrees, and one of the forward view, whose
camera is given; ATE is the error of the positions after the best similarity transform. Rendered frames stay in FOLDER.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.geometry.panorama import View, make_rays, make_rotation, project_rays
from stadia.io.image_files import read_rgb
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.rendering.renderer import render_image
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

Array = NDArray[np.float64]

SIDE, HEIGHT = 320, 512
TURNS = ((0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90))  # yaw and pitch of the faces, degrees
FACES = [View(f"{yaw}-{pitch}", SIDE, 90, make_rotation(yaw, pitch)) for yaw, pitch in TURNS]
AHEAD = View("ahead", 512, 90, np.eye(3))
WORLDS = (1, 2, 3)
DEPTH_FRAMES = (2, 12, 22)
MAP_WORLDS, MAP_FRAMES = (1, 2), 24
FISHEYE_DEG = 195.0
FAR_M = 80.0  # farther points and the sky are not scored
CONFIG = RoadWorldConfig(
    train=1, val=1, test=1, frames=48, height=SIDE, width=SIDE, stereo=False, field_of_view_deg=(90.0,),
    camera_height_m=(1.7,), speed_m_per_frame=(0.4, 0.8), supersampling=3,
)  # fmt: skip


def render_panorama(renderer: RoadRenderer, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a panorama (HEIGHT, 2 HEIGHT, 3) RGB and the distance along the rays in metres; 0 for the sky."""
    light, world = renderer.make_light(frame), renderer.world
    T_world_camera = renderer.T_world_camera(frame, "left")
    rays = make_rays(HEIGHT, 2 * HEIGHT)
    image, distance = np.zeros((*rays.shape[:2], 3), np.uint8), np.zeros(rays.shape[:2], np.float32)
    for face in FACES:
        T = np.eye(4)
        T[:3, :3] = face.R_panorama_view
        T_face_body = np.linalg.inv(T_world_camera @ T) @ world.geometry.T_world_body[frame]
        rendered = render_image(world.geometry, T_face_body, renderer.lens, light, gain=1.0)
        xy, is_seen = face.project(rays)
        x, y = np.moveaxis(xy.astype(np.float32), -1, 0)
        colors = cv2.remap(rendered.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        depth = cv2.remap(rendered.depth_m, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        along = (rays @ face.R_panorama_view)[..., 2]
        image[is_seen] = colors[is_seen]
        distance[is_seen] = (depth / np.maximum(along, 1e-6))[is_seen]
    return image, distance


def render_world(out: Path, seed: int, frames: tuple[int, ...]) -> tuple[Path, Array]:
    """Render frames of a world into a folder, unless they are there; return the folder and all poses (F, 4, 4)."""
    folder = out / f"world-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    poses = folder / "poses.npy"
    todo = [frame for frame in frames if not (folder / f"{frame:06d}.npy").exists()]
    if todo or not poses.exists():
        renderer = RoadRenderer(make_world(seed, CONFIG), CONFIG)
        np.save(poses, renderer.world.drive.T_world_camera)
        for frame in todo:
            image, distance = render_panorama(renderer, frame)
            cv2.imwrite(str(folder / f"{frame:06d}.png"), image[..., ::-1])
            np.save(folder / f"{frame:06d}.npy", distance)
    return folder, np.load(poses)


def measure_abs_rel(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], weights: Array
) -> tuple[float, float]:
    """Return AbsRel with median scaling and the factor; each pixel counts by its solid angle."""
    known = (truth > 0) & (truth < FAR_M) & (predicted > 0)
    factor = float(np.median(truth[known]) / np.median(predicted[known]))
    errors = np.abs(predicted[known] * factor - truth[known]) / truth[known]
    return float(np.average(errors, weights=weights[known])), factor


def measure_depth(out: Path) -> dict[str, object]:
    """Predict panoramas and forward views of all worlds with `base`."""
    from stadia.predict.network import open_network
    from stadia.predict.panorama import PanoramaSession

    network = open_network("base")
    weights = np.repeat(np.cos(((np.arange(HEIGHT) + 0.5) / HEIGHT - 0.5) * np.pi)[:, None], 2 * HEIGHT, 1)
    rays = AHEAD.make_rays()
    length = np.linalg.norm(rays, axis=-1)
    x, y = np.moveaxis(AHEAD.project(make_rays(HEIGHT, 2 * HEIGHT))[0].astype(np.float32), -1, 0)
    is_ahead = AHEAD.project(make_rays(HEIGHT, 2 * HEIGHT))[1]
    along = make_rays(HEIGHT, 2 * HEIGHT)[..., 2]
    rows = []
    for seed in WORLDS:
        folder, _ = render_world(out, seed, DEPTH_FRAMES)
        for frame in DEPTH_FRAMES:
            file, truth = folder / f"{frame:06d}.png", np.load(folder / f"{frame:06d}.npy")
            photo = network.predict(file)
            joined = cv2.resize(photo.depth, (2 * HEIGHT, HEIGHT), interpolation=cv2.INTER_NEAREST)
            image = read_rgb(file)
            alone = network.predict(np.ascontiguousarray(AHEAD.cut(image)), K=AHEAD.K).depth * length
            projected = cv2.remap(alone.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            ahead = np.where(is_ahead & (along > 0), truth, 0)
            session = photo.session
            assert isinstance(session, PanoramaSession)
            row = {
                "world": seed,
                "frame": frame,
                "panorama": measure_abs_rel(joined, truth, weights),
                "panorama, ahead": measure_abs_rel(joined, ahead, weights),
                "perspective, ahead": measure_abs_rel(projected, ahead, weights),
                "disagreement": session.joined.disagreement,
                "factors": session.joined.factors.round(3).tolist(),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    names = ("panorama", "panorama, ahead", "perspective, ahead")
    means = {name: float(np.mean([row[name][0] for row in rows])) for name in names}
    return {**means, "images": len(rows)}


def film_fisheye(panorama: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the circles (HEIGHT, 2 HEIGHT, 3) of two equidistant lenses, of which the right one looks back."""
    rows, columns = (np.indices((HEIGHT, HEIGHT)) + 0.5) / (HEIGHT / 2) - 1
    radius = np.hypot(rows, columns)
    angle, circles = radius * np.radians(FISHEYE_DEG) / 2, list[NDArray[np.uint8]]()
    along = np.sin(angle) / radius
    rays = np.stack((columns * along, rows * along, np.cos(angle)), -1)
    for axes in (np.eye(3), np.diag([-1.0, 1.0, -1.0])):
        x, y = np.moveaxis(project_rays(rays @ axes, *panorama.shape[:2]).astype(np.float32), -1, 0)
        circle = cv2.remap(panorama, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        circles.append(np.asarray(np.where(radius[..., None] < 1, circle, 0), np.uint8))
    return np.hstack(circles)


def write_video(path: Path, images: list[NDArray[np.uint8]]) -> None:
    """Write RGB images as a video."""
    from stadia.evaluation.plots.videos import open_video_file

    with open_video_file(path, 10.0) as write:
        for image in images:
            write(image)


def measure_map(out: Path) -> dict[str, object]:
    """Map a video of panoramas and of the forward view of each world."""
    from stadia.data.config import CameraConfig
    from stadia.metrics.trajectory_metrics import PathAlignment, align_path, ate_rmse_m
    from stadia.sfm.map_video import map_video
    from stadia.sfm.panorama_map import map_panorama

    rows = []
    for seed in MAP_WORLDS:
        folder, poses = render_world(out, seed, tuple(range(MAP_FRAMES)))
        images = [read_rgb(folder / f"{frame:06d}.png") for frame in range(MAP_FRAMES)]
        path_m = float(np.linalg.norm(np.diff(poses[:MAP_FRAMES, :3, 3], axis=0), axis=1).sum())
        row: dict[str, object] = {"world": seed, "path_m": path_m}
        views: dict[str, Callable[[NDArray[np.uint8]], Any]]
        views = {"ahead": AHEAD.cut, "fisheye": film_fisheye, "panorama": np.asarray}
        for name, film in views.items():
            video = folder / f"{name}.mp4"
            if not video.exists():
                write_video(video, [np.ascontiguousarray(film(image)) for image in images])
            place = folder / f"{name}.map"
            try:
                about: dict[str, object] = {}
                if name == "ahead":
                    T = map_video(video, camera=CameraConfig(horizontal_fov_deg=90), out=place).T_world_camera
                else:
                    mapped = map_panorama(video, out=place)
                    T, about["verdict"] = mapped.T_world_camera, mapped.evidence.judge()
                    about["held_out_within"] = mapped.evidence.within
            except StadiaError as error:
                row[name] = str(error)
                continue
            known = np.isfinite(T).all((1, 2))
            found, true = T[known], poses[:MAP_FRAMES][known]
            ate_m = ate_rmse_m(align_path(found, true, PathAlignment.SIM3).T_world_camera, true)
            row[name] = {"ate_m": ate_m, "placed": int(known.sum()), **about}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return {"worlds": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("render", "depth", "map"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.what == "render":
        for seed in MAP_WORLDS:
            render_world(arguments.out, seed, tuple(range(MAP_FRAMES)))
        return
    measure = measure_depth if arguments.what == "depth" else measure_map
    print(json.dumps(measure(arguments.out), indent=1))


if __name__ == "__main__":
    main()
