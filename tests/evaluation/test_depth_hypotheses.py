"""A meaning of depth maps is named if reading them so makes them agree, and never otherwise."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.evaluation.depth_hypotheses import Pair, explain_depth, find_truth_fault

Array = NDArray[np.float64]
METRES = DepthScale.METRES


def make_pairs(count: int = 6, noise: float = 0.05) -> list[Pair]:
    """Return predictions with an error of 5 % and dense truth of rooms with a box, different in each image."""
    rng = np.random.default_rng(3)
    pairs = []
    for number in range(count):
        rows = np.linspace(1.2, 4.5 + number / 4, 60)[:, None] * np.ones((1, 80))
        true = rows + 0.3 * np.sin(np.arange(80) / 9 + number)
        left = 8 * number
        true[20:45, left : left + 25] = 0.9 + 0.1 * number
        pairs.append((true * np.exp(rng.normal(0, noise, true.shape)), true))
    return pairs


def change(pairs: list[Pair], of_prediction: Callable, of_truth: Callable = lambda values: values) -> list[Pair]:
    """Return pairs with changed values."""
    return [(of_prediction(predicted), of_truth(true)) for predicted, true in pairs]


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("factor", [1.0, 0.01, 1000.0])
def test_right_predictions_of_any_quality_and_scale_are_not_explained(noise: float, factor: float) -> None:
    assert explain_depth(change(make_pairs(noise=noise), lambda z: factor * z), METRES) == []


@pytest.mark.parametrize(
    ("write", "meaning"),
    [
        (np.log, "a logarithm of depth"),
        (np.log10, "a logarithm of base 10"),
        (np.log1p, "log(1 + depth)"),
        (lambda z: -np.log(z), "a logarithm of inverse depth"),
        (np.negative, "negative"),
        (lambda z: 3 / z, "inverse depth"),
        (lambda z: -50 / z, "negative inverse depth or disparity"),
        (lambda z: (255 * (1 / z - 0.1)).round(), "inverse depth up to scale and shift"),
    ],
)
def test_what_predictions_hold_is_found(write: Callable, meaning: str) -> None:
    (note,) = explain_depth(change(make_pairs(), write), METRES)
    assert f"the predictions are {meaning}" in note
    assert "reread" in note


@pytest.mark.parametrize(
    ("write", "meaning"),
    [(np.log, "a logarithm of depth"), (np.reciprocal, "inverse depth"), (np.negative, "negative")],
)
def test_what_the_truth_holds_is_found(write: Callable, meaning: str) -> None:
    pairs = change(make_pairs(), lambda z: z, write)
    (note,) = explain_depth(pairs, METRES)
    assert meaning in note
    if meaning == "inverse depth":
        assert "predictions are inverse" in note or "ground truth is inverse" in note


def test_truth_made_smaller_by_interpolation_is_named() -> None:
    rng = np.random.default_rng(5)

    def thin(true: Array) -> Array:
        large = cv2.resize(true, (320, 240))
        return np.where(rng.random(large.shape) < 0.3, large, 0)

    sparse = change(make_pairs(), lambda z: z, thin)
    assert explain_depth(sparse, METRES) == []
    smaller = change(sparse, lambda z: z, lambda true: cv2.resize(true, (160, 120), interpolation=cv2.INTER_LINEAR))
    (note,) = explain_depth(smaller, METRES)
    assert "made smaller by interpolation" in note


def test_holes_with_a_constant_are_named() -> None:
    def fill(true: Array) -> Array:
        filled = true.copy()
        filled[:25] = 65.535
        return filled

    (note,) = explain_depth(change(make_pairs(), lambda z: z, fill), METRES)
    assert "filled with 65.535" in note


def test_one_map_for_all_images_is_named() -> None:
    pairs = make_pairs()
    (note,) = explain_depth([(pairs[0][0], true) for _, true in pairs], METRES)
    assert "the same map" in note
    assert explain_depth([pairs[0]] * 4, METRES) == [], "the camera and the scene stand still"


def test_maps_of_the_neighbor_are_named() -> None:
    rng = np.random.default_rng(8)
    frames = [np.exp(8 * cv2.GaussianBlur(rng.normal(0, 1, (60, 80)), (0, 0), 4)) for _ in range(8)]
    pairs = [(frames[k + 1], frames[k]) for k in range(7)]
    (note,) = explain_depth(pairs, METRES)
    assert "one later in the list" in note


def test_faults_of_truth_show_in_its_own_values() -> None:
    rng = np.random.default_rng(6)
    maps = [true for _, true in make_pairs()]
    sparse = [np.where(rng.random((240, 320)) < 0.3, cv2.resize(true, (320, 240)), 0) for true in maps]
    assert find_truth_fault(maps) is None
    assert find_truth_fault(sparse) is None
    assert find_truth_fault([np.rint(256 * true) / 256 for true in sparse]) is None
    assert find_truth_fault([np.rint(4 * true) / 4 for true in maps]) is None, "coarse steps are another fault"
    faults = {
        "equal": [maps[0]] * 6,
        "filler": [np.where(np.arange(60)[:, None] < 10, 80.0, true) for true in maps],
        "interpolated": [cv2.resize(true, (160, 120), interpolation=cv2.INTER_LINEAR) for true in sparse],
    }
    for name, changed in faults.items():
        fault = find_truth_fault(changed)
        assert fault is not None, name
        assert fault.name == name


def test_dense_truth_is_not_interpolated_sparse_depth() -> None:
    """Thin things are far nearer than what is around them, and a network that misses them predicts what is behind."""
    true = np.tile(np.linspace(8.0, 10.0, 60)[:, None], (1, 80))
    true[:, ::5] = 2.0
    assert not any("interpolation" in note for note in explain_depth([(np.full((60, 80), 9.0), true)] * 4, METRES))


def test_a_depth_buffer_is_named() -> None:
    near, far = 0.1, 100.0
    buffer = change(make_pairs(), lambda z: far * (1 - near / z) / (far - near), lambda true: true)
    (note,) = explain_depth(buffer, METRES)
    assert "the predictions are the depth buffer of a renderer" in note
    assert "square" not in note


def test_truth_that_wrapped_around_is_named() -> None:
    """Millimetres in 16 bits end at 65.5 m."""
    pairs = change(make_pairs(), lambda z: 15 * z, lambda z: 15 * z)
    assert explain_depth(pairs, METRES) == []
    (note,) = explain_depth(change(pairs, lambda z: z, lambda z: np.mod(z, 65.536)), METRES)
    assert "wraps around at 65.5" in note
    assert explain_depth(change(pairs, lambda z: z, lambda z: np.minimum(z, 65.536)), METRES) == []
    wrapped, far = change(pairs, lambda z: z, lambda z: np.mod(z, 65.536)), pairs[0][0].copy()
    far.flat[np.flatnonzero(pairs[0][1] < 60)[:600]] = 150.0  # in one image, more than the 345 that wrapped
    assert any("wraps around at 65.5" in note for note in explain_depth([(far, wrapped[0][1]), *wrapped[1:]], METRES))
    outliers = np.random.default_rng(0).random(pairs[0][0].shape) < 0.02
    assert explain_depth(change(pairs, lambda z: np.where(outliers, 70.0, z)), METRES) == []


def test_codes_of_a_range_are_named() -> None:
    """Kubric 349: 16 bits of a range that begins at the nearest depth."""
    pairs = change(make_pairs(noise=0.02), lambda z: np.rint((z - 0.4) / (50 - 0.4) * 65535))
    (note,) = explain_depth(pairs, METRES)
    assert "codes of a range" in note
    assert "x value + 0.4" in note
    for number, (predicted, true) in enumerate(pairs):
        pairs[number] = ((1 + number / 4) * predicted + 300 * number, true)  # another range in each image
    assert not any("codes" in one for one in explain_depth(pairs, METRES))
    assert explain_depth(change(make_pairs(noise=0.02), lambda z: 1.1 * z + 0.2), METRES) == []
