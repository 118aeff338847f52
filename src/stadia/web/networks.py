"""The networks of the app: each is opened at its first use and kept in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.errors import CheckpointError, ConfigError, StadiaError
from stadia.predict import TRAIN_FLOOR
from stadia.predict.networks.published_networks import HUB, PUBLISHED_NETWORKS, NetworkRow, list_network_rows
from stadia.web.forms import describe_error

if TYPE_CHECKING:
    from stadia.predict.network import Network

MAX_NETWORK_PIXELS = 480 * 640
"""Most pixels of the network's image if no training chose its size."""

MAX_LISTED_RUNS = 30


def load_network(name: str) -> Network:
    """Open a run, a checkpoint, or a published network by its name, and load its weights.

    Raises StadiaError if it cannot be opened.
    """
    from stadia.predict.network import open_network

    network = open_network(name, max_pixels=MAX_NETWORK_PIXELS)
    if network.is_exported:
        found, fix = "an exported network", "pass its run"
        raise CheckpointError(name, found=found, expected="a run, a checkpoint or a published network", fix=fix)
    network.load_weights()
    return network


def find_label(name: str) -> str:
    """Return the name of a network on a page: without folders.

    Examples:
        >>> find_label("runs/2026-01-02-030405-road"), find_label("hf:org/name")
        ('2026-01-02-030405-road', 'hf:org/name')
    """
    return name if name.startswith(HUB) else Path(name).name


def list_runs_with_weights(folder: Path) -> list[str]:
    """Return the newest runs in a folder that have a checkpoint, newest first."""
    if not folder.is_dir():
        return []
    runs = sorted((path for path in folder.iterdir() if (path / "checkpoints").is_dir()), reverse=True)
    has_weights = (run for run in runs[: 4 * MAX_LISTED_RUNS] if any((run / "checkpoints").glob("*.safetensors")))
    return [str(run) for _, run in zip(range(MAX_LISTED_RUNS), has_weights, strict=False)]


class NetworkShelf:
    """The networks that users choose from. Each is opened at its first use; the last used ones stay in memory.

    names: runs, checkpoints or published networks; the first one is the default.
    max_open: number of networks that stay in memory.
    """

    def __init__(self, names: Iterable[str], max_open: int = 3) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.max_open = max_open
        self._open: dict[int, Network] = {}
        self._lock = threading.Lock()

    def labels(self) -> list[str]:
        """Return the names of the networks on a page; the index in this list is a network's key."""
        return [find_label(name) for name in self.names]

    def find_key(self, label: str) -> int | None:
        """Return the key (index) of the network that a page shows as `label`; None if no network has this label."""
        labels = self.labels()
        return labels.index(label) if label in labels else None

    def add(self, name: str) -> None:
        """Add a network to the end of the list."""
        self.names = tuple(dict.fromkeys((*self.names, name)))

    def check_key(self, key: int) -> None:
        """Raise ConfigError for an unknown key."""
        if not 0 <= key < len(self.names):
            raise ConfigError("network", found=f"number {key}", expected=f"one of {len(self.names)} networks")

    def find(self, key: int) -> Network:
        """Return the network with this key (index), opened.

        Raises ConfigError for an unknown key, and the errors of opening it.
        """
        self.check_key(key)
        with self._lock:
            network = self._open.pop(key, None) or load_network(self.names[key])
            self._open[key] = network
            while len(self._open) > self.max_open:
                del self._open[next(iter(self._open))]
        return network


class NetworkDownloads:
    """Downloads of published networks that users started; one runs at a time.

    shelf: gets each downloaded network.
    """

    def __init__(self, shelf: NetworkShelf) -> None:
        self.shelf = shelf
        self._jobs: dict[str, Future[None]] = {}
        self._queue = ThreadPoolExecutor(1)

    def start(self, name: str) -> None:
        """Start the download of a published network, which is then added to the shelf.

        Raises ConfigError for a network that cannot be downloaded.
        """
        entry = PUBLISHED_NETWORKS.get(name)
        if entry is None or entry.package:
            found, expected = "a network that the app cannot download", "a row with the button Download"
            raise ConfigError(name, found=found, expected=expected, fix="install its package on this computer")
        if name not in self._jobs or self._jobs[name].done():
            self._jobs[name] = self._queue.submit(self._download, name)

    def _download(self, name: str) -> None:
        TRAIN_FLOOR.load("find_published_files")(name)
        self.shelf.add(name)

    def describe(self) -> list[dict[str, Any]]:
        """Return the networks of the server, `base` and the published ones, as rows of a table in JSON.

        The row of a running download has its `progress` from 0 to 1; the state of a failed one its `error`.
        """
        listed = {row.name: row for row in list_network_rows()}
        names = self.shelf.names
        own = [NetworkRow(find_label(name), "as its training", "", "yours") for name in names if name not in listed]
        return [self._describe_row(row) for row in [*own, *listed.values()]]

    def _describe_row(self, row: NetworkRow) -> dict[str, Any]:
        about: dict[str, Any] = {**asdict(row), "key": self.shelf.find_key(row.name)}
        entry, job = PUBLISHED_NETWORKS.get(row.name), self._jobs.get(row.name)
        is_running = job is not None and not job.done()
        if entry is not None and (is_running or not row.is_here):
            about.update(is_here=False, can_download=not entry.package)
            if is_running:
                downloaded = TRAIN_FLOOR.load("count_downloaded_bytes")(entry.repository)
                about["progress"] = min(downloaded / entry.weight_bytes, 1.0)
            elif job is not None and isinstance(error := job.exception(), StadiaError):
                about["error"] = describe_error(error)
        return about

    def close(self) -> None:
        """Start no further download."""
        self._queue.shutdown(wait=False, cancel_futures=True)
