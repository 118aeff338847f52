"""Define the errors that a user can fix. Each message is one line."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

_MAX_PART = 1000  # largest number of characters of a part of a message, which may have content of a file
_MAX_PATH = 4096


def make_printable(text: str) -> str:
    r"""Return a text with escapes such as `\n` in place of control characters and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*):(//?)((?:(?!['\"][\s,:}\])])\S){1,1000})@", re.IGNORECASE)
_ACCOUNT = re.compile(
    r"(?<![\w:/.*-])(?<!object=)(?!(?<=\d,)\d+:[\d.]+@)[\w.+-]+:[^\s'\"/]{1,1000}@(?=[\w.\[-])"
    r"|(?<=://)[^\s/:@\[\]*]+:(?=[^\s/]*[a-z])[^\s/'\"]+",
    re.IGNORECASE,
)
"""A user and a password without the address, or cut off behind them, as messages of libraries quote them.

The lengths of `object=car:1.5@boxes.csv` and `point=640,200:12.3@000010` are no account.
"""

_TOKEN = re.compile(r"([?&][\w-]*(?:token|key|sig|signature|password|pwd|credential|secret)=)[^&\s'\"]+", re.IGNORECASE)
_STORES = ("s3", "gs", "gcs")
"""In the addresses of these stores, a name may have @ if no user and password can be in front of it."""


def mask_secrets(text: str) -> str:
    """Return a text with users, passwords and tokens in addresses replaced by ***.

    Examples:
        >>> mask_secrets("https://me:a@b@host/drive.mp4?token=abc"), mask_secrets("s3://drives/a@2.mp4")
        ('https://***@host/drive.mp4?token=***', 's3://drives/a@2.mp4')
    """
    if ":" not in text or ("@" not in text and "/" not in text):
        return text

    def mask(found: re.Match[str]) -> str:
        is_name = found[1].lower() in _STORES and ":" not in found[3].partition("/")[0]
        return found[0] if is_name else f"{found[1]}:{found[2]}***@"

    text = _ACCOUNT.sub(lambda found: "***@" if found[0].endswith("@") else "***", _ADDRESS.sub(mask, text))
    return _TOKEN.sub(r"\1***", text)


def mask_values(value: Any) -> Any:
    """Return a value of JSON in which `mask_secrets` masks every text."""
    if isinstance(value, Mapping):
        return {name: mask_values(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [mask_values(one) for one in value]
    return mask_secrets(value) if isinstance(value, str) else value


def clean_text(text: str) -> str:
    """Return a text to print: secrets of addresses are masked, and control characters become escapes.

    Line ends and tabs stay.
    """
    text = mask_secrets(text)
    return text if text.isprintable() else "".join(one if one in "\n\t" else make_printable(one) for one in text)


def format_plot_text(text: str) -> str:
    r"""Return text that matplotlib draws unchanged: `$` starts no formula, and control characters are escaped."""
    return clean_text(text).replace("$", r"\$")


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


def _join_words(part: object) -> str:
    text = _shorten(make_printable(" ".join(str(part).split())), _MAX_PART)
    return text if text.endswith("..") else text.removesuffix(".")


def _end_sentence(text: str) -> str:
    return text if text.endswith(("?", "!", "..")) else f"{text}."


class StadiaError(Exception):
    """A mistake that the user can fix. The command line prints `str(error)`, one line, without a traceback.

    where: the wrong file, key or argument, as the user typed it.
    found: the wrong content.
    expected: the valid content.
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
    """Raised if a key or value of the configuration is wrong."""


class ConfigMistakes(ConfigError):
    """Raised if one or several keys or values of a configuration are wrong. It lists an error for each.

    A single error passes on its `where`, `found` and so on.

    mistakes: the errors.
    fix: recommendation for mistakes that have no fix of their own.
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
    """Raised if a file that others wrote is missing, truncated, or has unexpected content."""


class GeometryError(StadiaError):
    """Raised if a camera, matrix or shape is invalid for its use."""


class CheckpointError(StadiaError):
    """Raised if a checkpoint or weight file is missing, damaged, or belongs to another model or kind of training."""


class ProtocolError(StadiaError):
    """Raised if predictions cannot be scored by the requested evaluation protocol."""


class RunError(StadiaError):
    """Raised if a training run cannot be started, resumed or finished."""


class NotFiniteError(RunError):
    """Raised if the loss or a gradient of a training step is not finite. The weights are those from before the step."""


class VerdictError(StadiaError):
    """Raised if predictions are unusable and `--strict` is set. All files are written; the exit status is 1."""


def summarize_exception(error: BaseException) -> str:
    """Return type and message of another library's exception on one line, at most 300 characters.

    Examples:
        >>> summarize_exception(ValueError("bad value"))
        'ValueError: bad value'
    """
    return mask_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}")[:300]
