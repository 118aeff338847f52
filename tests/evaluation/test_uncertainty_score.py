"""What an uncertainty on disk is worth stands beside the scores of depth, and changes none of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from tests.evaluation.test_depth_score import score

from stadia.core.types import Camera, DepthScale, PredictedMaps
from stadia.data.frame_preparation import Frame
from stadia.evaluation.predictions_folder import Provenance
from stadia.io.depth_files import list_arrays, write_depth_map
from stadia.predict.predict_frames import predict_to_folder

Maps = dict[str, NDArray[np.float64]]
Write = Callable[..., Path]


@pytest.fixture
def said(truth_m: Maps, tmp_path: Path) -> tuple[Path, Maps, Maps]:
    """Predictions of another program, at the truth's size: the folder, depth, and log uncertainty that knows half of
    the noise.
    """
    rng = np.random.default_rng(2)
    depth, doubt = {}, {}
    for name, g in truth_m.items():
        noise = rng.normal(0, 0.3, g.shape)
        depth[name] = np.where(g > 0, g, 17) * np.exp(noise)
        doubt[name] = np.log(np.abs(noise) + 0.05) + rng.normal(0, 0.5, g.shape)
        write_depth_map(tmp_path / "said" / f"{name}.npz", depth_m=depth[name], log_uncertainty=doubt[name])
    return tmp_path / "said", depth, doubt


def curve(error: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean error of what is at most as uncertain as each percentile, in NumPy."""
    return np.array([*(error[by <= np.percentile(by, 100 - 2 * k)].mean() for k in range(50)), 0])


def test_equal_to_numpy_beside_scores_that_stay(
    said: tuple[Path, Maps, Maps], truth_m: Maps, write_maps: Write
) -> None:
    folder, depth, doubt = said
    truth = write_maps(truth_m, "truth")
    whole = score(folder, truth)
    assert whole.metrics == score(write_maps(depth, "depth alone"), truth).metrics
    curves, oracles, ranks = [], [], []
    for name, g in truth_m.items():
        scored = (g > 0) & (g < 80)
        error = np.abs(np.clip(depth[name], 1e-3, 80) - g)[scored] / g[scored]  # as clamped by the protocol
        curves.append(curve(error, doubt[name][scored]))
        oracles.append(curve(error, error))
        ranks.append(spearmanr(doubt[name][scored], error).statistic)
    found = whole.summary()["uncertainty"]["abs_rel"]
    assert found["ause"] == pytest.approx(
        np.mean([np.trapezoid(a - b, dx=0.02) for a, b in zip(curves, oracles, strict=True)]), rel=1e-6
    )
    assert found["spearman"] == pytest.approx(np.mean(ranks), rel=1e-6)
    assert found["below_random"] == pytest.approx(1 - found["ause"] / found["ause_of_random"])
    assert 0.2 < found["below_random"] < 0.9
    written = whole.to_json()
    assert written["uncertainty"]["abs_rel"]["curve"] == pytest.approx(np.mean(curves, axis=0), rel=1e-6)
    assert written["uncertainty"]["abs_rel"]["curve_of_oracle"] == pytest.approx(np.mean(oracles, axis=0), rel=1e-6)
    assert written["per_image"][0]["uncertainty"]["abs_rel"]["spearman"] == pytest.approx(ranks[0], rel=1e-6)
    assert set(found) == {"ause", "aurg", "ause_of_random", "below_random", "spearman"}
    assert set(written["uncertainty"]) == {"abs_rel", "rmse", "d1"}


def test_the_error_is_the_one_that_is_scored_after_alignment(
    said: tuple[Path, Maps, Maps], truth_m: Maps, tmp_path: Path
) -> None:
    folder, depth, doubt = said
    for name in depth:
        write_depth_map(tmp_path / "small" / f"{name}.npz", depth=0.03 * depth[name], log_uncertainty=doubt[name])
        write_depth_map(tmp_path / "truth" / f"{name}.npz", depth_m=truth_m[name])
    small = score(tmp_path / "small", tmp_path / "truth", "relative", DepthScale.UP_TO_SCALE).summary()["uncertainty"]
    large = score(folder, tmp_path / "truth", "relative").summary()["uncertainty"]
    for error in large:
        assert small[error] == pytest.approx(large[error], rel=1e-6)


MADE_BY = Provenance(recipe="none", config_hash="0", motion="network")


class DepthAlone:
    """Says 1 m everywhere."""

    depth_scale, height, width, crop = DepthScale.METRES, 4, 6, "none"

    def inverse_depth(self, image: np.ndarray, camera: Camera) -> np.ndarray:
        return np.ones((len(image), 1, 4, 6), np.float32)

    def T_next_now(self, *_: object) -> None:
        return None


class Doubtful(DepthAlone):
    """And is asked once: doubts rise to the right."""

    def inverse_depth(self, image: np.ndarray, camera: Camera) -> np.ndarray:
        raise AssertionError("a second pass of the network")

    def maps(self, image: np.ndarray, camera: Camera) -> PredictedMaps:
        doubts = np.tile(np.arange(-3, 3, dtype=np.float32), (len(image), 1, 4, 1))
        return PredictedMaps(np.ones((len(image), 1, 4, 6), np.float32), log_uncertainty=doubts)


def frames() -> list[Frame]:
    return [Frame(name, np.zeros((8, 12, 3), np.uint8), np.diag([10.0, 10, 1])) for name in ("a", "b")]


def test_uncertainty_is_written_beside_depth(tmp_path: Path) -> None:
    predictions = predict_to_folder(Doubtful(), frames(), tmp_path / "out", MADE_BY, source="none")
    log_uncertainty = predictions.log_uncertainty("b")
    assert log_uncertainty is not None
    assert log_uncertainty.tolist() == [[-3, -2, -1, 0, 1, 2]] * 4
    assert (predictions.read("b") == 1).all()
    assert set(list_arrays(predictions.files["b"])) == {"depth_m", "K", "log_uncertainty"}
