"""Share the rendered world and a cache of its own with the tests of this folder."""

import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).parents[2] / "data")
)  # the importlib mode of pytest does not find modules beside a test

from rendered_world import _one_line, _own_cache, world  # noqa: F401
