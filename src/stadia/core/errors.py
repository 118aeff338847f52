"""Define the errors that a user can fix; each message is one line."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

_MAX_PART = 1000  # largest number of characters of a part of a message, which may have content of a file
_MAX_PATH = 4096


def make_printable(text: str) -> str:
    """Return the text with control characters and surrogates as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def escape_controls(text: str) -> str:
    """Return text of several lines as in `make_printable`; line ends and tabs stay."""
    return text if text.isprintable() else "".join(one if one in "\n\t" else make_printable(one) for one in text)


def format_plot_text(text: str) -> str:
    r"""Return text that matplotlib draws unchanged: `$` starts no formula, and control characters are escaped."""
    return escape_controls(text).replace("$", r"\$")


_USER = re.compile(r"\b(?!(?:s3|gs|gcs)://)([a-z][a-z0-9+.-]*)://?\S*@", re.IGNORECASE)
_TOKEN = re.compile(r"([?&][\w-]*(?:token|key|sig|signature|password|credential|secret)=)[^&\s'\"]+", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Return text without the user, password and tokens of URLs.

    Examples:
        >>> mask_secrets("https://me:a@b@host/drive.mp4?token=abc"), mask_secrets("s3://drives/a@2.mp4")
        ('https://***@host/drive.mp4?token=***', 's3://drives/a@2.mp4')
    """
    return _TOKEN.sub(r"\1***", _USER.sub(r"\1://***@", text)) if ":/" in text else text


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


def _join_words(part: object) -> str:
    text = _shorten(make_printable(" ".join(str(part).split())), _MAX_PART)
    return text if text.endswith("..") else text.removesuffix(".")


def _end_sentence(text: str) -> str:
    return text if text.endswith(("?", "!", "..")) else f"{text}."


class StadiaError(Exception):
    """A mistake that its user can fix. `str(error)` is one line, printed without a traceback.

    where: the wrong file, key or argument, as the user typed it.
    found: its content.
    expected: the right content.
    fix: a command or an action; None if `expected` is enough.
    """

    def __init__(self, where: object, *, found: object, expected: object, fix: str | None = None) -> None:
        self.where, self.found, self.expected = (mask_secrets(str(part)) for part in (where, found, expected))
        self.fix = fix = None if fix is None else mask_secrets(fix)
        place = _shorten(make_printable(" ".join(self.where.split())), _MAX_PATH) or repr(self.where)
        sentences = [f"{place}: found {_join_words(self.found)}; expected {_join_words(self.expected)}"]
        if fix is not None:
            sentences.append(f"Fix: {_join_words(fix)}")
        super().__init__(" ".join(map(_end_sentence, sentences)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all parts when a worker process sends its error to the main process."""
        return partial(type(self), self.where, found=self.found, expected=self.expected, fix=self.fix), ()


class ConfigError(StadiaError):
    """A key or value of the configuration is wrong."""


class ConfigMistakes(ConfigError):
    """Several keys or values are wrong, each with its own error; a single mistake's fields are the fields here.

    fix: for mistakes without their own fix.
    """

    def __init__(self, mistakes: Sequence[ConfigError], *, fix: str | None = None) -> None:
        self.mistakes = tuple(mistakes)
        self._fix = fix
        count = f"{len(mistakes)} mistakes"
        self.title = str(StadiaError("configuration", found=count, expected="none", fix=fix))
        if len(self.mistakes) == 1:
            (one,) = self.mistakes
            super().__init__(one.where, found=one.found, expected=one.expected, fix=one.fix or fix)
        else:
            found = f"{count} ({' '.join(map(str, self.mistakes))})"
            super().__init__("configuration", found=found, expected="none", fix=fix)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.mistakes, fix=self._fix), ()


class DataError(StadiaError):
    """A file from outside is missing, truncated, or has unexpected content."""


class GeometryError(StadiaError):
    """A camera, matrix or shape is invalid for its use."""


class CheckpointError(StadiaError):
    """A checkpoint belongs to another recipe or model, or is damaged."""


class ProtocolError(StadiaError):
    """Predictions cannot be scored by the requested protocol."""


class RunError(StadiaError):
    """A run cannot be started, resumed or finished."""


class NotFiniteError(RunError):
    """The loss or a gradient of a step is not finite; the weights are from before it."""


class VerdictError(StadiaError):
    """Predictions are unusable, and `--strict` is set. All files are written; the exit status is 1."""


def summarize_exception(error: BaseException) -> str:
    """Return the type and the first 300 characters of another library's exception, on one line.

    Examples:
        >>> summarize_exception(ValueError("bad value"))
        'ValueError: bad value'
    """
    return mask_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}")[:300]
