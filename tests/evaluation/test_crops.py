"""A checkpoint or another program that saw the KB crop: predicted from it, put back at its place, scored where it says
something.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.tensor_cameras import intrinsics

from stadia.core.types import LEFT, Camera, DepthScale
from stadia.data.frame_preparation import read_frames
from stadia.evaluation.depth_score import DepthScore, open_ground_truth_folder, score_depth
from stadia.evaluation.point_clouds import color_points
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.evaluation.protocols import PROTOCOLS
from stadia.io.depth_files import read_depth_map
from stadia.predict.predict_frames import predict_to_folder, stream_predictions
from stadia.training.prediction.aligned_motion import align_motion

MADE_BY = Provenance(recipe="selfsup", config_hash="0123", motion="network")
SIZE = (375, 1242)
INSIDE = (slice(23, 375), slice(13, 1229))  # the KB crop, by hand
Make = Callable[..., object]


@pytest.fixture
def kitti_drive(drive: Make) -> object:
    """Drive of KITTI's size: the law of its world holds at every pixel."""
    made = drive(2, height=SIZE[0], width=SIZE[1])
    rows = np.mgrid[: SIZE[0], : SIZE[1]][0]
    picture = np.stack([rows * 0.6, rows * 0.3, rows * 0.1], -1).astype(np.uint8)
    depth_m = (1 / (0.04 + 0.3 * picture[..., 0] / 255.0)).astype(np.float32)
    made.image = lambda index, side=LEFT: picture  # type: ignore[attr-defined]
    made.depth_m = lambda index, side=LEFT: depth_m  # type: ignore[attr-defined]
    made.camera = lambda index, side=LEFT: intrinsics(721.5, 721.5, 609.6, 172.9, height=SIZE[0], width=SIZE[1])  # type: ignore[attr-defined]
    return made


class Seer:
    """A network of the KB crop at half its size; keeps what it was shown. It knows the law of Drive's world."""

    depth_scale, height, width, crop = DepthScale.METRES, 176, 608, "kb"

    def __init__(self) -> None:
        self.shown: list[tuple[np.ndarray, Camera]] = []

    def inverse_depth(self, image: np.ndarray, camera: Camera) -> np.ndarray:
        self.shown.append((image, camera))
        return 0.04 + 0.3 * image[:, :1]

    def T_next_now(self, *_: object) -> None:
        return None


def test_the_network_is_shown_the_crop_with_its_camera(kitti_drive: object) -> None:
    seer = Seer()
    (predicted, _) = stream_predictions(seer, read_frames(kitti_drive), align_motion)  # type: ignore[arg-type]
    image, camera = seer.shown[0]
    assert image.shape == (2, 3, 176, 608), "both frames at once"
    for cx, cy, fx in zip(camera.cx, camera.cy, camera.fx, strict=True):
        assert float(cx) == pytest.approx((609.6 - 13 + 0.5) / 2 - 0.5)
        assert float(cy) == pytest.approx((172.9 - 23 + 0.5) / 2 - 0.5)
        assert float(fx) == pytest.approx(721.5 / 2)
    assert predicted.frame.image.shape == (352, 1216, 3), "what a video and a cloud are drawn of"
    _, colors = color_points(predicted, 10**6)
    assert len(colors)


def test_depth_is_put_back_at_its_place(tmp_path: Path, kitti_drive: object) -> None:
    predictions = predict_to_folder(Seer(), read_frames(kitti_drive), tmp_path / "out", MADE_BY, source="drive")  # type: ignore[arg-type]
    assert predictions.record is not None
    assert (predictions.record.crop, predictions.record.image_size) == ("kb", SIZE)
    png = read_depth_map(tmp_path / "out" / "depth" / "000000.png")
    assert png.shape == SIZE
    assert (png[INSIDE] > 0).all()
    outside = np.ones(SIZE, bool)
    outside[INSIDE] = False
    assert (png[outside] == 0).all(), "0 is none: no depth is made up outside"
    np.testing.assert_allclose(png[INSIDE][2:-2], kitti_drive.depth_m(0)[INSIDE][2:-2], rtol=0.02)  # type: ignore[attr-defined]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, NDArray[np.float64]]:
    """Ground truth at full size everywhere, and another program's PNGs of the KB crop, right to the pixel."""
    rng = np.random.default_rng(0)
    truth_m = np.rint(rng.uniform(2, 78, SIZE) * 256) / 256
    for folder, depth in (("truth", truth_m), ("crops", truth_m[INSIDE])):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.rint(depth * 256).astype(np.uint16))
    return tmp_path / "crops", tmp_path / "truth", truth_m


def scored(predictions: Path, truth: Path, protocol: str, crop: str | None = None) -> DepthScore:
    rules = PROTOCOLS[protocol]
    return score_depth(Predictions.open(predictions, crop=crop), open_ground_truth_folder(truth, rules), rules)


class TestOtherPrograms:
    @pytest.mark.slow
    def test_a_crop_is_pasted_at_its_place(self, folders: tuple[Path, Path, NDArray]) -> None:
        """A pixel off, and random depth is nowhere right."""
        predictions, truth, _ = folders
        score = scored(predictions, truth, "kitti-eigen-improved-garg", "kb")
        assert score.metrics["abs_rel"] == 0
        assert score.per_image[0].pixels == (371 - 153) * (1197 - 44)
        assert any("of the crop 'kb'" in note for note in score.notes)
