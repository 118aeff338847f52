"""A RoadWorld of one world, rendered once; images whose features are computed once, however they are broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/mutations, which benchmarks/preflight.py uses as well

from stadia.core.recording import Recording
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.preflight import recording_survey, split_checks, two_view_geometry
from stadia.synthetic.roadworld.config import TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld


@pytest.fixture(scope="session")
def roadworld(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training world of six stereo pairs, 320x96, and one to validate on."""
    folder = tmp_path_factory.mktemp("roadworld")
    write_roadworld(TINY.model_copy(update={"test": 0}), folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def recording(roadworld: Path) -> Recording:
    return open_recordings(roadworld)[0]


@cache
def _detect_once() -> Callable[[NDArray[np.uint8]], two_view_geometry.SiftFeatures]:
    known: dict[tuple[tuple[int, ...], bytes], two_view_geometry.SiftFeatures] = {}
    detect = two_view_geometry.detect_features

    def detect_once(image: NDArray[np.uint8]) -> two_view_geometry.SiftFeatures:
        key = (image.shape, split_checks.image_digest(image))
        if key not in known:
            known[key] = detect(image)
        return known[key]

    return detect_once


@pytest.fixture(autouse=True)
def _features_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most mutations leave the images alone, and detection is most of the time of a check."""
    monkeypatch.setattr(recording_survey, "detect_features", _detect_once())
    monkeypatch.setattr(split_checks, "detect_features", _detect_once())
