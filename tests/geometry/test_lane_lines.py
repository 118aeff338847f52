"""Lane markings: the width of a lane needs no focal length, lengths along the road do, and no road gives no lane."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.apps.lane_camera import MAX_FOCAL_ERROR, STANDARD_DASHES, judge_lanes, list_dashes
from stadia.core.errors import GeometryError
from stadia.datasets.video.static_parts import find_static_content, sample_frames
from stadia.geometry.ground.lane_lines import LaneFinder, LaneMeasurement, measure_lanes

HEIGHT_M, LANE_M, PERIOD_M, HORIZON = 1.4, 3.6, 12.0, 150.0
SIZE = 360, 640


def render_road(
    focal_px: float,
    *,
    number: int = 0,
    period_m: float | None = PERIOD_M,
    color: tuple[int, int, int] = (220, 220, 220),
    size: tuple[int, int] = SIZE,
    middle: float = 330.0,
    roll_deg: float = 0.0,
    both: bool = False,
    lane_m: float = LANE_M,
) -> NDArray[np.uint8]:
    """Draw a road from a camera between a line, solid unless both, and dashes of a quarter of their period."""
    height, width = size
    factor = width / SIZE[1]
    y, x = np.mgrid[:height, :width] / factor
    turned = (x - middle + 1j * (y - HORIZON)) * np.exp(1j * np.radians(roll_deg))
    below = np.maximum(turned.imag - 0.7 * np.sin(number), 1e-3)
    along_m = focal_px * HEIGHT_M / below
    across_m = turned.real * HEIGHT_M / below + 0.3 * np.sin(number / 3)
    is_dash = np.ones_like(x, bool) if period_m is None else (along_m + 1.7 * number) % period_m < period_m / 4
    is_left, is_right = (np.abs(across_m + side * lane_m / 2) < 0.07 for side in (1, -1))
    paint = (is_left | is_right) & is_dash | is_left & (not both)
    image = np.random.default_rng(number).normal(90, 4, (height, width, 1)).repeat(3, axis=2)
    image[paint & (y > HORIZON)] = color
    image[y < HORIZON] = 180
    return np.clip(image, 0, 255).astype(np.uint8)


def measure_road(focal_px: float, *, frames: int = 16, **road: object) -> LaneMeasurement:
    return measure_lanes(render_road(focal_px, number=number, **road) for number in range(frames))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lanes() -> dict[float, LaneMeasurement]:
    return {focal_px: measure_road(focal_px) for focal_px in (400.0, 800.0)}


def test_the_height_needs_no_focal_length_and_the_period_is_inverse_to_it(lanes: dict[float, LaneMeasurement]) -> None:
    short, long = lanes[400.0], lanes[800.0]
    for found in (short, long):
        assert found.find_height_m(LANE_M) == pytest.approx(HEIGHT_M, rel=0.015)
        assert found.point[1] == pytest.approx(HORIZON, abs=1.5)
        assert found.frames >= 8
    assert short.period is not None
    assert long.period is not None
    assert short.period / long.period == pytest.approx(2, rel=0.03)
    assert short.find_focal_px(LANE_M, PERIOD_M) == pytest.approx(400, rel=0.04)
    assert long.find_focal_px(LANE_M, PERIOD_M) == pytest.approx(800, rel=0.04)


def test_the_picture_of_a_larger_sensor_has_a_longer_focal_length_in_pixels(
    lanes: dict[float, LaneMeasurement],
) -> None:
    larger = measure_road(400.0, size=(540, 960))
    assert larger.width == pytest.approx(lanes[400.0].width, rel=0.02)
    assert larger.find_focal_px(LANE_M, PERIOD_M) == pytest.approx(600, rel=0.04)


@pytest.mark.parametrize(("both", "roll_deg"), [(False, -3.0), (False, 3.0), (True, -3.0), (True, 3.0)])
def test_dashes_on_both_sides_show_the_roll_which_is_in_the_deviation_otherwise(both: bool, roll_deg: float) -> None:
    """The period on a line grows by 1 + u tan(roll), and u is 1.3 on the right."""
    found = measure_road(400.0, frames=24, roll_deg=roll_deg, both=both)
    judged = judge_lanes(found, lane_m=LANE_M, period_m=PERIOD_M)
    assert judged.focal_px == pytest.approx(400, rel=0.02 if both else 1.96 * found.period_deviation)
    assert both or (found.period_deviation > 0.04 and judged.claimed_px is None)
    assert found.find_height_m(LANE_M) == pytest.approx(HEIGHT_M, rel=1.96 * found.width_deviation)


def test_the_meeting_point_is_in_the_pixels_of_each_frame() -> None:
    """The center of pixel 0 of four times larger frames is at -3/8 of the smaller ones."""
    images = [render_road(400.0, number=number, size=(540, 960)) for number in range(12)]
    small, large = (measure_lanes(image.repeat(n, 0).repeat(n, 1) for image in images) for n in (1, 4))
    np.testing.assert_allclose(large.point, 4 * small.point + 1.5, atol=0.1)
    finder = LaneFinder()
    found = [finder.find(render_road(400.0, number=number, size=(720, 1280))) for number in range(20)]
    assert found[-1] is not None
    assert found[-1].point[1] == pytest.approx(2 * HORIZON, abs=3)
    assert finder.check()


def test_yellow_lines_count_and_solid_lines_have_no_period() -> None:
    found = measure_road(600.0, period_m=None, color=(210, 180, 40))
    assert found.find_height_m(LANE_M) == pytest.approx(HEIGHT_M, rel=0.015)
    assert found.period is None
    assert found.find_focal_px(LANE_M, PERIOD_M) is None
    assert judge_lanes(found, lane_m=LANE_M, period_m=PERIOD_M).claimed_px is None
    assert judge_lanes(found).height_deviation > judge_lanes(measure_road(600.0)).height_deviation


def make_noise(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)


def make_bars(number: int) -> NDArray[np.uint8]:
    """Draw upright bars, as of a fence."""
    return np.tile((np.arange(SIZE[1]) // 9 % 5 == number % 5)[None, :, None] * 150, (SIZE[0], 1, 3)).astype(np.uint8)


def make_kerbs(number: int) -> NDArray[np.uint8]:
    """Draw a road between grass of another brightness, without paint."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    is_road = np.abs(x - 330) < 1.3 * np.maximum(y - HORIZON, 0)
    return np.where(is_road[..., None], 90, 200).repeat(3, axis=2).astype(np.uint8)


def make_other_roads(number: int) -> NDArray[np.uint8]:
    """Draw a road in every other frame, and roads of many other widths."""
    return render_road(400.0, number=number, lane_m=LANE_M if number % 2 else 2.2 + 0.045 * number)


def make_rare_road(number: int) -> NDArray[np.uint8]:
    """Draw a road in few frames."""
    return render_road(400.0, number=number) if number % 4 == 0 else make_noise(number)


@pytest.mark.parametrize("make", [make_noise, make_bars, make_kerbs, make_other_roads, make_rare_road])
def test_no_lane_is_guessed_without_two_lines(make: object) -> None:
    images = [make(number) for number in range(24)]  # type: ignore[operator]
    with refuses(GeometryError, where="lanes", fix="docs/how-to/metres.md"):
        measure_lanes(images)
    finder = LaneFinder()
    for image in images[:12]:
        finder.find(image)
    with pytest.raises(GeometryError):
        finder.check()


def test_few_frames_are_no_lane() -> None:
    with refuses(GeometryError, where="lanes"):
        measure_lanes(render_road(600.0, number=number) for number in range(4))
    with refuses(GeometryError, where="lanes"):
        measure_lanes([])


def test_a_camera_that_looks_aside_is_in_no_car() -> None:
    with refuses(GeometryError, where="lanes"):
        measure_road(600.0, middle=500.0, period_m=None)


def test_a_hidden_part_takes_no_part() -> None:
    painted = [render_road(600.0, number=number) for number in range(12)]
    hidden = np.ones(SIZE, bool)
    with refuses(GeometryError, where="lanes"):
        measure_lanes(painted, hidden)


def make_lanes(*, period: float | None = 0.0125, deviation: float = 0.01) -> LaneMeasurement:
    """A width of 2.5 camera heights, and for dashes every 12 m and lanes of 3.5 m a focal length of 686 px."""
    return LaneMeasurement(np.array([320.0, 150.0]), 1.0, 2.5, 0.01, period, deviation, 30, 40, {})


def test_a_focal_length_is_claimed_only_with_width_and_period() -> None:
    true_px = 12.0 / (0.0125 * 3.5 / 2.5)
    found = judge_lanes(make_lanes(), lane_m=3.5, period_m=12.0)
    assert found.claimed_px == pytest.approx(true_px)
    assert 1.96 * found.focal_deviation <= MAX_FOCAL_ERROR
    for lane_m, period_m, deviation in ((None, 12.0, 0.01), (3.5, None, 0.01), (None, None, 0.01), (3.5, 12.0, 0.05)):
        found = judge_lanes(make_lanes(deviation=deviation), lane_m=lane_m, period_m=period_m)
        assert found.claimed_px is None
        assert found.refused
    assert judge_lanes(make_lanes(), lane_m=3.5).height_m == pytest.approx(1.4)


def test_each_standard_means_another_focal_length() -> None:
    focal_of = {dashes.period_m: focal_px for dashes, focal_px in list_dashes(make_lanes())}
    assert len(focal_of) == len(STANDARD_DASHES)
    assert focal_of[18.0] == pytest.approx(2 * focal_of[9.0] * 3.65 / 3.75)


@pytest.mark.real
def test_the_focal_length_of_a_calibrated_drive(real_data: Path) -> None:
    """California's dashes are 48 feet apart; a chessboard gives 1159 px (udacity/CarND-Advanced-Lane-Lines)."""
    clip = real_data / "clips" / "highway2.mp4"
    found = measure_lanes(sample_frames(clip, 40), find_static_content(clip).mask)
    assert found.find_focal_px(3.66, 14.63) == pytest.approx(1159, rel=0.08)
