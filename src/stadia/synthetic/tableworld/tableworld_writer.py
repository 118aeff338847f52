"""Write TableWorld as one folder a table, and cut-outs as one folder an object: each complete or absent, to resume.

DATASET/dataset.json names the folders of each split and is written last. Every file: docs/reference/tableworld.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.seeds import make_generator
from stadia.datasets.image_files import read_label_png, read_rgb, read_rgba
from stadia.files.array_files import read_npy
from stadia.files.atomic_files import atomic_folder, write_json
from stadia.geometry.rasterizer import make_intrinsics
from stadia.synthetic.config import TABLEWORLD_CLASSES, CutoutConfig, TableWorldConfig
from stadia.synthetic.rendering.dataset_files import (
    Image,
    SceneFormat,
    SceneJob,
    colorize_depth,
    stack_tiles,
    write_png,
)
from stadia.synthetic.rendering.mesh import make_direction, transform_mesh
from stadia.synthetic.rendering.renderer import render_linear
from stadia.synthetic.rendering.shading_kernels import develop_image
from stadia.synthetic.rendering.surfaces import Texture, assemble_parts
from stadia.synthetic.tableworld.table_objects import SHAPES, make_table_textures
from stadia.synthetic.tableworld.table_scene import (
    PlacedObject,
    TableRenderer,
    TableScene,
    TableView,
    VisibleObject,
    make_camera_pose,
    make_lamp,
    make_table,
    make_upright_pose,
    name_object_textures,
)

TABLEWORLD_VERSION = 2  # 2: scene.json lists `images`, before `pictures`
TABLEWORLD = SceneFormat(
    "tableworld", TABLEWORLD_VERSION, "scene.json", "dataset.json",
    {"format": "stadia-objects", "version": 1, "classes": TABLEWORLD_CLASSES},
    lambda split, index, _: f"{split}-{index:05d}",
)  # fmt: skip

CUTOUTS_VERSION = 1
CUTOUTS = SceneFormat(
    "cutouts", CUTOUTS_VERSION, "object.json", "foregrounds.json",
    {"format": "stadia-foregrounds", "version": 1, "license": "CC0-1.0"},
    lambda split, index, seed: f"{split}/{split}-{index:05d}-{_draw_kind(seed)}", is_split_by_folders=True,
)  # fmt: skip

_NEAR_M, _FAR_M = 0.3, 3.0  # of depth in previews
_NO_NOISE = np.empty((0, 0, 0), np.float32)


def _describe_view(view: TableView) -> dict[str, Any]:
    """Return the entry of an image in scene.json."""
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
    """Render one table to its folder. Returns its number of images."""
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

    Args:
        seed: of the data set; the same seed gives the same bytes for any number of workers.
        workers: threads that render, a table each; all cores by default.
        advance: called with a number of images when they are finished.

    Raises DataError where a folder holds a table made with other settings, StadiaError where it cannot be written.
    """
    write, images = partial(_write_table, config), config.views
    return TABLEWORLD.write_scenes(
        Path(out), config, seed, write, _draw_tables, images=images, workers=workers, advance=advance
    )


# -- A contact sheet: images, instances (one hue an object) and depth.


def _draw_tables(scenes: list[Path], rows: int = 8) -> Image:
    """Draw the first images of up to 2 x `rows` tables spread evenly."""
    count = min(2 * rows, len(scenes))
    return stack_tiles([_draw_table_row(scenes[i]) for i in _spread(len(scenes), count)], 2)


def _spread(length: int, count: int) -> NDArray[np.int64]:
    """Return `count` indices spread evenly over a list."""
    return np.linspace(0, length - 1, count).round().astype(int)


def _draw_table_row(scene: Path) -> Image:
    image = read_rgb(scene / "image" / "000.png")
    instance = read_label_png(scene / "instance" / "000.png")
    hue = (instance.astype(int) * 67 % 180).astype(np.uint8)
    shown = np.where(instance > 0, 255, 0).astype(np.uint8)
    colored = cv2.cvtColor(np.stack([hue, shown * 3 // 4, shown], -1).astype(np.uint8), cv2.COLOR_HSV2RGB)
    depth = read_npy(scene / "depth" / "000.npy").astype(np.float32, copy=False)
    return np.hstack([image, colored, colorize_depth(depth, _NEAR_M, _FAR_M)])


# -- RGBA cut-outs of TableWorld's shapes, to be pasted onto other images. License: CC0.
#
# Color is the mean of the object's samples alone. Alpha is the share of a pixel's samples that show the object. Neither
# contains a background.


def list_cutout_objects(out: Path, config: CutoutConfig, seed: int) -> list[SceneJob]:
    """List the objects of a set in order; the name of each contains its kind."""
    return CUTOUTS.list_jobs(out, config, seed)


def _draw_kind(seed: int) -> str:
    return TABLEWORLD_CLASSES[1 + int(make_generator(seed, "kind").integers(len(TABLEWORLD_CLASSES) - 1))]


def make_single_object_scene(seed: int, config: CutoutConfig) -> TableScene:
    """Make a scene of one floating object before black, with a camera for each view."""
    shape = SHAPES[_draw_kind(seed)](make_generator(seed, "shape"))
    placed = PlacedObject(1, shape, make_upright_pose(0.0, 0.0, 0.0, float(shape.size_m[1])))
    textures = make_table_textures(seed, 1) | {"sky": Texture(np.zeros((2, 2, 3), np.float32), (1.0, 1.0))}
    T = placed.T_world_object
    parts = transform_mesh(name_object_textures([*shape.mesh, *shape.handle], 0), T)
    random = make_generator(seed, "views")
    away = 1.05 * float(np.linalg.norm(shape.size_m)) / 2 / np.sin(np.radians(config.field_of_view_deg / 2))
    cameras = []
    for _ in range(config.views):
        elevation, azimuth = np.radians(random.uniform(*config.elevation_deg)), random.uniform(0, 2 * np.pi)
        cameras.append(make_camera_pose(T[:3, 3] + away * make_direction(elevation, azimuth), T[:3, 3], 0.0))
    return TableScene(
        **vars(assemble_parts(parts, np.zeros(len(parts), np.int32), 0, textures)),
        seed=seed,
        objects=(placed,),
        lamp=make_lamp(seed),
        T_world_camera=np.stack(cameras),
        gains=np.exp(random.normal(0.0, 0.12, config.views)),
        K=make_intrinsics(config.field_of_view_deg, config.side, config.side),
        object_of_part=np.ones(len(parts), np.int32),
        is_handle=np.arange(len(parts)) >= len(shape.mesh),
    )


def render_cutout(renderer: TableRenderer, view: int) -> NDArray[np.uint8]:
    """Render (H, W, 4) RGB with straight alpha, of a scene made by `make_single_object_scene`."""
    table, lens = renderer.table, renderer.lens
    T = table.T_world_camera[view][None]
    linear, _, index = render_linear(table, np.linalg.inv(T), T, lens, renderer.light)
    shown = (index >= 0).reshape(lens.height, lens.samples, lens.width, lens.samples)
    alpha = shown.mean((1, 3), dtype=np.float64).astype(np.float32)[..., None]
    # The black background added nothing to the sum over samples.
    straight = np.divide(linear, alpha, out=np.zeros_like(linear), where=alpha > 0)
    image = np.empty(linear.shape, np.uint8)
    develop_image(straight, float(table.gains[view]), _NO_NOISE, 0.0, 0.0, image)
    return np.dstack([image, np.rint(255 * alpha).astype(np.uint8)])


def _write_object(config: CutoutConfig, job: SceneJob) -> int:
    table_config = TableWorldConfig(
        train=1, val=0, test=0, height=config.side, width=config.side, supersampling=config.supersampling, noise=False
    )
    renderer = TableRenderer(make_single_object_scene(job.seed, config), table_config)
    with atomic_folder(job.folder) as folder:
        for view in range(config.views):
            write_png(folder / f"{view:02d}.png", render_cutout(renderer, view)[..., [2, 1, 0, 3]])
        write_json(folder / "object.json", {"cutouts": CUTOUTS.origin(job, config)})
    return config.views


def write_cutouts(
    config: CutoutConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> Path:
    """Render a set to `out` as SPLIT/OBJECT/VIEW.png; existing objects are kept. Returns the path of foregrounds.json.

    Arguments and errors are those of `write_tableworld`.
    """
    write, images = partial(_write_object, config), config.views
    return CUTOUTS.write_scenes(
        Path(out), config, seed, write, _draw_cutouts, images=images, workers=workers, advance=advance
    )


def _draw_cutouts(objects: list[Path], columns: int = 8, rows: int = 4) -> Image:
    """Draw some of the objects before a checkerboard."""
    tiles = []
    for i in _spread(len(objects), columns * rows):
        rgba = read_rgba(objects[i] / "00.png")
        checkers = np.where((np.indices(rgba.shape[:2]) // 16).sum(0) % 2, 200, 160)[..., None]
        alpha = rgba[..., 3:] / 255
        tiles.append(((1 - alpha) * checkers + alpha * rgba[..., :3]).astype(np.uint8))
    return stack_tiles(tiles, columns)
