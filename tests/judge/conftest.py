"""A RoadWorld of one world, rendered once; images whose features are matched once, however they are broken."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.geometry.image_features import FeatureMatches, SiftFeatures, match_features
from stadia.judge.recordings import recording_survey
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

MATCHES_KEPT = 500


@pytest.fixture(scope="session")
def roadworld(
    build_once: Callable[[str, Callable[[Path], object]], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One training world of six stereo pairs, 320x96, and one to validate on: a copy for each process."""
    config = ROADWORLD_TINY.model_copy(update={"test": 0})
    rendered = build_once("roadworld", lambda folder: write_roadworld(config, folder, seed=0))
    return shutil.copytree(rendered, tmp_path_factory.mktemp("roadworld") / "world")


@pytest.fixture(scope="session")
def recording(roadworld: Path) -> Recording:
    return open_recordings(roadworld)[0]


@cache
def _match_once() -> Callable[[SiftFeatures, SiftFeatures], FeatureMatches]:
    known: dict[tuple[object, ...], tuple[SiftFeatures, SiftFeatures, FeatureMatches]] = {}

    def match_once(first: SiftFeatures, second: SiftFeatures) -> FeatureMatches:
        both = first, second  # tests/conftest.py returns the same descriptors for the same image
        key = (*(id(one.descriptors) for one in both), *(one.pixels.tobytes() for one in both))
        if key not in known:
            if len(known) > MATCHES_KEPT:
                known.clear()
            known[key] = first, second, match_features(first, second)
        return known[key][2]

    return match_once


@pytest.fixture(autouse=True)
def _matches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most mutations leave the images alone, whose features tests/conftest.py keeps."""
    monkeypatch.setattr(recording_survey, "match_features", _match_once())
