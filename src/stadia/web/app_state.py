"""What the request handlers ("routes") of one server share: networks, sessions, a folder for uploads, and queues."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from stadia.core.errors import ConfigError
from stadia.web.networks import NetworkDownloads, NetworkShelf
from stadia.web.sessions import SessionStore
from stadia.web.trainings import TrainingStarter

if TYPE_CHECKING:
    from stadia.web.gallery import Gallery
    from stadia.web.run_list import RunList

CHECK_S = 0.2
"""Pause, seconds, between two checks whether the browser still waits for a prediction."""

EXAMPLES = ("table", "street", "indoors", "people", "drone", "desk", "night")
"""Names of the example pictures, static/examples/NAME.jpg, which `website/app_examples.py` makes; the first one is on
the first page.
"""

_FOLDER = "stadia-app-"
_one_thread = partial(ThreadPoolExecutor, 1)


@dataclass
class AppState:
    """What the request handlers of one server share.

    shelf: the networks that users choose from.
    folder: folder for uploads; it is removed with the server.
    runs: the folder whose training runs are listed; None lists none.
    data: the folder whose data may be checked; None allows none.
    is_public: whether strangers use the server; they may neither adapt nor download networks.
    gallery: the results on disk; None keeps results only until the server stops.
    sessions: the browsers' sessions.
    queue: a thread that predicts pictures one by one.
    video_queue: a thread that predicts videos and checks data, which takes minutes.
    adapt_queue: a thread that adapts networks to videos, which takes up to an hour.
    starter: starts trainings.
    examples: predicted example pictures by name.
    """

    shelf: NetworkShelf
    folder: Path
    runs: Path | None = None
    data: Path | None = None
    is_public: bool = False
    gallery: Gallery | None = None
    sessions: SessionStore = field(default_factory=SessionStore)
    queue: ThreadPoolExecutor = field(default_factory=_one_thread)
    video_queue: ThreadPoolExecutor = field(default_factory=_one_thread)
    adapt_queue: ThreadPoolExecutor = field(default_factory=_one_thread)
    starter: TrainingStarter = field(default_factory=TrainingStarter)
    examples: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def downloads(self) -> NetworkDownloads:
        """Return the downloads of published networks that users started."""
        return NetworkDownloads(self.shelf)

    @cached_property
    def run_list(self) -> RunList | None:
        """Return the list of training runs of the server; None if it lists none."""
        from stadia.web.run_list import RunList

        return None if self.runs is None else RunList(self.runs)

    def check_private(self, what: str) -> None:
        """Raise ConfigError if strangers use the server."""
        if self.is_public:
            fix = "run `stadia app` on your own machine"
            raise ConfigError(what, found="a public page", expected="a page of your own", fix=fix)

    def warm_up(self) -> None:
        """Load the first network and predict the picture of the first page, in the queue of pictures."""
        if self.shelf.names:
            self.queue.submit(self.find_example, EXAMPLES[0])

    def find_example(self, name: str) -> Any:
        """Return an example picture with its prediction, which is kept in memory."""
        from stadia.web.photo import predict_example

        if name not in self.examples:
            self.examples[name] = predict_example(self.shelf, name)
        return self.examples[name]

    def close(self) -> None:
        """End the threads of the server, and remove its files."""
        self.sessions.close()
        for queue in (self.queue, self.video_queue, self.adapt_queue):
            queue.shutdown(wait=False, cancel_futures=True)
        self.downloads.close()
        self.starter.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def get_state(request: Request) -> AppState:
    """Return what the request handlers of the server share."""
    state: AppState = request.app.state.shared
    return state


async def run_in_turn(request: Request, job: Callable[[], Any], queue: ThreadPoolExecutor) -> Any:
    """Run a job in a queue, and return its result.

    request: the request that waits for the result.
    job: the function to run.
    queue: the thread that runs it.

    Raises ClientDisconnect if the browser has gone meanwhile.
    """
    future = queue.submit(job)
    waiting = asyncio.wrap_future(future)
    while not waiting.done():
        await asyncio.wait([waiting], timeout=CHECK_S)
        if not waiting.done() and await request.is_disconnected():
            future.cancel()
            raise ClientDisconnect
    return waiting.result()


def make_upload_folder() -> Path:
    """Create a new private folder for uploads, and remove the folders of servers that were killed."""
    import psutil

    root = Path(tempfile.gettempdir())
    for folder in root.glob(f"{_FOLDER}*"):
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)) and folder.lstat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    path = root / f"{_FOLDER}{os.getpid()}-{secrets.token_hex(4)}"
    path.mkdir(mode=0o700)
    return path
