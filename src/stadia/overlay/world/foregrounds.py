"""Foregrounds: rendered PNG files and your own, with alpha; their splits and cut-outs. Imports no torch.

A cut-out is (h, w, 4) float32 in [0, 1]: RGB times alpha, then alpha. With premultiplied alpha, resizing adds no
fringe.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.data.frame_selection import spread_indices
from stadia.io.atomic_files import atomic_folder, write_json
from stadia.io.image_files import encode_name, hash_file, list_images, read_rgba
from stadia.io.input_files import natural_sort_key, read_json
from stadia.overlay.config import CutoutConfig
from stadia.synthetic.config import SPLITS
from stadia.synthetic.household_objects import SHAPES, make_table_textures, make_upright_pose, name_object_textures
from stadia.synthetic.rendering import dataset_files
from stadia.synthetic.rendering.mesh import make_camera_pose, make_direction, transform_mesh
from stadia.synthetic.rendering.rasterizer import make_intrinsics
from stadia.synthetic.rendering.renderer import StillRenderer, StillScene, make_lamp, render_linear
from stadia.synthetic.rendering.shading_kernels import develop_image
from stadia.synthetic.rendering.surfaces import Texture, assemble_parts

Cutout = NDArray[np.float32]

LISTING, OBJECT_RECORD = "foregrounds.json", "object.json"
"""Files that `stadia data foregrounds` writes: LISTING names all objects, OBJECT_RECORD describes one object."""


def premultiply_alpha(rgba: NDArray[np.uint8]) -> Cutout:
    """Convert an image (H, W, 4) uint8 RGBA with straight alpha to a cut-out without its empty margin.

    Raises DataError for an empty image.
    """
    if not rgba[..., 3].any():
        expected = "an object that can be seen"
        raise DataError("foreground", found="alpha 0 everywhere", expected=expected, fix="leave the file out")
    inner = _crop_to_visible(rgba).astype(np.float32) / np.float32(255)
    inner[..., :3] *= inner[..., 3:]
    return inner


def _crop_to_visible(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = np.flatnonzero(rgba[..., 3].any(1)), np.flatnonzero(rgba[..., 3].any(0))
    return rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def resize_cutout(cutout: Cutout, height: int, width: int) -> Cutout:
    """Resize a cut-out (h, w, 4), or a mask (h, w): by area if it shrinks, bilinearly if it grows."""
    smaller = (min(width, cutout.shape[1]), min(height, cutout.shape[0]))
    shrunk = cv2.resize(cutout, smaller, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True, slots=True)
class Foreground:
    """Name an image file of a cut-out object with transparency.

    file: PNG file with alpha.
    name: unique name, "OBJECT/VIEW" for one of several views of an object, otherwise "NAME".
    object: name of the shown object, which is equal for all its views.
    """

    file: Path
    name: str
    object: str

    def cutout(self, max_px: int) -> Cutout:
        """Return the cut-out (h, w, 4) with premultiplied alpha, cropped, and at most `max_px` long.

        Raises DataError for a wrong image.
        """
        cutout = premultiply_alpha(read_rgba(self.file))
        h, w = cutout.shape[:2]
        scale = max_px / max(h, w)
        return cutout if scale >= 1 else resize_cutout(cutout, max(1, round(scale * h)), max(1, round(scale * w)))


def open_foregrounds(path: Path, val_share: float) -> dict[str, list[Foreground]]:
    """Open the foregrounds of each split. The folder defines the splits; otherwise `val_share` of the objects validate.

    Objects that the list of a set does not contain are left out. Raises DataError for fewer than two objects.
    """
    named = [split for split in SPLITS if (path / split).is_dir()]
    if named:
        if "train" not in named:
            found = f"the splits {', '.join(named)}"
            raise DataError(path, found=found, expected="train among them", fix="add FOLDER/train")
        listed = _read_listed_names(path / LISTING)
        return {split: _list_foregrounds(path / split, listed.get(split)) for split in named}
    every = _list_foregrounds(path)
    objects = list(dict.fromkeys(foreground.object for foreground in every))
    if len(objects) < 2:
        expected = "at least 2, to train and validate"
        raise DataError(path, found="a single object", expected=expected, fix="add images of others")
    held_out = max(1, min(round(val_share * len(objects)), len(objects) - 1))
    order = make_generator(0, "foregrounds").permutation(len(objects))[:held_out]
    val = {objects[int(number)] for number in order}
    train = [foreground for foreground in every if foreground.object not in val]
    return {"train": train, "val": [foreground for foreground in every if foreground.object in val]}


def _read_listed_names(path: Path) -> dict[str, set[str]]:
    values = read_json(path) if path.is_file() else {}
    splits = values.get("splits") if isinstance(values, dict) and "cutouts" in values else {}
    if not isinstance(splits, dict) or not all(isinstance(names, list) for names in splits.values()):
        found, expected = "no lists of names in splits", "the list of stadia data foregrounds"
        raise DataError(path, found=found, expected=expected, fix="restore the file, or render the set again")
    return {split: set(map(str, names)) for split, names in splits.items()}


def _list_foregrounds(folder: Path, listed: set[str] | None = None) -> list[Foreground]:
    """List NAME.png as objects with one view, and OBJECT/VIEW.png as views of one object, if it is `listed`."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    objects = sorted((p for p in entries if p.is_dir() and not p.name.startswith(".")), key=natural_sort_key)
    if listed is not None:
        rendered = [entry.name for entry in objects if (entry / OBJECT_RECORD).is_file()]
        objects = [entry for entry in objects if entry.name in listed or entry.name not in rendered]
        if missing := sorted(listed.difference(entry.name for entry in objects)):
            raise _make_list_error(folder, f"'{missing[0][:60]}' of {folder.name}, which is not there")
        if rendered and not objects:
            raise _make_list_error(folder, f"no object of {folder.name}")
    views = [
        Foreground(file, f"{folder_of_object.name}/{file.stem}", folder_of_object.name)
        for folder_of_object in objects
        for file in list_images(folder_of_object)
    ]
    single = [] if objects and not any(p.is_file() for p in entries) else list_images(folder)
    return [*views, *(Foreground(file, file.stem, file.stem) for file in single if file.name != "preview.png")]


def _make_list_error(folder: Path, found: str) -> DataError:
    fix = "render the set again, or correct the list"
    return DataError(folder.parent / LISTING, found=found, expected="the objects that were rendered", fix=fix)


def fingerprint_foregrounds(foregrounds: Sequence[Foreground]) -> str:
    """Return a hash of the names and contents of foregrounds."""
    digest = hashlib.blake2b(digest_size=16)
    for foreground in foregrounds:
        digest.update(encode_name(f"{foreground.name}:{hash_file(foreground.file)}\n"))
    return digest.hexdigest()


def hash_visible_pixels(foregrounds: Sequence[Foreground]) -> list[str]:
    """Return a hash of the visible pixels of each foreground.

    The hash is equal for copies with another encoding, another margin, or mirrored.
    """
    with ThreadPoolExecutor(dataset_files.count_cores()) as threads:
        return list(threads.map(_hash_visible, (foreground.file for foreground in foregrounds)))


def _hash_visible(file: Path) -> str:
    try:
        rgba = read_rgba(file)
    except DataError:
        return hash_file(file)
    inner = _crop_to_visible(rgba)
    visible = np.where(inner[..., 3:] > 0, inner, 0).astype(np.uint8)  # transparent pixels have any color
    data = (f"{visible.shape}".encode() + np.ascontiguousarray(view).tobytes() for view in (visible, visible[:, ::-1]))
    return min(hashlib.blake2b(content, digest_size=16).hexdigest() for content in data)


def check_foregrounds(foregrounds: Sequence[Foreground], max_count: int) -> tuple[list[tuple[str, str]], int]:
    """Check at most `max_count` foregrounds, evenly spread.

    Return (file, fault) of each fault, and the longest side.
    """
    faults, longest = [], 0
    count = min(max_count, len(foregrounds))
    for index in spread_indices(len(foregrounds), count):
        try:
            longest = max(longest, *read_rgba(foregrounds[index].file).shape[:2])
        except DataError as error:
            faults.append((error.where, f"{error.found}, expected {error.expected}"))
    return faults, longest


_SHADOW_SIDE = 512  # side of the shadow map, texels
_SHADOW_BIAS_M = 0.004  # a surface this close behind the one that the light sees is lit

CUTOUTS_VERSION = 1  # raised when a seed no longer gives the same files
CUTOUTS = dataset_files.SceneFormat(
    "cutouts", CUTOUTS_VERSION, "object.json", "foregrounds.json",
    {"format": "stadia-foregrounds", "version": 1, "license": "CC0-1.0"},
    lambda split, index, seed: f"{split}/{split}-{index:05d}-{_draw_kind(seed)}", is_split_by_folders=True,
)  # fmt: skip


def _draw_kind(seed: int) -> str:
    return list(SHAPES)[int(make_generator(seed, "kind").integers(len(SHAPES)))]


def make_single_object_scene(seed: int, config: CutoutConfig) -> StillScene:
    """Return a scene of one floating object in front of black, with a camera for each view."""
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
    """Render a view of a scene from `make_single_object_scene` as (H, W, 4) RGB with straight alpha."""
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


def _write_object(config: CutoutConfig, job: dataset_files.SceneJob) -> None:
    renderer = open_cutout_renderer(job.seed, config)
    with atomic_folder(job.folder) as folder:
        for view in range(config.views):
            dataset_files.write_png(folder / f"{view:02d}.png", render_cutout(renderer, view)[..., [2, 1, 0, 3]])
        write_json(folder / "object.json", {"cutouts": CUTOUTS.origin(job, config)})


def _draw_cutouts(objects: list[Path], columns: int = 8, rows: int = 4) -> dataset_files.Image:
    tiles = []
    for i in spread_indices(len(objects), columns * rows):
        rgba = read_rgba(objects[i] / "00.png")
        checkers = np.where((np.indices(rgba.shape[:2]) // 16).sum(0) % 2, 200, 160)[..., None]
        alpha = rgba[..., 3:] / 255
        tiles.append(((1 - alpha) * checkers + alpha * rgba[..., :3]).astype(np.uint8))
    return dataset_files.stack_tiles(tiles, columns)


write_cutouts = dataset_files.SceneWriter(CUTOUTS, _write_object, _draw_cutouts, lambda config: config.views)
"""Renders a set of cut-outs as SPLIT/OBJECT/VIEW.png."""
