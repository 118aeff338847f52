"""Scores from disk: equal to the protocol written again in NumPy, refused where they would mean nothing."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.core.errors import ProtocolError, StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.depth_score import DepthScore, open_ground_truth_folder, score_depth
from stadia.evaluation.image_score import score_image
from stadia.evaluation.predictions_folder import Predictions, PredictionsRecord
from stadia.evaluation.protocols import PROTOCOLS
from stadia.io.atomic_files import write_json
from stadia.io.depth_files import DEPTH_KEYS, write_depth_map, write_depth_png

Array = NDArray[np.float64]
Maps = dict[str, Array]
Write = Callable[..., Path]


def score(
    predictions: Path, reference: Path, protocol: str = "metric", depth_scale: DepthScale | None = None
) -> DepthScore:
    return score_depth(
        Predictions.open(predictions, depth_scale),
        open_ground_truth_folder(reference, PROTOCOLS[protocol]),
        PROTOCOLS[protocol],
    )


def predicted(truth: Maps, seed: int = 1, factor: float = 1.0) -> Maps:
    """Dense predictions: the truth with noise where it is, something else where it is not."""
    rng = np.random.default_rng(seed)
    return {n: factor * np.where(g > 0, g, 17) * np.exp(rng.normal(0.02, 0.2, g.shape)) for n, g in truth.items()}


def numpy_scores(
    predicted: Maps, truth: Maps, *, scale: bool, box: tuple[slice, slice] | None = None
) -> dict[str, float]:
    """The Monodepth2 evaluation loop once more: mask, crop, median, clamp, means over images."""
    rows = []
    for name, g in truth.items():
        mask = (g > 1e-3) & (g < 80)
        if box is not None:
            inside = np.zeros_like(mask)
            inside[box] = True
            mask &= inside
        p, g = predicted[name][mask], g[mask]
        if scale:
            p = p * np.median(g) / np.median(p)
        p = np.clip(p, 1e-3, 80)
        worst, log = np.maximum(p / g, g / p), np.log(p) - np.log(g)
        rows.append(
            {
                "abs_rel": np.mean(np.abs(p - g) / g),
                "sq_rel": np.mean((p - g) ** 2 / g),
                "rmse": np.sqrt(np.mean((p - g) ** 2)),
                "rmse_log": np.sqrt(np.mean(log**2)),
                "silog": 100 * np.sqrt(np.mean(log**2) - np.mean(log) ** 2),
                "log10": np.mean(np.abs(log)) / np.log(10),
                "mae": np.mean(np.abs(p - g)),
                "d1": np.mean(worst < 1.25),
                "d2": np.mean(worst < 1.25**2),
                "d3": np.mean(worst < 1.25**3),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@pytest.mark.parametrize(("quarters", "fix"), [(1, "numpy.rot90(map, 3)"), (3, "numpy.rot90(map)")])
def test_maps_turned_by_90_degrees_are_named(quarters: int, fix: str, write_maps: Write) -> None:
    rows, columns = np.mgrid[:48, :48]
    truth = dict.fromkeys("ab", 2 + 0.5 * rows + 0.1 * columns + 0.01 * rows * columns)
    turned = write_maps({name: np.rot90(depth, quarters) for name, depth in truth.items()}, "turned")
    assert any(f"Fix: {fix} " in note for note in score(turned, write_maps(truth, "truth")).notes)
    upright = write_maps({name: np.rot90(depth[:30], quarters) for name, depth in truth.items()}, "upright")
    with refuses(ProtocolError, fix="turn each map by 90 degrees"):
        score(upright, write_maps({name: depth[:30] for name, depth in truth.items()}, "wide"))


class TestAgainstNumpy:
    def test_up_to_scale_with_the_garg_crop(self, truth_m: Maps, write_maps: Write) -> None:
        p = predicted(truth_m, factor=0.031)
        ours = score(write_maps(p, "predictions"), write_maps(truth_m, "truth"), "kitti-eigen", DepthScale.UP_TO_SCALE)
        box = (slice(16, 39), slice(4, 115))  # of 40x120
        assert ours.metrics == pytest.approx(numpy_scores(p, truth_m, scale=True, box=box), abs=1e-6, rel=1e-9)

    def test_inverse_depth_up_to_scale_and_shift(self, truth_m: Maps, write_maps: Write) -> None:
        truth = {n: np.where(g < 80, g, 0) for n, g in truth_m.items()}
        affine = {n: -3.0 + 40.0 / np.where(g > 0, g, 17) for n, g in truth.items()}
        perfect = score(
            write_maps(affine, "predictions"), write_maps(truth, "truth"), "relative", DepthScale.AFFINE_INVERSE
        )
        assert perfect.metrics["abs_rel"] == pytest.approx(0, abs=1e-10)
        assert perfect.scale_ratio_median is None
        noisy = {n: a + np.random.default_rng(3).normal(0, 0.1, a.shape) for n, a in affine.items()}
        fitted = {}
        for n, g in truth.items():
            A = np.stack([noisy[n][g > 0], np.ones((g > 0).sum())], 1)
            a, b = np.linalg.lstsq(A, 1 / g[g > 0], rcond=None)[0]
            fitted[n] = 1 / np.clip(a * noisy[n] + b, 1 / 80, 1 / 1e-3)
        ours = score(
            write_maps(noisy, "noisy"), write_maps(truth, "truth"), "relative", DepthScale.AFFINE_INVERSE
        ).metrics
        assert ours == pytest.approx(numpy_scores(fitted, truth, scale=False), rel=1e-6)

    def test_another_size_is_resized_in_inverse_depth(self, truth_m: Maps, write_maps: Write) -> None:
        small = {n: np.random.default_rng(5).uniform(2, 60, (20, 60)) for n in truth_m}
        large = {n: 1 / cv2.resize(1 / p, (120, 40), interpolation=cv2.INTER_LINEAR) for n, p in small.items()}
        ours = score(write_maps(small, "small"), write_maps(truth_m, "truth")).metrics
        assert ours == pytest.approx(numpy_scores(large, truth_m, scale=False), rel=1e-6)

    def test_the_kitti_benchmark(self, truth_m: Maps, write_maps: Write) -> None:
        """The development kit's loop on uint16 PNG: every pixel with truth, no crop, no cap, and its own units."""
        p = {n: np.rint(np.clip(v, 1 / 256, 250) * 256) / 256 for n, v in predicted(truth_m).items()}
        rows = []
        for name, g in truth_m.items():
            d, g = p[name][g > 0], g[g > 0]
            log = np.log(g) - np.log(d)
            silog = 100 * np.sqrt(np.mean(log**2) - np.mean(log) ** 2)
            irmse = np.sqrt(np.mean((1 / (d / 1000) - 1 / (g / 1000)) ** 2))
            rows.append((silog, 100 * np.mean((d - g) ** 2 / g**2), 100 * np.mean(abs(d - g) / g), irmse))
        ours = score(write_maps(p, "predictions", ".png"), write_maps(truth_m, "truth", ".png"), "kitti-benchmark")
        assert list(ours.metrics) == ["silog", "sq_error_rel_percent", "abs_error_rel_percent", "irmse_per_km"]
        assert list(ours.metrics.values()) == pytest.approx(np.mean(rows, axis=0).tolist(), abs=1e-6, rel=1e-9)
        assert [image.pixels for image in ours.per_image] == [int((g > 0).sum()) for g in truth_m.values()]

    @pytest.mark.slow
    def test_nyu_is_in_millimetres_for_both_sides(self, tmp_path: Path) -> None:
        """480x640: rows 45:471, columns 41:601, strictly below 10 m; another program's PNG has the same unit, and a
        note says so.
        """
        rng = np.random.default_rng(7)
        truth = np.rint(rng.uniform(0.5, 11, (480, 640)) * 1000) / 1000
        p = np.rint(truth * np.exp(rng.normal(0, 0.2, truth.shape)) * 1000) / 1000
        for folder, depth in (("predictions", p), ("truth", truth)):
            (tmp_path / folder).mkdir()
            cv2.imwrite(str(tmp_path / folder / "a.png"), np.rint(depth * 1000).astype(np.uint16))
        ours = score(tmp_path / "predictions", tmp_path / "truth", "nyu")
        truth[truth >= 10] = 0
        expected = numpy_scores(
            {"a": np.clip(p, 1e-3, 10)}, {"a": truth}, scale=False, box=(slice(45, 471), slice(41, 601))
        )
        assert ours.metrics == pytest.approx(expected, abs=1e-9)
        for name in ("depth", "reference"):
            assert f"integers of --{name} are read as value / 1000 m" in ours.notes
            assert ours.summary()[f"{name}_factor"] == 1000


class TestLaws:
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_the_truth_scores_perfectly(self, protocol: str, truth_m: Maps, write_maps: Write) -> None:
        near = {
            n: np.where(g < 10, g, 0) for n, g in truth_m.items()
        }  # below every cap, as holes where there is no truth
        reference = write_maps(near, "truth")
        result = score(reference, reference, protocol)
        assert result.metrics == {name: float(name in ("d1", "d2", "d3")) for name in PROTOCOLS[protocol].metrics}
        assert result.scale_ratio_median == 1.0
        assert result.scale_ratio_spread == 0.0

    def test_an_image_without_truth_is_counted_not_averaged(self, truth_m: Maps, write_maps: Write) -> None:
        p = predicted(truth_m)
        whole = score(write_maps(p, "predictions"), write_maps(truth_m, "truth"))
        empty = {**truth_m, "000003": np.zeros((40, 120))}
        result = score(write_maps({**p, "000003": p["000000"]}, "predictions4"), write_maps(empty, "truth4"))
        assert result.metrics == whole.metrics
        assert result.summary()["images"] == 3
        assert result.summary()["images_without_truth"] == 1
        assert any("'000003'" in note for note in result.notes)


class TestOurOwnFolder:
    def record(self, depth_scale: DepthScale, **changes: object) -> PredictionsRecord:
        values = {
            "depth_scale": depth_scale, "trust": "-", "recipe": "r", "config_hash": "abc", "checkpoint": "c",
            "source": "s",
            "network_size": (40, 120), "finished": True, "entries": ("000000", "000001", "000002"),
        }  # fmt: skip
        return PredictionsRecord.model_validate(values | changes)

    def folder(self, tmp_path: Path, truth: Maps, depth_scale: DepthScale, **changes: object) -> Path:
        out = tmp_path / "ours"
        for name, p in predicted(truth).items():
            write_depth_map(
                out / "depth" / f"{name}.npz", **{DEPTH_KEYS[depth_scale]: p.astype(np.float32), "K": np.eye(3)}
            )
            write_depth_png(out / "depth" / f"{name}.png", p * 9)  # must not be what is read
        self.record(depth_scale, **changes).write(out)
        return out

    def test_the_depth_scale_is_read_and_the_finer_file_taken(
        self, tmp_path: Path, truth_m: Maps, write_maps: Write
    ) -> None:
        result = score(self.folder(tmp_path, truth_m, DepthScale.UP_TO_SCALE), write_maps(truth_m, "truth"), "relative")
        assert result.depth_scale is DepthScale.UP_TO_SCALE
        assert result.metrics == pytest.approx(numpy_scores(predicted(truth_m), truth_m, scale=True), rel=1e-5)
        assert len(result.notes) == 1

    def test_contradicting_depth_scale_is_refused(self, tmp_path: Path, truth_m: Maps) -> None:
        with refuses(ProtocolError, where="predictions.json"):
            Predictions.open(self.folder(tmp_path, truth_m, DepthScale.UP_TO_SCALE), DepthScale.METRES)

    def test_the_images_shape_counts_not_the_networks(self, tmp_path: Path, truth_m: Maps, write_maps: Write) -> None:
        """A network may squeeze the whole image to any shape; a crop may not be scored off its place."""
        out = tmp_path / "ours"
        for name in truth_m:
            write_depth_map(out / "depth" / f"{name}.npz", depth_m=np.full((32, 64), 20, np.float32))
        self.record(DepthScale.METRES, image_size=(40, 120)).write(out)
        score(out, write_maps(truth_m, "truth"))
        self.record(DepthScale.METRES, image_size=(40, 100)).write(out)
        with refuses(ProtocolError, where="000000.npz", found=("100x40", "120x40")):
            score(out, write_maps(truth_m, "truth"))


class TestBadInput:
    """Each is one line naming the file, what was found, what was expected."""

    def refused(self, predictions: Path, reference: Path, *words: str, protocol: str = "metric") -> None:
        with pytest.raises(StadiaError) as error:
            score(predictions, reference, protocol)
        for word in words:
            assert word in str(error.value)
        assert "\n" not in str(error.value)

    def test_stems_that_do_not_match(self, truth_m: Maps, write_maps: Write) -> None:
        p = {f"frame_{int(n) + 5}": v for n, v in truth_m.items()}
        self.refused(
            write_maps(p, "predictions"), write_maps(truth_m, "truth"), "3 of 3", "'000000'", "'frame_5'", "predictions"
        )

    @pytest.mark.parametrize("value", [-1.0, 0.0])
    def test_a_scored_pixel_without_prediction(self, value: float, truth_m: Maps, write_maps: Write) -> None:
        p = predicted(truth_m)
        p["000002"][np.unravel_index(truth_m["000002"].argmax(), (40, 120))] = value
        score(write_maps(p, "predictions"), write_maps(truth_m, "truth"))  # beyond the cap: not scored
        p["000002"][truth_m["000002"] > 60] = value
        self.refused(
            write_maps(p, "predictions"),
            write_maps(truth_m, "truth"),
            "predictions/000002.npy",
            "no finite positive depth",
        )

    def test_infinite_metres_are_no_depth_and_left_out(self, truth_m: Maps, write_maps: Write) -> None:
        p = predicted(truth_m)
        beyond = {n: np.where(np.random.default_rng(4).random(v.shape) < 0.1, np.inf, v) for n, v in p.items()}
        result = score(write_maps(beyond, "predictions"), write_maps(truth_m, "truth"))
        without = {n: np.where(np.isinf(beyond[n]), 0, v) for n, v in truth_m.items()}
        assert result.metrics == pytest.approx(numpy_scores(p, without, scale=False), rel=1e-9)
        assert result.per_image[0].infinite == pytest.approx(0.1, abs=0.02)
        assert any("infinite" in note for note in result.notes)
        with refuses(ProtocolError, where="000000.npy"):
            score(write_maps(beyond, "predictions"), write_maps(truth_m, "truth"), "relative", DepthScale.UP_TO_SCALE)
        dead = {n: np.where(np.random.default_rng(4).random(v.shape) < 0.6, np.inf, v) for n, v in p.items()}
        self.refused(
            write_maps(dead, "predictions"), write_maps(truth_m, "truth"), "000000.npy", "no finite positive depth"
        )

    def test_holes_are_not_resized_into_numbers(self, truth_m: Maps, write_maps: Write) -> None:
        small = {n: np.full((20, 60), 5.0) for n in truth_m}
        small["000001"][10:, 30:] = 0
        self.refused(
            write_maps(small, "predictions"), write_maps(truth_m, "truth"), "000001.npy", "no finite positive depth"
        )

    def test_holes_of_flipped_maps_are_those_of_the_truth(self, truth_m: Maps, write_maps: Write) -> None:
        """Wavemap 89: rows from the bottom to the top, with holes as a LiDAR has them."""
        holed = {name: np.where(np.arange(40)[:, None] < 12, 0, depth) for name, depth in truth_m.items()}
        flipped = write_maps({name: depth[::-1].copy() for name, depth in holed.items()}, "predictions")
        with pytest.raises(ProtocolError) as caught:
            score(flipped, write_maps(holed, "truth"))
        assert "numpy.flipud" in str(caught.value.fix)
        one_hole = {name: np.where(np.arange(40)[:, None] == 20, 0, depth) for name, depth in truth_m.items()}
        with pytest.raises(ProtocolError) as caught:
            score(write_maps(one_hole, "holes"), write_maps(truth_m, "truth"))
        assert "numpy.flipud" not in str(caught.value.fix)


def test_the_score_file(tmp_path: Path, truth_m: Maps, write_maps: Write) -> None:
    result = score(write_maps(predicted(truth_m), "predictions"), write_maps(truth_m, "truth"))
    write_json(tmp_path / "scores" / "metric.json", result.to_json())
    stored = json.loads((tmp_path / "scores" / "metric.json").read_text())
    assert stored["protocol"] == "metric"
    assert stored["depth_scale"] == "metres"
    assert stored["images"] == 3
    assert stored["metrics"] == result.metrics
    assert [image["name"] for image in stored["per_image"]] == list(truth_m)
    mean = np.mean([image["abs_rel"] for image in stored["per_image"]])
    assert stored["metrics"]["abs_rel"] == pytest.approx(mean)


SIZES = [(375, 1242), (370, 1224), (370, 1226), (374, 1238), (376, 1241)]


@pytest.fixture(scope="module")
def independent() -> ModuleType:
    path = Path(__file__).parents[2] / "experiments" / "png_protocol.py"
    spec = importlib.util.spec_from_file_location("png_protocol", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("crop", ["garg", "eigen"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_random_maps_of_every_size(height: int, width: int, crop: str, independent: ModuleType) -> None:
    """Sparse truth from a millimetre to beyond the cap, predictions of the KB crop from 1 mm to 300 m."""
    rng = np.random.default_rng(height + width)
    true_m = np.exp(rng.uniform(np.log(5e-4), np.log(120), (height, width)))
    true_m[rng.random(true_m.shape) > 0.05] = 0
    predicted_m = np.exp(rng.uniform(np.log(5e-4), np.log(300), (352, 1216)))
    expected = independent.loop({"a": predicted_m}, {"a": true_m}, crop, kb_crop=True)["a"]
    ours = score_image("a", predicted_m, true_m, DepthScale.METRES, PROTOCOLS[independent.PROTOCOL_OF_CROP[crop]], "kb")
    assert ours is not None
    assert ours.outside_crop == 0
    assert {name: ours.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-6)
