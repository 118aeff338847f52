"""Leave out of a shared report what concerns its writer alone: command line, paths, names, uncommitted code."""

from __future__ import annotations

import getpass
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stadia.report.run_files import RunFiles

PRIVATE_KEYS = ("command", "user", "host", "hostname", "cwd")
"""Keys of run.json, at any depth."""

_NO_NAMES = ("root", "user", "localhost")
_MIN_NAME_CHARS = 3
_MAX_CHARS = 10_000
"""Of a text: a longer one is cut, because no reader needs it and each is searched several times."""

_CLOSING = r"\s/\\'\"`,;()\[\]{}<>|"
_PATH = re.compile(
    rf"(?<![\w.<…/])(?:/|~[\w.-]*/)(?:[^{_CLOSING}]+/)+[^{_CLOSING}]*"  # absolute, or of a home folder
    rf"|(?<![\w])~[\w.-]*/[^{_CLOSING}]+"
    rf"|(?<![\w])[A-Za-z]:\\(?:[^{_CLOSING}]+\\)*[^{_CLOSING}]*"
)
_WHOLE_PATH = re.compile(r"(?:/|~|[A-Za-z]:\\)[^\n/\\]*[/\\][^\n]*")  # may have spaces
_SCHEME = re.compile(r"file:/{2}")
_HOME = re.compile(r"/(?:home|Users)/[^/]+/?|[A-Za-z]:\\Users\\[^\\]+\\?")


def hide_private_parts(run: RunFiles) -> RunFiles:
    """Return the run without its patch and its command line; of absolute paths only the last part is left.

    Names of the user and of the machine become "…" where they stand in the texts that are shown.
    """
    hide = _make_hider()
    facts = _walk(run.run, hide, drop=PRIVATE_KEYS)
    values = {name: _walk(getattr(run, name), hide) for name in ("config", "result", "scores", "findings")}
    return replace(run, run=facts, **values, patch="", unreadable=[hide(line) for line in run.unreadable])


def _make_hider() -> Callable[[str], str]:
    names = {platform.node(), platform.node().partition(".")[0]}
    with suppress(OSError, KeyError, ImportError):  # no name for this user's number
        names.add(getpass.getuser())
    kept = sorted(name for name in names if len(name) >= _MIN_NAME_CHARS and name not in _NO_NAMES)
    words = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, kept))})(?!\w)") if kept else None

    def hide(text: str) -> str:
        text = _SCHEME.sub("", text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} …")
        text = _shorten(text) if _WHOLE_PATH.fullmatch(text) else _PATH.sub(lambda match: _shorten(match[0]), text)
        return words.sub("…", text) if words else text

    return hide


def _shorten(path: str) -> str:
    """Return the last part of a path; of a home folder not even that."""
    last = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return "…" if _HOME.fullmatch(path) or last.startswith("~") else f"…/{last}"


def _walk(value: Any, hide: Callable[[str], str], drop: tuple[str, ...] = ()) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list | tuple):
        return [_walk(one, hide, drop) for one in value]
    if isinstance(value, dict):
        return {hide(str(key)): _walk(one, hide, drop) for key, one in value.items() if key not in drop}
    return value
