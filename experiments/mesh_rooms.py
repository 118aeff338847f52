"""Rooms of models, with desks and shelves; the scenes of `mesh_worlds.py`."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mesh_builder import Builder, Camera, draw_focal, indoor_look


def fill_top(
    b: Builder, x: float, y: float, z: float, size: tuple[float, float], yaw: float, count: int, largest: float = 0.45
) -> None:
    """Put objects on a rectangle at a height."""
    c, s = math.cos(yaw), math.sin(yaw)
    for _ in range(count):
        dx, dz = b.u(-0.5, 0.5) * size[0] * 0.85, b.u(-0.5, 0.5) * size[1] * 0.85
        place = (x + c * dx + s * dz, y, z - s * dx + c * dz)
        kind = b.random.random()
        if kind < 0.62:
            b.put(b.model("object", high=largest), *place, b.u(-3, 3), color=b.vary(0))
        elif kind < 0.7:
            b.put(b.model("plant", high=largest), *place, b.u(-3, 3))
        elif kind < 0.88:  # books, boxes, papers
            flat = b.maybe(0.5)
            box = (b.u(0.08, 0.3), b.u(0.004, 0.05) if flat else b.u(0.05, 0.28), b.u(0.1, 0.25))
            b.shape("box", place, box, b.surface("print", "photograph", "plain"), 0.3, b.u(-3, 3), color=b.tint(0.8))
        else:
            wide = b.u(0.05, 0.12)
            b.shape(
                "cylinder", place, (wide, b.u(0.07, 0.28), wide), b.surface("print", "plain"), 0.2, color=b.tint(0.9)
            )


def add_shelf(b: Builder, x: float, z: float, yaw: float, *, wide: float, high: float, full: float) -> None:
    """Add a shelf with books and objects; its front turns like a model's."""
    deep, skin, tint = b.u(0.25, 0.4), b.surface("wood", "plain"), b.tint(0.3)
    c, s = math.cos(yaw), math.sin(yaw)

    def put(dx: float, dz: float, y: float, size: tuple[float, float, float], **options: Any) -> None:
        b.shape(
            "box",
            (x + c * dx + s * dz, y, z - s * dx + c * dz),
            size,
            options.pop("skin", skin),
            1.0,
            yaw,
            color=options.pop("color", tint),
        )

    for side in (-1, 1):
        put(side * wide / 2, 0, 0, (0.025, high, deep))
    if b.maybe(0.7):
        put(0, -deep / 2, 0, (wide, high, 0.012))
    gap, y = b.u(0.25, 0.42), 0.05
    while y < high:
        put(0, 0, y, (wide, 0.025, deep))
        at = -wide / 2 + 0.05
        while at < wide / 2 - 0.1 and y + gap < high + 0.3:
            kind = b.random.random()
            if kind < full * 0.75:
                for _ in range(b.random.integers(2, 9)):
                    thick, tall = b.u(0.012, 0.05), b.u(0.5, 0.9) * gap
                    if at < wide / 2 - 0.06:
                        put(
                            at,
                            b.u(-0.03, 0.03),
                            y + 0.025,
                            (thick, tall, b.u(0.12, 0.2)),
                            skin=b.surface("print", "plain", "cloth"),
                            color=b.tint(0.95, 0.1),
                        )
                    at += thick + 0.002
            elif kind < full:
                place = (x + c * at, y + 0.025, z - s * at)
                b.put(b.model("object", high=gap * 0.85), *place, yaw + b.u(-0.5, 0.5), color=b.vary(0))
                at += b.u(0.1, 0.3)
            else:
                at += b.u(0.05, 0.3)
        y += gap


def add_set(b: Builder, x: float, z: float, yaw: float, most: int = 9) -> None:
    """Add a table with chairs around it, things on it, and people at it."""
    table = b.model("furniture", "table", "desk", low=0.7, high=2.6)
    if table is None:
        return
    size = b.assets.sizes[table]
    b.put(table, x, 0, z, yaw, color=b.vary(table))
    fill_top(b, x, float(size[1]), z, (float(size[0]), float(size[2])), yaw, int(b.random.integers(most // 5, most)))
    chair = b.model("furniture", "chair", "stool", high=1.3)
    for side in range(4):
        if b.maybe(0.55):
            turn = yaw + side * math.pi / 2
            away = (size[2] if side % 2 == 0 else size[0]) / 2 + b.u(0.05, 0.35)
            place = (x + math.sin(turn) * away, z + math.cos(turn) * away)
            b.put(chair, place[0], 0, place[1], turn + math.pi + b.u(-0.3, 0.3))
            if b.maybe(0.4):
                b.person(place[0], 0, place[1], turn + math.pi + b.u(-0.2, 0.2), "sit")


def add_room(b: Builder, size: tuple[float, float, float], furnished: float = 1.0, doors: float = 0.2) -> None:
    """Add walls with doors, windows and pictures, and furniture along a share of them."""
    wide, high, deep = size
    floor, ceiling = (
        b.surface("wood", "wood", "plain", "ground", "cloth", "asphalt"),
        -1 if b.maybe(0.8) else b.surface("plain"),
    )
    b.shape("box", (0, -0.05, 0), (wide + 1, 0.05, deep + 1), floor, b.u(0.6, 2.5), gloss=0.35 if b.maybe(0.3) else 0.0)
    b.shape("box", (0, high, 0), (wide, 0.05, deep), ceiling, 2.0, casts=False, color=b.tint(0.1, 0.8))
    skin, tile, tint = -1 if b.maybe(0.5) else b.surface("plain", "wall", "wall", "wood"), b.u(0.8, 3), b.tint(0.3, 0.5)
    for side in range(4):
        yaw = side * math.pi / 2
        length, away = (wide, deep / 2) if side % 2 == 0 else (deep, wide / 2)
        c, s = math.cos(yaw), math.sin(yaw)

        def place(along: float, off: float, c: float = c, s: float = s, away: float = away) -> tuple[float, float]:
            return c * along + s * (away - off), -s * along + c * (away - off)

        wall_skin, wall_tint = (skin, tint) if b.maybe(0.8) else (b.surface("wall", "plain", "photograph"), b.tint(0.5))
        hole = (
            (b.u(-0.3, 0.3) * length, min(b.u(0.8, 2.2), length * 0.5), b.u(0.0, 1.1), b.u(1.9, 2.2))
            if b.maybe(0.35)
            else None
        )
        pieces = [(0.0, length, 0.0, high)]
        if hole:
            at, w, y0, y1 = hole
            left, right = at - w / 2 + length / 2, length / 2 - at - w / 2
            pieces = [
                (-length / 2 + left / 2, left, 0, high),
                (length / 2 - right / 2, right, 0, high),
                (at, w, 0, y0),
                (at, w, y1, high),
            ]
            for bar in range(b.random.integers(2, 4)):
                x, z = place(at + (bar - 1) * w / 2, -0.02)
                b.shape("box", (x, y0, z), (0.05, y1 - y0, 0.06), -1, 1.0, yaw, casts=False, color=np.ones(3) * 0.8)
            if b.maybe(0.5):
                for edge in (-1, 1):
                    x, z = place(at + edge * w * 0.55, 0.06)
                    b.shape(
                        "box", (x, 0.1, z), (w * b.u(0.15, 0.5), y1, 0.05), b.surface("cloth"), 0.8, yaw, casts=False
                    )
        for along, w, y0, y1 in pieces:
            x, z = place(along, -0.05)
            if w > 0.01 and y1 - y0 > 0.01:
                b.shape("box", (x, y0, z), (w, y1 - y0, 0.1), wall_skin, tile, yaw, casts=False, color=wall_tint)
        for _ in range(b.random.integers(0, 4 + int(length / 5))):  # pictures, boards, doors
            door = b.maybe(doors)
            w, h = (0.85, 2.0) if door else (b.u(0.2, 1.2), b.u(0.2, 0.9))
            x, z = place(b.u(-0.42, 0.42) * length, 0.015)
            skin_here = b.surface("wood", "plain") if door else b.surface("photograph", "print", "photograph", "sky")
            b.shape("box", (x, 0.0 if door else b.u(0.9, 1.5), z), (w, h, 0.03), skin_here, max(w, h), yaw, casts=False)
        at = -length / 2 + b.u(0.1, 1)
        while at < length / 2 - 0.5:
            along = at + 0.4
            x, z = place(along, 0.4)
            kind = b.random.random() / furnished
            step = 0.6
            if kind < 0.2:
                w = b.u(0.5, 1.6)
                x, z = place(at + w / 2, 0.22)
                add_shelf(b, x, z, yaw + math.pi, wide=w, high=b.u(0.7, 2.3), full=b.u(0.3, 0.95))
                step = w
            elif kind < 0.75:
                model = b.model("furniture", high=2.6)
                if model is not None:
                    own = b.assets.sizes[model]
                    x, z = place(at + own[0] / 2, own[2] / 2 + 0.03)
                    b.put(model, x, 0, z, yaw + math.pi + b.u(-0.04, 0.04), color=b.vary(model))
                    if own[1] < 1.3 and own[1] > 0.35 and b.maybe(0.6):
                        fill_top(
                            b,
                            x,
                            float(own[1]),
                            z,
                            (float(own[0]), float(own[2]) * 0.7),
                            yaw,
                            int(b.random.integers(0, 5)),
                            0.4,
                        )
                    step = float(own[0])
            elif kind < 0.85:
                b.put(b.model("plant", high=2.0), x, 0, z, b.u(-3, 3))
            at += step + (b.u(0.05, 0.4) if b.maybe(0.7) else b.u(0.5, 2))


def make_room(b: Builder, kind: str) -> tuple[dict[str, Any], list[Camera]]:
    """A room; the cameras see it at large, a desk from above, or a shelf."""
    size = (b.u(2.8, 8), b.u(2.3, 3.2), b.u(2.8, 8))
    if kind == "hall":
        size = (b.u(1.4, 3.2), b.u(2.4, 3.4), b.u(8, 30))
    elif kind == "office":
        size = (b.u(7, 20), b.u(2.5, 3.8), b.u(7, 25))
    add_room(b, size, {"hall": 0.06, "office": 0.6}.get(kind, 1.0), {"hall": 0.6, "office": 0.35}.get(kind, 0.2))
    wide, _, deep = size
    tables = [(b.u(-0.25, 0.25) * wide, b.u(-0.25, 0.25) * deep) for _ in range(b.random.integers(0, 3))]
    if kind == "hall":
        tables = []
    elif kind == "office":
        gap = b.u(2.2, 3.5)
        tables = [
            (float(x) + b.random.normal(0, 0.1), float(z) + b.random.normal(0, 0.1))
            for x in np.arange(-wide / 2 + 2, wide / 2 - 1.5, gap)
            for z in np.arange(-deep / 2 + 2, deep / 2 - 1.5, gap)
            if b.maybe(0.7)
        ][:24]
    if kind == "desk" and not tables:
        tables = [(0.0, 0.0)]
    for x, z in tables:
        add_set(b, x, z, b.u(-0.2, 0.2) + math.pi / 2 * b.random.integers(4), 22 if kind == "desk" else 9)
    for _ in range(b.random.integers(0, 3)):
        model = b.model("furniture", "sofa", "armchair", "bed", "chair", "couch", high=2.3)
        x, z = b.u(-0.3, 0.3) * wide, b.u(-0.3, 0.3) * deep
        b.put(model, x, 0, z, b.u(-3, 3), color=b.vary(model))
    people = [
        (b.u(-0.35, 0.35) * wide, b.u(-0.35, 0.35) * deep)
        for _ in range(b.random.choice([0, 1, 2, 3, 5], p=[0.3, 0.3, 0.2, 0.12, 0.08]))
    ]
    for x, z in people:
        b.person(x, 0, z, b.u(-3.1, 3.1), "stand", "walk", "reach", "hold", "wave", "crouch", "kneel")
    if b.maybe(0.12):
        b.put(
            b.model("animal", "cat", "dog", "bulldog", "siamese", "rabbit", "mastiff"),
            b.u(-0.3, 0.3) * wide,
            0,
            b.u(-0.3, 0.3) * deep,
            b.u(-3, 3),
        )
    fill_top(b, 0, 0.0, 0, (wide, deep), 0, int(b.random.integers(0, 6)), 0.8)
    cameras = []
    for _ in range(b.views):
        if kind == "desk":
            x, z = tables[b.random.integers(len(tables))]
            target = np.array([x + b.u(-0.4, 0.4), 0.74, z + b.u(-0.3, 0.3)])
            up = b.u(0.25, 1.5) if b.maybe(0.85) else b.u(0.8, 1.55)
            around, out = b.u(-3.1, 3.1), up * b.u(0.0, 1.6)
            place = target + np.array([math.sin(around) * out, up, math.cos(around) * out])
        elif kind == "shelf":
            side = b.random.integers(4)
            yaw = side * math.pi / 2
            length, away = (wide, deep / 2) if side % 2 == 0 else (deep, wide / 2)
            along, out = b.u(-0.35, 0.35) * length, b.u(0.35, 1.5)
            c, s = math.cos(yaw), math.sin(yaw)
            target = np.array([c * along + s * (away - 0.2), b.u(0.3, 1.9), -s * along + c * (away - 0.2)])
            place = np.array([c * (along + b.u(-0.5, 0.5)) + s * (away - 0.3 - out), target[1] + b.u(-0.3, 0.5), 0])
            place[2] = -s * (along + b.u(-0.5, 0.5)) + c * (away - 0.3 - out)
        else:
            place = np.array(
                [b.u(-0.46, 0.46) * wide, b.u(0.9, 1.85) if b.maybe(0.8) else b.u(0.25, 2.2), b.u(-0.46, 0.46) * deep]
            )
            target = np.array([b.u(-0.3, 0.3) * wide, b.u(0.2, 1.6), b.u(-0.3, 0.3) * deep])
            if people and b.maybe(0.4):
                x, z = people[b.random.integers(len(people))]
                target = np.array([x, b.u(0.9, 1.6), z])
        place[0], place[2] = np.clip(place[0], -wide * 0.47, wide * 0.47), np.clip(place[2], -deep * 0.47, deep * 0.47)
        cameras.append(Camera(place, target, draw_focal(b), b.random.normal(0, 0.06)))
    return indoor_look(b, size), cameras
