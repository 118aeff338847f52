"""Render RGBA cut-outs of TableWorld's shapes, to be pasted onto other images. License: CC0.

Color is that of the object's samples alone, and alpha the share of a pixel's samples that show it: nothing of a
background is in either.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.files import replacing_folder, write_json
from stadia.core.seeds import derive, generator
from stadia.data.rendering.assembly import assemble_parts
from stadia.data.rendering.dataset import Job, names_by_split, run_all, unfinished
from stadia.data.rendering.files import cores, write_png
from stadia.data.rendering.image import moved
from stadia.data.rendering.mesh import transformed
from stadia.data.rendering.preview import write_sheet
from stadia.data.rendering.raster import draw, intrinsics
from stadia.data.rendering.shade import develop, shade
from stadia.data.rendering.texture import Texture, pack
from stadia.data.tableworld.presets import CLASSES, CutoutConfig, TableWorldConfig
from stadia.data.tableworld.render import TableRenderer
from stadia.data.tableworld.shapes import KINDS
from stadia.data.tableworld.table import Placed, Table, look_at, make_lamp, named, upright
from stadia.data.tableworld.textures import make_textures

VERSION = 1
"""Raised when a seed no longer gives the same images."""

_NO_GRAIN = np.empty((0, 0, 0), np.float32)


def jobs(config: CutoutConfig, seed: int) -> list[Job]:
    """List the objects of a set in order; the name of each contains its kind."""
    found = []
    for split, count in config.objects.items():
        for index in range(count):
            own = derive(seed, "cutouts", split, index)
            found.append(Job(f"{split}-{index:05d}-{_draw_kind(own)}", split, index, own))
    return found


def _draw_kind(seed: int) -> str:
    return CLASSES[1 + int(generator(seed, "kind").integers(len(CLASSES) - 1))]


def make_alone(seed: int, config: CutoutConfig) -> Table:
    """Make a scene of one floating object before black, with a camera for each view."""
    shape = KINDS[_draw_kind(seed)](generator(seed, "shape"))
    placed = Placed(1, shape, upright(0.0, 0.0, 0.0, float(shape.size_m[1])))
    textures = make_textures(seed, 1) | {"sky": Texture(np.zeros((2, 2, 3), np.float32), (1.0, 1.0))}
    bodies = [transformed(named(mesh, 0), placed.T_world_object) for mesh in (shape.mesh, shape.handle)]
    parts = [*bodies[0], *bodies[1]]
    random = generator(seed, "views")
    away = 1.05 * float(np.linalg.norm(shape.size_m)) / 2 / np.sin(np.radians(config.field_of_view_deg / 2))
    middle = placed.T_world_object[:3, 3]
    cameras = []
    for _ in range(config.views):
        elevation, azimuth = np.radians(random.uniform(*config.elevation_deg)), random.uniform(0, 2 * np.pi)
        direction = np.array(
            [np.cos(elevation) * np.sin(azimuth), -np.sin(elevation), np.cos(elevation) * np.cos(azimuth)]
        )
        cameras.append(look_at(middle + away * direction, middle, 0.0))
    return Table(
        seed=seed,
        objects=(placed,),
        lamp=make_lamp(seed),
        T_world_camera=np.stack(cameras),
        gains=np.exp(random.normal(0.0, 0.12, config.views)),
        K=intrinsics(config.field_of_view_deg, config.side, config.side),
        assembly=assemble_parts(parts, np.zeros(len(parts), np.int32), 0, textures),
        textures=pack(textures),
        sky_texture=list(textures).index("sky"),
        object_of_part=np.ones(len(parts), np.int32),
        is_handle=np.array([False] * len(bodies[0]) + [True] * len(bodies[1])),
    )


def cut_out(renderer: TableRenderer, view: int) -> NDArray[np.uint8]:
    """Render (H, W, 4) RGB with straight alpha, of a scene made by `make_alone`."""
    scene, lens = renderer.scene, renderer.lens
    T_world_camera = renderer.table.T_world_camera[view][None]
    inverse_depth, index = draw(moved(scene.vertices, scene.body, np.linalg.inv(T_world_camera)), scene.triangles, lens)
    linear = np.empty((lens.height, lens.width, 3), np.float32)
    shade(
        inverse_depth,
        index,
        lens,
        T_world_camera,
        scene.surfaces,
        scene.textures,
        scene.sky_texture,
        renderer.light,
        linear,
    )
    shown = (index >= 0).reshape(lens.height, lens.samples, lens.width, lens.samples)
    alpha = shown.mean((1, 3), dtype=np.float64).astype(np.float32)[..., None]
    straight = np.divide(
        linear, alpha, out=np.zeros_like(linear), where=alpha > 0
    )  # black adds nothing to the sum over samples
    image = np.empty(linear.shape, np.uint8)
    develop(straight, float(renderer.table.gains[view]), _NO_GRAIN, 0.0, 0.0, image)
    return np.dstack([image, np.rint(255 * alpha).astype(np.uint8)])


def _write_object(job: Job, config: CutoutConfig, out: Path) -> int:
    table_config = TableWorldConfig(
        train=1, val=0, test=0, height=config.side, width=config.side, supersampling=config.supersampling, noise=False
    )
    renderer = TableRenderer(make_alone(job.seed, config), table_config)
    with replacing_folder(out / job.split / job.name) as folder:
        for view in range(config.views):
            write_png(folder / f"{view:02d}.png", cut_out(renderer, view)[..., [2, 1, 0, 3]])
        write_json(folder / "object.json", {"cutouts": job.origin(config, VERSION)})
    return config.views


def write_cutouts(
    config: CutoutConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> Path:
    """Render a set to `out`, SPLIT/OBJECT/VIEW.png; objects already there are kept. Returns the path of its
    foregrounds.json.

    Args: as `write_tableworld`. Raises DataError where a folder holds an object made with other settings.
    """
    out = Path(out)
    every = jobs(config, seed)
    todo = unfinished(
        every,
        lambda job: out / job.split / job.name / "object.json",
        "cutouts",
        lambda job: job.origin(config, VERSION),
    )
    advance(config.views * (len(every) - len(todo)))
    with ThreadPoolExecutor(workers or cores()) as pool:
        run_all(pool, lambda job: _write_object(job, config, out), todo, advance)
    _write_preview(out, every)
    path, made_from = out / "foregrounds.json", {"seed": seed, "config": config.model_dump(mode="json")}
    about = {"format": "stadia-foregrounds", "version": 1, "license": "CC0-1.0"}
    write_json(path, {**about, "splits": names_by_split(every), "cutouts": made_from})
    return path


def _write_preview(out: Path, every: list[Job], columns: int = 8, rows: int = 4) -> None:
    """Write a sheet with some of the objects before a checkerboard."""
    chosen = [every[i] for i in np.linspace(0, len(every) - 1, columns * rows).round().astype(int)]
    tiles = []
    for job in chosen:
        rgba = np.asarray(cv2.imread(str(out / job.split / job.name / "00.png"), cv2.IMREAD_UNCHANGED))[
            ..., [2, 1, 0, 3]
        ]
        checkers = np.where((np.indices(rgba.shape[:2]) // 16).sum(0) % 2, 200, 160)[..., None]
        alpha = rgba[..., 3:] / 255
        tiles.append(((1 - alpha) * checkers + alpha * rgba[..., :3]).astype(np.uint8))
    write_sheet(out, np.vstack([np.hstack(tiles[row * columns : (row + 1) * columns]) for row in range(rows)]))
