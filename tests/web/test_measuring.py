"""Lengths, areas, angles and heights of a room whose walls are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.errors import GeometryError, StadiaError
from stadia.core.types import DepthScale
from stadia.predict.prediction import measure_distance
from stadia.scale.depth_deviations import DepthDeviations
from stadia.web.forms import parse_form
from stadia.web.measuring import Kind, MeasureForm, find_ground, measure

K = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]])
CAMERA_HEIGHT, WALL = 1.5, 4.0
ERRORS = DepthDeviations(0.1, 0.05)


def make_room(pitch_deg: float = 0.0) -> NDArray[np.float32]:
    """Return depth (120, 160) of a floor 1.5 below the camera and a wall 4 before it, seen from a pitch."""
    rows, columns = np.mgrid[:120, :160]
    rays = np.stack([(columns - K[0, 2]) / 100, (rows - K[1, 2]) / 100, np.ones(rows.shape)], -1)
    c, s = np.cos(np.radians(pitch_deg)), np.sin(np.radians(pitch_deg))
    down, forward = rays @ (0, c, s), rays @ (0, -s, c)
    with np.errstate(divide="ignore"):
        floor = np.where(down > 0, CAMERA_HEIGHT / down, np.inf)
        wall = np.where(forward > 0, WALL / forward, np.inf)
    return np.minimum(floor, wall).astype(np.float32)


def value_of(kind: Kind, *points: tuple[int, int], pitch_deg: float = 0.0, factor: float = 1.0) -> float:
    form = MeasureForm(kind=kind, points=points)
    depth = make_room(pitch_deg) * np.float32(factor)
    return measure(form, depth, K, DepthScale.METRES, ERRORS).value


def test_a_length_is_that_of_the_other_function() -> None:
    depth, ends = make_room(), ((40, 30), (120, 50))
    found = measure(MeasureForm(points=ends), depth, K, DepthScale.METRES, ERRORS)
    other = measure_distance(depth, K, *ends, ERRORS)
    assert (found.value, found.deviation) == pytest.approx((other.distance, other.deviation), rel=1e-3)


def test_a_rectangle_of_the_wall_has_its_area_and_right_angles() -> None:
    corners = (40, 20), (90, 20), (90, 45), (40, 45)
    assert value_of("area", *corners) == pytest.approx((50 / 100 * WALL) * (25 / 100 * WALL), rel=1e-5)
    assert value_of("area", *corners[::-1]) == pytest.approx(value_of("area", *corners))
    assert value_of("angle", *corners[:3]) == pytest.approx(90, abs=1e-3)
    assert value_of("area", *corners, factor=3.0) == pytest.approx(9 * value_of("area", *corners), rel=1e-5)


@pytest.mark.parametrize("pitch_deg", [0.0, 20.0])
@pytest.mark.parametrize("factor", [1.0, 0.2])
def test_the_ground_is_found_and_heights_are_over_it(pitch_deg: float, factor: float) -> None:
    ground = find_ground(make_room(pitch_deg) * np.float32(factor), K)
    assert ground[3] == pytest.approx(CAMERA_HEIGHT * factor, rel=0.02)
    assert np.degrees(np.arccos(ground[1])) == pytest.approx(pitch_deg, abs=1)
    floor = value_of("height", (80, 118), pitch_deg=pitch_deg, factor=factor)
    assert floor == pytest.approx(0, abs=0.03 * factor)
    if not pitch_deg:
        assert value_of("height", (80, 20), factor=factor) == pytest.approx(factor * (1.5 + 0.395 * WALL), rel=0.03)


def test_a_wall_alone_has_no_ground() -> None:
    with pytest.raises(GeometryError, match="ground"):
        find_ground(np.full((120, 160), 3, np.float32), K)


@pytest.mark.parametrize(
    "given", [{"points": [[1, 1]]}, {"kind": "area", "points": [[1, 1]] * 2}, {"kind": "x", "points": [[1, 1]] * 2}, {}]
)
def test_a_wrong_count_of_points_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(StadiaError):
        parse_form(MeasureForm, given)
