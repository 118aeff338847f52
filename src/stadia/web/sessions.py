"""Keep the pictures and videos of each browser in memory, up to a limit."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from stadia.core.errors import ConfigError

MAX_SESSIONS, MAX_PHOTOS, MAX_DROPS, MAX_VIDEOS = 16, 4, 2, 3
"""Most videos of a session (MAX_PHOTOS: pictures; MAX_DROPS: results of other programs; MAX_SESSIONS: sessions of a
server): together at most half a gigabyte of memory. Of too many sessions, empty ones are dropped first, then the
oldest.
"""


@dataclass
class Session:
    """What the server keeps for one browser.

    key: value of its cookie.
    csrf: a secret that the page sends with requests that change something.
    is_used: whether such a request came, so that an upload may be on its way.
    photos: pictures by key.
    videos: videos by key.
    drops: files that were dropped together, by key.
    locks: the locks of `lock` that are in use, by key.
    """

    key: str
    csrf: str
    is_used: bool = False
    photos: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    videos: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    drops: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def lock(self, key: str) -> asyncio.Lock:
        """Return the lock of a result. A request holds it while it opens the result, so that others wait for it."""
        lock = self.locks.get(key)
        if lock is None:
            lock = self.locks[key] = asyncio.Lock()
        return lock

    @property
    def is_empty(self) -> bool:
        """Return whether the session never had a picture, a video, or a request that changes something."""
        return not (self.is_used or self.photos or self.videos or self.drops)

    def keep_photo(self, photo: Any, key: str = "") -> str:
        """Keep a picture under a key, by default a new one, and drop the oldest of too many; return the key."""
        key = key or secrets.token_urlsafe(9)
        self.photos[key] = photo
        while len(self.photos) > MAX_PHOTOS:
            self.photos.popitem(last=False)
        return key

    def keep_video(self, job: Any, key: str = "") -> str:
        """Keep a video under a key, by default a new one, and close the oldest of too many videos; return the key."""
        key = key or secrets.token_urlsafe(9)
        self.videos[key] = job
        while len(self.videos) > MAX_VIDEOS:
            self.videos.popitem(last=False)[1].close()
        return key

    def keep_drop(self, drop: Any, key: str = "") -> str:
        """Keep dropped files under a key, by default a new one, and remove the oldest of too many; return the key."""
        key = key or secrets.token_urlsafe(9)
        self.drops[key] = drop
        while len(self.drops) > MAX_DROPS:
            self.drops.popitem(last=False)[1].job.close()
        return key

    def close(self) -> None:
        """Cancel the videos of the session, and remove their files."""
        for drop in self.drops.values():
            drop.job.close()
        self.drops.clear()
        for job in self.videos.values():
            job.close()
        self.videos.clear()


def find_kept(items: dict[str, Any], key: str, what: str) -> Any:
    """Return what a session keeps under a key.

    items: pictures or videos by key.
    key: the key.
    what: word for the error.

    Raises ConfigError if it is gone.
    """
    item = items.get(key)
    if item is None:
        found, expected = "nothing at this address", "one of your last ones"
        raise ConfigError(what, found=found, expected=expected, fix="choose the file again")
    return item


class SessionStore:
    """The sessions of a server; of too many, the least recently used one is dropped, an empty one first.

    has_results: returns whether a browser with this cookie has results on disk.
    """

    def __init__(self, has_results: Callable[[str], bool] = lambda key: False) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._has_results = has_results

    def find(self, key: str | None) -> Session | None:
        """Return the session whose cookie has this value, a new one if it has results on disk; None for an unknown
        one.
        """
        session = self._sessions.get(key or "")
        if session is None and key and self._has_results(key):
            return self._add(Session(key, secrets.token_urlsafe(24)))
        if session is not None:
            self._sessions.move_to_end(session.key)
        return session

    def create(self) -> Session:
        """Create a session and return it.

        If there are then too many sessions, the least recently used one is dropped, an empty one first.
        """
        return self._add(Session(secrets.token_urlsafe(24), secrets.token_urlsafe(24)))

    def _add(self, session: Session) -> Session:
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
