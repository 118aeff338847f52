"""A tiny road world, rendered once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stadia.synthetic.roadworld.config import TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training, a validation and a test world of five stereo pairs, in the stadia layout."""
    config = TINY.model_copy(update={"frames": 5})
    return write_roadworld(config, tmp_path_factory.mktemp("worlds") / "tiny", workers=1).parent
