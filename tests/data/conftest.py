"""Share the rendered world and a cache of its own with the tests of this folder."""

from tests.data.rendered_world import _one_line, _own_cache, world  # noqa: F401
