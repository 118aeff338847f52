"""Render a world to images with their ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.geometry.rasterizer import RasterCamera, compute_depth_and_normals, rasterize_depth_along_light
from stadia.synthetic.rendering.mesh import Points
from stadia.synthetic.rendering.renderer import (
    RenderScene,
    SceneLight,
    add_contact_shadow,
    make_shadow_map,
    make_shadow_projection,
    make_sun_frame,
    render_image,
    transform_to_frame,
)
from stadia.synthetic.roadworld.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadWorld
from stadia.synthetic.roadworld.street_scene import SemanticClass

_SHADOW_TEXEL_M, _SHADOW_MAX_SIDE = 0.08, 4096
_MOVING_SHADOW_SIDE, _WINDOW_M, _AHEAD_M = 1024, 70.0, 28.0  # of a window that follows the camera
_CONTACT_SIDE = 512  # of the map of contact shade, over the same window
_CONTACT_DEPTH = {SemanticClass.CAR: 0.75, SemanticClass.PERSON: 0.35}
_CONTACT_FADE_M = 0.3
_SHADOW_BIAS_M = 0.05


@dataclass(frozen=True, slots=True)
class RoadView:
    """One image and its ground truth, all (H, W).

    image: (H, W, 3) uint8 RGB.  depth_m: float32 z, 0 = sky.
    normals: (H, W, 3) float32 in the camera's frame, towards the camera, 0 = sky.
    semantic: uint8, see `SemanticClass`.  instance: uint16, 0 = none.
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    normals: NDArray[np.float32]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


def draw_exposure_gains(seed: int, frames: int, cameras: int) -> Points:
    """Draw (cameras, F) factors on linear light: a slow drift with jumps, and a small factor for each camera."""
    random = make_generator(seed, "exposure")
    steps = random.normal(0.0, 0.035, frames)
    steps = steps + np.where(random.random(frames) < 0.05, random.normal(0.0, 0.2, frames), 0.0)
    drift = np.zeros(frames)
    for i in range(1, frames):
        drift[i] = 0.93 * drift[i - 1] + steps[i]
    return np.exp(drift[None] + random.normal(0.0, 0.02, (cameras, 1)))


class RoadRenderer:
    """Renders the frames of one world. Several threads may call it at once."""

    def __init__(self, world: RoadWorld, config: RoadWorldConfig) -> None:
        self.world, self.config = world, config
        K, geometry = world.K, world.geometry
        self.lens = RasterCamera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], config.height, config.width, config.supersampling)
        self.sides = ("left", "right") if config.stereo else ("left",)
        self.gains: Points = np.ones((len(self.sides), config.frames))
        if config.exposure:
            self.gains = draw_exposure_gains(world.seed, config.frames, len(self.sides))
        self._scene = RenderScene(
            geometry.vertices, geometry.body, geometry.triangles, geometry.surfaces, world.textures, world.sky_texture
        )
        self._T_sun_world = make_sun_frame(world.sun.direction)
        self._fixed_shadow, self._fixed_map = make_shadow_map(
            geometry.vertices, geometry.triangles[geometry.surfaces.ground : geometry.fixed], self._T_sun_world,
            min_texel_m=_SHADOW_TEXEL_M, max_texels=_SHADOW_MAX_SIDE - 1,
        )  # fmt: skip

    def make_light(self, frame: int) -> SceneLight:
        """Return sun and shadows of a frame for each body; both cameras share them."""
        geometry, sun = self.world.geometry, self.world.sun
        T_world_body = geometry.T_world_body[frame]
        moving, moving_map = np.empty((0, 0), np.float32), self._fixed_map
        if len(geometry.triangles) > geometry.fixed:
            pose = self.world.drive.T_world_camera[frame]
            center = (self._T_sun_world[:3, :3] @ (pose[:3, 3] + _AHEAD_M * pose[:3, 2]))[:2]
            texel = _WINDOW_M / _MOVING_SHADOW_SIDE
            corner = np.floor((center - 0.5 * _WINDOW_M) / texel) * texel  # whole texels, or shadows would shimmer
            moving_map = make_shadow_projection(self._T_sun_world, corner, texel)
            moving = np.full((_MOVING_SHADOW_SIDE, _MOVING_SHADOW_SIDE), np.inf, np.float32)
            to_map = np.zeros_like(T_world_body)
            to_map[:, :3] = moving_map @ T_world_body
            vertices = transform_to_frame(geometry.vertices, geometry.body, to_map)
            rasterize_depth_along_light(vertices, geometry.triangles[geometry.fixed :], moving)
        R = T_world_body[:, :3, :3]
        contact, contact_map = self._make_contact_map(frame)
        return SceneLight(
            towards_sun=np.einsum("bji,j->bi", R, sun.direction),
            up=np.einsum("bji,j->bi", R, np.array([0.0, -1.0, 0.0])),
            sun=sun.sun,
            sky=sun.sky,
            haze=sun.haze,
            haze_per_m=sun.haze_per_m,
            fixed=self._fixed_shadow,
            fixed_map=np.ascontiguousarray(self._fixed_map @ T_world_body),
            moving=moving,
            moving_map=np.ascontiguousarray(moving_map @ T_world_body),
            shadow_bias_m=_SHADOW_BIAS_M,
            contact=contact,
            contact_map=contact_map,
        )

    def _make_contact_map(self, frame: int) -> tuple[NDArray[np.float32], Points]:
        """Return the contact map of a frame and its position, see `SceneLight`."""
        per_metre = _CONTACT_SIDE / _WINDOW_M
        T = self.world.drive.T_world_camera[frame]
        corner = T[[0, 2], 3] + _AHEAD_M * T[[0, 2], 2] - 0.5 * _WINDOW_M
        contact_map = np.array([*(np.floor(corner * per_metre) / per_metre), per_metre])
        contact = np.zeros((_CONTACT_SIDE, _CONTACT_SIDE), np.float32)
        for instance in self.world.geometry.instances:
            if instance.semantic in _CONTACT_DEPTH:
                pose = instance.T_world_instance[frame] if instance.moves else instance.T_world_instance
                _, width, length = instance.size_hwl_m
                depth = _CONTACT_DEPTH[instance.semantic]
                add_contact_shadow(contact, contact_map, pose, 0.5 * width, 0.5 * length, depth, _CONTACT_FADE_M)
        return contact, contact_map

    def T_world_camera(self, frame: int, side: str) -> Points:
        """Return the (4, 4) camera-to-world pose."""
        T = self.world.drive.T_world_camera[frame].copy()
        if side == "right":
            T[:3, 3] += self.config.baseline_m * T[:3, 0]
        return T

    def render(self, frame: int) -> dict[str, RoadView]:
        """Render the images of a frame by side."""
        light = self.make_light(frame)
        return {side: self._render(frame, side, light) for side in self.sides}

    def _render(self, frame: int, side: str, light: SceneLight) -> RoadView:
        T_camera_body = np.linalg.inv(self.T_world_camera(frame, side)) @ self.world.geometry.T_world_body[frame]
        gain = float(self.gains[self.sides.index(side), frame])
        noise = make_generator(self.world.seed, "noise", side, frame) if self.config.noise else None
        rendered = render_image(self._scene, T_camera_body, self.lens, light, gain=gain, noise=noise)
        geometry, index = self.world.geometry, rendered.index
        depth, normals = np.empty(index.shape, np.float32), np.empty((*index.shape, 3), np.float32)
        normal, body = geometry.surfaces.normal, geometry.surfaces.body
        compute_depth_and_normals(index, rendered.inverse_depth, self.lens, normal, body, T_camera_body, depth, normals)
        shown = index >= 0
        semantic = np.where(shown, geometry.semantic[index], np.uint8(SemanticClass.SKY))
        instance = np.where(shown, geometry.instance[index], np.uint16(0))
        return RoadView(rendered.image, depth, normals, semantic, instance)
