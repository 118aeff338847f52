"""Scenes at rest under one lamp, with a camera for each view: rooms, tables, and single objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.geometry.rasterizer import RasterCamera
from stadia.synthetic.rendering.mesh import Points, make_direction
from stadia.synthetic.rendering.renderer import (
    RenderedImage,
    RenderScene,
    light_bodies,
    make_shadow_map,
    make_sun_frame,
    render_image,
)
from stadia.synthetic.rendering.shading_kernels import SunLight

NO_CONTACT: tuple[NDArray[np.float32], Points] = (np.zeros((2, 2), np.float32), np.zeros(3))


@dataclass(frozen=True)
class StillScene(RenderScene):
    """A scene at rest. T_world_camera: (V, 4, 4) of each view.  gains: (V,) exposure.  K: (3, 3) pixels."""

    seed: int
    lamp: SunLight
    T_world_camera: Points
    gains: Points
    K: Points


def make_lamp(seed: int) -> SunLight:
    """Draw direction, hardness and color of the light on a table."""
    random = make_generator(seed, "light")
    azimuth, elevation = random.uniform(0, 2 * np.pi), np.radians(random.uniform(30, 75))
    hard, warm, bright = random.uniform(0.15, 0.75), random.uniform(-0.12, 0.22), random.uniform(0.8, 1.3)
    color = np.array([1 + warm, 1.0, 1 - warm])
    ambient = bright * (1 - 0.75 * hard) * (1 + random.uniform(-0.06, 0.06, 3))
    return SunLight(make_direction(elevation, azimuth), bright * hard * 1.5 * color, ambient, np.zeros(3), 0.0)


class StillRenderer:
    """Renders the views of one scene.

    samples: N for N x N samples a pixel. shadow_side: texels of the shadow map. shadow_bias_m: distance of a surface
    from its own shadow. contact: contact map and its place, see `SceneLight`.
    """

    def __init__(
        self,
        scene: StillScene,
        *,
        height: int,
        width: int,
        samples: int,
        shadow_side: int,
        shadow_bias_m: float,
        contact: tuple[NDArray[np.float32], Points] = NO_CONTACT,
    ) -> None:
        self.scene = scene
        K = scene.K
        self.lens = RasterCamera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], height, width, samples)
        casters, frame = scene.triangles[scene.surfaces.ground :], make_sun_frame(scene.lamp.direction)
        fixed = make_shadow_map(scene.vertices, casters, frame, min_texel_m=0.0, max_texels=shadow_side - 3)
        nothing_moves = np.empty((0, 0), np.float32), fixed[1]
        self.light = light_bodies(scene.lamp, np.eye(4)[None], fixed, nothing_moves, shadow_bias_m, contact)

    def render_view(self, view: int, *, has_noise: bool) -> RenderedImage:
        """Render one view, with the noise of a sensor or without."""
        scene = self.scene
        T_camera_world = np.linalg.inv(scene.T_world_camera[view])[None]
        noise = make_generator(scene.seed, "noise", view) if has_noise else None
        return render_image(scene, T_camera_world, self.lens, self.light, gain=float(scene.gains[view]), noise=noise)
