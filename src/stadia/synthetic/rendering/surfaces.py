"""Periodic textures made of fractal noise, and the triangles of many parts with their surfaces."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stadia.synthetic.rendering.mesh import Mesh, Points
from stadia.synthetic.rendering.renderer import RenderScene
from stadia.synthetic.rendering.shading_kernels import SurfaceTable, TextureAtlas

compile_loops = partial(njit, cache=True, nogil=True, error_model="numpy")

Map = NDArray[np.float32]
Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Texture:
    """Hold a periodic texture, which repeats without seams.

    image: (H, W, 3) linear RGB; H and W are powers of two.
    size_m: (height, width) in metres of the surface area that one repetition covers.
    """

    image: Image
    size_m: tuple[float, float]


def _fit_affine_texture(corners: Points, uv: Points, texels_per_tile: Points) -> Points:
    """Return (M, 9) affine texture coordinates of triangles (M, 3, 3), and log2 of texels per metre."""
    first = corners[:, 0]
    e1, e2 = corners[:, 1] - first, corners[:, 2] - first
    a, b, c = (e1 * e1).sum(1), (e1 * e2).sum(1), (e2 * e2).sum(1)
    determinant = a * c - b * b
    dual1 = (c[:, None] * e1 - b[:, None] * e2) / determinant[:, None]
    dual2 = (a[:, None] * e2 - b[:, None] * e1) / determinant[:, None]
    out = np.empty((len(corners), 9))
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    for k in (0, 1):
        gradient = dual1 * d1[:, None, k] + dual2 * d2[:, None, k]
        out[:, 4 * k + 1 : 4 * k + 4] = gradient
        out[:, 4 * k] = uv[:, 0, k] - (gradient * first).sum(1)
    tiles_per_metre = np.sqrt(np.abs(d1[:, 0] * d2[:, 1] - d2[:, 0] * d1[:, 1]) / np.sqrt(determinant))
    out[:, 8] = np.log2(np.maximum(tiles_per_metre * texels_per_tile, 1e-6))
    return out


def _find_nonempty_triangles(vertices: Points, triangles: NDArray[np.int32]) -> tuple[NDArray[np.bool_], Points]:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.sqrt((normal * normal).sum(1))
    sound = area > 1e-9
    return sound, normal[sound] / area[sound, None]


def assemble_parts(parts: Mesh, body: NDArray[np.int32], ground: int, textures: dict[str, Texture]) -> RenderScene:
    """Join the triangles of P parts, with their textures and the texture named "sky".

    body: (P,) index of the frame of each part.
    ground: number of parts that are ground; they come first.
    """
    names = {name: i for i, name in enumerate(textures)}
    texture = np.array([names[part.material] for part in parts], np.int32)
    tiles = np.array([t.size_m[::-1] for t in textures.values()])
    vertex_counts, counts = np.array([(len(part.vertices), len(part.triangles)) for part in parts]).T
    first = np.cumsum(vertex_counts) - vertex_counts
    vertices = np.concatenate([part.vertices for part in parts])
    triangles = np.concatenate([part.triangles for part in parts]) + np.repeat(first, counts)[:, None].astype(np.int32)
    uv = np.concatenate([part.uv for part in parts]) / np.repeat(tiles[texture], vertex_counts, axis=0)
    sound, normal = _find_nonempty_triangles(vertices, triangles)
    triangles = np.ascontiguousarray(triangles[sound], dtype=np.int32)
    part_of = np.repeat(np.arange(len(parts)), counts)[sound]
    side = np.array([np.sqrt(t.image.shape[0] * t.image.shape[1]) for t in textures.values()])
    surfaces = SurfaceTable(
        uv=_fit_affine_texture(vertices[triangles], uv[triangles], side[texture][part_of]),
        normal=normal,
        tint=np.array([part.tint for part in parts], np.float32)[part_of],
        texture=texture[part_of],
        body=body[part_of],
        ground=int((part_of < ground).sum()),
    )
    bodies, atlas = np.repeat(body, vertex_counts), pack_textures(textures)
    return RenderScene(vertices, bodies, triangles, part_of, surfaces, atlas, names["sky"])


# -- Periodic value noise, summed over octaves (fractal Brownian motion).


@compile_loops
def _add_octave(out: Map, grid: Map, amplitude: np.float32) -> None:
    """Add `amplitude` times the smooth interpolation of a periodic grid (R, C) to out (H, W)."""
    height, width = out.shape
    rows, columns = grid.shape
    left = np.empty(width, np.int32)
    part = np.empty(width, np.float32)
    for x in range(width):
        at = x * columns / width
        left[x] = int(at)
        f = at - int(at)
        part[x] = f * f * (3 - 2 * f)
    line = np.empty(columns + 1, np.float32)
    for y in range(height):
        at = y * rows / height
        above = int(at)
        f = at - above
        f = f * f * (3 - 2 * f)
        below = (above + 1) % rows
        for c in range(columns):
            line[c] = amplitude * ((1 - f) * grid[above, c] + f * grid[below, c])
        line[columns] = line[0]
        for x in range(width):
            i = left[x]
            out[y, x] += line[i] + part[x] * (line[i + 1] - line[i])


def make_fractal_noise(
    random: np.random.Generator,
    height: int,
    width: int,
    *,
    cells: tuple[int, int] = (4, 4),
    octaves: int = 8,
    persistence: float = 0.6,
) -> Map:
    """Return periodic noise (height, width) with a mean of about 0 and a standard deviation of 1.

    cells: rows and columns of the coarsest grid. Each octave doubles both.
    octaves: number of grids.
    persistence: ratio of the amplitudes of successive octaves.
    """
    out = np.zeros((height, width), np.float32)
    amplitude = 1.0
    for _ in range(octaves):
        grid = random.random(cells, np.float32) - np.float32(0.5)
        _add_octave(out, grid, np.float32(amplitude))
        amplitude *= persistence
        cells = (min(2 * cells[0], height), min(2 * cells[1], width))
    out -= out.mean(dtype=np.float64).astype(np.float32)
    out /= np.float32(out.std(dtype=np.float64))
    return out


# -- Textures with a true size, packed with their half-size copies for the shader.


def as_linear_rgb(*rgb: float) -> Image:
    """Return the values as linear RGB (3,) float32."""
    return np.asarray(rgb, np.float32)


def make_texel_grid(height: int, width: int, size_m: tuple[float, float]) -> tuple[Map, Map]:
    """Return the position of each texel's center in metres: down (H, 1) and across (1, W)."""
    down = ((np.arange(height) + 0.5) * size_m[0] / height).astype(np.float32)[:, None]
    across = ((np.arange(width) + 0.5) * size_m[1] / width).astype(np.float32)[None]
    return down, across


def make_plain_texture(
    random: np.random.Generator, rgb: tuple[float, float, float], contrast: float, size_m: float
) -> Texture:
    """Return a texture of one color with blotches, for paint, rubber, metal, wood or skin.

    rgb: linear RGB.
    contrast: relative amplitude of the blotches.
    size_m: side of a tile in metres.
    """
    value = 1 + contrast * make_fractal_noise(random, 128, 128, cells=(4, 4), octaves=6, persistence=0.75)
    return Texture(value[..., None] * as_linear_rgb(*rgb), (size_m, size_m))


def pack_textures(textures: dict[str, Texture]) -> TextureAtlas:
    """Pack all textures and their half-size copies into an atlas for the shader."""
    texels, log2_height, log2_width = [], [], []
    start = np.zeros((len(textures), 16), np.int64)
    total = 0
    for number, texture in enumerate(textures.values()):
        level = np.clip(texture.image, 0, 1).astype(np.float32)
        log2_height.append(level.shape[0].bit_length() - 1)
        log2_width.append(level.shape[1].bit_length() - 1)
        for detail in range(start.shape[1]):
            start[number, detail] = total
            encoded = np.zeros((level.shape[0] * level.shape[1], 4), np.uint8)
            encoded[:, :3] = (np.sqrt(level) * 255 + 0.5).reshape(-1, 3)
            texels.append(encoded)
            total += len(encoded)
            if min(level.shape[:2]) == 1:
                break
            level = 0.25 * (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2])
    return TextureAtlas(np.concatenate(texels), start, np.array(log2_height), np.array(log2_width))
