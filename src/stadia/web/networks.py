"""Networks of the app: opened at their first use, and kept in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import DepthScale
from stadia.models import DEFAULT_NETWORK
from stadia.models.published_networks import CONFIG, HUB, PUBLISHED_NETWORKS

if TYPE_CHECKING:
    from stadia.predict.network import Network

MAX_NETWORK_PIXELS = 480 * 640
"""Pixels of the network's image if no training chose its size."""

MAX_LISTED_RUNS = 30

OUTPUTS = {DepthScale.METRES: "depth in metres", DepthScale.UP_TO_SCALE: "ratios of depths"}
BASE = {"output": OUTPUTS[DepthScale.METRES], "size": "small, for two processor cores", "licence": "Apache-2.0"}
OWN_RUN = {"output": "as its training", "size": "", "licence": "yours"}


def load_network(name: str) -> Network:
    """Open a run, a checkpoint, or a published network by its name. Raises StadiaError."""
    from stadia.predict.network import open_network

    network = open_network(name, max_pixels=MAX_NETWORK_PIXELS)
    if network.loaded.is_exported:
        found, fix = "an exported network", "pass its run"
        raise CheckpointError(name, found=found, expected="a run, a checkpoint or a published network", fix=fix)
    assert network.loaded.recipe  # loads the weights
    return network


def find_label(name: str) -> str:
    """Return the name of a network on a page: the last part of a path.

    Examples:
        >>> find_label("runs/2026-01-02-030405-road"), find_label("hf:org/name")
        ('2026-01-02-030405-road', 'hf:org/name')
    """
    return name if name.startswith(HUB) else Path(name).name


def list_runs_with_weights(folder: Path) -> list[str]:
    """Return the newest runs of a folder that have a checkpoint, newest first."""
    if not folder.is_dir():
        return []
    runs = sorted((path for path in folder.iterdir() if (path / "checkpoints").is_dir()), reverse=True)
    has_weights = (run for run in runs[: 4 * MAX_LISTED_RUNS] if any((run / "checkpoints").glob("*.safetensors")))
    return [str(run) for _, run in zip(range(MAX_LISTED_RUNS), has_weights, strict=False)]


class NetworkShelf:
    """The networks that users choose from. Each is opened at its first use; the last ones stay in memory.

    names: runs, checkpoints or published networks; the first is the default.
    """

    def __init__(self, names: Iterable[str], max_open: int = 3) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.max_open = max_open
        self._open: dict[int, Network] = {}
        self._lock = threading.Lock()

    def labels(self) -> list[str]:
        """Return their names on a page; the place in this list is the key."""
        return [find_label(name) for name in self.names]

    def find(self, key: int) -> Network:
        """Return a network by its key. Raises ConfigError for an unknown key, and as `load_network`."""
        if not 0 <= key < len(self.names):
            found, fix = f"number {key}", "start stadia app RUN"
            raise ConfigError("network", found=found, expected=f"one of {len(self.names)} networks", fix=fix)
        with self._lock:
            network = self._open.pop(key, None) or load_network(self.names[key])
            self._open[key] = network
            while len(self._open) > self.max_open:
                del self._open[next(iter(self._open))]
        return network


def describe_networks(names: Sequence[str]) -> list[dict[str, str]]:
    """Return the networks of a server, and the published ones, as rows of a table."""
    own = [name for name in names if name not in PUBLISHED_NETWORKS]
    about = {DEFAULT_NETWORK: BASE}
    rows = [{"name": find_label(name), **about.get(name, OWN_RUN), "state": "ready"} for name in own]
    for name, entry in PUBLISHED_NETWORKS.items():
        state = "ready" if is_downloaded(entry.repository) else "needs download"
        size = f"{entry.millions:g} M parameters"
        output = OUTPUTS.get(entry.output, "near and far only")
        rows.append({"name": name, "output": output, "size": size, "licence": entry.licence, "state": state})
    return rows


def is_downloaded(repository: str) -> bool:
    """Return whether the files of a repository of the hub are on this machine."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return isinstance(try_to_load_from_cache(repository, CONFIG), str)
