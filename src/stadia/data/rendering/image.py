"""Render one image of triangles: rasterize, shade, blur, develop; with the ground truth at pixel centers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.mesh import Points
from stadia.data.rendering.raster import Lens, draw, transform
from stadia.data.rendering.shade import Light, Surfaces, Textures, blur, develop, shade

_LENS_BLUR = 0.08  # share of a pixel's light that each neighbor along an axis gets
_SHOT, _READ = 0.025, 0.004  # noise of the sensor, in units of full scale


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that can be rendered.

    vertices: (N, 3) in the frame of their body (N,).  triangles: (M, 3).  sky_texture: what is seen past them.
    """

    vertices: Points
    body: NDArray[np.int32]
    triangles: NDArray[np.int32]
    surfaces: Surfaces
    textures: Textures
    sky_texture: int


@dataclass(frozen=True, slots=True)
class Exposed:
    """An image (H, W, 3) uint8 RGB, and of each pixel's center (H, W) 1/z and the triangle shown, as `rasterize` gives
    them.
    """

    image: NDArray[np.uint8]
    inverse_depth: NDArray[np.float64]
    index: NDArray[np.int32]


def moved(vertices: Points, body: NDArray[np.int32], T_target_body: Points) -> Points:
    """Transform all vertices (N, 3) by (B, 4, 4). Not by BLAS, whose rounding may depend on its number of threads."""
    out = np.empty_like(vertices)
    transform(vertices, body, np.ascontiguousarray(T_target_body), out)
    return out


def expose(
    scene: Scene,
    T_camera_body: Points,
    lens: Lens,
    light: Light,
    *,
    gain: float,
    noise: np.random.Generator | None = None,
) -> Exposed:
    """Take an image. The truth at a pixel is that of its center and is never averaged; so `lens.samples` is odd.

    Args:
        T_camera_body: (B, 4, 4).
        gain: exposure, a factor on linear light.
        noise: of the sensor, drawn from here; None for none.
    """
    inverse_depth, index = draw(moved(scene.vertices, scene.body, T_camera_body), scene.triangles, lens)
    linear = np.empty((lens.height, lens.width, 3), np.float32)
    T_body_camera = np.linalg.inv(T_camera_body)
    shade(inverse_depth, index, lens, T_body_camera, scene.surfaces, scene.textures, scene.sky_texture, light, linear)
    focused, image = np.empty_like(linear), np.empty(linear.shape, np.uint8)
    blur(linear, _LENS_BLUR, focused)
    grain = np.empty((0, 0, 0), np.float32) if noise is None else noise.standard_normal(linear.shape, np.float32)
    develop(focused, gain, grain, _SHOT, _READ, image)
    center = slice(lens.samples // 2, None, lens.samples)
    return Exposed(image, inverse_depth[center, center], index[center, center])
