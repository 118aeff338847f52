"""`stadia calibrate` measures a network's metres by tape and keeps them with the camera."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.data.config import CameraConfig
from stadia.data.video.video_camera import find_kept_scale
from stadia.predict.network import open_network
from stadia.predict.options import PredictOptions
from stadia.predict.tape import (
    PICTURE_SHARE,
    POINT_DEVIATION,
    TapeMeasurement,
    TapeRequest,
    calibrate_camera,
    fit_tape,
    parse_length,
)


def make_lengths(factor: float, exponent: float = 0.0, focal: float = 1.0) -> list[TapeMeasurement]:
    """Return exact lengths in four pictures: depths, and lengths across the image."""
    depths = np.geomspace(1, 30, 40)
    along = [TapeMeasurement(f"{i % 4}", z, factor * z * z**exponent) for i, z in enumerate(depths.tolist())]
    across = [
        TapeMeasurement(f"{i % 4}", z / 3, factor * z / 3 * z**exponent / focal, depth=z, lateral=1.0)
        for i, z in enumerate(depths.tolist())
    ]
    return [*along, *across]


def test_a_factor_alone_explains_exact_lengths():
    kept = fit_tape(make_lengths(1.25))
    assert kept.factor == pytest.approx(1.25)
    assert kept.range_error == pytest.approx(0, abs=1e-9)
    assert kept.focal_ratio == pytest.approx(1)
    assert not kept.grows_with_depth
    assert not kept.has_wrong_focal


def test_the_factor_follows_the_unit():
    lengths = make_lengths(1.25)
    doubled = fit_tape([replace(one, metres=2 * one.metres) for one in lengths])
    once = fit_tape(lengths)
    assert doubled.factor == pytest.approx(2 * once.factor)
    assert doubled.deviation == pytest.approx(once.deviation)


def test_an_error_that_grows_with_depth_and_a_wrong_focal_length_are_found():
    ranging = fit_tape(make_lengths(1.0, exponent=0.3))
    assert ranging.grows_with_depth
    assert ranging.range_error == pytest.approx(0.3, abs=0.03)
    focal = fit_tape(make_lengths(1.0, focal=1.3))
    assert focal.has_wrong_focal
    assert focal.focal_ratio == pytest.approx(1.3, rel=0.05)
    assert not focal.grows_with_depth


def test_the_truth_is_within_one_deviation_as_often_as_stated():
    random, within = np.random.default_rng(0), []
    for _ in range(400):
        shared = random.normal(0, PICTURE_SHARE * POINT_DEVIATION, 4)
        errors = shared + random.normal(0, POINT_DEVIATION, 4)
        depths = random.uniform(2, 20, 3).tolist()
        kept = fit_tape([TapeMeasurement(f"{i}", z, z * math.exp(errors[i])) for i, z in enumerate(depths)])
        within.append(abs(errors[3] - math.log(kept.factor)) <= kept.depth_deviation)
    assert 0.6 <= np.mean(within) <= 0.76


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two photos of 96x64 and their camera file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (8, 12, 3), np.uint8)
        Image.fromarray(pixels).resize((96, 64)).save(folder / f"{name}.png")
    K = [[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1]]
    (folder / "K.json").write_text(json.dumps({"format": "stadia-camera", "K": K, "height": 64, "width": 96}))
    return folder


@pytest.mark.slow
def test_metres_stay_with_the_camera(stadia, photos):
    network = open_network("base")
    options = PredictOptions(data={"camera": CameraConfig(K_file=str(photos / "K.json"))})
    before = network.predict(photos / "a.png", options=options)
    lengths = ["point=20,20:30@a", "distance=20,40..70,40:9@b"]
    code, out, _ = stadia("calibrate", photos, *lengths, "--from", photos / "a.png", "--from", photos / "b.png")
    assert (code, "2 lengths in 2 pictures" in out) == (0, True)
    kept = find_kept_scale(CameraConfig(), photos, "base")
    assert kept is not None
    after = network.predict(photos / "a.png", options=options)
    np.testing.assert_allclose(after.depth, kept.factor * before.depth, rtol=1e-5)
    assert [*after.receipt.fits] == ["camera"]
    assert after.receipt.deviation == pytest.approx(kept.deviation)
    without = network.predict(photos / "a.png", fov_deg=60)
    assert without.receipt is None, "another camera"
    assert find_kept_scale(CameraConfig(), photos, "another") is None


@pytest.mark.parametrize("text", ["hight=1.5", "point=640:12", "distance=1,2..3,4:x"])
def test_a_wrong_length_names_no_option_of_other_commands(text):
    with pytest.raises(ConfigError) as raised:
        parse_length(text)
    assert "--scale-from" not in str(raised.value)


@pytest.mark.slow
def test_a_calibration_needs_a_camera_file_and_each_length_its_picture(photos):
    network = open_network("base")
    with refuses(DataError, found="1 of 2 lengths"):
        texts = ["point=20,20:30@a", "point=20,20:30@z"]
        pictures = [photos / "a.png", photos / "b.png"]
        calibrate_camera(network, TapeRequest(camera=photos, texts=texts, pictures=pictures))
    with refuses(ConfigError, found="'height=1.5'"):
        calibrate_camera(network, TapeRequest(camera=photos, texts=["height=1.5"]))
    (photos / "K.json").unlink()
    with refuses(DataError, found="no camera file"):
        calibrate_camera(network, TapeRequest(camera=photos, texts=["point=20,20:30"]))
