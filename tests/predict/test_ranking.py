"""Rank depth without ground truth: the order follows the errors that are made, and noise is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.data.frame_preparation import Frame
from stadia.data.video.map_geometry import MapGeometry
from stadia.predict.ranking import Candidate, Ranking, View, rank_candidates

SIZE, FRAMES = (60, 80), 12
K = np.array([[70.0, 0, 39.5], [0, 70, 29.5], [0, 0, 1]])
Stadia = Callable[..., tuple[int, str, str]]


def true_inverse(number: int) -> NDArray[np.float32]:
    """A floor below and a wall ahead of a camera that drives .2 a frame."""
    y = np.arange(SIZE[0])[:, None].repeat(SIZE[1], 1)
    floor = (y - K[1, 2]) / K[1, 1] / 1.5
    return np.maximum(floor, 1 / (20 - 0.2 * number)).astype(np.float32)


@pytest.fixture(name="geometry")
def make_geometry() -> MapGeometry:
    random = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, 2, 3] = 0.2 * np.arange(FRAMES)
    points, seen = list[NDArray[np.float64]](), list[NDArray[np.int64]]()
    for number in range(FRAMES):
        xy = np.stack([random.integers(0, SIZE[1], 200), random.integers(0, SIZE[0], 200)], 1)
        z = 1 / true_inverse(number)[xy[:, 1], xy[:, 0]]
        rays = np.column_stack((xy, np.ones(200))) @ np.linalg.inv(K).T
        points.append(rays * z[:, None] + poses[number, :3, 3])
        seen.append(np.arange(200 * number, 200 * number + 200))
    names = {f"{number:06d}": number for number in range(FRAMES)}
    return MapGeometry(poses, np.concatenate(points), tuple(seen), K[0, 0] / SIZE[1], None, names)


def frames() -> Iterator[Frame]:
    for number in range(FRAMES):
        image = np.random.default_rng(number).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
        yield Frame(f"{number:06d}", image, K)


def candidate(name: str, change: Callable[[NDArray[np.float32], int], Any], **about: Any) -> Candidate:
    def predict(frame: Frame) -> View:
        number = int(frame.name)
        return View(np.ascontiguousarray(change(true_inverse(number), number), np.float32), K)

    return Candidate(name, predict, **about)


def rank(geometry: MapGeometry, *candidates: Candidate) -> Ranking:
    return rank_candidates(candidates, frames(), geometry)


@pytest.mark.slow
def test_the_order_is_that_of_the_errors(geometry: MapGeometry) -> None:
    ranking = rank(
        geometry,
        candidate("constant", lambda inverse, number: np.full_like(inverse, 0.1)),
        candidate("some noise", lambda inverse, number: inverse * np.random.default_rng(number).normal(1, 0.1, SIZE)),
        candidate("upside down", lambda inverse, number: inverse[::-1]),
        candidate("true, scaled", lambda inverse, number: 7 * inverse),
        candidate("affine", lambda inverse, number: 3 * inverse + 0.4, is_affine=True),
    )
    names = [row.name for row in ranking.rows]
    assert names[2:] == ["some noise", "constant", "upside down"]
    assert ranking.tied == names[:2] or ranking.rows[0].estimates["error"].value < 0.02
    assert all(
        row.estimates["error"].low <= row.estimates["error"].value <= row.estimates["error"].high
        for row in ranking.rows
    )


@pytest.mark.slow
def test_columns_measure_what_they_name(geometry: MapGeometry) -> None:
    rows = {
        row.name: row.estimates
        for row in rank(
            geometry,
            candidate("true", lambda inverse, number: inverse),
            candidate("jumping scale", lambda inverse, number: inverse * (2 if number % 2 else 1)),
            candidate("leaning", lambda inverse, number: inverse * np.linspace(1, 2, SIZE[0])[:, None]),
        ).rows
    }
    assert rows["jumping scale"]["scale"].value > 10 * rows["true"]["scale"].value
    assert rows["jumping scale"]["error"].value == pytest.approx(rows["true"]["error"].value, abs=1e-6)
    assert rows["leaning"]["lean"].value > 0.3 > rows["true"]["lean"].value
    assert rows["leaning"]["match_px"].value > rows["true"]["match_px"].value


def test_equal_networks_are_not_told_apart(geometry: MapGeometry) -> None:
    one = candidate("one", lambda inverse, number: inverse * np.random.default_rng(number).normal(1, 0.1, SIZE))
    two = candidate("two", lambda inverse, number: inverse * np.random.default_rng(99 + number).normal(1, 0.1, SIZE))
    assert set(rank(geometry, one, two).tied) == {"one", "two"}


def test_a_video_without_a_map_is_refused(tmp_path: Path, stadia: Stadia) -> None:
    import cv2

    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 96, 3), 90, np.uint8))
    code, _, error = stadia("compare", "base", folder, folder)
    assert code == 2
    assert "stadia map" in error
    code, _, error = stadia("compare", "base", folder, tmp_path / "missing")
    assert (code, "no such file or folder" in error) == (2, True)
