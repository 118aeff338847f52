"""Light on what the rasteriser found: filtered texture, sun, sky light, shadows, haze.

Nothing here depends on the viewing direction but the haze: two pictures of one surface agree, as view synthesis assumes.
Everything is linear light until `develop` makes the 8-bit picture.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stadia.data.roadworld.compiled import compiled
from stadia.data.roadworld.raster import Lens

GAMMA = 2.2
_SHADOW_BIAS_M = 0.05  # along the surface's normal and along the light


class Surfaces(NamedTuple):
    """Per triangle (M): texture coordinates affine in the body's frame, look, and the body that it belongs to.

    uv: (M, 9) float64: u0, du/dp (3), v0, dv/dp (3), log2 of texels per metre.
    normal: (M, 3) in the body's frame.  tint: (M, 3) linear RGB.  texture, body: (M,) indices.
    """

    uv: NDArray
    normal: NDArray
    tint: NDArray
    texture: NDArray
    body: NDArray


class Textures(NamedTuple):
    """All textures and their half-size copies, one after the other.

    texels: (T, 4) uint8, square root of linear RGB (and 0).  start: (N,) first texel; log2_height, log2_width: (N,).
    """

    texels: NDArray
    start: NDArray
    log2_height: NDArray
    log2_width: NDArray


class Light(NamedTuple):
    """Of one frame. Directions and matrices per body (B), so that a surface is lit in the frame of its body.

    towards_sun, up: (B, 3) unit.  sun, sky, haze: (3,) linear RGB.  haze_per_m: extinction.
    fixed, moving: shadow maps, depth along the light in metres (moving: (0, 0) for none).
    fixed_map, moving_map: (B, 3, 4) from a body's frame to (column, row, depth).
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


@compiled
def _texel(textures: Textures, texture: int, level: int, u: float, v: float) -> tuple[float, float, float]:
    """Bilinear value of a periodic texture at u, v in tiles, at a level (each halves the size); square root of linear RGB, of 255."""
    height, width = 1 << textures.log2_height[texture], 1 << textures.log2_width[texture]
    start = textures.start[texture]
    for _ in range(level):
        start += height * width
        height >>= 1
        width >>= 1
    x = u * width - 0.5
    y = v * height - 0.5
    i, j = math.floor(x), math.floor(y)
    fx, fy = np.float32(x - i), np.float32(y - j)
    left, right = i & (width - 1), (i + 1) & (width - 1)
    top, bottom = start + (j & (height - 1)) * width, start + ((j + 1) & (height - 1)) * width
    one = np.float32(1)
    a, b, c, d = top + left, top + right, bottom + left, bottom + right
    wa, wb, wc, wd = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
    texels = textures.texels
    return (
        wa * texels[a, 0] + wb * texels[b, 0] + wc * texels[c, 0] + wd * texels[d, 0],
        wa * texels[a, 1] + wb * texels[b, 1] + wc * texels[c, 1] + wd * texels[d, 1],
        wa * texels[a, 2] + wb * texels[b, 2] + wc * texels[c, 2] + wd * texels[d, 2],
    )


@compiled
def _reflectance(textures: Textures, texture: int, level: float, u: float, v: float) -> tuple[float, float, float]:
    """Linear RGB, blended between the two nearest levels."""
    finest = int(level)
    blend = level - finest
    r, g, b = _texel(textures, texture, finest, u, v)
    if blend > 0:
        r2, g2, b2 = _texel(textures, texture, finest + 1, u, v)
        r, g, b = r + blend * (r2 - r), g + blend * (g2 - g), b + blend * (b2 - b)
    scale = 1.0 / (255.0 * 255.0)
    return r * r * scale, g * g * scale, b * b * scale


@compiled
def _lit(depth: NDArray, T: NDArray, x: float, y: float, z: float) -> float:
    """1 in the sun, 0 in the shadow, between at an edge: the four nearest texels of a shadow map, compared and then interpolated."""
    column = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
    row = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
    along = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3] - _SHADOW_BIAS_M
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


@compiled
def _sky(textures: Textures, texture: int, x: float, y: float, z: float) -> tuple[float, float, float]:
    """The sky's light from a direction in the world; the texture spans the circle, and from the horizon (v = 1) up."""
    u = math.atan2(x, z) / (2 * math.pi)
    v = min(0.99, max(0.01, 1 + y / math.sqrt(x * x + z * z)))
    return _reflectance(textures, texture, 0.0, u, v)


@compiled
def _level(surfaces: Surfaces, textures: Textures, t: int, z: float, cosine: float, log2_samples: float) -> float:
    """Level of detail at which a texel is about as large as a sample; `cosine` between the surface's normal and the ray."""
    texture = surfaces.texture[t]
    coarsest = min(textures.log2_height[texture], textures.log2_width[texture])
    level = surfaces.uv[t, 8] + math.log2(z) - log2_samples - 0.5 * math.log2(max(cosine, 0.003))
    return min(max(level, 0.0), float(coarsest))


@compiled
def shade(
    inverse_depth: NDArray,
    index: NDArray,
    lens: Lens,
    T_body_camera: NDArray,
    surfaces: Surfaces,
    textures: Textures,
    sky_texture: int,
    light: Light,
    image: NDArray,
) -> None:
    """Average the samples of each pixel in linear light.

    T_body_camera: (B, 4, 4), body 0 is the world.  image: (H, W, 3) float32, overwritten.
    """
    S = lens.samples
    log2_samples = math.log2(lens.fx * S) + 0.25  # per radian; a quarter level sharper than one texel a sample
    for y in range(lens.height):
        for x in range(lens.width):
            red = green = blue = 0.0
            last = -2  # what varies slowly over a triangle is computed once a pixel
            level = lambert = ambient = haze = side = 0.0
            for sample in range(S * S):
                row, column = y * S + sample // S, x * S + sample % S
                t = index[row, column]
                dx = ((column + 0.5) / S - 0.5 - lens.cx) / lens.fx
                dy = ((row + 0.5) / S - 0.5 - lens.cy) / lens.fy
                body = surfaces.body[t] if t >= 0 else 0
                T = T_body_camera[body]
                rx = T[0, 0] * dx + T[0, 1] * dy + T[0, 2]  # the ray at z = 1, in the body's frame
                ry = T[1, 0] * dx + T[1, 1] * dy + T[1, 2]
                rz = T[2, 0] * dx + T[2, 1] * dy + T[2, 2]
                if t < 0:
                    r, g, b = _sky(textures, sky_texture, rx, ry, rz)
                    red, green, blue = red + r, green + g, blue + b
                    continue
                z = 1.0 / inverse_depth[row, column]
                px, py, pz = z * rx + T[0, 3], z * ry + T[1, 3], z * rz + T[2, 3]
                nx, ny, nz = surfaces.normal[t, 0], surfaces.normal[t, 1], surfaces.normal[t, 2]
                if t != last:
                    last = t
                    cosine = -(nx * rx + ny * ry + nz * rz) / math.sqrt(rx * rx + ry * ry + rz * rz)
                    side = 1.0 if cosine >= 0 else -1.0
                    level = _level(surfaces, textures, t, z, abs(cosine), log2_samples)
                    sun, up = light.towards_sun[body], light.up[body]
                    lambert = max(0.0, side * (nx * sun[0] + ny * sun[1] + nz * sun[2]))
                    ambient = 0.75 + 0.25 * side * (nx * up[0] + ny * up[1] + nz * up[2])
                    haze = 1.0 - math.exp(-z * light.haze_per_m)
                direct = lambert
                if direct > 0:
                    offset = side * _SHADOW_BIAS_M
                    sx, sy, sz = px + offset * nx, py + offset * ny, pz + offset * nz
                    direct *= _lit(light.fixed, light.fixed_map[body], sx, sy, sz)
                    if direct > 0 and light.moving.shape[0] > 0:
                        direct *= _lit(light.moving, light.moving_map[body], sx, sy, sz)
                uv = surfaces.uv[t]
                u = uv[0] + uv[1] * px + uv[2] * py + uv[3] * pz
                v = uv[4] + uv[5] * px + uv[6] * py + uv[7] * pz
                r, g, b = _reflectance(textures, surfaces.texture[t], level, u, v)
                tint = surfaces.tint[t]
                red += r * tint[0] * (ambient * light.sky[0] + direct * light.sun[0]) * (1 - haze) + haze * light.haze[0]
                green += g * tint[1] * (ambient * light.sky[1] + direct * light.sun[1]) * (1 - haze) + haze * light.haze[1]
                blue += b * tint[2] * (ambient * light.sky[2] + direct * light.sun[2]) * (1 - haze) + haze * light.haze[2]
            share = 1.0 / (S * S)
            image[y, x, 0], image[y, x, 1], image[y, x, 2] = red * share, green * share, blue * share


@compiled
def develop(image: NDArray, gain: float, noise: NDArray, shot: float, read: float, picture: NDArray) -> None:
    """Linear light to an 8-bit picture: exposure, sensor noise, saturation, gamma.

    image: (H, W, 3) float32.  noise: (H, W, 3) standard normal, or an empty array for none; its deviation at a signal s is
    sqrt(shot^2 s + read^2).  picture: (H, W, 3) uint8, overwritten.
    """
    noisy = noise.shape[0] > 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for k in range(3):
                signal = gain * image[y, x, k]
                if noisy:
                    signal += math.sqrt(shot * shot * max(signal, 0.0) + read * read) * noise[y, x, k]
                signal = min(max(signal, 0.0), 1.0)
                picture[y, x, k] = np.uint8(255.0 * signal ** (1 / GAMMA) + 0.5)
