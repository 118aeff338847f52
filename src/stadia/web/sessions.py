"""Keep the pictures, predictions and video of each browser, in memory of a bounded size."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from stadia.core.errors import ConfigError

MAX_SESSIONS, MAX_KEPT = 16, 4
"""Sessions, and pictures and predictions of each: together at most a gigabyte. Empty ones go first, then the oldest."""


@dataclass
class Session:
    """What one browser has. key: of the cookie.  csrf: a secret that requests with an effect send."""

    key: str
    csrf: str
    photos: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    predictions: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    videos: dict[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Return whether it keeps nothing."""
        return not (self.photos or self.predictions or self.videos)

    def keep(self, items: OrderedDict[str, Any], item: Any) -> str:
        """Keep a picture or a prediction under a new key, and drop the oldest of too many; return the key."""
        key = secrets.token_urlsafe(9)
        items[key] = item
        while len(items) > MAX_KEPT:
            items.popitem(last=False)
        return key

    def keep_video(self, job: Any) -> str:
        """Keep a video in place of the one before, whose files go; return its key."""
        self.close()
        key = secrets.token_urlsafe(9)
        self.videos[key] = job
        return key

    def close(self) -> None:
        """Cancel the video, and remove its files."""
        for job in self.videos.values():
            job.close()
        self.videos.clear()


def find_kept(items: dict[str, Any], key: str, what: str) -> Any:
    """Return what a session keeps under a key. Raises ConfigError if it is gone."""
    item = items.get(key)
    if item is None:
        expected = f"one of the last {MAX_KEPT} of this page"
        raise ConfigError(what, found="nothing under this name", expected=expected, fix="upload the file again")
    return item


class SessionStore:
    """The sessions of a server. The least recently used one goes first, of the empty ones if there are any."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def find(self, key: str | None) -> Session | None:
        """Return the session of a cookie; None for an unknown one."""
        session = self._sessions.get(key or "")
        if session is not None:
            self._sessions.move_to_end(session.key)
        return session

    def create(self) -> Session:
        """Return a new session."""
        session = Session(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        self._sessions[session.key] = session
        if len(self._sessions) > MAX_SESSIONS:
            others = [one for one in self._sessions.values() if one is not session]
            oldest = next((one for one in others if one.is_empty), others[0])
            self._sessions.pop(oldest.key).close()
        return session

    def close(self) -> None:
        """Drop all sessions, with the files of their videos."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
