"""Rasterize triangles: exact inverse depth of each sample, shadow maps, and masks of objects.

The inverse depth of a plane n . X = d is linear in pixel coordinates: 1/z = n . K^-1 (x, y, 1) / d. A sample that no
triangle covers is sky.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stadia.geometry.cameras import centered_K

Points = NDArray[np.floating]

compile_loops = partial(njit, cache=True, nogil=True, error_model="numpy")

NEAR_M = 0.05  # distance of the near plane
NO_TRIANGLE = -1  # index in a pixel that no triangle covers


class RasterCamera(NamedTuple):
    """A pinhole camera that draws with S x S samples in each pixel.

    fx, fy: focal lengths in pixels.
    cx, cy: principal point in pixels.
    height, width: image size in pixels.
    samples: number S of samples per pixel along each axis.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int
    samples: int


def make_intrinsics(field_of_view_deg: float, height: int, width: int) -> NDArray[np.float64]:
    """Return intrinsics K (3, 3) in pixels with square pixels and the principal point at the image's center.

    field_of_view_deg: horizontal field of view in degrees.
    height, width: image size in pixels.

    Examples:
        >>> make_intrinsics(90, 48, 64).round(3).tolist()
        [[32.0, 0.0, 31.5], [0.0, 32.0, 23.5], [0.0, 0.0, 1.0]]
    """
    return centered_K(0.5 * width / np.tan(np.radians(0.5 * field_of_view_deg)), height, width)


@compile_loops
def transform_vertices(vertices: NDArray, body: NDArray, T_camera_body: NDArray, out: NDArray) -> None:
    """Transform vertices of rigid bodies from each body's coordinate frame to the camera's coordinate frame.

    vertices: (N, 3) positions, each in the coordinate frame of its body.
    body: (N,) body index of each vertex.
    T_camera_body: (B, 4, 4) motion from each of the B bodies to the camera.
    out: (N, 3), overwritten with the positions in the camera's coordinate frame.
    """
    for i in range(vertices.shape[0]):
        T = T_camera_body[body[i]]
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for k in range(3):
            out[i, k] = T[k, 0] * x + T[k, 1] * y + T[k, 2] * z + T[k, 3]


@compile_loops
def _clip_near(triangle: NDArray, polygon: NDArray) -> int:
    """Clip a triangle (3, 3) at the near plane to a polygon of 0, 3 or 4 corners; return their number."""
    corners = 0
    for i in range(3):
        j = (i + 1) % 3
        start_z, end_z = triangle[i, 2], triangle[j, 2]
        if start_z >= NEAR_M:
            polygon[corners] = triangle[i]
            corners += 1
        if (start_z >= NEAR_M) != (end_z >= NEAR_M):
            share = (NEAR_M - start_z) / (end_z - start_z)
            polygon[corners] = triangle[i] + share * (triangle[j] - triangle[i])
            corners += 1
    return corners


@compile_loops
def _fill(
    corners: tuple[float, float, float, float, float, float],
    plane: NDArray,
    triangle: int,
    inverse_depth: NDArray,
    index: NDArray,
) -> None:
    """Write the samples inside a triangle that are nearer than before.

    corners: x0, y0, x1, y1, x2, y2 on the sample grid. Inverse depth is plane[0] + plane[1] column + plane[2] row.
    """
    x0, y0, x1, y1, x2, y2 = corners
    if (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0) < 0:
        x1, y1, x2, y2 = x2, y2, x1, y1
    rows, columns = index.shape
    first = max(0, math.ceil(min(y0, y1, y2)))
    last = min(rows - 1, math.floor(max(y0, y1, y2)))
    for row in range(first, last + 1):
        low, high = 0.0, columns - 1.0  # this row's span inside all three edges
        for edge in range(3):
            if edge == 0:
                xa, ya, xb, yb = x0, y0, x1, y1
            elif edge == 1:
                xa, ya, xb, yb = x1, y1, x2, y2
            else:
                xa, ya, xb, yb = x2, y2, x0, y0
            rise = yb - ya
            if rise == 0:
                if (xb - xa) * (row - ya) < 0:
                    high = -1.0
                continue
            crossing = xa + (xb - xa) * (row - ya) / rise
            if rise > 0:
                high = min(high, crossing)
            else:
                low = max(low, crossing)
        left, right = math.ceil(low), math.floor(high)
        constant = plane[0] + plane[2] * row
        for column in range(left, right + 1):
            value = constant + plane[1] * column
            if value > inverse_depth[row, column]:
                inverse_depth[row, column] = value
                index[row, column] = triangle


@compile_loops
def rasterize_triangles(
    vertices: NDArray, triangles: NDArray, lens: RasterCamera, inverse_depth: NDArray, index: NDArray
) -> None:
    """Rasterize triangles: write inverse depth and triangle index at every sample of the image. Both faces are visible.

    With S = lens.samples samples per pixel and axis, sample (row, column) is at the pixel position ((column + 0.5) / S
    - 0.5, (row + 0.5) / S - 0.5).

    vertices: (N, 3) positions in the camera's coordinate frame, in metres.
    triangles: (M, 3) indices of each triangle's three vertices.
    lens: the camera and the number of samples.
    inverse_depth: (H S, W S), overwritten with 1/z in 1/m of the nearest triangle; 0 means that no triangle covers the
        sample.
    index: (H S, W S), overwritten with the index of this triangle, or NO_TRIANGLE.
    """
    inverse_depth[:] = 0.0
    index[:] = NO_TRIANGLE
    S = lens.samples
    rows, columns = index.shape
    screen = np.empty((vertices.shape[0], 2))
    for i in range(vertices.shape[0]):
        z = vertices[i, 2]
        if z >= NEAR_M:
            screen[i, 0] = (lens.fx * vertices[i, 0] / z + lens.cx + 0.5) * S - 0.5
            screen[i, 1] = (lens.fy * vertices[i, 1] / z + lens.cy + 0.5) * S - 0.5
    corners = np.empty((3, 3))
    polygon = np.empty((4, 3))
    plane = np.empty(3)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        nearest = min(vertices[a, 2], vertices[b, 2], vertices[c, 2])
        if max(vertices[a, 2], vertices[b, 2], vertices[c, 2]) < NEAR_M:
            continue
        if nearest >= NEAR_M:
            x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
            lowest, highest = min(y0, y1, y2), max(y0, y1, y2)
            leftmost, rightmost = min(x0, x1, x2), max(x0, x1, x2)
            if highest < 0 or lowest > rows - 1 or rightmost < 0 or leftmost > columns - 1:
                continue
            if math.ceil(lowest) > math.floor(highest) or math.ceil(leftmost) > math.floor(rightmost):
                continue  # It is between two rows or columns of samples.
        for k in range(3):
            corners[0, k], corners[1, k], corners[2, k] = vertices[a, k], vertices[b, k], vertices[c, k]
        ux, uy, uz = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
        vx, vy, vz = corners[2, 0] - corners[0, 0], corners[2, 1] - corners[0, 1], corners[2, 2] - corners[0, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        d = nx * corners[0, 0] + ny * corners[0, 1] + nz * corners[0, 2]
        if abs(d) < 1e-12:
            continue  # the camera is in the triangle's plane
        plane[1] = nx / (d * lens.fx * S)
        plane[2] = ny / (d * lens.fy * S)
        origin = 0.5 / S - 0.5
        plane[0] = nz / d + nx / d * (origin - lens.cx) / lens.fx + ny / d * (origin - lens.cy) / lens.fy
        if nearest >= NEAR_M:
            _fill((x0, y0, x1, y1, x2, y2), plane, t, inverse_depth, index)
            continue
        count = _clip_near(corners, polygon)
        for i in range(count):
            z = polygon[i, 2]
            polygon[i, 0] = (lens.fx * polygon[i, 0] / z + lens.cx + 0.5) * S - 0.5
            polygon[i, 1] = (lens.fy * polygon[i, 1] / z + lens.cy + 0.5) * S - 0.5
        for i in range(1, count - 1):
            p = polygon
            fan = (p[0, 0], p[0, 1], p[i, 0], p[i, 1], p[i + 1, 0], p[i + 1, 1])
            _fill(fan, plane, t, inverse_depth, index)


def draw(
    vertices: NDArray, triangles: NDArray[np.int32], lens: RasterCamera
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Rasterize triangles; return inverse depth (1/m) and triangle index of every sample, each (H S, W S).

    vertices: (N, 3) positions in the camera's coordinate frame, in metres.
    triangles: (M, 3) indices of each triangle's three vertices.
    lens: the camera, with S samples per pixel and axis.
    """
    grid = (lens.height * lens.samples, lens.width * lens.samples)
    inverse_depth, index = np.empty(grid), np.empty(grid, np.int32)
    rasterize_triangles(vertices, triangles, lens, inverse_depth, index)
    return inverse_depth, index


@compile_loops
def rasterize_depth_along_light(vertices: NDArray, triangles: NDArray, depth: NDArray) -> None:
    """Rasterize the distance of triangles along the sun's parallel rays into a shadow map.

    vertices: (N, 3) column and row on the shadow map, and depth along the light's direction.
    triangles: (M, 3) indices of each triangle's three vertices.
    depth: (R, C) float32 shadow map; an element is lowered if a triangle there is nearer to the sun.
    """
    rows, columns = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1 = vertices[a, 0], vertices[a, 1], vertices[b, 0], vertices[b, 1]
        x2, y2 = vertices[c, 0], vertices[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        z0 = vertices[a, 2]
        du, dv = vertices[b, 2] - z0, vertices[c, 2] - z0
        for row in range(max(0, math.ceil(min(y0, y1, y2))), min(rows - 1, math.floor(max(y0, y1, y2))) + 1):
            for column in range(max(0, math.ceil(min(x0, x1, x2))), min(columns - 1, math.floor(max(x0, x1, x2))) + 1):
                u = ((column - x0) * (y2 - y0) - (x2 - x0) * (row - y0)) / area
                v = ((x1 - x0) * (row - y0) - (column - x0) * (y1 - y0)) / area
                if u >= 0 and v >= 0 and u + v <= 1:
                    z = np.float32(z0 + u * du + v * dv)
                    if z < depth[row, column]:
                        depth[row, column] = z


@compile_loops
def compute_depth_and_normals(
    index: NDArray,
    inverse_depth: NDArray,
    lens: RasterCamera,
    normal: NDArray,
    body: NDArray,
    T_camera_body: NDArray,
    depth: NDArray,
    out: NDArray,
) -> None:
    """Compute depth and surface normals at pixel centers. Both are 0 in pixels that no triangle covers.

    index, inverse_depth: (H, W) result of `rasterize_triangles` with one sample per pixel.
    lens: the camera that they were drawn with.
    normal: (M, 3) unit normals of the triangles, each in the coordinate frame of its body.
    body: (M,) rigid body index of each triangle.
    T_camera_body: (B, 4, 4) motion from each of the B bodies to the camera.
    depth: (H, W), overwritten with depth z in metres.
    out: (H, W, 3), overwritten with unit normals in the camera's coordinate frame that face the camera.
    """
    for row in range(index.shape[0]):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t == NO_TRIANGLE:
                depth[row, column] = 0.0
                out[row, column] = 0.0
                continue
            depth[row, column] = 1.0 / inverse_depth[row, column]
            T, n = T_camera_body[body[t]], normal[t]
            x = T[0, 0] * n[0] + T[0, 1] * n[1] + T[0, 2] * n[2]
            y = T[1, 0] * n[0] + T[1, 1] * n[1] + T[1, 2] * n[2]
            z = T[2, 0] * n[0] + T[2, 1] * n[1] + T[2, 2] * n[2]
            away = x * (column - lens.cx) / lens.fx + y * (row - lens.cy) / lens.fy + z > 0
            sign = -1.0 if away else 1.0
            out[row, column, 0], out[row, column, 1], out[row, column, 2] = sign * x, sign * y, sign * z


@dataclass(frozen=True, slots=True)
class Silhouette:
    """The inverse depth of one object, drawn alone, in a window that may extend beyond the image.

    left, top: column and row of the window's top-left pixel in the image; they may be negative.
    inverse_depth: (h, w) inverse depth in 1/m at pixel centers; 0 outside the object.
    """

    left: int
    top: int
    inverse_depth: NDArray[np.float64]

    @property
    def full_px(self) -> int:
        """Return the number of pixels of the whole object, including occluded pixels and pixels outside the image."""
        return int((self.inverse_depth > 0).sum())

    def windows(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return where window and image overlap: (rows, columns) as slices in the image, then as slices in the window.

        height, width: image size in pixels.
        """
        h, w = self.inverse_depth.shape
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = max(min(self.top + h, height), top), max(min(self.left + w, width), left)
        window = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return (slice(top, bottom), slice(left, right)), window

    def within(self, height: int, width: int) -> NDArray[np.float64]:
        """Return the object's inverse depth (height, width) at the pixels of the image; 0 outside the object."""
        inverse_depth = np.zeros((height, width))
        inside, window = self.windows(height, width)
        inverse_depth[inside] = self.inverse_depth[window]
        return inverse_depth


def _find_lens(vertices: Points, K: Points, height: int, width: int) -> tuple[int, int, RasterCamera]:
    low, high = np.array([-width, -height]), np.array([2 * width, 2 * height]) - 1
    if (vertices[:, 2] > NEAR_M).all():  # otherwise it extends behind the camera, and its projection is unbounded
        pixels = (vertices[:, :2] / vertices[:, 2:]) * (K[0, 0], K[1, 1]) + K[:2, 2]
        low, high = (np.clip(edge, low, high) for edge in (np.floor(pixels.min(0)), np.ceil(pixels.max(0))))
    left, top = (int(q) for q in low)
    columns, rows = (int(q) for q in high - low + 1)
    return left, top, RasterCamera(K[0, 0], K[1, 1], K[0, 2] - left, K[1, 2] - top, rows, columns, 1)


def draw_silhouette(vertices: Points, triangles: NDArray[np.int32], K: Points, height: int, width: int) -> Silhouette:
    """Rasterize one mesh alone, in a window that ends one image size beyond each edge of the image.

    vertices: (N, 3) positions in the camera's coordinate frame, in metres.
    triangles: (M, 3) indices of each triangle's three vertices.
    K: (3, 3) intrinsics in pixels.
    height, width: size of the image in pixels.
    """
    left, top, lens = _find_lens(vertices, K, height, width)
    return Silhouette(left, top, draw(np.ascontiguousarray(vertices), triangles, lens)[0])


def compute_visible_masks(silhouettes: Sequence[Silhouette], height: int, width: int) -> NDArray[np.bool_]:
    """Return the masks (N, height, width) of the visible pixels of N objects: true at pixels whose nearest object is
    this one.

    silhouettes: the inverse depth of each object, drawn alone.
    height, width: image size in pixels.
    """
    nearest, owner = np.zeros((height, width)), np.full((height, width), -1, np.int32)
    for number, silhouette in enumerate(silhouettes):
        inside, window = silhouette.windows(height, width)
        inverse_depth = silhouette.inverse_depth[window]
        nearer = inverse_depth > nearest[inside]
        nearest[inside][nearer] = inverse_depth[nearer]
        owner[inside][nearer] = number
    return owner == np.arange(len(silhouettes), dtype=np.int32)[:, None, None]
