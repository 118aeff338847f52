"""Downloads from the Hugging Face hub, with a fast fallback to the local cache when it is unreachable."""

from __future__ import annotations

import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError

log = logging.getLogger(__name__)

InitialWeights = Literal["pretrained", "random"]
"""Kind of initial weights."""


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Use only the local cache if the hub is unreachable; its client would retry for most of a minute."""
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = offline or not is_reachable()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline


@cache
def warn_missing_weights(name: str, why: str, repository: str) -> None:
    """Warn once per network that weights are unavailable, with the files to copy from an online machine."""
    fix = f"; {describe_manual_copy(repository)}" if repository else ""
    log.warning("no pretrained weights for '%s' (%s): it starts at random%s", name, why, fix)


def describe_manual_copy(repository: str) -> str:
    """Describe how to copy a repository's files to a machine without access to the hub."""
    folder = f"models--{repository.replace('/', '--')}"
    cache = huggingface_hub.constants.HF_HUB_CACHE
    return f"copy {folder} from the cache of a machine that is online into {cache} (HF_HOME sets it)"


def download_first_file(repository: str, names: tuple[str, ...]) -> Path:
    """Return the first file that the repository has, from cache or hub. Raises OSError if none is available."""
    for name in names:
        with suppress(EntryNotFoundError):  # missing in the repository or the cache: try the next
            return Path(huggingface_hub.hf_hub_download(repository, name))
    raise FileNotFoundError(f"{repository}: {' or '.join(names)}")


@cache
def is_reachable() -> bool:
    """Return whether the hub, or a proxy, is reachable; checked once per process."""
    if urllib.request.getproxies():
        return True  # the proxy has its own time-out
    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=3.0).close()
    except OSError:
        return False
    return True
