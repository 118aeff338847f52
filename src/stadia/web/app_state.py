"""What the routes of one server share: networks, sessions, decoders, a folder for uploads, and queues in turns."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from stadia.core.errors import ConfigError
from stadia.web.decoding import UploadDecoder
from stadia.web.networks import NetworkShelf
from stadia.web.sessions import Session, SessionStore
from stadia.web.trainings import TrainingStarter

if TYPE_CHECKING:
    from stadia.web.run_list import RunList

CHECK_S = 0.2
"""Between two looks at whether the browser still waits for a prediction."""

MAX_WAITING = 4
"""Jobs of one user that wait. A page sends one after the other."""

MAX_USERS = 64
"""Users whose jobs wait."""

_FOLDER = "stadia-app-"


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


@dataclass
class AppState:
    """What the routes of one server share.

    shelf: of networks.  folder: for uploads while they are decoded; it goes with the server.
    runs: the folder whose runs are listed; None lists none.
    data: the folder whose data may be checked; None for none.
    queue, decoder: of pictures.  video_queue, video_decoder: of videos, which take minutes, and of checks.
    starter: of trainings.
    is_warm: whether what the first picture needs is loaded, or about to be.
    """

    shelf: NetworkShelf
    folder: Path
    runs: Path | None = None
    data: Path | None = None
    sessions: SessionStore = field(default_factory=SessionStore)
    queue: FairQueue = field(default_factory=FairQueue)
    video_queue: FairQueue = field(default_factory=FairQueue)
    decoder: UploadDecoder = field(default_factory=UploadDecoder)
    video_decoder: UploadDecoder = field(default_factory=UploadDecoder)
    starter: TrainingStarter = field(default_factory=TrainingStarter)
    is_warm: bool = False

    @cached_property
    def run_list(self) -> RunList | None:
        """Return the runs of the server, None where it lists none."""
        from stadia.web.run_list import RunList  # with its records, for which the first page does not wait

        return None if self.runs is None else RunList(self.runs)

    def warm_up(self) -> None:
        """Load once what the first picture needs, in the queue of pictures: decoder, torch, and the first network."""

        def load() -> None:
            self.decoder.start()
            if self.shelf.names:
                self.shelf.find(0)

        if not self.is_warm:
            self.is_warm = True
            self.queue.submit("start", load)

    def close(self) -> None:
        """End the processes and threads, and remove the files."""
        self.sessions.close()
        for part in (self.queue, self.video_queue, self.decoder, self.video_decoder, self.starter):
            part.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def get_state(request: Request) -> AppState:
    """Return what the routes share."""
    state: AppState = request.app.state.shared
    return state


async def run_in_turn(request: Request, session: Session, job: Callable[[], Any], queue: FairQueue) -> Any:
    """Return the result of a job in the user's turn. Raises ClientDisconnect where the browser has gone."""
    future = queue.submit(session.key, job)
    waiting = asyncio.wrap_future(future)
    while not waiting.done():
        await asyncio.wait([waiting], timeout=CHECK_S)
        if not waiting.done() and await request.is_disconnected():
            future.cancel()
            raise ClientDisconnect
    return waiting.result()


def make_upload_folder() -> Path:
    """Return a new private folder for uploads; those of servers that were killed are removed."""
    import psutil

    root = Path(tempfile.gettempdir())
    for folder in root.glob(f"{_FOLDER}*"):
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)) and folder.lstat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    path = root / f"{_FOLDER}{os.getpid()}-{secrets.token_hex(4)}"
    path.mkdir(mode=0o700)
    return path
