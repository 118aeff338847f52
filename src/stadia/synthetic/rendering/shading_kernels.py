"""Compiled loops that shade the samples of an image, blur them as a lens does, and convert them to 8 bits."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stadia.synthetic.rendering.mesh import Points
from stadia.synthetic.rendering.rasterizer import RasterCamera

compile_loops = partial(njit, cache=True, nogil=True, error_model="numpy")

GAMMA = 2.2  # of sRGB, approximately


class SurfaceTable(NamedTuple):
    """The surfaces of M triangles.

    uv: (M, 9) float64 texture coordinates as affine functions in the body's frame: u0, du/dp (3), v0, dv/dp (3), and
        log2 of texels per metre.
    normal: (M, 3) unit normal in the body's frame.
    tint: (M, 3) linear RGB.
    texture, body: (M,) indices of texture and body.
    ground: number of triangles that are ground; they come first.
    """

    uv: NDArray
    normal: NDArray
    tint: NDArray
    texture: NDArray
    body: NDArray
    ground: int


class TextureAtlas(NamedTuple):
    """Hold N textures in one array, each at L levels of detail; each level is half the size of the level before.

    texels: (T, 4) uint8 pixels of all textures: square roots of linear RGB, and 0.
    start: (N, L) index of the first pixel of each level of detail.
    log2_height: (N,) base-2 logarithm of the height of the finest level in pixels.
    log2_width: (N,) base-2 logarithm of its width.
    """

    texels: NDArray
    start: NDArray
    log2_height: NDArray
    log2_width: NDArray


class SunLight(NamedTuple):
    """Describe the light of a sun or a lamp in a scene.

    direction: (3,) unit vector towards the light, in the world.
    sun: (3,) linear RGB of the light itself.
    sky: (3,) linear RGB of the diffuse light from above.
    haze: (3,) linear RGB of the haze that far surfaces fade to.
    haze_per_m: share of light that is lost to the haze per metre (extinction coefficient).
    """

    direction: Points
    sun: Points
    sky: Points
    haze: Points
    haze_per_m: float


class SceneLight(NamedTuple):
    """The light of one frame.

    Directions and matrices are given for each of B bodies, whose surfaces are lit in their frame.

    towards_sun, up: (B, 3) unit vectors.
    sun, sky, haze: (3,) linear RGB.
    haze_per_m: extinction per metre.
    fixed, moving: shadow maps (R, C) with depth along the light in metres. `moving` is (0, 0) without moving triangles.
    fixed_map, moving_map: (B, 3, 4) projections from a body's frame to (column, row, depth) of the shadow map.
    shadow_bias_m: offset in metres of a point along its normal and against the light.
    contact: (R, C) float32 share of the sky's light that objects block on the ground.
    contact_map: (3,) world x and z of the first texel, and texels per metre.
    """

    towards_sun: NDArray
    up: NDArray
    sun: NDArray
    sky: NDArray
    haze: NDArray
    haze_per_m: float
    fixed: NDArray
    fixed_map: NDArray
    moving: NDArray
    moving_map: NDArray
    shadow_bias_m: float
    contact: NDArray
    contact_map: NDArray


@compile_loops
def _sample_texture(
    texels: NDArray, start: int, height: int, width: int, u: float, v: float
) -> tuple[float, float, float]:
    """Sample a periodic texture bilinearly at u, v in tiles: square root of linear RGB, of 255."""
    x = u * width - 0.5
    y = v * height - 0.5
    i, j = math.floor(x), math.floor(y)
    fx, fy = np.float32(x - i), np.float32(y - j)
    left, right = i & (width - 1), (i + 1) & (width - 1)
    top, bottom = start + (j & (height - 1)) * width, start + ((j + 1) & (height - 1)) * width
    one = np.float32(1)
    a, b, c, d = top + left, top + right, bottom + left, bottom + right
    wa, wb, wc, wd = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
    return (
        wa * texels[a, 0] + wb * texels[b, 0] + wc * texels[c, 0] + wd * texels[d, 0],
        wa * texels[a, 1] + wb * texels[b, 1] + wc * texels[c, 1] + wd * texels[d, 1],
        wa * texels[a, 2] + wb * texels[b, 2] + wc * texels[c, 2] + wd * texels[d, 2],
    )


@compile_loops
def _sample_shadow_map(depth: NDArray, column: float, row: float, along: float) -> float:
    i, j = math.floor(column), math.floor(row)
    if i < 0 or j < 0 or i >= depth.shape[1] - 1 or j >= depth.shape[0] - 1:
        return 1.0
    fx, fy = column - i, row - j
    lit = 0.0
    if depth[j, i] >= along:
        lit += (1 - fx) * (1 - fy)
    if depth[j, i + 1] >= along:
        lit += fx * (1 - fy)
    if depth[j + 1, i] >= along:
        lit += (1 - fx) * fy
    if depth[j + 1, i + 1] >= along:
        lit += fx * fy
    return lit


@compile_loops
def add_contact_shadow(
    contact: NDArray,
    contact_map: NDArray,
    T_world_object: NDArray,
    half_width: float,
    half_length: float,
    depth: float,
    fade_m: float,
) -> None:
    """Add the shadow of an object to a contact map. At each texel the darker value is kept.

    contact: (R, C) float32, changed in place.
    contact_map: (3,) world x and z of the first texel, and texels per metre.
    T_world_object: (4, 4) pose.
    half_width, half_length: half of the object's size in metres.
    depth: darkness below the object, as a share of the sky's light.
    fade_m: distance from the outline at which the darkness is 1/e of it.
    """
    x0, z0, per_metre = contact_map[0], contact_map[1], contact_map[2]
    T, x, z = T_world_object, T_world_object[0, 3], T_world_object[2, 3]
    reach = math.sqrt(half_width**2 + half_length**2) + 3 * fade_m
    top, bottom = math.ceil((z - reach - z0) * per_metre), math.floor((z + reach - z0) * per_metre)
    left, right = math.ceil((x - reach - x0) * per_metre), math.floor((x + reach - x0) * per_metre)
    for row in range(max(0, top), min(contact.shape[0] - 1, bottom) + 1):
        for column in range(max(0, left), min(contact.shape[1] - 1, right) + 1):
            dx, dz = x0 + column / per_metre - x, z0 + row / per_metre - z
            across = max(0.0, abs(T[0, 0] * dx + T[2, 0] * dz) - half_width)
            along = max(0.0, abs(T[0, 2] * dx + T[2, 2] * dz) - half_length)
            value = depth * math.exp(-(across * across + along * along) / fade_m**2)
            contact[row, column] = max(contact[row, column], value)


@compile_loops
def _sample_contact_map(contact: NDArray, column: float, row: float) -> float:
    i, j = math.floor(column), math.floor(row)
    if i < 0 or j < 0 or i >= contact.shape[1] - 1 or j >= contact.shape[0] - 1:
        return 0.0
    fx, fy = column - i, row - j
    top = (1 - fx) * contact[j, i] + fx * contact[j, i + 1]
    return (1 - fy) * top + fy * ((1 - fx) * contact[j + 1, i] + fx * contact[j + 1, i + 1])


@compile_loops
def shade_samples(
    inverse_depth: NDArray,
    index: NDArray,
    lens: RasterCamera,
    T_body_camera: NDArray,
    surfaces: SurfaceTable,
    textures: TextureAtlas,
    sky_texture: int,
    light: SceneLight,
    image: NDArray,
) -> None:
    """Shade all samples, and average the samples of each pixel in linear light into `image` (H, W, 3).

    inverse_depth, index: (H S, W S) result of `rasterize_triangles`.
    T_body_camera: (B, 4, 4) poses.

    The function is one long loop for speed: calling helpers with views or structures would cost more than their work.
    """
    S = lens.samples
    # Log2 of samples per radian, a quarter level sharper than one texel a sample.
    log2_samples = math.log2(lens.fx * S) + 0.25
    step_x, step_y = 1.0 / (S * lens.fx), 1.0 / (S * lens.fy)
    first_x, first_y = (0.5 / S - 0.5 - lens.cx) / lens.fx, (0.5 / S - 0.5 - lens.cy) / lens.fy
    T, uv, normal, tint = T_body_camera, surfaces.uv, surfaces.normal, surfaces.tint
    texels, start, log2_height, log2_width = textures.texels, textures.start, textures.log2_height, textures.log2_width
    fixed, moving, F, M, bias = light.fixed, light.moving, light.fixed_map, light.moving_map, light.shadow_bias_m
    to_sun, sun, sky, haze = light.towards_sun, light.sun, light.sky, light.haze
    contact, place = light.contact, light.contact_map
    contact_x, contact_z, per_metre = place[0], place[1], place[2]
    sky_start, sky_height = start[sky_texture, 0], 1 << log2_height[sky_texture]
    sky_width = 1 << log2_width[sky_texture]
    share = 1.0 / (S * S)
    full_scale = share / 255.0**2
    for y in range(lens.height):
        for x in range(lens.width):
            red = green = blue = 0.0
            last = -2  # Values that vary slowly over a triangle are computed once a pixel.
            body = texture = finest = height = width = 0
            blend = lambert = ambient = clear = lift = 0.0
            for row in range(y * S, (y + 1) * S):
                for column in range(x * S, (x + 1) * S):
                    t = index[row, column]
                    dx, dy = first_x + column * step_x, first_y + row * step_y
                    if t < 0:  # the texture spans the circle, and from the horizon (v = 1) up
                        rx = T[0, 0, 0] * dx + T[0, 0, 1] * dy + T[0, 0, 2]
                        ry = T[0, 1, 0] * dx + T[0, 1, 1] * dy + T[0, 1, 2]
                        rz = T[0, 2, 0] * dx + T[0, 2, 1] * dy + T[0, 2, 2]
                        u = math.atan2(rx, rz) / (2 * math.pi)
                        v = min(0.99, max(0.01, 1 + ry / math.sqrt(rx * rx + rz * rz)))
                        r, g, b = _sample_texture(texels, sky_start, sky_height, sky_width, u, v)
                        red += r * r * full_scale
                        green += g * g * full_scale
                        blue += b * b * full_scale
                        continue
                    z = 1.0 / inverse_depth[row, column]
                    if t != last:
                        body = surfaces.body[t]
                    # The ray at z = 1, in the body's frame.
                    rx = T[body, 0, 0] * dx + T[body, 0, 1] * dy + T[body, 0, 2]
                    ry = T[body, 1, 0] * dx + T[body, 1, 1] * dy + T[body, 1, 2]
                    rz = T[body, 2, 0] * dx + T[body, 2, 1] * dy + T[body, 2, 2]
                    px, py, pz = z * rx + T[body, 0, 3], z * ry + T[body, 1, 3], z * rz + T[body, 2, 3]
                    nx, ny, nz = normal[t, 0], normal[t, 1], normal[t, 2]
                    if t != last:
                        last = t
                        cosine = -(nx * rx + ny * ry + nz * rz) / math.sqrt(rx * rx + ry * ry + rz * rz)
                        side = 1.0 if cosine >= 0 else -1.0
                        texture = surfaces.texture[t]
                        coarsest = min(log2_height[texture], log2_width[texture])
                        # The level whose texels have the size of a sample.
                        level = uv[t, 8] + math.log2(z) - log2_samples - 0.5 * math.log2(max(abs(cosine), 0.003))
                        level = min(max(level, 0.0), float(coarsest))
                        finest = int(level)
                        blend = level - finest
                        height, width = 1 << (log2_height[texture] - finest), 1 << (log2_width[texture] - finest)
                        incidence = nx * to_sun[body, 0] + ny * to_sun[body, 1] + nz * to_sun[body, 2]
                        up = nx * light.up[body, 0] + ny * light.up[body, 1] + nz * light.up[body, 2]
                        lambert, ambient, lift = max(0.0, side * incidence), 0.75 + 0.25 * side * up, side * bias
                        clear = math.exp(-z * light.haze_per_m)
                        if t < surfaces.ground:
                            ambient *= 1 - _sample_contact_map(
                                contact, (px - contact_x) * per_metre, (pz - contact_z) * per_metre
                            )
                    direct = lambert
                    if direct > 0:
                        sx, sy, sz = px + lift * nx, py + lift * ny, pz + lift * nz
                        at_column = F[body, 0, 0] * sx + F[body, 0, 1] * sy + F[body, 0, 2] * sz + F[body, 0, 3]
                        at_row = F[body, 1, 0] * sx + F[body, 1, 1] * sy + F[body, 1, 2] * sz + F[body, 1, 3]
                        along = F[body, 2, 0] * sx + F[body, 2, 1] * sy + F[body, 2, 2] * sz + F[body, 2, 3] - bias
                        direct *= _sample_shadow_map(fixed, at_column, at_row, along)
                        if direct > 0:
                            at_column = M[body, 0, 0] * sx + M[body, 0, 1] * sy + M[body, 0, 2] * sz + M[body, 0, 3]
                            at_row = M[body, 1, 0] * sx + M[body, 1, 1] * sy + M[body, 1, 2] * sz + M[body, 1, 3]
                            direct *= _sample_shadow_map(moving, at_column, at_row, along)
                    u = uv[t, 0] + uv[t, 1] * px + uv[t, 2] * py + uv[t, 3] * pz
                    v = uv[t, 4] + uv[t, 5] * px + uv[t, 6] * py + uv[t, 7] * pz
                    r, g, b = _sample_texture(texels, start[texture, finest], height, width, u, v)
                    if blend > 0:
                        r2, g2, b2 = _sample_texture(texels, start[texture, finest + 1], height >> 1, width >> 1, u, v)
                        r, g, b = r + blend * (r2 - r), g + blend * (g2 - g), b + blend * (b2 - b)
                    shown, hazy = clear * full_scale, (1 - clear) * share
                    red += shown * r * r * tint[t, 0] * (ambient * sky[0] + direct * sun[0]) + hazy * haze[0]
                    green += shown * g * g * tint[t, 1] * (ambient * sky[1] + direct * sun[1]) + hazy * haze[1]
                    blue += shown * b * b * tint[t, 2] * (ambient * sky[2] + direct * sun[2]) + hazy * haze[2]
            image[y, x, 0], image[y, x, 1], image[y, x, 2] = red, green, blue


@compile_loops
def apply_lens_blur(image: NDArray, spread: float, out: NDArray) -> None:
    """Blur an image: each pixel gives the share `spread` of its light to each neighbor.

    image, out: (H, W, 3) float32; `out` is overwritten.
    """
    height, width = image.shape[:2]
    line = np.empty((width, 3), np.float32)
    middle, beside = np.float32(1 - 2 * spread), np.float32(spread)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            for k in range(3):
                line[x, k] = middle * image[y, x, k] + beside * (image[above, x, k] + image[below, x, k])
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            for k in range(3):
                out[y, x, k] = middle * line[x, k] + beside * (line[left, k] + line[right, k])


@compile_loops
def develop_image(image: NDArray, gain: float, noise: NDArray, shot: float, read: float, developed: NDArray) -> None:
    """Convert linear light (H, W, 3) to uint8 by exposure, noise and gamma, and write it to `developed` (H, W, 3).

    The noise has the standard deviation sqrt(shot^2 s + read^2) for a signal s.
    """
    noisy = noise.shape[0] > 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for k in range(3):
                signal = gain * image[y, x, k]
                if noisy:
                    signal += math.sqrt(shot * shot * max(signal, 0.0) + read * read) * noise[y, x, k]
                signal = min(max(signal, 0.0), 1.0)
                developed[y, x, k] = np.uint8(255.0 * signal ** (1 / GAMMA) + 0.5)
