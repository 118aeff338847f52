"""The worlds that train `base`: each shape lies where its equation says, and two views of a scene agree."""

from typing import Any

import cv2
import numpy as np
import pytest
import shape_worlds as worlds
import torch
from torch import Tensor

HEIGHT, WIDTH, FOCAL = 48, 64, 0.9


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> worlds.Atlas:
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (12, 12, 3), np.uint8) for _ in worlds.GROUPS]
    files = [cv2.imencode(".jpg", image)[1] for image in images]
    path = tmp_path_factory.mktemp("textures") / "textures.npz"
    ends = np.cumsum([len(file) for file in files])
    np.savez(path, group=np.arange(len(images), dtype=np.uint8), end=ends, jpeg=np.concatenate(files))
    return worlds.Atlas(path, torch.device("cpu"))


def make_scene(**shapes: list[list[float]]) -> dict[str, Tensor]:
    b = worlds.SceneBuilder(np.random.default_rng(0), {})
    strips = np.tile(np.array([1, -1, 0, 1, 1, 0, 0], np.float32), (worlds.STRIPS, 1))
    strips[0] = [-1e4, 1e4, 0, 1, 1, 0, 0]
    T = worlds.make_pose((0.0, 1.5, 0.0), (0.0, 0.0, 0.0))
    scene = worlds.Scene(
        boxes=b.table(shapes.get("boxes", []), worlds.BOXES),
        ellipsoids=b.table(shapes.get("ellipsoids", []), worlds.ELLIPSOIDS),
        cylinders=b.table(shapes.get("cylinders", []), worlds.CYLINDERS),
        strips=strips,
        room=np.zeros(6, np.float32),
        room_textures=np.array([0, 0, 0, 1], np.float32),
        light=np.array([0, -1e4, 0, 1, 1, 1, 0.5, 0], np.float32),
        haze=np.zeros(4, np.float32),
        sky=np.array([0, 1, 1, 1, 1, 0], np.float32),
        T_world_camera=T,
        T_world_next=T,
        focal=np.array([FOCAL], np.float32),
    )
    return {name: torch.from_numpy(value) for name, value in worlds.stack_scenes([scene]).items()}


def render_depth(scene: dict[str, Tensor], atlas: worlds.Atlas) -> np.ndarray[Any, Any]:
    image, z = worlds.render(scene, scene["T_world_camera"], atlas, HEIGHT, WIDTH)
    assert image.shape == (1, 3, HEIGHT, WIDTH)
    assert torch.isfinite(image).all()
    return z[0, 0].numpy()


def shape(size: tuple[float, float, float]) -> list[float]:
    return [0.0, -1.5, 6.0, *(value / 2 for value in size), 1.0, 0.0, 0, 1.0, 1.0, 1.0, 1.0]


def rays() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    f = FOCAL * WIDTH
    x = (np.arange(WIDTH) - (WIDTH - 1) / 2) / f
    y = (np.arange(HEIGHT) - (HEIGHT - 1) / 2) / f
    return np.broadcast_to(x, (HEIGHT, WIDTH)), np.broadcast_to(y[:, None], (HEIGHT, WIDTH))


def test_the_ground_is_where_its_plane_is(atlas: worlds.Atlas) -> None:
    z, (_, y) = render_depth(make_scene(), atlas), rays()
    below = y > 0.02
    np.testing.assert_allclose(z[below], 1.5 / y[below], rtol=1e-4)
    assert (z[y < 0] == 0).all(), "the sky has no depth"


def test_a_box_shows_its_near_face(atlas: worlds.Atlas) -> None:
    z, (x, y) = render_depth(make_scene(boxes=[shape((2.0, 1.0, 2.0))]), atlas), rays()
    face = (abs(x * 5) < 0.98) & (abs(y * 5) < 0.48)
    np.testing.assert_allclose(z[face], 5.0, rtol=1e-5)


def test_a_ball_is_where_its_equation_says(atlas: worlds.Atlas) -> None:
    z, (x, y) = render_depth(make_scene(ellipsoids=[shape((2.0, 2.0, 2.0))]), atlas), rays()
    a = 1 + x**2 + y**2
    root = 36 - a * 35
    hit = root > 0.05
    np.testing.assert_allclose(z[hit], ((6 - np.sqrt(root.clip(0))) / a)[hit], rtol=1e-3)


def test_a_cylinder_is_where_its_equation_says(atlas: worlds.Atlas) -> None:
    z, (x, y) = render_depth(make_scene(cylinders=[shape((2.0, 2.0, 2.0))]), atlas), rays()
    a = 1 + x**2
    root = 36 - a * 35
    expected = (6 - np.sqrt(root.clip(0))) / a
    hit = (root > 0.05) & (abs(y * expected) < 0.95)
    np.testing.assert_allclose(z[hit], expected[hit], rtol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_two_views_of_a_scene_agree(atlas: worlds.Atlas, seed: int) -> None:
    arrays = worlds.stack_scenes([worlds.make_scene(seed, atlas.groups)])
    scene = {name: torch.from_numpy(value) for name, value in arrays.items()}
    z, later = (
        worlds.render(scene, scene[name], atlas, HEIGHT, WIDTH)[1][0, 0].numpy().astype(np.float64)
        for name in ("T_world_camera", "T_world_next")
    )
    f = float(scene["focal"][0, 0]) * WIDTH
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    center = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    points = np.stack([(u - center[0]) / f * z, (v - center[1]) / f * z, z, np.ones_like(z)], -1)[z > 0]
    T = np.linalg.inv(arrays["T_world_next"][0].astype(np.float64)) @ arrays["T_world_camera"][0]
    moved = points @ T.T
    moved = moved[moved[:, 2] > 0.1]
    at = np.round(moved[:, :2] / moved[:, 2:3] * f + center).astype(int)
    inside = ((at >= 0) & (at < [WIDTH, HEIGHT])).all(1)
    ratio = later[at[inside, 1], at[inside, 0]] / moved[inside, 2]
    assert inside.sum() > 200
    assert np.mean(abs(ratio - 1) < 0.1) > 0.7


def test_the_same_seed_draws_the_same_scene(atlas: worlds.Atlas) -> None:
    one, other, third = (worlds.make_scene(seed, atlas.groups) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.boxes, other.boxes)
    assert not np.array_equal(one.boxes, third.boxes)
