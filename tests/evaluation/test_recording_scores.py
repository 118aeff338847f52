"""A predictor on recordings: predicted to disk, scored from disk; missing ground truth is reported first."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ProtocolError, StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.evaluation.protocols import PROTOCOLS
from stadia.evaluation.recording_scores import write_score
from stadia.predict.evaluate_recordings import evaluate_recordings

MADE_BY = Provenance(recipe="selfsup", config_hash="0123456789abcdef", motion="network")
Make = Callable[..., object]


class TestRecordings:
    def evaluate(self, predictor: object, recordings: list, out: Path, protocol: str = "metric", **options: object):
        return evaluate_recordings(predictor, recordings, PROTOCOLS[protocol], out, MADE_BY, **options)  # type: ignore[arg-type]

    def test_predicted_then_scored(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        result = self.evaluate(red_reader(), [drive(name="set/a"), drive(name="set/b")], tmp_path)
        assert result.depth is not None
        assert [image.name for image in result.depth.per_image[:2]] == ["set/a/000000", "set/a/000002"]
        assert result.depth.without_truth == ("set/a/000001", "set/b/000001")
        assert result.depth.metrics["abs_rel"] < 0.01
        assert result.depth.scale_ratio_median == pytest.approx(1, abs=0.01)
        assert (tmp_path / "set" / "b" / "predictions.json").exists()
        path = result.odometry["set/b"]
        assert (len(path.reference), str(path.alignment)) == (5, "se3")  # frame 1 has no pose
        assert path.metrics["ate_rmse_m"] == pytest.approx(0, abs=1e-6)
        summary = json.loads(json.dumps(result.summary(), allow_nan=False))
        assert summary["images"] == 10
        assert summary["odometry"]["set/a"]["path_m"] == pytest.approx(2.5)

    def test_errors_of_the_best_and_the_worst_images_are_drawn(
        self, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        drawn = tmp_path / "drawn"
        self.evaluate(red_reader(), [drive(name="set/a"), drive(name="set/b")], tmp_path / "out", error_maps=drawn)
        names = sorted(path.name for path in drawn.iterdir())
        assert len(names) == 6
        assert all(name.startswith(("best-", "worst-")) and "-set-" in name for name in names)

    def test_a_folder_with_files_is_refused_before_anything_is_predicted(
        self, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        (tmp_path / "drawn").mkdir()
        (tmp_path / "drawn" / "mine.png").touch()
        with refuses(StadiaError, where="drawn", expected="a new or empty folder"):
            self.evaluate(red_reader(), [drive(name="set/a")], tmp_path / "out", error_maps=tmp_path / "drawn")
        assert not (tmp_path / "out").exists()

    def test_score_files_for_the_report(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        result = self.evaluate(red_reader(), [drive(name="set/a")], tmp_path)
        depth, path = result.write(tmp_path / "scores", "set-metric", {"checkpoint": "best, step 7"})
        assert json.loads(depth.read_text())["checkpoint"] == "best, step 7"
        assert (depth.name, path.name) == ("set-metric.json", "set-metric-set-a.json")
        stored = json.loads(path.read_text())
        assert stored["metrics"]["ate_rmse_m"] == pytest.approx(0, abs=1e-6)
        assert stored["path_true_m"] == [[0, 0], [0, 1], [0, 1.5], [0, 2], [0, 2.5]]
        np.testing.assert_allclose(stored["path_estimated_m"], stored["path_true_m"], atol=1e-3)
        assert (stored["recording"], stored["height_true_m"]) == ("set/a", [0.0] * 5)
        (image,) = (tmp_path / "set" / "a" / "images").iterdir()
        names = json.loads((tmp_path / "set" / "a" / "predictions.json").read_text())["entries"]
        assert image.stem == names[len(names) // 2]

    def test_what_is_on_disk_is_scored_again_not_predicted_again(
        self, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        first = self.evaluate(red_reader(), [drive()], tmp_path)
        silent = red_reader()
        silent.inverse_depth = None
        assert self.evaluate(silent, [drive()], tmp_path, reuse=True).depth.metrics == first.depth.metrics
        with refuses(ProtocolError, where="drive"):
            self.evaluate(silent, [drive()], tmp_path, indices={"drive": [0, 2, 4]}, reuse=True)
        other = Provenance(recipe="selfsup", config_hash="another")
        with refuses(ProtocolError, where="drive"):
            evaluate_recordings(silent, [drive()], PROTOCOLS["metric"], tmp_path, other, reuse=True)
        with refuses(StadiaError, where="drive"):
            self.evaluate(red_reader(), [drive()], tmp_path)

    def test_metres_are_not_compared_with_depth_without_a_unit(
        self, tmp_path: Path, drive: Make, red_reader: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drive, "has_metric_depth", False)
        with refuses(ProtocolError, where="protocol 'metric'"):
            self.evaluate(red_reader(), [drive()], tmp_path)
        assert not [*tmp_path.iterdir()]
        scaled = red_reader(DepthScale.UP_TO_SCALE, scale=0.2)
        assert self.evaluate(scaled, [drive()], tmp_path, "relative").depth is not None

    def test_up_to_scale_is_scaled_with_a_note(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        result = self.evaluate(red_reader(DepthScale.UP_TO_SCALE, scale=0.2), [drive()], tmp_path, "relative")
        assert result.depth is not None
        assert result.depth.metrics["abs_rel"] < 0.01
        assert result.depth.scale_ratio_median == pytest.approx(5, rel=0.01)
        assert str(result.odometry["drive"].alignment) == "sim3"
        assert result.odometry["drive"].scale == pytest.approx(5)

    def test_a_depth_scale_is_refused_before_anything_is_predicted(
        self, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        with refuses(ProtocolError, where="protocol 'metric'"):
            self.evaluate(red_reader(DepthScale.UP_TO_SCALE), [drive()], tmp_path)
        assert not list(tmp_path.iterdir())


def test_a_score_is_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    for value in (1, 1, 2, 3, 3):
        write_score(path, {"abs_rel": value})
    kept = {file.name: json.loads(file.read_text())["abs_rel"] for file in tmp_path.iterdir()}
    assert kept == {"val.json": 3, "val.earlier-1.json": 1, "val.earlier-2.json": 2}
