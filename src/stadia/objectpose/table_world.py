"""Generate tables from a seed, render them and write them (docs/reference/tableworld.md). Each table is a folder.

The world has x right, y down and z forward. The top of the table is y = 0, and its middle is the origin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.seeds import derive_seed, make_generator
from stadia.data.frame_selection import spread_indices
from stadia.io.array_files import read_npy
from stadia.io.atomic_files import atomic_folder, write_json
from stadia.io.image_files import read_label_png, read_rgb
from stadia.objectpose.config import TABLEWORLD_CLASSES, TableWorldConfig
from stadia.synthetic import household_objects
from stadia.synthetic.rendering import dataset_files
from stadia.synthetic.rendering.mesh import (
    WHITE,
    Mesh,
    MeshPart,
    Points,
    join_parts,
    make_box,
    make_camera_pose,
    make_direction,
    make_quad,
    transform_mesh,
)
from stadia.synthetic.rendering.rasterizer import draw_silhouette, make_intrinsics
from stadia.synthetic.rendering.renderer import StillRenderer, StillScene, make_lamp
from stadia.synthetic.rendering.shading_kernels import add_contact_shadow
from stadia.synthetic.rendering.surfaces import assemble_parts

_MAX_TRIES = 60  # attempts to place an object
_MIN_GAP_M = 0.004  # smallest gap between two objects
_MIN_DISTANCE_M = 0.25  # smallest distance of the camera from every object
_SHADOW_SIDE = 512  # side of the shadow map, texels
_SHADOW_BIAS_M = 0.004  # a surface this close behind the one that the light sees is lit
_CONTACT_SIDE = 256  # side of the map of contact shade, texels
_CONTACT_WINDOW_M = 1.8  # side of the part of the table that it covers
_CONTACT_DEPTH = 0.55  # share of the ambient light that contact takes
_CONTACT_FADE_M = 0.022  # distance at which it fades
MIN_HANDLE_PX = 4  # A cup with fewer visible pixels of its handle counts as a body of revolution


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """Describe an object on a table.

    number: its number in instance maps, counted from 1.
    shape: its shape.
    T_world_object: (4, 4) pose, from the object's to world coordinates in metres.
    """

    number: int
    shape: household_objects.ObjectShape
    T_world_object: Points


@dataclass(frozen=True)
class TableScene(StillScene):
    """Everything that is needed to render a table.

    objects: the objects on the table.
    object_of_part: (P,) object number of each part; 0 means no object.
    is_handle: (P,) bool, whether the part is a handle.
    """

    objects: tuple[PlacedObject, ...]
    object_of_part: NDArray[np.int32]
    is_handle: NDArray[np.bool_]


def derive_table_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of a table. It depends on the split too, so that splits share no table or shape."""
    return derive_seed(seed, "tableworld", split, index)


def draw_shapes(seed: int, config: TableWorldConfig) -> list[household_objects.ObjectShape]:
    """Return random shapes for a table, the largest first. At most one is a laptop, because it hides other objects."""
    random = make_generator(seed, "kinds")
    kinds = list(TABLEWORLD_CLASSES[1:])
    chosen: list[str] = []
    for _ in range(random.integers(config.objects[0], config.objects[1] + 1)):
        chosen.append(kinds[random.integers(len(kinds))])
        if chosen[-1] == "laptop":
            kinds.remove("laptop")
    shapes = [
        household_objects.SHAPES[kind](make_generator(seed, "shape", number)) for number, kind in enumerate(chosen)
    ]
    return sorted(shapes, key=lambda shape: -float(shape.size_m[0] * shape.size_m[2]))


def place_shapes(seed: int, shapes: Sequence[household_objects.ObjectShape], half: Points) -> list[PlacedObject]:
    """Place objects close together on a table without overlap; objects that find no space are left out.

    seed: seed of the random places.
    shapes: shapes of the objects, in the order of placement.
    half: (2,) half of the table's size along x and z in metres.
    """
    placed: list[PlacedObject] = []
    taken: list[Points] = []
    for number, shape in enumerate(shapes):
        random = make_generator(seed, "place", number)
        for attempt in range(_MAX_TRIES):
            reach = 0.12 + 0.2 * attempt / _MAX_TRIES  # first close to the middle, then farther out
            x, z = random.uniform(-reach, reach, 2) * (1.25, 0.9)
            T = household_objects.make_upright_pose(random.uniform(0, 2 * np.pi), x, z, float(shape.size_m[1]))
            corners = household_objects.compute_footprint(shape, _MIN_GAP_M / 2) @ T[[0, 2]][:, [0, 2]].T + T[[0, 2], 3]
            if (np.abs(corners) <= half).all() and not any(
                household_objects.has_overlap(corners, placed) for placed in taken
            ):
                placed.append(PlacedObject(len(placed) + 1, shape, T))
                taken.append(corners)
                break
    return placed


def _is_clear_view(T_world_camera: Points, one: PlacedObject) -> bool:
    eye, radius = T_world_camera[:3, 3], float(np.linalg.norm(one.shape.size_m) / 2)
    away = one.T_world_object[:3, 3] - eye
    return bool(T_world_camera[:3, 2] @ away > radius + 0.1 and np.linalg.norm(away) > radius + _MIN_DISTANCE_M)


def draw_view(random: np.random.Generator, objects: Sequence[PlacedObject], config: TableWorldConfig) -> Points:
    """Return a random camera pose, (4, 4) from camera to world coordinates in metres.

    The camera points at an object or near the middle of all objects, and keeps a minimum distance from each object.

    random: random generator.
    objects: the objects on the table.
    config: ranges of the camera's elevation and distance.
    """
    middle = np.mean([placed.T_world_object[:3, 3] for placed in objects], 0)
    while True:
        elevation, azimuth = np.radians(random.uniform(*config.elevation_deg)), random.uniform(0, 2 * np.pi)
        share = random.uniform(0.0, 0.6)
        target = middle + share * (objects[int(random.integers(len(objects)))].T_world_object[:3, 3] - middle)
        eye = target + random.uniform(*config.distance_m) * make_direction(elevation, azimuth)
        T = make_camera_pose(eye, target, random.normal(0, np.radians(5)))
        if all(_is_clear_view(T, placed) for placed in objects):
            return T


def _make_surroundings(random: np.random.Generator, half: Points) -> tuple[Mesh, Mesh]:
    floor, wall = random.uniform(0.65, 0.8), random.uniform(1.9, 3.0)
    top = -2.2
    a, b = -half, half
    along_x, along_z, height = (2 * wall, 0, 0), (0, 0, 2 * wall), (0, floor - top, 0)
    ground: Mesh = [
        make_quad((a[0], 0, a[1]), (2 * b[0], 0, 0), (0, 0, 2 * b[1]), "table"),
        make_quad((-wall, floor, -wall), along_x, along_z, "floor"),
        make_quad((-wall, top, wall), along_x, height, "wall"),
        make_quad((-wall, top, -wall), along_x, height, "wall"),
        make_quad((-wall, top, -wall), along_z, height, "wall"),
        make_quad((wall, top, -wall), along_z, height, "wall"),
    ]
    board = make_box((a[0], 5e-4, a[1]), (b[0], 0.03, b[1]), "table", (0.8, 0.8, 0.8))
    for x in (a[0] + 0.05, b[0] - 0.05):
        for z in (a[1] + 0.05, b[1] - 0.05):
            board += make_box((x - 0.025, 0.03, z - 0.025), (x + 0.025, floor, z + 0.025), "table", (0.7, 0.7, 0.7))
    return ground, board


def make_table(seed: int, config: TableWorldConfig) -> TableScene:
    """Return the table of this seed. Each part of it has its own random stream."""
    random = make_generator(seed, "room")
    half = random.uniform((0.45, 0.38), (0.85, 0.6))
    objects = place_shapes(seed, draw_shapes(seed, config), half)
    ground, board = _make_surroundings(random, half)
    parts: list[MeshPart] = [*ground, *board]
    owners, handles = [0] * len(parts), [False] * len(parts)
    for placed in objects:
        for mesh, is_handle in ((placed.shape.mesh, False), (placed.shape.handle, True)):
            parts += transform_mesh(
                household_objects.name_object_textures(mesh, placed.number - 1), placed.T_world_object
            )
            owners += [placed.number] * len(mesh)
            handles += [is_handle] * len(mesh)
    textures = household_objects.make_table_textures(seed, len(objects))
    views = make_generator(seed, "views")
    field_of_view = make_generator(seed, "lens").uniform(*config.field_of_view_deg)
    return TableScene(
        **vars(assemble_parts(parts, np.zeros(len(parts), np.int32), len(ground), textures)),
        seed=seed,
        objects=tuple(objects),
        lamp=make_lamp(seed),
        T_world_camera=np.stack([draw_view(views, objects, config) for _ in range(config.views)]),
        gains=np.exp(make_generator(seed, "exposure").normal(0.0, 0.12, config.views)),
        K=make_intrinsics(field_of_view, config.height, config.width),
        object_of_part=np.array(owners, np.int32),
        is_handle=np.array(handles),
    )


@dataclass(frozen=True, slots=True)
class VisibleObject:
    """Describe an object with at least one pixel in a rendered image.

    placed: the object on the table.
    T_camera_object: (4, 4) pose, from the object's to camera coordinates in metres.
    visible_px: number of pixels that show the object.
    full_px: number of pixels that would show it without occlusion and without the image's border.
    symmetry: symmetry of its visible shape: the symmetry of its body, or "none" for a cup whose handle is visible.
    """

    placed: PlacedObject
    T_camera_object: Points
    visible_px: int
    full_px: int
    symmetry: household_objects.Symmetry


@dataclass(frozen=True, slots=True)
class TableView:
    """Hold one rendered image of a table and its ground truth.

    image: (H, W, 3) uint8 RGB.
    depth_m: (H, W) float32 z in metres.
    instance: (H, W) number of the object at each pixel, in the order of `objects` and from 1; 0 means no object.
    objects: the visible objects.
    K: (3, 3) intrinsics in pixels.
    T_world_camera: (4, 4) camera pose, from camera to world coordinates in metres.
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    instance: NDArray[np.uint8]
    objects: tuple[VisibleObject, ...]
    K: Points
    T_world_camera: Points


def _shade_contacts(objects: Sequence[PlacedObject]) -> tuple[NDArray[np.float32], Points]:
    contact = np.zeros((_CONTACT_SIDE, _CONTACT_SIDE), np.float32)
    place = np.array([-_CONTACT_WINDOW_M / 2, -_CONTACT_WINDOW_M / 2, _CONTACT_SIDE / _CONTACT_WINDOW_M])
    for placed in objects:
        half_x, _, half_z = 0.5 * (0.9 * placed.shape.size_m)
        add_contact_shadow(contact, place, placed.T_world_object, half_x, half_z, _CONTACT_DEPTH, _CONTACT_FADE_M)
    return contact, place


class TableRenderer(StillRenderer):
    """Renders the views of one table."""

    def __init__(self, table: TableScene, config: TableWorldConfig) -> None:
        super().__init__(
            table,
            height=config.height,
            width=config.width,
            samples=config.supersampling,
            shadow_side=_SHADOW_SIDE,
            shadow_bias_m=_SHADOW_BIAS_M,
            contact=_shade_contacts(table.objects),
        )
        self.table, self.config = table, config

    def render(self, view: int) -> TableView:
        """Render one view of the table with its ground truth."""
        table = self.table
        T_world_camera = table.T_world_camera[view]
        T_camera_world = np.linalg.inv(T_world_camera)
        rendered = self.render_view(view, has_noise=self.config.noise)
        part = np.where(rendered.index >= 0, table.part[rendered.index], 0)
        owner = table.object_of_part[part]
        found, instance = [], np.zeros(owner.shape, np.uint8)
        for placed in table.objects:
            mask = owner == placed.number
            visible = int(mask.sum())
            if not visible:
                continue
            T = T_camera_world @ placed.T_world_object
            hidden_handle = bool(placed.shape.handle) and int((mask & table.is_handle[part]).sum()) < MIN_HANDLE_PX
            symmetry = "none" if placed.shape.handle and not hidden_handle else placed.shape.symmetry
            found.append(VisibleObject(placed, T, visible, self._count_full_px(placed, T), symmetry))
            instance[mask] = len(found)
        return TableView(rendered.image, rendered.depth_m, instance, tuple(found), table.K, T_world_camera)

    def _count_full_px(self, placed: PlacedObject, T_camera_object: Points) -> int:
        parts = [*placed.shape.mesh, *placed.shape.handle]
        (whole,) = join_parts(replace(part, material="", tint=WHITE) for part in parts)
        vertices = whole.vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        return draw_silhouette(vertices, whole.triangles, self.table.K, self.config.height, self.config.width).full_px


TABLEWORLD_VERSION = 2  # 2: scene.json lists `images`, before `pictures`
TABLEWORLD = dataset_files.SceneFormat(
    "tableworld", TABLEWORLD_VERSION, "scene.json", "dataset.json",
    {"format": "stadia-objects", "version": 1, "classes": TABLEWORLD_CLASSES},
    lambda split, index, _: f"{split}-{index:05d}",
)  # fmt: skip

_NEAR_M = 0.3  # nearest depth in previews
_FAR_M = 3.0  # farthest depth in previews


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
    dataset_files.write_png(folder / "image" / f"{name}.png", view.image[..., ::-1])
    dataset_files.write_png(folder / "instance" / f"{name}.png", view.instance)
    np.save(folder / "depth" / f"{name}.npy", view.depth_m)


def _write_table(config: TableWorldConfig, job: dataset_files.SceneJob) -> None:
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


# -- A contact sheet: images, instances (one hue an object) and depth.


def _draw_tables(scenes: list[Path], rows: int = 8) -> dataset_files.Image:
    count = min(2 * rows, len(scenes))
    return dataset_files.stack_tiles([_draw_table_row(scenes[i]) for i in spread_indices(len(scenes), count)], 2)


def _draw_table_row(scene: Path) -> dataset_files.Image:
    image = read_rgb(scene / "image" / "000.png")
    instance = read_label_png(scene / "instance" / "000.png")
    hue = (instance.astype(int) * 67 % 180).astype(np.uint8)
    shown = np.where(instance > 0, 255, 0).astype(np.uint8)
    colored = cv2.cvtColor(np.stack([hue, shown * 3 // 4, shown], -1).astype(np.uint8), cv2.COLOR_HSV2RGB)
    depth = read_npy(scene / "depth" / "000.npy").astype(np.float32, copy=False)
    return np.hstack([image, colored, dataset_files.colorize_depth(depth, _NEAR_M, _FAR_M)])


write_tableworld = dataset_files.SceneWriter(TABLEWORLD, _write_table, _draw_tables, lambda config: config.views)
"""Renders a TableWorld dataset."""
