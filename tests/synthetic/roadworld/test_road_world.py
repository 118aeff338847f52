"""What worlds are: reproducible, made of independent parts, in true sizes, on the ground, and never in the camera's
way.
"""

from pathlib import Path

import numpy as np
import pytest

from stadia.core.seeds import make_generator
from stadia.synthetic.config import ROADWORLD_FULL, ROADWORLD_PRESETS, ROADWORLD_TINY, RoadWorldConfig
from stadia.synthetic.rendering.mesh import compute_bounds
from stadia.synthetic.roadworld.road_course import MIN_RADIUS_M, STEP_M, make_course, make_ring
from stadia.synthetic.roadworld.road_world import (
    RoadRenderer,
    RoadWorld,
    derive_world_seed,
    draw_exposure_gains,
    make_section,
    make_world,
)
from stadia.synthetic.roadworld.roadworld_writer import ROADWORLD
from stadia.synthetic.roadworld.street_models import make_car, make_person
from stadia.synthetic.roadworld.street_scene import place_driving_cars

LONG = ROADWORLD_TINY.model_copy(
    update={"frames": 40, "height": 192, "width": 640, "supersampling": 1, "stereo": False}
)


@pytest.fixture(scope="module")
def drives() -> list[RoadWorld]:
    return [make_world(derive_world_seed(5, "test", i), LONG) for i in range(2)]


def list_vertices(world: RoadWorld) -> dict[int, np.ndarray]:
    """Return the rows of the vertices of each instance."""
    geometry = world.geometry
    return {one.number: np.unique(geometry.triangles[geometry.instance == one.number]) for one in geometry.instances}


def move_vertices(world: RoadWorld, used: np.ndarray, frame: int) -> np.ndarray:
    """Return the vertices (N, 3) of one instance in a frame, in the world."""
    geometry = world.geometry
    T = geometry.T_world_body[frame][geometry.body[used[0]]]
    return geometry.vertices[used] @ T[:3, :3].T + T[:3, 3]


def test_splits_share_no_world() -> None:
    seeds = [
        job.seed
        for name in ROADWORLD_PRESETS
        for job in ROADWORLD.list_jobs(
            Path(), ROADWORLD_PRESETS[name].model_copy(update={"train": 500, "val": 500, "test": 500}), 0
        )
    ]
    assert len(set(seeds)) == 1500  # the presets share theirs; splits and indices do not
    assert set(seeds).isdisjoint(job.seed for job in ROADWORLD.list_jobs(Path(), ROADWORLD_FULL, 1))


@pytest.mark.parametrize("make", [make_car, make_person])
def test_meshes_have_their_nominal_size(make: object) -> None:
    for seed in range(30):
        mesh, size = make(make_generator(seed, "sizes"))  # type: ignore[operator]
        low, high = compute_bounds(mesh)
        np.testing.assert_allclose((high - low)[[1, 0, 2]], size, rtol=1e-12)
        assert high[1] == pytest.approx(0, abs=1e-12)
        np.testing.assert_allclose(low[[0, 2]], -high[[0, 2]], atol=1e-12)


@pytest.mark.slow
def test_instances_have_their_size_and_stand_on_the_ground(drives: list[RoadWorld]) -> None:
    for world in drives:
        section, used = world.section, list_vertices(world)
        for instance in world.geometry.instances:
            frame = 0
            vertices = move_vertices(world, used[instance.number], frame)
            T = instance.T_world_instance[frame] if instance.moves else instance.T_world_instance
            own = (vertices - T[:3, 3]) @ T[:3, :3]
            size = np.ptp(own, axis=0)[[1, 0, 2]]
            np.testing.assert_allclose(size, instance.size_hwl_m, atol=1e-9)
            assert own[:, 1].max() == pytest.approx(0, abs=1e-9)
            foot = vertices[own[:, 1] > -0.02]
            distance, s = world.course.find_nearest(foot[:, [0, 2]])
            road = np.interp(s, world.course.s, world.course.position[:, 1])
            ground = road - np.where(distance > section.half_width_m - 0.3, section.kerb_m, 0.0)
            assert np.abs(foot[:, 1] - ground).min() < 0.03, instance


@pytest.mark.slow
def test_cars_drive_both_ways_keep_to_their_lane_and_their_distance() -> None:
    camera_s = np.linspace(0, 40, 50)
    directions = set()
    for seed in range(8):
        course, section = make_course(seed, 170.0), make_section(seed)
        cars = place_driving_cars(seed, course, section, camera_s, 10.0)
        for thing in cars:
            path = thing.T_world_object[:, :3, 3]
            distance, s = course.find_nearest(path[:, [0, 2]])
            direction = float(np.sign(s[-1] - s[0]))
            directions.add(direction)
            assert np.abs(distance - 0.5 * section.lane_m).max() < 0.3
            assert (np.diff(path, axis=0) * thing.T_world_object[:-1, :3, 2]).sum(1).min() > -1e-6  # front first
            if direction > 0:
                assert (s - camera_s).min() > 10
        oncoming = [t.T_world_object[0, :3, 3] for t in cars if t.T_world_object[0, :3, 2] @ course.axes(0.0)[2] < 0.5]
        gaps = [np.linalg.norm(a - b) for i, a in enumerate(oncoming) for b in oncoming[:i]]
        assert min(gaps, default=99) > 9
    assert directions == {-1.0, 1.0}


def test_roads_curve_turn_and_climb() -> None:
    courses = [make_course(seed, 250.0) for seed in range(20)]
    turned = [np.degrees(np.ptp(c.heading_rad)) for c in courses]
    assert max(turned) > 60
    assert all(np.abs(c.curvature_per_m).max() <= 1 / MIN_RADIUS_M + 1e-9 for c in courses)
    steepest = [np.abs(c.grade).max() for c in courses]
    assert 0.02 < max(steepest) <= 0.05
    for course in [*courses, *(make_course(seed, 900.0) for seed in range(5))]:
        assert np.abs(course.heading_rad).max() < np.radians(120)  # so that it cannot come back to itself
    for course in courses:  # arc length is arc length
        np.testing.assert_allclose(np.linalg.norm(np.diff(course.position, axis=0), axis=1), STEP_M, rtol=1e-3)
        assert course.position[np.argmin(np.abs(course.s))] == pytest.approx([0, 0, 0], abs=1e-9)


@pytest.mark.slow
def test_camera_height_on_a_flat_road(config: RoadWorldConfig) -> None:
    world = make_world(derive_world_seed(3, "train", 1), config, flat=True)
    renderer = RoadRenderer(world, config)
    for frame in (0, 3):
        view = renderer.render(frame)["left"]
        rows, columns = np.nonzero((view.semantic == 1) & (view.depth_m < 30))
        z = view.depth_m[rows, columns].astype(float)
        lens = renderer.lens
        points = np.stack([(columns - lens.cx) / lens.fx * z, (rows - lens.cy) / lens.fy * z, z], 1)
        middle = points.mean(0)
        normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
        normal *= -np.sign(normal @ middle)
        assert -(normal @ middle) == pytest.approx(world.drive.road_plane[frame, 3], abs=1e-6)
        np.testing.assert_allclose(normal, world.drive.road_plane[frame, :3], atol=1e-6)
    assert np.abs(world.drive.road_plane[:, 3] - world.camera_height_m).max() < 0.05


@pytest.mark.slow
def test_objects_obey_distance_from_height(drives: list[RoadWorld]) -> None:
    ratios: dict[str, list[float]] = {"car": [], "person": []}
    for world in drives:
        renderer, used = RoadRenderer(world, LONG), list_vertices(world)
        for frame in range(0, LONG.frames, 3):
            view = renderer.render(frame)["left"]
            for instance in world.geometry.instances:
                mask = view.instance == instance.number
                if instance.semantic.label not in ratios or mask.sum() < 40:
                    continue
                T = renderer.T_world_camera(frame, "left")
                points = (move_vertices(world, used[instance.number], frame) - T[:3, 3]) @ T[:3, :3]
                if points[:, 2].min() < 1:
                    continue
                pixels = points[:, :2] / points[:, 2:] * (renderer.lens.fx, renderer.lens.fy) + (
                    renderer.lens.cx,
                    renderer.lens.cy,
                )
                rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
                box = np.array([columns[0], rows[0], columns[-1], rows[-1]])
                height_px = rows[-1] - rows[0] + 1
                if np.abs(box - np.concatenate([pixels.min(0), pixels.max(0)])).max() < 1.05 and height_px >= 20:
                    ratios[instance.semantic.label].append(
                        np.median(view.depth_m[mask]) * height_px / renderer.lens.fy / instance.size_hwl_m[0]
                    )
    for label, values in ratios.items():
        assert len(values) >= 5, label
        assert np.median(values) == pytest.approx(1, abs=0.05), label
        assert np.std(values) < 0.08, label


@pytest.mark.slow
def test_exposure_changes_the_image_as_written(
    world: RoadWorld, config: RoadWorldConfig, renderer: RoadRenderer
) -> None:
    changed = RoadRenderer(world, config.model_copy(update={"exposure": True}))
    assert changed.gains.shape == (2, config.frames)
    assert np.std(changed.gains) > 0
    changed.gains[:] = 1.4
    plain, bright = (r.render(0)["left"].image.astype(float) for r in (renderer, changed))
    middling = (plain > 40) & (plain < 150)
    assert np.median(bright[middling] / plain[middling]) == pytest.approx(1.4 ** (1 / 2.2), rel=5e-3)
    noisy = RoadRenderer(world, config.model_copy(update={"noise": True})).render(0)["left"].image.astype(float)
    assert 0.5 < np.std(noisy - plain) < 8
    assert abs(np.mean((noisy - plain)[middling])) < 0.5
    gains = draw_exposure_gains(1, 500, 2)
    assert 0.02 < np.std(np.log(gains[0])) < 0.6
    assert np.abs(np.log(gains[0] / gains[1])).max() < 0.1


@pytest.mark.slow
def test_a_ring_closes_and_is_driven_around_again() -> None:
    ring = make_ring(200.0)
    np.testing.assert_allclose(np.linalg.norm(np.diff(ring.position, axis=0), axis=1), STEP_M, rtol=2e-3)
    np.testing.assert_allclose(ring.position[-1], ring.position[0], atol=1e-9)
    for s in (3.0, 150.0):
        np.testing.assert_allclose(ring.frame(s + 200.0, 1.7), ring.frame(s, 1.7), atol=1e-9)
    np.testing.assert_allclose(ring.frame(199.999, 0.0), ring.frame(0.001, 0.0), atol=3e-3)
    world = make_world(derive_world_seed(5, "test", 0), LONG, ring_m=110.0)
    centers = world.drive.T_world_camera[:, :3, 3]
    assert world.course.find_nearest(centers[:, [0, 2]])[0].max() < world.section.lane_m
    with pytest.raises(ValueError, match="17"):
        make_ring(60.0)
