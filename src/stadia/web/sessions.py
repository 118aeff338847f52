"""Keep the pictures and predictions of each user apart, in memory of a bounded size."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from stadia.core.errors import ConfigError
from stadia.web.decode_worker import DecodedPhoto

MAX_SESSIONS = 256
"""Sessions that are kept. A session without a picture takes a kilobyte."""

MAX_KEPT = 6
"""Pictures, and predictions, of one session; the oldest goes first."""

MAX_KEPT_OF_ALL = 48
"""Pictures of all sessions: at 1600x1600 pixels, with one prediction each, they take 0.6 GB."""

_TOKEN_BYTES = 24


@dataclass
class Session:
    """What one user has.

    key: of the cookie.  csrf: that requests with an effect name.
    photos, predictions, videos: by their keys, oldest first.
    """

    key: str
    csrf: str
    photos: OrderedDict[str, DecodedPhoto] = field(default_factory=OrderedDict)
    predictions: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    videos: OrderedDict[str, Any] = field(default_factory=OrderedDict)

    def keep(self, items: OrderedDict[str, Any], item: Any) -> str:
        """Keep a picture or a prediction under a new key, and drop the oldest of too many; return the key."""
        key = secrets.token_urlsafe(9)
        items[key] = item
        while len(items) > MAX_KEPT:
            items.popitem(last=False)
        return key


def find_kept(items: OrderedDict[str, Any], key: str, what: str) -> Any:
    """Return what a session keeps under a key. Raises ConfigError where it has gone, or was another session's."""
    item = items.get(key)
    if item is None:
        expected = f"one of the last {MAX_KEPT} of this page"
        fix = "upload the file again: the server was restarted, or newer ones took its place"
        raise ConfigError(what, found="none of this name", expected=expected, fix=fix)
    return item


class SessionStore:
    """The sessions of a server. The one that was used least recently goes first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: str | None) -> Session | None:
        """Return the session of a cookie; None for an unknown one."""
        with self._lock:
            session = self._sessions.get(key or "")
            if session is not None:
                self._sessions.move_to_end(session.key)
            return session

    def create(self) -> Session:
        """Return a new session."""
        session = Session(secrets.token_urlsafe(_TOKEN_BYTES), secrets.token_urlsafe(_TOKEN_BYTES))
        with self._lock:
            self._sessions[session.key] = session
            while len(self._sessions) > MAX_SESSIONS:
                _, dropped = self._sessions.popitem(last=False)
                _clear(dropped)
        return session

    def limit_memory(self) -> None:
        """Drop pictures and predictions of the least recently used sessions, where all have too many."""
        with self._lock:
            kept = sum(len(session.photos) + len(session.predictions) for session in self._sessions.values())
            for session in self._sessions.values():
                while kept > 2 * MAX_KEPT_OF_ALL and (session.photos or session.predictions):
                    items = session.predictions if session.predictions else session.photos
                    items.popitem(last=False)
                    kept -= 1

    def close(self) -> None:
        """Drop all sessions, with the files of their videos."""
        with self._lock:
            for session in self._sessions.values():
                _clear(session)
            self._sessions.clear()


def _clear(session: Session) -> None:
    """Drop what a session keeps; videos stop, and remove their files."""
    for video in session.videos.values():
        video.close()
    for items in (session.photos, session.predictions, session.videos):
        items.clear()
