"""Streets, markets, gardens and land from above; the scenes of `mesh_worlds.py`."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mesh_builder import Builder, Camera, draw_focal, outdoor_look
from mesh_rooms import fill_top


def add_ground(b: Builder, bumps: float, groups: tuple[str, ...]) -> None:
    """Add land of 240 m with hills of a height."""
    number, side = int(b.random.integers(3)), 240.0
    heights = b.assets.terrain[number] - b.assets.terrain[number][48, 48]
    shift = -float(b.assets.terrain[number][48, 48]) * bumps

    def height(x: float, z: float) -> float:
        i, j = np.clip((z / side + 0.5) * 96, 0, 95.99), np.clip((x / side + 0.5) * 96, 0, 95.99)
        u, v = j - int(j), i - int(i)
        h = heights[int(i) : int(i) + 2, int(j) : int(j) + 2]
        if u + v <= 1:
            return bumps * float(h[0, 0] + u * (h[0, 1] - h[0, 0]) + v * (h[1, 0] - h[0, 0]))
        return bumps * float(h[1, 1] + (1 - u) * (h[1, 0] - h[1, 1]) + (1 - v) * (h[0, 1] - h[1, 1]))

    b.height = height
    model = b.assets.primitives[f"terrain{number}"]
    b.put(
        model,
        0,
        shift,
        0,
        scale=(side, max(bumps, 1e-4), side),
        color=b.tint(0.2, 0.5),
        layer=b.surface(*groups),
        tile=b.u(1.5, 6),
        gloss=0.0,
    )
    b.shape("box", (0, -0.4 - bumps, 0), (3000, 0.05, 3000), b.surface(*groups), 8.0, gloss=0.0)


def scatter(
    b: Builder,
    kind: str,
    count: int,
    low: float,
    high: float,
    *words: str,
    sizes: tuple[float, float] = (0.0, 30.0),
    away: float = 0.0,
) -> None:
    """Put models around the origin at distances from low to high metres, away from a strip along z."""
    for _ in range(count):
        turn, out = b.u(-math.pi, math.pi), math.exp(b.u(math.log(low), math.log(high)))
        x, z = math.sin(turn) * out, math.cos(turn) * out
        if abs(x) < away:
            x = math.copysign(away + abs(x) * 0.5, x)
        model = b.model(kind, *words, low=sizes[0], high=sizes[1])
        big = b.u(0.8, 1.3) if kind == "plant" else 1.0
        b.put(
            model,
            x,
            b.height(x, z) if b.height else 0.0,
            z,
            b.u(-3, 3),
            scale=big,
            gloss=0.0 if kind != "vehicle" else None,
        )


def add_building(b: Builder, x: float, z: float, wide: float, deep: float, high: float, yaw: float = 0.0) -> None:
    skin = b.surface("facade", "facade", "wall", "photograph", "plain")
    b.shape("box", (x, -0.2, z), (wide, high, deep), skin, b.u(3, 10), yaw, color=b.tint(0.3))
    if b.maybe(0.5):
        b.shape(
            "box",
            (x, high - 0.2, z),
            (wide * b.u(0.9, 1.08), b.u(0.2, 2.5), deep * b.u(0.9, 1.08)),
            b.surface("wall", "plain"),
            3.0,
            yaw,
        )
    for _ in range(b.random.integers(0, 5)):  # doors, shop windows, awnings
        w = b.u(0.9, 3)
        at = b.u(-0.4, 0.4) * deep
        for side in (-1, 1):
            size = (0.15, b.u(1.9, 2.6), w) if b.maybe(0.7) else (b.u(0.8, 1.6), 0.1, w)
            y = 0.0 if size[0] < 0.2 else 2.5
            b.shape(
                "box",
                (x + side * wide / 2, y, z + at),
                size,
                b.surface("print", "wood", "photograph", "cloth"),
                w,
                color=b.tint(0.6),
            )


def make_street(b: Builder, kind: str) -> tuple[dict[str, Any], list[Camera]]:
    """A street along z, from a vehicle or by a walker, a square with a market, or either from above."""
    add_ground(b, 0.0, ("ground", "asphalt"))
    half = b.u(2.5, 8) if kind != "market" else b.u(5, 14)
    walk = half + b.u(1.2, 5)
    if kind != "market":
        b.shape(
            "box",
            (0, -0.05, 0),
            (2 * walk, 0.06 + (0.1 if b.maybe(0.7) else 0), 240),
            b.surface("asphalt", "ground", "wall"),
            b.u(1, 3),
        )
        b.shape(
            "box", (0, -0.05, 0), (2 * half, 0.17, 240), b.surface("asphalt"), b.u(2, 5), color=b.tint(0.05, 0.25, 0.9)
        )
    paved = 0.12 if kind != "market" else 0.0
    if kind != "market" and b.maybe(0.8):
        for _ in range(b.random.integers(1, 5)):
            x = b.u(-1, 1) * half * 0.9
            dash = 240.0 if b.maybe(0.4) else b.u(2, 5)
            for z in [0.0] if dash > 100 else np.arange(-60, 60, dash * b.u(1.8, 3)):
                b.shape("box", (x, 0.1, float(z)), (0.13, 0.025, dash), -1, color=np.ones(3) * 0.85)
    open_land = b.maybe(0.2)
    for side in (-1, 1):
        z = -70.0
        while z < 110 and not open_land:
            w, d = b.u(6, 26), b.u(6, 15)
            high = b.u(3, 9) if b.maybe(0.6) else b.u(8, 35)
            if b.maybe(0.85):
                add_building(b, side * (walk + d / 2 + b.u(0, 3)), z + w / 2, d, w, high)
            z += w + (0.1 if b.maybe(0.5) else b.u(1, 15))
        gap = b.u(7, 25)
        tree = b.model("plant", low=2.5, high=16)
        lamp = b.model("object", "street lamp", "street light", "lamppost", "park light")
        for number in range(-3, 8):
            if b.maybe(0.5):
                b.put(
                    tree,
                    side * (walk - 0.6),
                    paved,
                    number * gap + b.u(-1, 1),
                    b.u(-3, 3),
                    scale=b.u(0.8, 1.3),
                    gloss=0.0,
                )
            if b.maybe(0.4):
                b.put(lamp, side * (half + 0.4), paved, number * gap + 3, side * math.pi / 2)
        for _ in range(b.random.integers(0, 8)):
            b.put(
                b.model(
                    "object",
                    "trash",
                    "hydrant",
                    "mailbox",
                    "bench",
                    "cone",
                    "box",
                    "barrel",
                    "crate",
                    "fence",
                    "railing",
                    low=0.3,
                ),
                side * b.u(half + 0.4, walk),
                paved,
                b.u(-10, 40),
                b.u(-3, 3),
            )
    if kind == "market":
        for _ in range(b.random.integers(5, 25)):
            x, z = b.u(-1, 1) * half, b.u(-4, 25)
            yaw = b.u(-3, 3)
            if b.maybe(0.4):
                size = (b.u(1, 2.5), b.u(0.6, 0.95), b.u(0.6, 1.2))
                b.shape("box", (x, 0, z), size, b.surface("wood", "cloth"), 1.0, yaw)
                fill_top(b, x, size[1], z, (size[0], size[2]), yaw, int(b.random.integers(3, 14)), 0.5)
                if b.maybe(0.6):
                    b.shape(
                        "box",
                        (x, b.u(2.0, 2.6), z),
                        (size[0] * 1.2, 0.03, size[2] * 1.6),
                        b.surface("cloth"),
                        1.0,
                        yaw,
                        color=b.tint(0.9),
                    )
                    for dx, dz in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
                        c, s = math.cos(yaw), math.sin(yaw)
                        ex, ez = dx * size[0] * 0.6, dz * size[2] * 0.75
                        b.shape("cylinder", (x + c * ex + s * ez, 0, z - s * ex + c * ez), (0.04, 2.1, 0.04), -1)
            else:
                b.put(b.model("object", low=0.25, high=1.5), x, 0, z, yaw)
    cars: list[tuple[float, float]] = []
    if kind != "market":
        for side in (-1, 1):
            z = b.u(-25, 0)
            while z < 55 and b.maybe(0.93):
                if b.maybe(0.5):
                    cars.append((side * (half - b.u(1.0, 1.3)), z))
                z += b.u(5.5, 9)
        cars = cars if b.maybe(0.6) else []
        cars += [(b.u(-0.55, 0.55) * half, b.u(-30, 70)) for _ in range(b.random.integers(0, 9))]
    for x, z in cars:
        small = b.maybe(0.12)
        words = ("bike", "bicycle", "scooter", "yamaha", "motor") if small else ()
        model = b.model("vehicle", *words, low=0.0 if small else 2.4, high=14)
        yaw = (0.0 if x > 0 else math.pi) + (b.random.normal(0, 0.04) if b.maybe(0.93) else b.u(-3, 3))
        b.put(model, x, 0.12, z, yaw, color=b.vary(model))
    if kind == "drive":  # none within the camera's way
        cars = [(x, z) for x, z in cars if abs(x - 0.4 * half) > 2.2 or z > 32]
    crowd = int(b.random.integers(6, 40)) if kind == "market" else int(b.random.choice([2, 5, 10, 22]))
    middle = (b.u(-0.5, 0.5) * half, b.u(2, 8))
    people: list[tuple[float, float]] = []
    for _ in range(crowd):
        if kind == "market":
            x, z = b.u(-1, 1) * half * 0.7, math.exp(b.u(0.2, 3.0)) - 1
        else:
            x, z = b.random.choice([-1, 1]) * b.u(half * 0.6, walk), math.exp(b.u(0.3, 3.9)) - 1
        if b.maybe(0.25):
            x, z = middle[0] + b.random.normal(0, 0.8), middle[1] + b.random.normal(0, 0.8)
        people.append((x, z))
        b.person(
            x,
            paved if abs(x) > half else 0.12 * (kind != "market"),
            z,
            b.u(-3.1, 3.1) if b.maybe(0.6) else b.random.choice([0, math.pi]),
            "stand",
            "walk",
            "walk",
            "reach",
            "hold",
            "carry",
            "wave",
            "run",
            "crouch",
        )
    cameras = []
    mount, lane = (b.u(1.2, 1.75) if b.maybe(0.85) else b.u(1.75, 2.6)), b.u(0.1, 0.65) * half
    for _ in range(b.views):
        if kind == "drive":  # a camera on a vehicle, at one height, along its lane
            place = np.array([lane + b.random.normal(0, 0.15), mount + 0.12, b.u(-40, 25)])
            yaw, pitch = b.random.normal(0, 0.06) if b.maybe(0.8) else b.u(-1.2, 1.2), b.random.normal(-0.02, 0.04)
            target = place + np.array([math.sin(yaw), math.tan(pitch), math.cos(yaw)])
            cameras.append(Camera(place, target, draw_focal(b, 45, 105), b.random.normal(0, 0.015)))
            continue
        if kind == "drone" or (kind == "street" and b.maybe(0.08)):
            up = math.exp(b.u(math.log(4), math.log(60)))
            place = np.array([b.u(-10, 10), up, b.u(-20, 10)])
            target = np.array([b.u(-8, 8), 0.0, place[2] + up * b.u(0.05, 2.5)])
            target[0] = place[0] + b.u(-1, 1) * up * 0.5 if b.maybe(0.5) else target[0]
        elif (near := people if b.maybe(0.75) or not cars else cars) and b.maybe(0.65 if kind == "market" else 0.4):
            x, z = near[b.random.integers(len(near))]
            out = math.exp(b.u(0.0, 2.2)) * (1 if near is people else 1.8)
            yaw = b.u(-math.pi, math.pi) if kind == "market" else b.random.normal(0, 0.6)
            target = np.array([x + b.random.normal(0, 0.1 * out), b.u(0.8, 1.7), z])
            place = np.array(
                [x - math.sin(yaw) * out, b.u(1.2, 1.8) if b.maybe(0.8) else b.u(0.3, 2.5), z - math.cos(yaw) * out]
            )
            place[0] = np.clip(place[0], -walk, walk)
        else:
            up = b.u(1.3, 1.8) if b.maybe(0.7) else b.u(0.4, 3.0)
            place = np.array([b.u(-1, 1) * (half if b.maybe(0.5) else walk), up + 0.12, b.u(-5, 0.5)])
            yaw, pitch = (b.random.normal(0, 0.35) if b.maybe(0.8) else b.u(-3, 3)), b.random.normal(-0.05, 0.12)
            target = place + np.array([math.sin(yaw), math.tan(pitch), math.cos(yaw)])
        cameras.append(Camera(place, target, draw_focal(b), b.random.normal(0, 0.05)))
    return outdoor_look(b), cameras


def make_garden(b: Builder, kind: str) -> tuple[dict[str, Any], list[Camera]]:
    """Land with plants, animals, and people."""
    add_ground(b, b.u(0, 2.5), ("ground", "ground", "plant"))
    forest = b.maybe(0.4)
    scatter(
        b,
        "plant",
        int(b.random.integers(30, 90)) if forest else int(b.random.integers(5, 25)),
        4,
        70,
        sizes=(2.0, 20.0),
    )
    scatter(b, "plant", int(b.random.integers(20, 140)), 1.5, 25, sizes=(0.1, 2.0))
    scatter(
        b, "object", int(b.random.integers(0, 12)), 2, 30, "rock", "stone", "geology", "boulder", "log", sizes=(0.2, 6)
    )
    scatter(b, "furniture", int(b.random.choice([0, 0, 3])), 2, 10, "bench", "deck", "chair", "table", "rattan")
    animals = int(b.random.integers(1, 9)) if kind == "animal" else int(b.random.choice([0, 0, 2, 6]))
    scatter(b, "animal", animals, 1.2 if kind == "animal" else 3, 20)
    people: list[tuple[float, float]] = []
    for _ in range(b.random.choice([0, 1, 2, 5])):
        x, z = b.u(-6, 6), b.u(-6, 6)
        b.person(x, b.height(x, z), z, b.u(-3.1, 3.1))
        people.append((x, z))
    if b.maybe(0.35):
        for _ in range(b.random.integers(1, 4)):
            turn, out = b.u(-3, 3), b.u(18, 60)
            add_building(b, math.sin(turn) * out, math.cos(turn) * out, b.u(5, 14), b.u(5, 14), b.u(3, 9), b.u(-1, 1))
    focus = np.array([0.0, 0.0, 0.0])
    if kind == "animal":
        model = b.model("animal")
        b.put(model, 0, b.height(0, 0), 0, b.u(-3, 3))
        focus[1] = b.assets.sizes[model][1] * 0.6 + b.height(0, 0) if model is not None else 0.5
    cameras = []
    for _ in range(b.views):
        yaw = b.u(-3.1, 3.1)
        if kind == "animal":
            out = b.u(0.9, 4) * (0.5 + focus[1])
            place = np.array([math.sin(yaw) * out, 0, math.cos(yaw) * out])
            place[1] = b.height(place[0], place[2]) + b.u(0.3, 1.8)
            target = focus + b.random.normal(0, 0.15, 3)
        else:
            place = np.array([b.u(-6, 6), 0.0, b.u(-6, 6)])
            place[1] = b.height(place[0], place[2]) + (b.u(1.2, 1.8) if b.maybe(0.7) else b.u(0.25, 4))
            target = place + np.array([math.sin(yaw), b.random.normal(-0.08, 0.15), math.cos(yaw)])
            if people and b.maybe(0.5):
                x, z = people[b.random.integers(len(people))]
                target = np.array([x, b.height(x, z) + b.u(0.8, 1.6), z])
        cameras.append(Camera(place, target, draw_focal(b), b.random.normal(0, 0.06)))
    return outdoor_look(b), cameras
