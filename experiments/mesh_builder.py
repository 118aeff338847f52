r"""Camera, builder and light of the scenes of `mesh_worlds.py`.

World frame: metres, y up, the ground at 0; a model's front turns from z towards x by its yaw.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mesh_renderer import Assets
from numpy.typing import NDArray

Array = NDArray[Any]

SKINS = (
    (0.75, 0.5, 0.38),
    (0.6, 0.37, 0.26),
    (0.4, 0.23, 0.15),
    (0.22, 0.12, 0.08),
    (0.8, 0.57, 0.46),
    (0.13, 0.07, 0.05),
)
HAIRS = (
    (0.02, 0.015, 0.012),
    (0.06, 0.035, 0.02),
    (0.15, 0.08, 0.03),
    (0.4, 0.25, 0.1),
    (0.35, 0.33, 0.32),
    (0.2, 0.06, 0.02),
)


@dataclass
class Camera:
    """A camera: place, point it looks at, fx / width, and roll in radians."""

    place: Array
    target: Array
    focal: float
    roll: float = 0.0

    def matrix(self) -> Array:
        """Return T_world_camera (4, 4): x right, y up, -z forward."""
        back = self.place - self.target
        back = back / np.linalg.norm(back)
        right = np.cross([0.0, 1.0, 0.0], back)
        length = np.linalg.norm(right)
        right = right / length if length > 1e-4 else np.array([1.0, 0.0, 0.0])
        up = np.cross(back, right)
        c, s = math.cos(self.roll), math.sin(self.roll)
        T = np.eye(4)
        T[:3] = np.stack([c * right + s * up, c * up - s * right, back, self.place], 1)
        return T


@dataclass
class Scene:
    """Instances and commands of a scene, its light, and its cameras."""

    look: dict[str, Any]
    instances: Array
    commands: Array
    casters: int
    cameras: list[Camera]


@dataclass
class Builder:
    """Collects instances. Those that cast no shadow are drawn too, after the others.

    longest: longer side over width of the images.  views: number of cameras.
    """

    random: np.random.Generator
    assets: Assets
    longest: float
    views: int
    rows: list[list[float]] = field(default_factory=list)
    commands: list[tuple[int, int, int]] = field(default_factory=list)
    bright: list[list[float]] = field(default_factory=list)
    bright_commands: list[tuple[int, int, int]] = field(default_factory=list)
    height: Any = None

    # -- choices

    def u(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def maybe(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def surface(self, *groups: str) -> int:
        name = groups[self.random.integers(len(groups))]
        return int(self.random.choice(self.assets.surfaces[name]))

    def tint(self, vivid: float = 0.3, low: float = 0.35, high: float = 1.2) -> Array:
        """Draw a factor of reflectance: mostly grey and bright."""
        share = self.random.random() ** 2 * vivid
        return self.u(low, high) * (1 - share + share * 2 * self.random.random(3))

    def model(self, kind: str, *words: str, low: float = 0.0, high: float = 1e3) -> int | None:
        """Draw a model of a class whose name has one of the words, and whose largest side is in a range."""
        key = (kind, words, low, high)
        cache = _CHOICES.setdefault(id(self.assets), {})
        if key not in cache:
            sizes = self.assets.sizes.max(1)
            names = [name.lower() for name in self.assets.names]
            cache[key] = [
                i
                for i, (own, name) in enumerate(zip(self.assets.classes, names, strict=True))
                if own == kind and low <= sizes[i] <= high and (not words or any(w in name for w in words))
            ]
        found = cache[key]
        return int(self.random.choice(found)) if found else None

    # -- instances

    def add(
        self, first: int, count: int, base: int, M: Array, color: Any, layer: int, *, tile: float = 0.0,
        swell: float = 0.0, flags: int = 0, gloss: float = 0.0, casts: bool = True,
        hem: tuple[float, float, float] = (0, 0, 0),
    ) -> None:  # fmt: skip
        row = [*M[0], *M[1], *M[2], *color, layer, tile, swell, flags, gloss, *hem, 0.0]
        (self.rows if casts else self.bright).append(row)
        (self.commands if casts else self.bright_commands).append((count, first, base))

    def put(
        self, model: int | None, x: float, y: float, z: float, yaw: float = 0.0, *, scale: Any = 1.0,
        color: Any = None, layer: int | None = None, tile: float = 0.0, flags: int = 0, casts: bool = True,
        gloss: float | None = None, pitch: float = 0.0,
    ) -> None:  # fmt: skip
        """Add a model whose base is at (x, y, z). yaw: its front turns from z towards x."""
        if model is None:
            return
        a = self.assets
        M = pose(x, y, z, yaw, scale, pitch)
        person = a.classes[model] == "person"
        shade = 1.0 if color is None else color
        for part in range(a.first_part[model], a.first_part[model] + a.part_count[model]):
            first, count, own, *kd = a.parts[part]
            shine = (self.u(0, 0.6) if self.maybe(0.3) else 0.0) if gloss is None else gloss
            self.add(
                int(first), int(count), int(a.bases[model]), M,
                np.array(kd) * shade if layer is None else np.ones(3) * shade,
                int(own) if layer is None else layer, tile=tile, flags=flags | int(person), gloss=shine, casts=casts,
            )  # fmt: skip

    def shape(
        self, name: str, place: tuple[float, float, float], size: tuple[float, float, float], surface: int = -1,
        tile: float = 1.0, yaw: float = 0.0, **options: Any,
    ) -> None:  # fmt: skip
        """Add a box, ball or cylinder whose base's middle is at the place."""
        color = options.pop("color", None)
        shade = self.tint() if color is None else color
        options.setdefault("gloss", 0.0)
        self.put(
            self.assets.primitives[name], *place, yaw, scale=size, color=shade, layer=surface, tile=tile, **options
        )

    def vary(self, model: int | None) -> Any:
        """Draw a color that multiplies the materials of a model."""
        return None if model is None or self.maybe(0.5) else self.tint(0.6, 0.5, 1.3)

    def person(self, x: float, y: float, z: float, yaw: float, *poses: str, lying: bool = False) -> None:
        """Add a person: one of the models with textures, or a body with clothes. x, z: the middle of the base."""
        a, r = self.assets, self.random
        if not lying and (not poses or "stand" in poses) and self.maybe(0.2):
            model = self.model("person", "female", "male", "boy", "girl")
            if model is not None and a.sizes[model][1] > 1.0:
                self.put(model, x, y, z, yaw, scale=self.u(0.96, 1.05), gloss=0.0)
                return
        found = [i for i, name in enumerate(a.body_poses) if not poses or name in poses]
        body = int(r.choice(found))
        M = pose(x, y, z, yaw, self.u(0.97, 1.04))
        if lying:
            M = pose(x, y + 0.12, z, yaw, 1.0, pitch=-math.pi / 2 if self.maybe(0.7) else math.pi / 2)
        skin = np.array(SKINS[r.integers(len(SKINS))]) * self.u(0.85, 1.15)
        hair = np.array(HAIRS[r.integers(len(HAIRS))]) * self.u(0.7, 1.4)

        def wear(
            labels: tuple[str, ...],
            color: Any,
            layer: int,
            swell: float,
            hem: tuple[float, float, float] | None = None,
            tile: float = 0.5,
            gloss: float = 0.0,
        ) -> None:
            flags = 1 if hem is None else 5
            for label in labels:
                first, count = a.body_labels[label]
                if count:
                    self.add(
                        first,
                        count,
                        int(a.body_bases[body]),
                        M,
                        color,
                        layer,
                        tile=tile,
                        swell=swell,
                        flags=flags,
                        gloss=gloss,
                        hem=hem or (0, 0, 0),
                    )

        wear(
            ("skin", "torso", "upperarm", "forearm", "hip", "thigh", "shin", "foot", "hair"), skin, -1, 0.0, gloss=0.08
        )
        wear(("lips",), skin * [0.85, 0.55, 0.55], -1, 0.0)
        wear(("eye",), (0.25, 0.22, 0.2), -1, 0.0, gloss=0.5)
        fur = self.surface("plain", "cloth", "wood", "plant")
        if self.maybe(0.93):
            wear(("hair",), hair, fur, self.u(0.006, 0.03), tile=0.3)
        if self.maybe(0.35):
            wear(("long_hair",), hair, fur, 0.001, tile=0.3)
        top_skin = -1 if self.maybe(0.35) else self.surface("cloth", "cloth", "print", "wall", "plain")
        top, tile, thick = self.tint(0.95, 0.05, 1.0), self.u(0.15, 0.9), self.u(0.006, 0.022)
        sleeve = float(r.choice([self.u(0.42, 0.45), self.u(0.26, 0.33), self.u(0.17, 0.21)], p=[0.6, 0.32, 0.08]))
        dress, tucked = self.maybe(0.12), self.maybe(0.35)
        bottom = self.u(0.25, 0.4) if dress else self.u(0.55, 0.58) if tucked else self.u(0.44, 0.53)
        upper = ("torso", "upperarm", "forearm", "hip", "thigh", "skin")
        wear(upper, top, top_skin, thick, (bottom, self.u(0.835, 0.86), sleeve), tile)
        if self.maybe(0.25):  # an open jacket or a vest over it
            wear(
                upper,
                self.tint(0.6, 0.03, 0.8),
                self.surface("cloth", "plain"),
                thick + 0.015,
                (self.u(0.44, 0.52), 0.83, sleeve - 0.02),
                tile,
            )
        lower, jeans = -1 if self.maybe(0.4) else self.surface("cloth", "plain"), self.tint(0.6, 0.03, 0.7)
        kind = r.random()
        if kind < 0.88:
            end = self.u(0.045, 0.09) if kind < 0.7 else self.u(0.27, 0.42)
            wear(("hip", "thigh", "shin", "foot", "torso"), jeans, lower, self.u(0.006, 0.02), (end, 0.575, 0.36), 0.4)
        else:
            wear(("hip", "thigh"), jeans, lower, 0.005, (0.42, 0.575, 0.36), 0.4)
            wear(("skirt",), jeans, lower, 0.004, tile=0.4)
        if self.maybe(0.93):
            top_of_shoe = 0.065 if self.maybe(0.75) else self.u(0.1, 0.24)
            wear(("foot", "shin"), self.tint(0.5, 0.03, 0.6), -1, 0.012, (-1.0, top_of_shoe, 0.5), gloss=0.2)


_CHOICES: dict[int, dict[Any, list[int]]] = {}


def pose(x: float, y: float, z: float, yaw: float, scale: Any = 1.0, pitch: float = 0.0) -> Array:
    """Return the matrix (3, 4) that scales, turns about x and then y, and moves."""
    c, s = math.cos(yaw), math.sin(yaw)
    M = np.array([[c, 0, s, x], [0, 1, 0, y], [-s, 0, c, z]])
    if pitch:
        cp, sp = math.cos(pitch), math.sin(pitch)
        M[:, :3] = M[:, :3] @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    M[:, :3] *= scale
    return M


# -- light


def outdoor_look(b: Builder) -> dict[str, Any]:
    """Sun, sky and haze outdoors: clear, cloudy, low sun, dusk, night."""
    r = b.random
    kind = r.choice(["clear", "cloudy", "low", "night"], p=[0.42, 0.33, 0.15, 0.1])
    height = {"clear": b.u(0.35, 1.4), "cloudy": b.u(0.5, 1.4), "low": b.u(0.08, 0.3), "night": b.u(0.4, 1.2)}[kind]
    turn = b.u(-math.pi, math.pi)
    sun = np.array([math.cos(height) * math.sin(turn), math.sin(height), math.cos(height) * math.cos(turn)])
    warm = np.array([1.0, 0.93, 0.82]) if kind != "low" else np.array([1.0, 0.62, 0.33])
    strength = {"clear": b.u(1.5, 3.5), "cloudy": b.u(0.0, 0.7), "low": b.u(1.0, 2.5), "night": 0.03}[kind]
    blue = np.array([b.u(0.15, 0.4), b.u(0.35, 0.55), b.u(0.7, 1.0)])
    grey = np.ones(3) * b.u(0.5, 1.1)
    zenith = {"clear": blue, "cloudy": grey * 0.8, "low": blue * 0.5, "night": np.ones(3) * 0.01}[kind]
    horizon = {
        "clear": blue * 0.4 + 0.55,
        "cloudy": grey,
        "low": np.array([1.0, 0.6, 0.35]) * b.u(0.5, 1),
        "night": np.ones(3) * 0.03,
    }[kind]
    ambient = (zenith + horizon) * 0.35
    photo = b.surface("sky") if b.maybe(0.35) and kind != "night" else -1
    hazy = b.maybe(0.25)
    lamp = (b.u(-4, 4), b.u(3, 6), b.u(-4, 4), 0.25)
    lamp_color = np.array([1, 0.75, 0.45]) * (1.5 if kind == "night" else 0.0)
    fog = 10 ** b.u(-2.6, -1.6) if hazy else b.u(0.0002, 0.002)
    return {
        "sun": sun, "sun_color": warm * strength, "above": ambient, "below": ambient * 0.45 + warm * strength * 0.06,
        "lamp": lamp, "lamp_color": lamp_color, "haze": (*(horizon * 0.9), fog), "zenith": zenith, "horizon": horizon,
        "clouds": (b.u(0.0, 0.8), b.u(0.15, 0.5), b.u(0.8, 1.6), photo), "reach": b.u(14, 30), "outdoor": True,
    }  # fmt: skip


def indoor_look(b: Builder, room: tuple[float, float, float]) -> dict[str, Any]:
    """Lamps and daylight of a room."""
    warm = np.array([1.0, b.u(0.75, 0.98), b.u(0.5, 0.95)])
    sun = np.array([b.u(-1, 1), b.u(0.6, 2.5), b.u(-1, 1)])
    strength = b.u(0.2, 1.4)
    above = np.ones(3) * b.u(0.3, 0.8) * (0.25 if b.maybe(0.12) else 1.0)
    outside = np.ones(3) * b.u(0.8, 2.5)
    return {
        "sun": sun / np.linalg.norm(sun), "sun_color": warm * strength, "above": above, "below": above * b.u(0.5, 0.9),
        "lamp": (b.u(-0.3, 0.3) * room[0], room[1] * b.u(0.6, 0.95), b.u(-0.3, 0.3) * room[2], 0.6),
        "lamp_color": warm * b.u(0.3, 3.0), "haze": (0.5, 0.5, 0.5, 0.0), "zenith": outside, "horizon": outside,
        "clouds": (1.0, 0.3, b.u(0.8, 2.0), b.surface("photograph", "sky")), "reach": max(room) * 0.9, "outdoor": False,
    }  # fmt: skip


def draw_focal(b: Builder, low: float = 28.0, high: float = 105.0) -> float:
    """Draw fx / width: a field of view of the longer side between two angles in degrees."""
    angle = math.radians(math.exp(b.u(math.log(low), math.log(high))))
    return 0.5 / math.tan(angle / 2) * b.longest
