r"""Worlds of models: rooms, desks, shelves, streets, markets, portraits, animals, gardens and land from above.

    python experiments/mesh_assets.py --out runs/base
    python experiments/mesh_worlds.py --assets runs/base/assets.npz --out sheet.jpg

`render_scene(seed)` returns views of one scene: image, z, fx / width and a mask of people. It uses OpenGL (EGL); each
process has its own context. World frame: metres, y up, the ground at 0.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mesh_builder import Builder, Camera, Scene, draw_focal, indoor_look
from mesh_outdoors import make_garden, make_street
from mesh_renderer import INSTANCE_VALUES, Assets, Renderer, load_assets
from mesh_rooms import add_room, make_room
from numpy.typing import NDArray

Array = NDArray[Any]

SIZE = (384, 384)
"""Height and width of a view: a training crops every aspect from it."""

VIEWS = 4
"""Views of a scene."""

KINDS = {
    "room": 0.2, "hall": 0.07, "office": 0.08, "desk": 0.09, "shelf": 0.04, "street": 0.11, "drive": 0.15,
    "market": 0.06, "portrait": 0.09, "garden": 0.05, "animal": 0.03, "drone": 0.03,
}  # fmt: skip
"""Kinds of scenes and their shares."""


def make_portrait(b: Builder, kind: str) -> tuple[dict[str, Any], list[Camera]]:
    """One to four people from near, in a room or outdoors; the views end at the waist, the chest or the face."""
    inside = b.maybe(0.5)
    if inside:
        size = (b.u(3.5, 8), b.u(2.4, 3.2), b.u(3.5, 8))
        add_room(b, size)
        look = indoor_look(b, size)
    else:
        look, _ = (make_street if b.maybe(0.6) else make_garden)(b, "street")
        size = (30.0, 3.0, 30.0)
    people = []
    for number in range(b.random.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1])):
        x, z = number * b.u(0.4, 0.8) - 0.3, b.u(-0.3, 0.9)
        y = b.height(x, z) if b.height else 0.0
        yaw = b.random.normal(math.pi, 0.6) if b.maybe(0.8) else b.u(-3, 3)
        b.person(x, y + 0.12 * (not inside), z, yaw, "stand", "hold", "reach", "wave", "walk", "stand")
        people.append((x, y, z))
    cameras = []
    for _ in range(b.views):
        x, y, z = people[b.random.integers(len(people))]
        out = b.u(0.35, 1.1) if b.maybe(0.4) else b.u(0.9, min(3.5, size[2] / 2))
        target = np.array([x + b.random.normal(0, 0.12), y + b.u(1.15, 1.65), z])
        yaw = b.random.normal(0, 0.5)
        place = target + np.array([math.sin(yaw) * out, b.random.normal(0.0, 0.12) * (1 + out), -math.cos(yaw) * out])
        cameras.append(Camera(place, target, draw_focal(b, 25, 75), b.random.normal(0, 0.06)))
    return look, cameras


MAKERS = {
    "room": make_room, "hall": make_room, "office": make_room, "desk": make_room, "shelf": make_room,
    "street": make_street, "drive": make_street, "market": make_street, "drone": make_street,
    "portrait": make_portrait, "garden": make_garden, "animal": make_garden,
}  # fmt: skip


def make_scene(seed: int, assets: Assets, kind: str | None = None) -> Scene:
    """Draw a scene."""
    b = Builder(np.random.default_rng(seed), assets, max(SIZE) / SIZE[1], VIEWS)
    kind = kind or str(b.random.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values())))
    look, cameras = MAKERS[kind](b, kind)
    rows = np.array(b.rows + b.bright, np.float32).reshape(-1, INSTANCE_VALUES)
    commands = np.array(b.commands + b.bright_commands, np.int64).reshape(-1, 3)
    count, first, base = commands.T
    table = np.stack([count, np.ones_like(count), first, base, np.arange(len(count))], 1).astype(np.uint32)
    return Scene(look, rows, table, len(b.rows), cameras)


# -- images


def draw_effects(random: np.random.Generator, scene: Scene, camera: Camera) -> dict[str, Any]:
    """Draw exposure, motion blur, vignetting and flare."""
    blur, flare = np.zeros(2), np.zeros(4)
    if random.random() < 0.12:
        blur = random.normal(0, 0.015, 2)
    seen = np.linalg.inv(camera.matrix())[:3, :3] @ scene.look["sun"]
    if scene.look["outdoor"] and seen[2] < -0.3 and random.random() < 0.6:
        at = 0.5 - seen[:2] / seen[2] * camera.focal
        if np.all(np.abs(at - 0.5) < 0.8):
            flare = np.array([*at, 0.0, random.uniform(0.1, 0.8) * min(1.0, scene.look["sun_color"][0])])
    elif not scene.look["outdoor"] and random.random() < 0.08:
        flare = np.array([*random.uniform(0, 1, 2), 0.0, random.uniform(0.1, 0.5)])
    exposure = 0.32 * math.exp(random.normal(0, 0.3))
    return {
        "blur": blur, "flare": flare, "exposure": exposure,
        "vignette": float(random.uniform(0, 0.8) * (random.random() < 0.5)),
        "occlusion": float(random.uniform(0.5, 1.0)),
    }  # fmt: skip


def is_worth_keeping(z: Array, random: np.random.Generator) -> bool:
    """Return whether there is something to see: not within an object, and seldom a bare wall or empty land alone."""
    known = z > 0
    if known.mean() < 0.25 or np.median(z[known]) < 0.22 or np.mean(z[known] < 0.15) > 0.03:
        return False
    log_z = np.log(np.where(known, z, 1e3)[::2, ::2])
    steps = np.mean(np.abs(np.diff(log_z, axis=1)) > 0.1)
    is_plain = steps < 0.008 or log_z[known[::2, ::2]].std() < 0.12
    return not is_plain or bool(random.random() < 0.15)


def default_assets() -> Path:
    """Return the file that MESH_ASSETS names, else assets.npz next to this file."""
    return Path(os.environ.get("MESH_ASSETS", Path(__file__).with_name("assets.npz")))


_STATE: dict[str, Any] = {}


def render_scene(seed: int, kind: str | None = None) -> list[dict[str, Any]]:
    """Render the views of a scene.

    Returns:
        Of each view: image (3, H, W) uint8, z (H, W) float16 in metres with 0 for the sky, focal float32 (fx / width),
        and person (H, W) bool.
    """
    if "renderer" not in _STATE:
        _STATE["renderer"] = Renderer(load_assets(default_assets()), SIZE)
    renderer: Renderer = _STATE["renderer"]
    random = np.random.default_rng([seed, 1])
    scene = make_scene(seed, renderer.assets, kind)
    renderer.load_scene(scene.instances, scene.commands)
    views = []
    for camera in scene.cameras:
        effects = draw_effects(random, scene, camera)
        image, z, person = renderer.render(scene.look, camera.matrix(), camera.focal, effects, scene.casters)
        if not is_worth_keeping(z, random):
            continue
        if random.random() < 0.5:
            image = add_artefacts(image, random)
        z16 = np.where(z < 500, z, 0).astype(np.float16)
        views.append(
            {
                "image": np.ascontiguousarray(image.transpose(2, 0, 1)),
                "z": z16,
                "focal": np.float32(camera.focal),
                "person": person.copy(),
            }
        )
    return views


def add_artefacts(image: Array, random: np.random.Generator) -> Array:
    """Add noise of the sensor, and compress like a JPEG."""
    noise = random.normal(0, random.uniform(1, 9), (image.shape[0] // 2, image.shape[1] // 2)).astype(np.float32)
    noise = (
        cv2.resize(noise, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        if random.random() < 0.3
        else 0.0 * noise[:1, :1]
    )
    noisy = np.clip(image + np.atleast_3d(noise), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(random.uniform(25, 92))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=default_assets())
    parser.add_argument("--out", type=Path, default=Path("sheet.jpg"))
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["MESH_ASSETS"] = str(arguments.assets)
    tiles: list[Array] = []
    began, seed = time.monotonic(), arguments.seed
    while len(tiles) < arguments.count:
        for view in render_scene(seed, arguments.kind)[:2]:
            z = view["z"].astype(np.float32)
            shade = np.where(z > 0, 255 * np.clip(1 - np.log(np.maximum(z, 0.2) / 0.2) / np.log(500), 0, 1), 0).astype(
                np.uint8
            )
            colors = cv2.applyColorMap(shade, cv2.COLORMAP_TURBO)
            colors[view["person"] & (np.indices(z.shape).sum(0) % 6 == 0)] = 255
            pair = np.concatenate([view["image"].transpose(1, 2, 0)[..., ::-1], colors], 1)
            tiles.append(cv2.resize(pair, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
        seed += 1
    columns = 4
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles) - columns + 1, columns)]
    cv2.imwrite(str(arguments.out), np.concatenate(rows))
    print(f"{arguments.out}: {seed - arguments.seed} scenes in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
