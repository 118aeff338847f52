"""Render an image of triangles: rasterize, shade, blur, develop. The ground truth is taken at pixel centers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.synthetic.rendering.mesh import Points, make_direction
from stadia.synthetic.rendering.rasterizer import RasterCamera, draw, rasterize_depth_along_light, transform_vertices
from stadia.synthetic.rendering.shading_kernels import (
    SceneLight,
    SunLight,
    SurfaceTable,
    TextureAtlas,
    apply_lens_blur,
    develop_image,
    shade_samples,
)

_LENS_BLUR = 0.08  # share of a pixel's light that each neighbor along an axis gets
_SHOT = 0.025  # standard deviation of the photon noise at full scale, in units of full scale
_READ = 0.004  # standard deviation of the noise of a dark pixel, in the same units


# -- Shadow maps: the frame of the sun's rays, and projections to texels.


def make_sun_frame(towards_sun: Points) -> Points:
    """Return the rotation, (4, 4), from world coordinates to coordinates whose z axis is the direction of the sunlight.

    towards_sun: (3,) unit vector towards the sun in the world. It must not be vertical.
    """
    along = -towards_sun
    across = np.cross(along, (0.0, 1.0, 0.0))
    across /= np.linalg.norm(across)
    T = np.eye(4)
    T[:3, :3] = np.stack([across, np.cross(along, across), along])
    return T


def make_shadow_projection(T_sun_world: Points, corner: Points, texel_m: float) -> Points:
    """Return the projection, (3, 4), from world coordinates to (column, row, depth) of a shadow map.

    T_sun_world: (4, 4) rotation from world coordinates to sun coordinates (`make_sun_frame`).
    corner: (2,) position of the map's first texel, x and y in the sun's coordinates, in metres.
    texel_m: side of a texel (pixel of the map) in metres.
    """
    T = T_sun_world[:3].copy()
    T[:2] /= texel_m
    T[:2, 3] = -corner / texel_m
    return T


def make_shadow_map(
    vertices: Points, casters: NDArray[np.int32], T_sun_world: Points, *, min_texel_m: float, max_texels: int
) -> tuple[NDArray[np.float32], Points]:
    """Render the depth of triangles at rest as seen from the sun; return this shadow map and the projection to it.

    The shadow map is (R, C), with depth along the light in metres. The projection is (3, 4), from world coordinates
    to (column, row, depth) of the map.

    vertices: (N, 3) positions in the world in metres.
    casters: (M, 3) indices of the vertices of each triangle that casts a shadow.
    T_sun_world: (4, 4) rotation from world coordinates to sun coordinates (`make_sun_frame`).
    min_texel_m: smallest side of a texel (pixel of the map) in metres.
    max_texels: largest number of texels along a side of the map.
    """
    body = np.zeros(len(vertices), np.int32)
    points = transform_to_frame(vertices, body, T_sun_world[None])[np.unique(casters)]
    low, high = points.min(0), points.max(0)
    texel_m = max(min_texel_m, float((high - low)[:2].max()) / max_texels)
    columns, rows = (int(np.ceil(extent / texel_m)) + 2 for extent in (high - low)[:2])
    depth = np.full((rows, columns), np.inf, np.float32)
    T_map_world = np.eye(4)
    T_map_world[:3] = make_shadow_projection(T_sun_world, low[:2], texel_m)
    rasterize_depth_along_light(transform_to_frame(vertices, body, T_map_world[None]), casters, depth)
    return depth, T_map_world[:3]


def light_bodies(
    sun: SunLight,
    T_world_body: Points,
    fixed: tuple[NDArray[np.float32], Points],
    moving: tuple[NDArray[np.float32], Points],
    shadow_bias_m: float,
    contact: tuple[NDArray[np.float32], Points],
) -> SceneLight:
    """Return the light on each of B bodies.

    T_world_body: (B, 4, 4) poses.
    fixed, moving: shadow map of the triangles at rest and of the moving ones, each with its projection (3, 4).
    shadow_bias_m: offset of a point against the light, which keeps a surface from shadowing itself.
    contact: contact map and its place, see `SceneLight`.
    """
    to_body = T_world_body[:, :3, :3].transpose(0, 2, 1)
    return SceneLight(
        np.einsum("bij,j->bi", to_body, sun.direction),
        np.einsum("bij,j->bi", to_body, np.array([0.0, -1.0, 0.0])),
        *sun[1:],
        fixed[0],
        np.ascontiguousarray(fixed[1] @ T_world_body),
        moving[0],
        np.ascontiguousarray(moving[1] @ T_world_body),
        shadow_bias_m,
        *contact,
    )


@dataclass(frozen=True)
class RenderScene:
    """Hold the triangles of all parts of a scene. A body is a group of triangles that move together.

    vertices: (N, 3) positions in the coordinates of the vertex's body, in metres.
    body: (N,) index of each vertex's body.
    triangles: (M, 3) indices of the three vertices of each triangle.
    part: (M,) mesh part index of each triangle.
    surfaces: texture coordinates, normals and tints of the triangles.
    textures: all textures in one array.
    sky_texture: index of the sky's texture.
    """

    vertices: Points
    body: NDArray[np.int32]
    triangles: NDArray[np.int32]
    part: NDArray[np.int64]
    surfaces: SurfaceTable
    textures: TextureAtlas
    sky_texture: int


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """Hold a rendered image with its ground truth at the centers of the pixels.

    image: (H, W, 3) uint8 RGB.
    inverse_depth: (H, W) 1 / z in 1/m; 0 for the sky.
    index: (H, W) index of the triangle that each pixel shows; negative for the sky.
    """

    image: NDArray[np.uint8]
    inverse_depth: NDArray[np.float64]
    index: NDArray[np.int32]

    @property
    def depth_m(self) -> NDArray[np.float32]:
        """Return z in metres, (H, W); 0 for the sky."""
        inverse = self.inverse_depth
        return np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse > 0).astype(np.float32)


def transform_to_frame(vertices: Points, body: NDArray[np.int32], T_target_body: Points) -> Points:
    """Transform all vertices from the coordinates of their bodies to common ones, such as the camera's; return (N, 3).

    BLAS is not used, because its rounding may depend on its number of threads.

    vertices: (N, 3) positions, each in the coordinates of its body.
    body: (N,) index of each vertex's body.
    T_target_body: (B, 4, 4) pose of each of B bodies in the common coordinates.
    """
    out = np.empty_like(vertices)
    transform_vertices(vertices, body, np.ascontiguousarray(T_target_body), out)
    return out


def render_linear(
    scene: RenderScene, T_camera_body: Points, T_body_camera: Points, lens: RasterCamera, light: SceneLight
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int32]]:
    """Return linear light (H, W, 3), and 1/z and the triangle of each sample, (H S, W S) each.

    See `rasterize_triangles` for the samples.
    """
    inverse_depth, index = draw(transform_to_frame(scene.vertices, scene.body, T_camera_body), scene.triangles, lens)
    linear, look = np.empty((lens.height, lens.width, 3), np.float32), (scene.surfaces, scene.textures)
    shade_samples(inverse_depth, index, lens, T_body_camera, *look, scene.sky_texture, light, linear)
    return linear, inverse_depth, index


def render_image(
    scene: RenderScene,
    T_camera_body: Points,
    lens: RasterCamera,
    light: SceneLight,
    *,
    gain: float,
    noise: np.random.Generator | None = None,
) -> RenderedImage:
    """Render an image and its ground truth at pixel centers.

    T_camera_body: (B, 4, 4) poses of the bodies in the camera's frame.
    gain: exposure, a factor on linear light.
    noise: generator of the sensor noise; None renders without noise.
    """
    # Worlds of a seed stay the same to the last bit, so poses are inverted here as in the first version.
    linear, inverse_depth, index = render_linear(scene, T_camera_body, np.linalg.inv(T_camera_body), lens, light)
    focused, image = np.empty_like(linear), np.empty(linear.shape, np.uint8)
    apply_lens_blur(linear, _LENS_BLUR, focused)
    grain = np.empty((0, 0, 0), np.float32) if noise is None else noise.standard_normal(linear.shape, np.float32)
    develop_image(focused, gain, grain, _SHOT, _READ, image)
    center = slice(lens.samples // 2, None, lens.samples)
    return RenderedImage(image, inverse_depth[center, center], index[center, center])


# The map of contact shade of a world that has none.
NO_CONTACT: tuple[NDArray[np.float32], Points] = (np.zeros((2, 2), np.float32), np.zeros(3))


@dataclass(frozen=True)
class StillScene(RenderScene):
    """Hold a static scene and the V camera views that it is rendered from.

    seed: seed that the scene was drawn with.
    lamp: light of the scene.
    T_world_camera: (V, 4, 4) camera pose of each view, from camera to world coordinates.
    gains: (V,) exposure of each view, a factor on linear light.
    K: (3, 3) intrinsics in pixels, equal for all views.
    """

    seed: int
    lamp: SunLight
    T_world_camera: Points
    gains: Points
    K: Points


def make_lamp(seed: int) -> SunLight:
    """Return a random light of a table: direction, hardness and color."""
    random = make_generator(seed, "light")
    azimuth, elevation = random.uniform(0, 2 * np.pi), np.radians(random.uniform(30, 75))
    hard, warm, bright = random.uniform(0.15, 0.75), random.uniform(-0.12, 0.22), random.uniform(0.8, 1.3)
    color = np.array([1 + warm, 1.0, 1 - warm])
    ambient = bright * (1 - 0.75 * hard) * (1 + random.uniform(-0.06, 0.06, 3))
    return SunLight(make_direction(elevation, azimuth), bright * hard * 1.5 * color, ambient, np.zeros(3), 0.0)


class StillRenderer:
    """Renders the views of one scene at rest.

    samples: N for N x N samples per pixel.
    shadow_side: side of the shadow map in texels.
    shadow_bias_m: offset in metres that keeps a surface from shadowing itself.
    contact: contact map and its place, see `SceneLight`.
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
        """Render one view, with or without the noise of a sensor."""
        scene = self.scene
        T_camera_world = np.linalg.inv(scene.T_world_camera[view])[None]
        noise = make_generator(scene.seed, "noise", view) if has_noise else None
        return render_image(scene, T_camera_world, self.lens, self.light, gain=float(scene.gains[view]), noise=noise)
