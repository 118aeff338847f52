"""Hide what a shared report leaves out: paths of this machine, and the names of user and machine."""

import getpass
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

from stadia.report.run_files import RunFiles

_NO_NAMES = ("root", "user", "localhost")
_MIN_NAME_CHARS = 3
_MAX_CHARS = 10_000  # A longer text is cut

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
    """Return the run without patch, command line, absolute paths, and the names of user and machine."""
    hide = make_hider()
    facts = _walk(replace(run.facts, command=""), hide)
    values = {name: _walk(getattr(run, name), hide) for name in ("config", "result", "scores", "findings")}
    return replace(run, facts=facts, **values, patch="", unreadable=[hide(line) for line in run.unreadable])


def make_hider() -> Callable[[str], str]:
    """Return a function that hides absolute paths, and the names of user and machine, in a text."""
    names = {platform.node(), platform.node().partition(".")[0]}
    with suppress(OSError, KeyError, ImportError):  # The user's number may have no name.
        names.add(getpass.getuser())
    kept = sorted(name for name in names if len(name) >= _MIN_NAME_CHARS and name not in _NO_NAMES)
    words = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, kept))})(?!\w)") if kept else None

    def hide(text: str) -> str:
        text = _SCHEME.sub("", text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} …")
        text = (
            _shorten_path(text)
            if _WHOLE_PATH.fullmatch(text)
            else _PATH.sub(lambda match: _shorten_path(match[0]), text)
        )
        return words.sub("…", text) if words else text

    return hide


def _shorten_path(path: str) -> str:
    last = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return "…" if _HOME.fullmatch(path) or last.startswith("~") else f"…/{last}"


def _walk(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list | tuple):
        return type(value)(_walk(item, hide) for item in value)
    if isinstance(value, dict):
        return {hide(str(key)): _walk(item, hide) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _walk(getattr(value, field.name), hide) for field in fields(value)})
    return value
