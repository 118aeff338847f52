"""The ray casting of shape_worlds.py as one Triton kernel, for a GPU: `find_nearest` without a map of all shapes.

A program of the kernel is a block of rays, which loops over the shapes of its scene.
"""

# mypy: ignore-errors

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


@triton.jit
def cast_rays(
    origins,
    directions,
    shapes,
    distances,
    numbers,
    rays,
    near,
    boxes: tl.constexpr,
    ellipsoids: tl.constexpr,
    cylinders: tl.constexpr,
    values: tl.constexpr,
    block: tl.constexpr,
):
    """Write distance and number of the nearest shape of each ray, as in shape_worlds."""
    scene = tl.program_id(1)
    ray = tl.program_id(0) * block + tl.arange(0, block)
    inside = ray < rays
    at = (scene * rays + ray) * 3
    ox = tl.load(origins + at, mask=inside, other=0.0)
    oy = tl.load(origins + at + 1, mask=inside, other=0.0)
    oz = tl.load(origins + at + 2, mask=inside, other=0.0)
    dx = tl.load(directions + at, mask=inside, other=1.0)
    dy = tl.load(directions + at + 1, mask=inside, other=1.0)
    dz = tl.load(directions + at + 2, mask=inside, other=1.0)
    infinite = float("inf")
    best = tl.full([block], infinite, tl.float32)
    number = tl.zeros([block], tl.int32)
    count: tl.constexpr = boxes + ellipsoids + cylinders
    for index in range(count):
        row = shapes + (scene * count + index) * values
        hx = tl.maximum(tl.load(row + 3), 1e-6)
        hy = tl.maximum(tl.load(row + 4), 1e-6)
        hz = tl.maximum(tl.load(row + 5), 1e-6)
        c = tl.load(row + 6)
        s = tl.load(row + 7)
        px = ox - tl.load(row)
        py = oy - tl.load(row + 1)
        pz = oz - tl.load(row + 2)
        x = (c * px - s * pz) / hx
        y = py / hy
        z = (s * px + c * pz) / hz
        u = (c * dx - s * dz) / hx
        v = dy / hy
        w = (s * dx + c * dz) / hz
        t = tl.full([block], infinite, tl.float32)
        if index < boxes:
            u = tl.where(tl.abs(u) < 1e-9, 1e-9, u)
            v = tl.where(tl.abs(v) < 1e-9, 1e-9, v)
            w = tl.where(tl.abs(w) < 1e-9, 1e-9, w)
            x0 = (-1 - x) / u
            x1 = (1 - x) / u
            y0 = (-1 - y) / v
            y1 = (1 - y) / v
            z0 = (-1 - z) / w
            z1 = (1 - z) / w
            entry = tl.maximum(tl.maximum(tl.minimum(x0, x1), tl.minimum(y0, y1)), tl.minimum(z0, z1))
            leave = tl.minimum(tl.minimum(tl.maximum(x0, x1), tl.maximum(y0, y1)), tl.maximum(z0, z1))
            t = tl.where((entry < leave) & (entry > near), entry, infinite)
        elif index < boxes + ellipsoids:
            a = u * u + v * v + w * w
            b = x * u + y * v + z * w
            root = b * b - a * (x * x + y * y + z * z - 1)
            hit = (-b - tl.sqrt(tl.maximum(root, 0.0))) / a
            t = tl.where((root > 0) & (hit > near), hit, infinite)
        else:
            a = tl.maximum(u * u + w * w, 1e-12)
            b = x * u + z * w
            root = b * b - a * (x * x + z * z - 1)
            side = (-b - tl.sqrt(tl.maximum(root, 0.0))) / a
            side = tl.where((root > 0) & (side > near) & (tl.abs(y + side * v) < 1), side, infinite)
            v = tl.where(tl.abs(v) < 1e-9, 1e-9, v)
            cap = (tl.where(v > 0, -1.0, 1.0) - y) / v
            cx = x + cap * u
            cz = z + cap * w
            cap = tl.where((cx * cx + cz * cz < 1) & (cap > near), cap, infinite)
            t = tl.minimum(side, cap)
        nearer = t < best
        best = tl.where(nearer, t, best)
        number = tl.where(nearer, index, number)
    tl.store(distances + scene * rays + ray, best, mask=inside)
    tl.store(numbers + scene * rays + ray, number, mask=inside)


def find_nearest(o: Tensor, d: Tensor, scene: dict[str, Tensor], near: float) -> tuple[Tensor, Tensor]:
    """Return distance (B, P), inf without a hit, and the number of the shape among all of the scene."""
    shapes = torch.cat([scene["boxes"], scene["ellipsoids"], scene["cylinders"]], 1).contiguous()
    count, rays = d.shape[:2]
    origins, directions = o.expand(count, rays, 3).contiguous(), d.contiguous()
    distances = torch.empty(count, rays, device=d.device)
    numbers = torch.empty(count, rays, dtype=torch.int32, device=d.device)
    cast_rays[(triton.cdiv(rays, BLOCK), count)](
        origins,
        directions,
        shapes,
        distances,
        numbers,
        rays,
        near,
        boxes=scene["boxes"].shape[1],
        ellipsoids=scene["ellipsoids"].shape[1],
        cylinders=scene["cylinders"].shape[1],
        values=shapes.shape[2],
        block=BLOCK,
    )
    return distances, numbers.long()
