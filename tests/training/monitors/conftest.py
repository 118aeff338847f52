"""The recordings of the judge's tests, and features that are matched once."""

from tests.judge.conftest import _matches_once as _matches_once
from tests.judge.conftest import recording as recording
from tests.judge.conftest import roadworld as roadworld
