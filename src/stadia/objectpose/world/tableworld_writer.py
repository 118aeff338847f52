"""Write TableWorld (docs/reference/tableworld.md) as one folder a table, complete or absent, so that it resumes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from stadia.datasets.image_files import read_label_png, read_rgb
from stadia.files.array_files import read_npy
from stadia.files.atomic_files import atomic_folder, write_json
from stadia.objectpose.config import TABLEWORLD_CLASSES, TableWorldConfig
from stadia.objectpose.world.table_scene import TableRenderer, TableView, VisibleObject, make_table
from stadia.synthetic.rendering.dataset_files import (
    Image,
    SceneFormat,
    SceneJob,
    colorize_depth,
    spread_indices,
    stack_tiles,
    write_png,
)

TABLEWORLD_VERSION = 2  # 2: scene.json lists `images`, before `pictures`
TABLEWORLD = SceneFormat(
    "tableworld", TABLEWORLD_VERSION, "scene.json", "dataset.json",
    {"format": "stadia-objects", "version": 1, "classes": TABLEWORLD_CLASSES},
    lambda split, index, _: f"{split}-{index:05d}",
)  # fmt: skip

_NEAR_M, _FAR_M = 0.3, 3.0  # of depth in previews


def _describe_view(view: TableView) -> dict[str, Any]:
    return {
        "K": view.K.tolist(),
        "height": view.image.shape[0],
        "width": view.image.shape[1],
        "T_world_camera": view.T_world_camera.tolist(),
        "objects": list(map(_describe_object, view.objects)),
    }


def _describe_object(one: VisibleObject) -> dict[str, Any]:
    quaternion_xyzw = Rotation.from_matrix(one.T_camera_object[:3, :3]).as_quat(canonical=True)
    return {
        "class": one.placed.shape.kind,
        "quaternion_wxyz": quaternion_xyzw[[3, 0, 1, 2]].tolist(),
        "t_camera_object_m": one.T_camera_object[:3, 3].tolist(),
        "size_m": one.placed.shape.size_m.tolist(),
        "symmetry": one.symmetry,
        "full_px": one.full_px,
    }


def _write_view(folder: Path, number: int, view: TableView) -> None:
    name = f"{number:03d}"
    write_png(folder / "image" / f"{name}.png", view.image[..., ::-1])
    write_png(folder / "instance" / f"{name}.png", view.instance)
    np.save(folder / "depth" / f"{name}.npy", view.depth_m)


def _write_table(config: TableWorldConfig, job: SceneJob) -> int:
    renderer = TableRenderer(make_table(job.seed, config), config)
    with atomic_folder(job.folder) as folder:
        for kind in ("image", "instance", "depth"):
            (folder / kind).mkdir()
        views = []
        for number in range(config.views):
            view = renderer.render(number)
            _write_view(folder, number, view)
            views.append(_describe_view(view))
        write_json(folder / "scene.json", {"images": views, "tableworld": TABLEWORLD.origin(job, config)})
    return config.views


def write_tableworld(
    config: TableWorldConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> Path:
    """Render a data set to `out`; existing tables are kept. Returns the path of its dataset.json.

    The same seed gives the same bytes for any number of `workers`. advance: called with a number of finished images.
    Raises DataError for a folder with other settings, StadiaError if it cannot be written.
    """
    write, images = partial(_write_table, config), config.views
    return TABLEWORLD.write_scenes(
        Path(out), config, seed, write, _draw_tables, images=images, workers=workers, advance=advance
    )


# -- A contact sheet: images, instances (one hue an object) and depth.


def _draw_tables(scenes: list[Path], rows: int = 8) -> Image:
    count = min(2 * rows, len(scenes))
    return stack_tiles([_draw_table_row(scenes[i]) for i in spread_indices(len(scenes), count)], 2)


def _draw_table_row(scene: Path) -> Image:
    image = read_rgb(scene / "image" / "000.png")
    instance = read_label_png(scene / "instance" / "000.png")
    hue = (instance.astype(int) * 67 % 180).astype(np.uint8)
    shown = np.where(instance > 0, 255, 0).astype(np.uint8)
    colored = cv2.cvtColor(np.stack([hue, shown * 3 // 4, shown], -1).astype(np.uint8), cv2.COLOR_HSV2RGB)
    depth = read_npy(scene / "depth" / "000.npy").astype(np.float32, copy=False)
    return np.hstack([image, colored, colorize_depth(depth, _NEAR_M, _FAR_M)])
