"""What the routes of one server share: networks, sessions, the queue, the decoder, a folder for uploads."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from stadia.web.decoding import UploadDecoder
from stadia.web.fair_queue import FairQueue
from stadia.web.networks import NetworkShelf
from stadia.web.sessions import Session, SessionStore
from stadia.web.trainings import TrainingStarter

if TYPE_CHECKING:
    from stadia.web.run_list import RunList

CHECK_S = 0.2
"""Between two looks at whether the browser still waits for a prediction."""

_FOLDER = "stadia-app-"


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
