"""Keep the pictures and predictions of each user apart, in memory of a bounded size."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stadia.core.errors import ConfigError
from stadia.web.decoding import DecodedPhoto

MAX_SESSIONS = 256
"""Sessions that are kept. A session without a picture takes a kilobyte."""

MAX_KEPT = 6
"""Pictures, and predictions, of one session; the oldest goes first."""

MAX_KEPT_OF_ALL = 48
"""Pictures of all sessions: at 1600x1600 pixels, with one prediction each, they take 0.6 GB."""

MAX_VIDEOS_OF_ALL = 8
"""Videos of all sessions: at 512 MB while each is received, and at most 300 frames later, they bound the disk."""

FINISHED = ("done", "failed")
"""States of a video on which no more work is done."""

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
        key = make_key()
        items[key] = item
        while len(items) > MAX_KEPT:
            items.popitem(last=False)
        return key


def make_key() -> str:
    """Return a new key of a picture, a prediction or a video."""
    return secrets.token_urlsafe(9)


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

    def keep_video(self, session: Session, job: Any) -> str:
        """Keep a video that is about to be received; return its key.

        An unfinished one of the session ends. Where all sessions have too many, finished ones of the least recently
        used go. Raises ConfigError where none has finished, or the session has gone.
        """
        fix = "wait until one has ended, and upload it again"
        with self._lock:
            if self._sessions.get(session.key) is not session:
                raise ConfigError("session", found="none", expected="that of this page", fix="reload the page")
            _drop_videos(session, lambda video: video.state not in FINISHED)
            kept = sum(len(each.videos) for each in self._sessions.values())
            for each in self._sessions.values():
                if kept >= MAX_VIDEOS_OF_ALL:
                    kept -= _drop_videos(each, lambda video: video.state in FINISHED)
            if kept >= MAX_VIDEOS_OF_ALL:
                raise ConfigError("video", found=f"{kept} that are predicted", expected="fewer", fix=fix)
            key = make_key()
            session.videos[key] = job
            return key

    def drop_videos(self, session: Session, *, but: Any = None) -> None:
        """Drop the videos of a session with their files, but one: a user has one at a time."""
        with self._lock:
            _drop_videos(session, lambda video: video is not but)

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


def _drop_videos(session: Session, is_dropped: Callable[[Any], bool]) -> int:
    """Stop the videos for which this is true, and remove their files; return how many they were."""
    dropped = [key for key, video in session.videos.items() if is_dropped(video)]
    for key in dropped:
        session.videos.pop(key).close()
    return len(dropped)


def _clear(session: Session) -> None:
    """Drop what a session keeps."""
    _drop_videos(session, lambda video: True)
    session.photos.clear()
    session.predictions.clear()
