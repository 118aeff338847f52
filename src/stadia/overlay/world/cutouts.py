"""Render the objects of TableWorld with alpha, to be pasted onto other images. License: CC0."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.datasets.image_files import read_rgba
from stadia.files.atomic_files import atomic_folder, write_json
from stadia.geometry.rasterizer import make_intrinsics
from stadia.overlay.config import CutoutConfig
from stadia.synthetic.household_objects import SHAPES, make_table_textures, make_upright_pose, name_object_textures
from stadia.synthetic.rendering.dataset_files import (
    Image,
    SceneFormat,
    SceneJob,
    spread_indices,
    stack_tiles,
    write_png,
)
from stadia.synthetic.rendering.mesh import make_camera_pose, make_direction, transform_mesh
from stadia.synthetic.rendering.renderer import render_linear
from stadia.synthetic.rendering.shading_kernels import develop_image
from stadia.synthetic.rendering.still_scene import StillRenderer, StillScene, make_lamp
from stadia.synthetic.rendering.surfaces import Texture, assemble_parts

_SHADOW_SIDE, _SHADOW_BIAS_M = 512, 0.004

CUTOUTS_VERSION = 1
CUTOUTS = SceneFormat(
    "cutouts", CUTOUTS_VERSION, "object.json", "foregrounds.json",
    {"format": "stadia-foregrounds", "version": 1, "license": "CC0-1.0"},
    lambda split, index, seed: f"{split}/{split}-{index:05d}-{_draw_kind(seed)}", is_split_by_folders=True,
)  # fmt: skip


def list_cutout_objects(out: Path, config: CutoutConfig, seed: int) -> list[SceneJob]:
    """List the objects of a set in order; each name contains its kind."""
    return CUTOUTS.list_jobs(out, config, seed)


def _draw_kind(seed: int) -> str:
    return list(SHAPES)[int(make_generator(seed, "kind").integers(len(SHAPES)))]


def make_single_object_scene(seed: int, config: CutoutConfig) -> StillScene:
    """Make a scene of one floating object before black, with a camera for each view."""
    shape = SHAPES[_draw_kind(seed)](make_generator(seed, "shape"))
    T = make_upright_pose(0.0, 0.0, 0.0, float(shape.size_m[1]))
    textures = make_table_textures(seed, 1) | {"sky": Texture(np.zeros((2, 2, 3), np.float32), (1.0, 1.0))}
    parts = transform_mesh(name_object_textures([*shape.mesh, *shape.handle], 0), T)
    random = make_generator(seed, "views")
    away = 1.05 * float(np.linalg.norm(shape.size_m)) / 2 / np.sin(np.radians(config.field_of_view_deg / 2))
    cameras = []
    for _ in range(config.views):
        elevation, azimuth = np.radians(random.uniform(*config.elevation_deg)), random.uniform(0, 2 * np.pi)
        cameras.append(make_camera_pose(T[:3, 3] + away * make_direction(elevation, azimuth), T[:3, 3], 0.0))
    return StillScene(
        **vars(assemble_parts(parts, np.zeros(len(parts), np.int32), 0, textures)),
        seed=seed,
        lamp=make_lamp(seed),
        T_world_camera=np.stack(cameras),
        gains=np.exp(random.normal(0.0, 0.12, config.views)),
        K=make_intrinsics(config.field_of_view_deg, config.side, config.side),
    )


def render_cutout(renderer: StillRenderer, view: int) -> NDArray[np.uint8]:
    """Render (H, W, 4) RGB with straight alpha, of a scene made by `make_single_object_scene`."""
    scene, lens = renderer.scene, renderer.lens
    T = scene.T_world_camera[view][None]
    linear, _, index = render_linear(scene, np.linalg.inv(T), T, lens, renderer.light)
    shown = (index >= 0).reshape(lens.height, lens.samples, lens.width, lens.samples)
    alpha = shown.mean((1, 3), dtype=np.float64).astype(np.float32)[..., None]
    # The black background added nothing to the sum over samples.
    straight = np.divide(linear, alpha, out=np.zeros_like(linear), where=alpha > 0)
    image, no_noise = np.empty(linear.shape, np.uint8), np.empty((0, 0, 0), np.float32)
    develop_image(straight, float(scene.gains[view]), no_noise, 0.0, 0.0, image)
    return np.dstack([image, np.rint(255 * alpha).astype(np.uint8)])


def open_cutout_renderer(seed: int, config: CutoutConfig) -> StillRenderer:
    """Return the renderer of the object of this seed."""
    return StillRenderer(
        make_single_object_scene(seed, config),
        height=config.side,
        width=config.side,
        samples=config.supersampling,
        shadow_side=_SHADOW_SIDE,
        shadow_bias_m=_SHADOW_BIAS_M,
    )


def _write_object(config: CutoutConfig, job: SceneJob) -> int:
    renderer = open_cutout_renderer(job.seed, config)
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
    """Render a set to `out` as SPLIT/OBJECT/VIEW.png, like `write_tableworld`. Returns the path of foregrounds.json."""
    write, images = partial(_write_object, config), config.views
    return CUTOUTS.write_scenes(
        Path(out), config, seed, write, _draw_cutouts, images=images, workers=workers, advance=advance
    )


def _draw_cutouts(objects: list[Path], columns: int = 8, rows: int = 4) -> Image:
    tiles = []
    for i in spread_indices(len(objects), columns * rows):
        rgba = read_rgba(objects[i] / "00.png")
        checkers = np.where((np.indices(rgba.shape[:2]) // 16).sum(0) % 2, 200, 160)[..., None]
        alpha = rgba[..., 3:] / 255
        tiles.append(((1 - alpha) * checkers + alpha * rgba[..., :3]).astype(np.uint8))
    return stack_tiles(tiles, columns)
