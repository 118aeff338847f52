"""A receipt by the camera's height is honest about the shape of the road that it is measured on."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import Frame
from stadia.data.video.map_geometry import MapGeometry
from stadia.predict.describe import _describe_limit_of_scale
from stadia.predict.inputs import PredictionInput
from stadia.predict.receipt import measure_scale
from stadia.scale.grammar import find_given_height
from stadia.scale.scale_receipt import ScaleReceipt, describe_receipt

ROWS, COLUMNS, FOCAL, HEIGHT_M, FACTOR = 96, 160, 120.0, 1.5, 0.25
K = np.array([[FOCAL, 0, (COLUMNS - 1) / 2], [0, FOCAL, (ROWS - 1) / 2], [0, 0, 1]])


def make_road(normal: tuple[float, float, float], focal: float) -> MapGeometry:
    road = np.array([*normal, 1.0]) / (*[np.linalg.norm(normal)] * 3, 1)
    return MapGeometry(np.empty((0, 4, 4)), np.empty((0, 3)), (), focal, road)


LEVEL = make_road((0, -1, 0), FOCAL / COLUMNS)


def measure(shift: float, mapped: MapGeometry | None, *, curve: float = 0.0) -> ScaleReceipt:
    slopes = np.maximum((np.arange(ROWS) - K[1, 2]) / FOCAL, 0)
    inverse = FACTOR * (slopes / HEIGHT_M + shift + curve * slopes**2)
    maps = np.repeat(inverse[:, None], COLUMNS, 1)[None, None].astype(np.float32)
    predictor: Any = SimpleNamespace(
        depth_scale=DepthScale.UP_TO_SCALE,
        crop="none",
        height=ROWS,
        width=COLUMNS,
        inverse_depth=lambda image, camera: maps.clip(min=1e-6),
    )
    frame = Frame("0", np.zeros((ROWS, COLUMNS, 3), np.uint8), K)
    given = PredictionInput("photo", [frame], 1, 10.0)
    return measure_scale(predictor, lambda: given, [f"height={HEIGHT_M}"], mapped=mapped)


def test_a_road_of_the_right_shape_gives_a_usable_factor() -> None:
    receipt = measure(0.0, LEVEL)
    assert receipt.factor == pytest.approx(FACTOR, rel=1e-3)
    assert receipt.verdict == "usable"
    (lean,) = receipt.leans.values()
    assert lean is not None
    assert lean.ratio == pytest.approx(1, abs=1e-3)
    assert 3 < lean.near_m < 6 < lean.far_m
    assert not any("leans" in line for line in describe_receipt(receipt))


@pytest.mark.parametrize("shift", [0.05, 0.1])
def test_a_road_that_leans_is_never_usable(shift: float) -> None:
    receipt = measure(shift, LEVEL)
    assert receipt.verdict in ("doubtful", "unusable")
    (lean,) = receipt.leans.values()
    assert lean is not None
    assert lean.ratio < 1 / 1.2
    (fit,) = receipt.fits.values()
    assert fit.deviation > abs(np.log(lean.ratio)) / 2 - 1e-9
    assert any(line.startswith("warn: height=1.5: ") for line in describe_receipt(receipt))
    assert receipt.to_json()["sources"]["height=1.5"]["lean"]["ratio"] == lean.ratio


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_without_a_horizon_one_image_is_never_usable(shift: float) -> None:
    receipt = measure(shift, None)
    assert receipt.verdict == "doubtful"
    assert receipt.fits["height=1.5"].count > 3, "parts of the road count, not one number"
    assert any("horizon" in line for line in describe_receipt(receipt))


def test_the_horizon_of_a_map_stays_on_its_pixels() -> None:
    road = make_road((0.1, -0.99, 0.1), 0.8)
    by_map = road.find_road_normal(0.8)
    assert by_map is not None
    for focal in (0.8, 0.5):
        ray = np.array([0.3, 0.0, 1.0])
        normal = road.find_road_normal(focal)
        assert normal is not None
        ray[1] = -(normal[0] * ray[0] / focal + normal[2]) / normal[1] * focal
        assert by_map @ (ray / (0.8, 0.8, 1)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("factor_verdict", "depth_verdict", "is_limited"),
    [("usable", "doubtful", True), ("usable", "not judged", True), ("usable", "usable", False)],
)
def test_a_receipt_is_no_better_than_the_depth_that_it_scales(
    factor_verdict: str, depth_verdict: str, is_limited: bool
) -> None:
    receipt = measure(0.0, LEVEL)
    assert receipt.verdict == factor_verdict
    assert bool(list(_describe_limit_of_scale(receipt, Verdict(depth_verdict)))) == is_limited


def test_the_height_of_the_sources_is_found() -> None:
    assert find_given_height(["gps", "height=1.23"]) == 1.23
    assert find_given_height(["gps"]) is None
