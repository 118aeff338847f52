"""Drawings of roads: lines where geometry says, colors by verdict, figures that show their numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stadia.evaluation.plots.charts import EpochHeight, draw_heights_over_epochs, draw_heights_over_frames
from stadia.evaluation.plots.colormaps import describe_depth_range
from stadia.evaluation.plots.image_overlays import (
    BAD,
    GOOD,
    HORIZON,
    PLANE,
    add_legend,
    compose_image_rows,
    draw_box_verdicts,
    draw_horizon,
    draw_plane,
)
from stadia.geometry import camera as cameras
from stadia.geometry.ground.camera_height import horizon_from_angles

K = np.array([[300.0, 0, 160], [0, 300, 60], [0, 0, 1]])
BLACK = np.zeros((120, 320, 3), np.uint8)


def at(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(image.astype(int) - color).max(-1) < 60  # edges are smoothed


def test_the_horizon_is_where_it_is_and_the_image_stays():
    drawn = draw_horizon(BLACK, (0, -1, 40.0))
    assert at(drawn, HORIZON)[40, 1:-1].all()
    assert not drawn[[37, 43]].any()
    assert not BLACK.any()
    for none in ((np.nan, np.nan, np.nan), (1.0, 0.0, -5.0), (0.0, -1.0, 9e9)):
        assert not draw_horizon(BLACK, none).any()


@pytest.mark.parametrize("roll_deg", [0.0, 8.0])
def test_the_plane_lies_below_its_horizon_and_shrinks_towards_it(roll_deg):
    camera = cameras.intrinsics(300, 300, 160, 60, height=120, width=320)
    horizon = horizon_from_angles(camera, pitch_deg=1, roll_deg=roll_deg)
    up = torch.nn.functional.normalize(torch.from_numpy(K).T @ horizon, dim=0)
    drawn = at(draw_plane(BLACK, K, (*up.tolist(), 1.5)), PLANE)
    rows, columns = drawn.nonzero()
    above = columns * float(horizon[0]) + rows * float(horizon[1]) + float(horizon[2])
    assert drawn.sum() > 200
    assert above.max() < -300 * 1.5 / 45  # 40 m ahead, and a pixel for its width
    assert not draw_plane(BLACK, K, (0, -1, 0, np.nan)).any()


def test_ten_metres_ahead_are_ten_metres_ahead():
    drawn = at(draw_plane(BLACK, K, (0, -1, 0, 1.5), ahead=(10, 20), aside=(-1, 1)), PLANE)
    assert drawn[60 + 45, 131:190].all()  # y: 300 * 1.5 / 10; x: 160 - 30 to 160 + 30
    assert not drawn[60 + 45, :128].any()


def test_boxes_are_green_or_red_and_have_their_word():
    drawn = draw_box_verdicts(BLACK, [[20, 30, 60, 80], [200, 30, 250, 80]], [True, False], ["1.62 m", "cut"])
    assert at(drawn, GOOD)[:, :100].any()
    assert not at(drawn, BAD)[:, :100].any()
    assert at(drawn, BAD)[30:81, 200].all()
    assert at(draw_box_verdicts(BLACK, [[20, 30, 60, 80]], [True], [""]), GOOD).sum() < at(drawn, GOOD).sum()
    assert not draw_box_verdicts(BLACK, np.zeros((0, 4)), [], []).any()


def test_a_sheet_holds_images_of_any_sizes():
    out = compose_image_rows([BLACK, np.zeros((60, 60, 3), np.uint8), BLACK], 2, width=64)
    assert out.shape == (64 + 4 + 24 + 4, 2 * 68, 3)
    assert (out == 0).all(-1).sum() == 64 * 24 * 2 + 64 * 64
    assert (compose_image_rows([], 2, width=64) == 255).all()


@pytest.mark.slow
def test_figures_of_heights_are_drawn_and_differ_with_their_numbers():
    frame, says, good = np.arange(30), np.linspace(0.8, 2.4, 30), np.arange(30) % 3 > 0
    drawn = draw_heights_over_frames(frame, says, good, 1.6, 1.5, 1.7)
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 3
    band = (204, 227, 240)
    wide = draw_heights_over_frames(frame, says, good, 1.6, 1.2, 1.7)
    area, narrow = ((np.abs(one.astype(int) - band).max(-1) < 4).sum() for one in (wide, drawn))
    assert area > 2 * narrow > 1000
    assert (drawn != draw_heights_over_frames(frame, says, good, 1.6, 1.5, 1.7, true_m=1.65)).any()
    assert (drawn != draw_heights_over_frames(frame, says, good, 1.6, 1.5, 1.7, starts={"a": 0, "b": 12})).any()


def test_axis_ignores_a_band_far_beyond_the_heights():
    frame, says, good = np.arange(30), np.linspace(1.5, 1.7, 30), np.ones(30, bool)

    def rows(low: float, high: float) -> float:
        points = at(draw_heights_over_frames(frame, says, good, 1.6, low, high), GOOD).nonzero()[0]
        return float(np.ptp(np.percentile(points, (10, 90))))

    assert rows(0.2, 9.0) > 0.6 * rows(1.2, 2.0)


def test_inlier_texts_are_largest_with_a_light_halo():
    night = np.full((300, 800, 3), 30, np.uint8)
    good, bad = (draw_box_verdicts(night, [[200, 120, 300, 200]], [inlier], ["1.62"]) for inlier in (True, False))
    halo = [(one.min(-1) > 200)[:118].sum() for one in (good, bad)]
    assert halo[0] > 1.5 * halo[1] > 30
    beside = [[200, 120, 210, 200], [214, 120, 224, 200]]
    two = draw_box_verdicts(night, beside, [True, True], ["1.62", "1.62"])
    assert (two.min(-1) > 200).sum() > 1.9 * (
        draw_box_verdicts(night, beside[:1], [True], ["1.62"]).min(-1) > 200
    ).sum()


def test_a_legend_shows_each_color_below_its_image():
    said = [(f"a class called {number}", (10 * number, 200, 90)) for number in range(9)]
    shown = add_legend(BLACK, said)
    assert (shown[: len(BLACK)] == BLACK).all()
    assert all((shown[len(BLACK) :] == color).all(-1).sum() > 200 for _, color in said)
    assert shown.shape[1] == BLACK.shape[1]


@pytest.mark.slow
def test_heights_over_epochs_show_the_band_what_was_refused_and_what_was_known_before():
    def drawn(*, refused="", low=1.6, name="", **known):
        course = [EpochHeight(1, 1.9, low, 2.0, 1.9, refused), EpochHeight(2, 1.7, 1.6, 1.8, 1.77)]
        return draw_heights_over_epochs({name: course}, **{"before_m": {}, "between_m": {}, **known})

    plain, band, green = drawn(), (204, 227, 240), (217, 240, 234)
    assert near(plain, band) > 1.5 * near(drawn(low=1.9), band) > 1000
    assert (drawn(refused="few") != plain).any()
    assert at(drawn(before_m={"": 1.7}), GOOD).sum() > at(plain, GOOD).sum() + 200
    assert near(drawn(between_m={"": (1.6, 1.8)}), green) > 1000 > near(drawn(between_m={"other": (1.6, 1.8)}), green)
    nothing = EpochHeight(1, np.nan, np.nan, np.nan, np.nan, "few")
    two = draw_heights_over_epochs({"left": [nothing], "right": [nothing]}, before_m={}, between_m={})
    assert two.shape == (2 * plain.shape[0], *plain.shape[1:])


def near(image: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - color).max(-1) < 4).sum())


def test_the_range_of_a_depth_map_is_written_in_metres_or_as_multiples() -> None:
    inverse_depth = 1 / np.linspace(4.0, 250.0, 1000)
    assert describe_depth_range(inverse_depth, is_metric=True) == "16 to 238 m"
    assert describe_depth_range(inverse_depth, is_metric=False) == "1 to 15, no metres"
    assert describe_depth_range(np.zeros(4), is_metric=True) == ""
