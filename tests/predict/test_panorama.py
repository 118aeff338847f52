"""Predict a panorama: it is recognized, its views are joined, and its depth is the distance along the rays."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, GeometryError
from stadia.geometry.panorama import is_panorama, make_rays
from stadia.io.image_io import write_image
from stadia.predict.inputs import describe_panorama
from stadia.predict.network import open_network
from stadia.predict.options import PredictOptions
from stadia.predict.prediction import Prediction


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("panorama") / "street.png"
    write_image(path, draw_panorama())
    return path


def draw_panorama() -> NDArray[np.uint8]:
    """Return colors (128, 256, 3) that change smoothly over the sphere."""
    random, rays = np.random.default_rng(0), make_rays(128, 256)
    waves = sum(np.sin(rays @ random.normal(0, 4, (3, 3)) + random.normal(0, 3, 3)) for _ in range(4))
    return np.asarray(127 + 30 * waves, np.uint8)


def test_a_panorama_is_recognized_by_its_edges(file: Path) -> None:
    image = draw_panorama()
    assert is_panorama(image)
    assert is_panorama(np.roll(image, 50, axis=1))
    assert not is_panorama(image[:, :-2])
    assert not is_panorama(np.ascontiguousarray(image[32:96, 20:148]))
    framed = cv2.copyMakeBorder(image, 64, 64, 128, 128, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    assert not is_panorama(framed)
    assert "panorama" in describe_panorama(file, {})
    assert describe_panorama(file, {"camera": {"focal_px": 200}}) == ""
    with pytest.raises(ConfigError):
        describe_panorama(file, {"frames": (0, 1)})


@pytest.mark.slow
def test_a_panorama_is_one_map_of_distances(file: Path, tmp_path: Path) -> None:
    network = open_network("base")
    (session,) = network.open(file, PredictOptions(scale_from=("point=100,60:5",)))
    result = session.write(tmp_path / "depth")
    assert session.photo is not None
    depth = session.photo.depth_at_image()
    assert depth.shape == (128, 256)
    assert depth.min() > 0
    assert np.median(depth[58:63, 98:103]) == pytest.approx(5, rel=0.01)
    assert np.abs(np.log(depth[:, 0] / depth[:, -1])).max() < 0.2, "the edges meet"
    with np.load(result.folder / "depth" / "street.npz") as arrays:
        assert set(arrays) == {"distance_m", "projection"}
    record = json.loads((result.folder / "predictions.json").read_text())
    assert "distance along the ray" in record["camera_origin"]
    assert (result.folder / "cloud.ply").stat().st_size > 10_000
    assert session.joined.factors.shape == (16,)
    with pytest.raises(GeometryError):
        _ = Prediction(session.photo, session).K


@pytest.mark.parametrize("given", [{"scale_from": ("speed=10",)}, {"smooth": True}])
def test_options_that_need_a_pinhole_camera_are_refused(file: Path, given: dict) -> None:
    with pytest.raises(ConfigError):
        [session.start() for session in open_network("base").open(file, PredictOptions(**given))]
