"""The Python API: one network predicts images and videos, with the words of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.refusals import refuses

import stadia
from stadia.core.errors import ConfigError, DataError, GeometryError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.geometry.cameras import CropWindow, centered_K, focal_px_from_fov
from stadia.predict.inputs import PredictionInput
from stadia.predict.network import Network, _read_relative_error, fit_size
from stadia.training.recipes.base.build_recipe import NetworkCheckpoint

HEIGHT, WIDTH = 96, 128
STREET = Path(stadia.__file__).parent / "web" / "static" / "examples" / "street.jpg"


@pytest.fixture(scope="module")
def network() -> stadia.Network:
    return stadia.open_network("base")


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(cv2.imread(str(STREET)), (WIDTH, HEIGHT))[..., ::-1], np.uint8)


@pytest.fixture
def file(image: NDArray[np.uint8], tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "photo.png"), image[..., ::-1])
    return tmp_path / "photo.png"


def test_importing_stadia_loads_no_torch_and_every_name_exists() -> None:
    program = "import stadia, sys; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert all(callable(getattr(stadia, name)) for name in stadia.NAMES)
    with pytest.raises(AttributeError):
        _ = stadia.nothing


@pytest.mark.slow
def test_an_array_and_its_file_have_one_depth(network: stadia.Network, image: NDArray[np.uint8], file: Path) -> None:
    by_array, by_file = network.predict(image, fov_deg=60), network.predict(file, fov_deg=60)
    np.testing.assert_array_equal(by_array.depth_m, by_file.depth_m)
    K = centered_K(focal_px_from_fov(60, WIDTH), HEIGHT, WIDTH)
    np.testing.assert_allclose(by_array.K, K)
    np.testing.assert_array_equal(network.predict(image, K=K).depth_m, by_array.depth_m)
    assert by_array.depth_m.shape == (HEIGHT, WIDTH)
    assert by_array.receipt is None
    assert not by_array.session.input.camera_is_assumed
    assert network.predict(image).session.input.camera_is_assumed


@pytest.mark.slow
@pytest.mark.parametrize("metres", [2.0, 20.0])
def test_a_known_length_scales_depth_and_distances_alike(
    network: stadia.Network, image: NDArray[np.uint8], metres: float
) -> None:
    plain = network.predict(image, fov_deg=60)
    scaled = network.predict(image, fov_deg=60, scale_from=[f"point=40,30:{metres}"])
    assert scaled.receipt is not None
    np.testing.assert_allclose(scaled.depth_m, plain.depth_m * scaled.receipt.factor, rtol=1e-5)
    assert scaled.depth_m[30, 40] == pytest.approx(metres, rel=0.1)
    found, before = scaled.distance((40, 30), (90, 60)), plain.distance((40, 30), (90, 60))
    assert found.distance == pytest.approx(before.distance * scaled.receipt.factor, rel=1e-5)
    assert found.deviation / found.distance < before.deviation / before.distance, "it replaces that of the network"


@pytest.mark.slow
def test_saved_files_hold_the_same_depth(network: stadia.Network, file: Path, tmp_path: Path) -> None:
    photo = network.predict(file, fov_deg=60)
    written = photo.save(tmp_path / "out")
    record = json.loads((written.folder / "predictions.json").read_text())
    assert (record["depth_scale"], record["entries"]) == ("metres", ["photo"])
    assert written.checks["verdict"] == str(photo.verdict.verdict)
    stored = np.load(written.folder / "depth" / "photo.npz")["depth_m"]
    np.testing.assert_allclose(stored, 1 / photo.predicted.inverse_depth, rtol=1e-6)


@pytest.mark.slow
def test_depth_beyond_the_largest_is_far(network: stadia.Network, file: Path, tmp_path: Path) -> None:
    whole = network.predict(file)
    limit_m = float(np.median(whole.depth_m))
    cut = network.predict(file, options=stadia.PredictOptions(max_depth=limit_m))
    assert np.array_equal(cut.depth_m, np.where(whole.depth_m > limit_m, 0, whole.depth_m))
    written = cut.save(tmp_path / "cut").predictions
    depth_m = written.read(next(iter(written.files)))
    assert 0.25 < (depth_m == 0).mean() < 0.75
    assert depth_m.max() <= limit_m * (1 + 1e-6)


@pytest.mark.slow
def test_metres_are_not_claimed_for_a_picture_unlike_photos(network: stadia.Network, tmp_path: Path) -> None:
    board = (np.indices((HEIGHT, WIDTH)).sum(0) // 16 % 2 * 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "board.png"), board)
    photo = network.predict(tmp_path / "board.png", fov_deg=60)
    with refuses(ConfigError, where="--max-depth", fix="--scale-from"):
        network.predict(tmp_path / "board.png", fov_deg=60, options=stadia.PredictOptions(max_depth=2))
    assert photo.depth_scale is DepthScale.UP_TO_SCALE
    assert network.depth_scale is DepthScale.METRES
    with refuses(GeometryError, where="depth_m", fix="scale_from"):
        _ = photo.depth_m
    record = json.loads((photo.save(tmp_path / "out").folder / "predictions.json").read_text())
    assert record["depth_scale"] == "up-to-scale"
    known = network.predict(tmp_path / "board.png", fov_deg=60, scale_from="point=40,30:2")
    assert known.depth_m[30, 40] == pytest.approx(2, rel=0.1)
    assert network.predict(STREET).depth_scale is DepthScale.METRES


@pytest.mark.slow
def test_a_folder_is_streamed_frame_by_frame(network: stadia.Network, image: NDArray[np.uint8], tmp_path: Path) -> None:
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.roll(image, 2 * number, axis=1)[..., ::-1])
    options = stadia.PredictOptions(data={"camera": {"horizontal_fov_deg": 60}})
    frames = list(network.stream(tmp_path, options=options))
    assert [frame.name for frame in frames] == ["0", "1"]
    np.testing.assert_array_equal(frames[0].T_world_camera, np.eye(4))
    assert [frame.name for frame in network.stream(tmp_path, every=2, options=options)] == ["0"]
    with refuses(ConfigError, fix="Network.stream"):
        network.predict(tmp_path, fov_deg=60)


@pytest.mark.parametrize(
    ("scale", "attribute"), [(DepthScale.UP_TO_SCALE, "depth_m"), (DepthScale.AFFINE_INVERSE, "depth")]
)
def test_depth_without_the_unit_is_refused(scale: DepthScale, attribute: str) -> None:
    frame = Frame("a", np.zeros((2, 2, 3), np.uint8), np.eye(3))
    ones: NDArray[np.float32] = np.ones((2, 2), np.float32)
    predicted = PredictedFrame(frame, scale, ones, np.eye(3), None, (2, 2), CropWindow(0, 0, 2, 2))
    with refuses(GeometryError, fix="scale_from") as caught:
        getattr(stadia.Prediction(predicted, SimpleNamespace()), attribute)  # type: ignore[arg-type]
    assert caught.value.where == attribute
    assert stadia.Prediction(predicted, SimpleNamespace()).predicted.inverse_depth is ones  # type: ignore[arg-type]


def test_K_is_of_the_whole_image() -> None:
    """The network's crop moves the principal point; outside the crop there is no depth."""
    K = centered_K(50.0, 4, 4)
    frame = Frame("a", np.zeros((2, 4, 3), np.uint8), K)
    ones: NDArray[np.float32] = np.ones((2, 4), np.float32)
    predicted = PredictedFrame(frame, DepthScale.METRES, ones, K, None, (4, 4), CropWindow(2, 0, 2, 4))
    photo = stadia.Prediction(predicted, SimpleNamespace())  # type: ignore[arg-type]
    assert photo.K[1, 2] == K[1, 2] + 2
    assert (photo.depth_m[:2] == 0).all()
    assert (photo.depth_m[2:] == 1).all()


def test_the_error_of_a_run_is_that_of_its_validation(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    assert _read_relative_error(tmp_path) is None
    for name, error in (("val-mean-depth", 0.5), ("val", 0.25), ("test", 0.1)):
        (tmp_path / "scores" / f"{name}.json").write_text(json.dumps({"metrics": {"abs_rel": error}}))
    assert _read_relative_error(tmp_path) == 0.25


@pytest.mark.parametrize("size", [(960, 1280), (480, 640), (100, 50)])
def test_a_size_is_fitted_with_its_shape(size: tuple[int, int]) -> None:
    height, width = fit_size(*size, 480 * 640)
    assert height * width <= 480 * 640
    assert height / width == pytest.approx(size[0] / size[1], rel=0.01)
    assert fit_size(height, width, 480 * 640) == (height, width)


@pytest.mark.slow
def test_frames_that_can_be_read_once_are_all_predicted(
    network: stadia.Network, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may look at them before: the frames of the app's videos come from a generator."""
    monkeypatch.setattr(stadia.Network, "find_focals", lambda *given: list(given[2]) and [])
    K = centered_K(focal_px_from_fov(60, WIDTH), HEIGHT, WIDTH)
    frames = (Frame(f"{number}", image, K) for number in range(3))
    session = network.open_input(PredictionInput("video", frames, 3, 10.0))
    assert [predicted.frame.name for predicted in session.frames()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("keywords", "where"),
    [
        ({"fov_deg": 60, "K": np.eye(3)}, "camera"),
        ({"fov_deg": "60"}, "fov_deg"),
        ({"K": np.array([[100.0, 0, 2 * WIDTH], [0, 100, HEIGHT / 2], [0, 0, 1]])}, "K"),
        ({"options": {"every": 2}}, "options"),
        ({"options": stadia.PredictOptions(data={"stride": 2})}, "options.data"),
        ({"options": stadia.PredictOptions(background=Path("b.png"))}, "--background"),
        ({"options": stadia.PredictOptions(precision="zz")}, "precision"),
        ({"scale_from": "nonsense=1"}, "--scale-from"),
    ],
)
def test_what_cannot_be_is_an_error_with_fields(
    network: stadia.Network, image: NDArray[np.uint8], keywords: dict[str, Any], where: str
) -> None:
    with refuses(stadia.StadiaError, where=where):
        network.predict(image, **keywords)


@pytest.mark.parametrize("given", [None, 3, [1, 2]])
def test_what_is_no_image_and_no_network_is_named(network: stadia.Network, given: Any) -> None:
    with refuses(ConfigError, where="image", found=type(given).__name__):
        network.predict(given)
    with refuses(ConfigError, where="network"):
        stadia.open_network(given)
    with refuses(DataError, found="(0, 4, 3)"):
        network.predict(np.zeros((0, 4, 3), np.uint8))
    assert (repr(network), len(repr(network)) < 80) == ("BaseNetwork('base')", True)


@pytest.mark.slow
def test_keywords_and_options_go_together(network: stadia.Network, image: NDArray[np.uint8]) -> None:
    options = stadia.PredictOptions(scale_from=("point=40,30:2",))
    by_options = network.predict(image, fov_deg=60, options=options)
    assert by_options.receipt is not None
    by_text = network.predict(image, fov_deg=60, scale_from="point=40,30:2")
    np.testing.assert_array_equal(by_options.depth_m, by_text.depth_m)
    with pytest.raises(ValueError, match="read-only"):
        by_text.depth_m[:] = 1


@pytest.mark.slow
def test_an_unknown_error_is_no_certainty(network: stadia.Network, image: NDArray[np.uint8]) -> None:
    photo = network.predict(image, fov_deg=60)
    assert photo.distance((40, 30), (90, 60)).deviation > 0
    photo.session.network.__dict__["relative_error"] = None
    assert np.isnan(photo.distance((40, 30), (90, 60)).deviation)


@pytest.mark.slow
def test_a_saved_video_has_all_frames_and_a_session_reads_them_once(
    network: stadia.Network, image: NDArray[np.uint8], tmp_path: Path
) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), np.roll(image, 2 * number, axis=1)[..., ::-1])
    *_, last = network.stream(tmp_path / "frames", fov_deg=60, scale_from="point=40,30:2@1")
    written = last.save(tmp_path / "out")
    assert len(written.predictions.files) == 3
    assert written.session.receipt is not None
    with refuses(stadia.StadiaError, where="frames", fix="renew"):
        list(last.session.frames())


def test_threads_that_ask_for_one_image_size_share_the_network() -> None:
    begin = Barrier(3)

    def resize(height: int, width: int) -> NetworkCheckpoint:
        time.sleep(0.05)
        return MagicMock(NetworkCheckpoint)

    checkpoint = MagicMock(NetworkCheckpoint)
    checkpoint.resized.side_effect = resize
    network = Network("base", checkpoint)

    def fit(number: int) -> Network:
        begin.wait()
        return network.fit(HEIGHT, WIDTH)

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(fit, range(3)))) == 1
