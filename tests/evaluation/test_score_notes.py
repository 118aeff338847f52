"""What stands in a score's notes where it is not the network that is wrong: dead images, and a wrong unit."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.evaluation.depth_score import DepthScore, open_ground_truth_folder, score_depth
from stadia.evaluation.image_score import score_image
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocols import PROTOCOLS, note_of_scale

Maps = dict[str, NDArray[np.float64]]
Write = Callable[..., Path]


def score(predictions: Path, reference: Path) -> DepthScore:
    return score_depth(
        Predictions.open(predictions), open_ground_truth_folder(reference, PROTOCOLS["metric"]), PROTOCOLS["metric"]
    )


def predicted(truth: Maps) -> Maps:
    """Dense, and right within a fifth where there is truth."""
    rng = np.random.default_rng(1)
    return {n: np.where(g > 0, g, 17) * np.exp(rng.normal(0.02, 0.2, g.shape)) for n, g in truth.items()}


def test_a_dead_image_is_named(truth_m: Maps, write_maps: Write) -> None:
    """Of 1e-6 m everywhere, or of 1e9 m at half of it, a mean over images says little."""
    truth = write_maps(truth_m, "truth")
    alive = score(write_maps(predicted(truth_m), "predictions"), truth)
    assert max(image.at_clamp for image in alive.per_image) < 0.1
    assert not any("clamp" in note for note in alive.notes)
    p = predicted(truth_m)
    p["000001"][:] = 1e-6
    p["000002"][:] = np.where(np.random.default_rng(4).random((40, 120)) < 0.4, 1e9, p["000002"])
    result = score(write_maps(p, "dead"), truth)
    assert result.per_image[1].at_clamp == 1
    assert result.to_json()["per_image"][2]["at_clamp"] == pytest.approx(0.45, abs=0.05)
    (note,) = [note for note in result.notes if "clamp" in note]
    assert note.startswith(
        "2 of 3 images have more than 10% of their scored pixels at the protocol's clamp (most '000001': 100.0%)"
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_clamped_pixels_are_counted_after_every_alignment(protocol: str) -> None:
    rules = PROTOCOLS[protocol]
    far = rules.clamp_m[1]
    true_m = np.linspace(0.1 * far, 0.9 * far, 4800).reshape(40, 120)
    true_m[:, 60] = 0.99 * far
    predicted_m = np.where(np.arange(120) == 60, 1.1 * far, true_m)
    scored = rules.mask(true_m)
    for depth_scale in rules.alignments:
        found = score_image(
            "a",
            1 / predicted_m if depth_scale is DepthScale.AFFINE_INVERSE else predicted_m,
            true_m,
            depth_scale,
            rules,
        )
        assert found is not None
        assert found.at_clamp == pytest.approx(float(scored[:, 60].sum() / scored.sum()))
        exact = score_image(
            "a", 1 / true_m if depth_scale is DepthScale.AFFINE_INVERSE else true_m, true_m, depth_scale, rules
        )
        assert exact is not None
        assert exact.at_clamp == 0


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (
            1000 / 256,
            (
                "the ground truth is millimetres read as value / 256 or the predictions are value / 256 read as"
                " millimetres"
            ),
        ),
        (0.256, "the ground truth is value / 256 read as millimetres"),
        (1 / 256, ": the predictions are PNG values not divided by 256"),
        (1000, ": the predictions are kilometres taken as metres"),
        (0.01, ": the predictions are centimetres taken as metres"),
    ],
)
def test_a_wrong_unit_is_named(factor: float, said: str, truth_m: Maps, write_maps: Write) -> None:
    truth = write_maps(truth_m, "truth")

    def notes(folder: str, sigma: float, factor: float) -> list[str]:
        rng = np.random.default_rng(1)
        p = {n: np.where(g > 0, g, 17) / factor * np.exp(rng.normal(0, sigma)) for n, g in truth_m.items()}
        return [note for note in score(write_maps(p, folder), truth).notes if "a wrong unit" in note]

    (note,) = notes("wrong", 0.005, factor)
    assert said in note
    assert not notes("loose", 0.2, factor), "a network errs differently from image to image"
    assert not notes("near", 0.005, factor * 1.1)
    assert not notes("right", 0.005, 1)


@pytest.mark.parametrize("depth_scale", [DepthScale.METRES, DepthScale.UP_TO_SCALE, DepthScale.AFFINE_INVERSE])
def test_reversed_depth_order_is_noted(truth_m: Maps, write_maps: Write, depth_scale: DepthScale) -> None:
    """As of an affine-invariant network whose maps were scored as they were: 17 % of the pixels within 25 %, and nobody
    wondered.
    """
    rules = PROTOCOLS["metric" if depth_scale is DepthScale.METRES else "relative"]
    truth = open_ground_truth_folder(write_maps(truth_m, "truth"), rules)
    depth = predicted(truth_m)
    inverse = {name: 40 / z for name, z in depth.items()}
    right, wrong = (inverse, depth) if depth_scale is DepthScale.AFFINE_INVERSE else (depth, inverse)
    scored = score_depth(Predictions.open(write_maps(right, "right"), depth_scale), truth, rules)
    assert min(image.order or 0 for image in scored.per_image) > 0.5
    assert not any("is near" in note for note in scored.notes)
    scored = score_depth(Predictions.open(write_maps(wrong, "wrong"), depth_scale), truth, rules)
    (note,) = [note for note in scored.notes if "reread" in note]
    assert ("predictions are depth" in note) == (depth_scale is DepthScale.AFFINE_INVERSE)
    assert ("pass --depth-scale affine-inverse" in note) == (depth_scale is not DepthScale.AFFINE_INVERSE)
    assert scored.to_json()["per_image"][0]["order"] < -0.5


def test_the_factor_that_makes_the_ratio_one_is_named(truth_m: Maps, tmp_path: Path) -> None:
    """Millimetres read as value / 256, with a network's bias of 5 %: the fix is the option, and applying it helps."""
    rng = np.random.default_rng(2)
    for name, map_m in truth_m.items():
        near = np.clip(map_m, 0, 15)
        for folder, per_metre, error in (("truth", 1000, 1.0), ("p", 256, 1.05)):
            (tmp_path / folder).mkdir(exist_ok=True)
            values = np.where(near > 0, near, 9 * (folder == "p")) * error * np.exp(rng.normal(0, 0.01, near.shape))
            cv2.imwrite(str(tmp_path / folder / f"{name}.png"), np.rint(values * per_metre).astype(np.uint16))
    rules = PROTOCOLS["metric"]
    predictions = Predictions.open(tmp_path / "p")
    scored = score_depth(predictions, open_ground_truth_folder(tmp_path / "truth", rules), rules)
    (note,) = [note for note in scored.notes if "a wrong unit" in note]
    assert "Fix: pass --reference-factor 1000" in note
    right = score_depth(predictions, open_ground_truth_folder(tmp_path / "truth", rules, 1000), rules)
    assert right.metrics["d1"] > 0.99
    assert right.summary()["reference_factor"] == 1000


def test_range_against_z_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    v, u = np.mgrid[:60, :100]
    stretch = np.sqrt(1 + ((u - 50) ** 2 + (v - 30) ** 2) / 70.0**2)
    for k in range(3):
        z = rng.uniform(3, 30, (60, 100))
        for folder, depth in (("z", z), ("range", z * stretch * np.exp(rng.normal(0, 0.03, z.shape)))):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"{k}.npy", depth)
    for predicted_as, truth, text in (("range", "z", "predictions grow"), ("z", "range", "the ground truth grow")):
        assert any(text in note for note in score(tmp_path / predicted_as, tmp_path / truth).notes)
    assert not any("grow" in note for note in score(tmp_path / "z", tmp_path / "z").notes)


@pytest.mark.parametrize(("beyond", "named"), [(0, True), (1, False)])
def test_depth_that_is_cut_off_at_the_largest_integer_is_named(beyond: int, named: bool, tmp_path: Path) -> None:
    """Surfaces go on beyond the limit; the sky, to which no depth comes near, has no depth."""
    ramp = np.tile(np.linspace(20_000, 90_000, 80), (60, 1))
    stored = np.where(ramp > 60_000, 65535, ramp) if beyond else np.minimum(ramp, 65535)
    cv2.imwrite(str(tmp_path / "0.png"), stored.astype(np.uint16))
    truth = open_ground_truth_folder(tmp_path, PROTOCOLS["metric"], 10_000)
    true_m = truth["0"]()
    assert true_m is not None
    assert true_m[:, -1].max() == 0
    assert [("cut off at 6.553 m" in note or "cut off at 6.554 m" in note) for note in truth.notes] == [True] * named


def test_a_scale_that_differs_from_image_to_image_is_named() -> None:
    """Depth-Anything 247: each frame of a video has its own scale."""
    (note,) = note_of_scale(1.1, 0.5, (0.35, 0.02))
    assert "differs from image to image" in note
    assert "--protocol relative" in note
    assert note_of_scale(1.1, 0.2, (0.12, 0.09)) == []
    assert "right up to one scale" in note_of_scale(2.0, 0.02, (0.5, 0.02))[0]
