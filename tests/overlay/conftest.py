"""What the tests of the wing share with those of the recipes and of the data sets."""

from tests.data.rendered_world import _one_line, _own_cache, world  # noqa: F401
from tests.training.recipes.conftest import validations_are_those_that_are_declared  # noqa: F401
