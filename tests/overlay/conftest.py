"""What the tests of the wing share with those of the recipes and of the data sets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # mutations, which the importlib mode of pytest does not find

from tests.data.rendered_world import _one_line, _own_cache, world  # noqa: F401
from tests.training.recipes.conftest import validations_are_those_that_are_declared  # noqa: F401
