"""Render a table to images with their ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.geometry.rasterizer import RasterCamera, draw_silhouette, rasterize_depth_along_light
from stadia.synthetic.rendering.mesh import Points
from stadia.synthetic.rendering.renderer import (
    RenderScene,
    SceneLight,
    add_contact_shadow,
    make_shadow_projection,
    make_sun_frame,
    render_image,
    transform_to_frame,
)
from stadia.synthetic.tableworld.config import TableWorldConfig
from stadia.synthetic.tableworld.table_scene import PlacedObject, TableScene

_SHADOW_SIDE, _SHADOW_BIAS_M = 512, 0.004
_CONTACT_SIDE, _CONTACT_WINDOW_M, _CONTACT_DEPTH, _CONTACT_FADE_M = 256, 1.8, 0.55, 0.022
MIN_HANDLE_PX = 4
"""A cup with fewer visible pixels of its handle is treated as a body of revolution."""


@dataclass(frozen=True, slots=True)
class VisibleObject:
    """An object with at least one visible pixel.

    visible_px, full_px: pixels that show it, and that would if it stood alone (those beyond the image's edge too).
    symmetry: as of its shape, a cup's by whether its handle is seen.
    """

    placed: PlacedObject
    T_camera_object: Points
    visible_px: int
    full_px: int
    symmetry: str | tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class TableView:
    """One image and its ground truth, all (H, W).

    image: (H, W, 3) uint8 RGB.  depth_m: float32 z, of all that is seen.
    instance: uint8, 0 = none, n = the n-th of the objects (from 1).
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    instance: NDArray[np.uint8]
    objects: tuple[VisibleObject, ...]
    K: Points
    T_world_camera: Points


class TableRenderer:
    """Renders the views of one table."""

    def __init__(self, table: TableScene, config: TableWorldConfig) -> None:
        self.table, self.config = table, config
        K, assembly = table.K, table.assembly
        self.lens = RasterCamera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], config.height, config.width, config.supersampling)
        self.scene = RenderScene(
            assembly.vertices, assembly.body, assembly.triangles, assembly.surfaces, table.textures, table.sky_texture
        )
        self.light = self._make_light()

    def _make_light(self) -> SceneLight:
        assembly, lamp = self.table.assembly, self.table.lamp
        T_sun_world = make_sun_frame(lamp.direction)
        casters = assembly.triangles[assembly.surfaces.ground :]
        points = transform_to_frame(assembly.vertices, assembly.body, T_sun_world[None])[np.unique(casters)]
        low, high = points.min(0), points.max(0)
        texel = float((high - low)[:2].max()) / (_SHADOW_SIDE - 3)
        columns, rows = (int(np.ceil(q / texel)) + 2 for q in (high - low)[:2])
        depth = np.full((rows, columns), np.inf, np.float32)
        T_map = np.eye(4)
        T_map[:3] = make_shadow_projection(T_sun_world, low[:2], texel)
        rasterize_depth_along_light(transform_to_frame(assembly.vertices, assembly.body, T_map[None]), casters, depth)
        contact = np.zeros((_CONTACT_SIDE, _CONTACT_SIDE), np.float32)
        where = np.array([-_CONTACT_WINDOW_M / 2, -_CONTACT_WINDOW_M / 2, _CONTACT_SIDE / _CONTACT_WINDOW_M])
        for one in self.table.objects:
            width, _, length = 0.9 * one.shape.size_m
            add_contact_shadow(
                contact, where, one.T_world_object, 0.5 * width, 0.5 * length, _CONTACT_DEPTH, _CONTACT_FADE_M
            )
        return SceneLight(
            towards_sun=lamp.direction[None],
            up=np.array([[0.0, -1.0, 0.0]]),
            sun=lamp.direct,
            sky=lamp.ambient,
            haze=np.zeros(3),
            haze_per_m=0.0,
            fixed=depth,
            fixed_map=T_map[None, :3],
            moving=np.empty((0, 0), np.float32),
            moving_map=T_map[None, :3],
            shadow_bias_m=_SHADOW_BIAS_M,
            contact=contact,
            contact_map=where,
        )

    def render(self, view: int) -> TableView:
        """Render one view of the table with its ground truth."""
        table, config = self.table, self.config
        T_world_camera = table.T_world_camera[view]
        T_camera_world = np.linalg.inv(T_world_camera)
        noise = make_generator(table.seed, "noise", view) if config.noise else None
        shot = render_image(
            self.scene, T_camera_world[None], self.lens, self.light, gain=float(table.gains[view]), noise=noise
        )
        part = np.where(shot.index >= 0, table.assembly.part[shot.index], 0)
        owner = table.object_of_part[part]
        seen, instance = [], np.zeros(owner.shape, np.uint8)
        for placed in table.objects:
            mask = owner == placed.number
            visible = int(mask.sum())
            if not visible:
                continue
            T = T_camera_world @ placed.T_world_object
            hidden_handle = bool(placed.shape.handle) and int((mask & table.is_handle[part]).sum()) < MIN_HANDLE_PX
            symmetry = "none" if placed.shape.handle and not hidden_handle else placed.shape.symmetry
            seen.append(VisibleObject(placed, T, visible, self._full_px(placed, T), symmetry))
            instance[mask] = len(seen)
        depth = np.divide(1.0, shot.inverse_depth, out=np.zeros_like(shot.inverse_depth), where=shot.inverse_depth > 0)
        return TableView(shot.image, depth.astype(np.float32), instance, tuple(seen), table.K, T_world_camera)

    def _full_px(self, placed: PlacedObject, T_camera_object: Points) -> int:
        parts = [*placed.shape.mesh, *placed.shape.handle]
        first = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
        triangles = np.concatenate([part.triangles + np.int32(n) for part, n in zip(parts, first, strict=True)])
        vertices = (
            np.concatenate([part.vertices for part in parts]) @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        )
        return draw_silhouette(vertices, triangles, self.table.K, self.config.height, self.config.width).full_px


def compute_nocs_map(view: TableView) -> NDArray[np.float64]:
    """Compute (H, W, 3) object coordinates of each pixel: the box's diagonal is 1, its center 0.5; 0 = none.

    The normalized object coordinates of Wang et al. (CVPR 2019), exact: of the depth at the pixel's center.
    """
    rows, columns = np.mgrid[: view.depth_m.shape[0], : view.depth_m.shape[1]]
    ray = np.stack(
        [(columns - view.K[0, 2]) / view.K[0, 0], (rows - view.K[1, 2]) / view.K[1, 1], np.ones(rows.shape)], -1
    )
    points = ray * view.depth_m[..., None].astype(np.float64)
    out = np.zeros(points.shape)
    for number, one in enumerate(view.objects, start=1):
        mask = view.instance == number
        T = np.linalg.inv(one.T_camera_object)
        inside = points[mask] @ T[:3, :3].T + T[:3, 3]
        out[mask] = inside / np.linalg.norm(one.placed.shape.size_m) + 0.5
    return out
