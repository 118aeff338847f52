"""One error tree. Every message is one line: what, what was found, what was expected, the fix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any


class StadiaError(Exception):
    """A mistake that its user can mend. `str(error)` is one line; the command line prints it without a traceback.

    Args:
        what: the file, key or argument at fault.
        found: what was found there.
        expected: what would have been right.
        fix: what to do about it.
    """

    def __init__(self, what: object, *, found: object, expected: object, fix: str) -> None:
        self.what, self.found, self.expected, self.fix = str(what), str(found), str(expected), fix
        super().__init__(" ".join(f"{what}: found {found}, expected {expected}; {fix}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """An error of a worker process reaches the main one whole."""
        return partial(type(self), self.what, found=self.found, expected=self.expected, fix=self.fix), ()


class ConfigError(StadiaError):
    """A key or value of the configuration is wrong."""


class ConfigMistakes(ConfigError):
    """Several keys or values at once. `mistakes`: a phrase for each, which the command line prints on a line of its
    own.
    """

    def __init__(self, mistakes: Sequence[str], *, fix: str) -> None:
        self.mistakes = tuple(mistakes)
        what = f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)} in the configuration"
        super().__init__(what, found="; ".join(mistakes), expected="a valid configuration", fix=fix)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.mistakes, fix=self.fix), ()


class DataError(StadiaError):
    """A file from outside is missing, truncated, or not what it claims to be."""


class GeometryError(StadiaError):
    """A camera, matrix or shape cannot be what it is used as."""


class CheckpointError(StadiaError):
    """A checkpoint is of another recipe, of another model, or damaged."""


class ProtocolError(StadiaError):
    """Predictions cannot be scored by the protocol that was asked for."""


class RunError(StadiaError):
    """A run cannot be started, resumed or finished."""


class NotFiniteError(RunError):
    """The loss or a gradient of a step is not finite; the weights are those from before it."""


def in_one_line(error: BaseException) -> str:
    """What somebody else's code raised, as a message holds it: its kind and its words, the first 300 letters of them."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
