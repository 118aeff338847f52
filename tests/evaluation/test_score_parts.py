"""Scores by distance, region and class, and error maps of the best and the worst images."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.evaluation.depth_score import find_best_threshold
from stadia.evaluation.image_score import score_image
from stadia.evaluation.protocols import PROTOCOLS, average_parts, find_protocol, parse_parts

Stadia = Callable[..., tuple[int, str, str]]
TRUE = np.geomspace(1.0, 50.0, 60 * 90).reshape(60, 90)


def test_parts_by_hand() -> None:
    """The prediction is 10 % too far beyond 20 m, and right before."""
    predicted = np.where(TRUE > 20, 1.1 * TRUE, TRUE)
    score = score_image("a", predicted, TRUE, DepthScale.METRES, find_protocol("metric", ("distance", "region")))
    parts = score.parts
    assert parts["distance 10 to 20 m"]["abs_rel"] == pytest.approx(0, abs=1e-9)
    assert parts["distance 20 to 40 m"]["abs_rel"] == pytest.approx(0.1)
    assert "distance above 80 m" not in parts
    assert sum(part["pixels"] for name, part in parts.items() if name.startswith("distance")) == TRUE.size
    assert [name for name in parts if name.startswith("region")][:2] == ["region upper left", "region upper center"]
    assert parts["region upper left"]["abs_rel"] == pytest.approx(0, abs=1e-9)
    assert parts["region lower right"]["abs_rel"] == pytest.approx(0.1 * (TRUE[40:, 60:] > 20).mean())
    assert len(parts["region lower right"]) == len(score.metrics) + 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_scores_parts_that_make_up_the_whole(name: str) -> None:
    """abs_rel and d1 of the whole are the means of the parts, weighted by pixels."""
    rng = np.random.default_rng(0)
    predicted = TRUE * np.exp(rng.normal(0, 0.2, TRUE.shape))
    for by in ("distance", "region"):
        score = score_image("a", predicted, TRUE, DepthScale.METRES, find_protocol(name, (by,)))
        pixels = sum(part["pixels"] for part in score.parts.values())
        assert pixels == pytest.approx(score.pixels, abs=9 * 20)
        metric = "d1" if "d1" in score.metrics else "abs_error_rel_percent"
        mean = sum(part[metric] * part["pixels"] for part in score.parts.values()) / pixels
        assert mean == pytest.approx(score.metrics[metric], rel=0.01)


def test_classes_are_those_of_each_pixel() -> None:
    classes = np.zeros((60, 90), np.int64)
    classes[:, 45:] = 7
    predicted = np.where(classes == 7, 1.2 * TRUE, TRUE)
    rules = find_protocol("metric", ("class",))
    parts = score_image("a", predicted, TRUE, DepthScale.METRES, rules, classes=classes).parts
    assert parts["class 0"]["abs_rel"] == pytest.approx(0, abs=1e-9)
    assert parts["class 7"]["abs_rel"] == pytest.approx(0.2)
    with refuses(ConfigError, where="--by"):
        score_image("a", predicted, TRUE, DepthScale.METRES, rules)


def test_means_are_over_the_images_that_have_the_part_in_order() -> None:
    images = [
        {"distance 10 to 20 m": {"rmse": 1.0, "pixels": 30.0}, "distance 5 to 10 m": {"rmse": 4.0, "pixels": 20.0}},
        {"distance 10 to 20 m": {"rmse": 3.0, "pixels": 90.0}},
    ]
    means = average_parts(images)
    assert list(means) == ["distance 5 to 10 m", "distance 10 to 20 m"]
    assert means["distance 10 to 20 m"] == {"rmse": 2.0, "pixels": 120.0, "images": 2.0}


def test_unknown_parts_are_refused_with_the_nearest() -> None:
    assert parse_parts("region, distance,region") == ("region", "distance")
    assert parse_parts(None) == ()
    with refuses(ConfigError, where="--by", fix="distance"):
        parse_parts("distanc")


def write_maps(folder: Path, scale: float = 1.0) -> None:
    """Write four maps; map k is wrong by k tenths in its right half."""
    for k in range(4):
        predicted = TRUE.copy()
        predicted[:, 45:] *= 1 + k / 10
        for name, depth in (("truth", TRUE), ("pred", scale * predicted)):
            (folder / name).mkdir(exist_ok=True)
            np.save(folder / name / f"{k:02d}.npy", depth.astype(np.float32))


def test_evaluate_scores_parts_and_draws_the_best_and_the_worst(tmp_path: Path, stadia: Stadia) -> None:
    write_maps(tmp_path)
    (tmp_path / "classes").mkdir()
    for k in range(4):
        cv2.imwrite(str(tmp_path / f"classes/{k:02d}.png"), np.repeat([[0] * 45 + [3] * 45], 60, 0).astype(np.uint8))
    maps = "--depth", tmp_path / "pred", "--reference", tmp_path / "truth"
    options = "--by", "region,class", "--classes", tmp_path / "classes", "--error-maps", tmp_path / "drawn", "--json"
    code, out, err = stadia("evaluate", *maps, *options)
    assert code == 0, err
    by = json.loads(out)["by"]
    assert by["class 0"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert by["class 3"]["abs_rel"] == pytest.approx(0.15, abs=1e-6)
    assert by["class 3"]["images"] == 4
    assert [name for name in by if name.startswith("class")] == ["class 0", "class 3"]
    drawn = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert drawn == {"best-1-00.png", "best-2-01.png", "worst-1-03.png", "worst-2-02.png"}
    worst = cv2.imread(str(tmp_path / "drawn/worst-1-03.png")).astype(int)
    assert worst[:, 50:].mean() > 2 * worst[:, :40].mean()


def test_the_threshold_is_the_one_of_best_iou_by_brute_force() -> None:
    random = np.random.default_rng(0)
    masks = [random.random((8, 9)) < 0.3 for _ in range(4)]
    differs = [np.clip(random.normal(20 + 50 * mask, 25), 0, 255).astype(np.uint8) for mask in masks]

    def iou(t: int) -> float:
        said = [d > t for d in differs]
        return sum((s & m).sum() for s, m in zip(said, masks, strict=True)) / sum(
            (s | m).sum() for s, m in zip(said, masks, strict=True)
        )

    assert find_best_threshold(zip(differs, masks, strict=True)) == max(range(255), key=iou) > 0
