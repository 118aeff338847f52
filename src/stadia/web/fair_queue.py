"""Run the jobs of several users one after the other, in turns: a user with many jobs does not delay the others."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from stadia.core.errors import ConfigError

MAX_WAITING = 4
"""Jobs of one user that wait. A page sends one after the other."""

MAX_USERS = 64
"""Users whose jobs wait."""


class FairQueue:
    """One thread that runs jobs; each user's oldest job comes in its turn.

    A job whose future is cancelled before its turn is not run.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = OrderedDict()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)
        self._thread.start()

    def submit(self, user: str, job: Callable[[], Any]) -> Future[Any]:
        """Return the future of a job. Raises ConfigError where the user, or all users, have too many waiting ones."""
        future: Future[Any] = Future()
        with self._changed:
            jobs = self._waiting.get(user, deque())
            is_full = len(jobs) >= MAX_WAITING or (user not in self._waiting and len(self._waiting) >= MAX_USERS)
            if is_full or self._is_closed:
                found, expected = f"{len(jobs)} jobs that wait already", f"at most {MAX_WAITING}"
                raise ConfigError("queue", found=found, expected=expected, fix="wait until one has ended")
            jobs.append((future, job))
            self._waiting[user] = jobs
            self._changed.notify()
        return future

    def count_waiting(self) -> int:
        """Return the number of jobs that wait."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def close(self) -> None:
        """Cancel what waits, and end the thread after its present job."""
        with self._changed:
            self._is_closed = True
            for jobs in self._waiting.values():
                for future, _ in jobs:
                    future.cancel()
            self._waiting.clear()
            self._changed.notify()

    def _take(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Return the next job, and put its user at the end of the line; None where the queue is closed."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            if not self._waiting:
                return None
            user, jobs = self._waiting.popitem(last=False)
            taken = jobs.popleft()
            if jobs:
                self._waiting[user] = jobs
            return taken

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            future, job = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
            del taken, future, job  # the picture goes while the thread waits
