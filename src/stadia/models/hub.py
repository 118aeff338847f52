"""The Hugging Face hub: asked where it can be reached, and one line where it cannot."""

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

Weights = Literal["pretrained", "random"]
"""What a network starts from."""


@contextmanager
def asked_where_reachable() -> Iterator[None]:
    """Within it the hub's cache alone is asked where nobody answers: the hub's client would retry for most of a minute."""
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = offline or not is_reachable()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline


@cache
def warn_once(name: str, why: str, repository: str) -> None:
    """Say that weights cannot be had, once for networks of one name, with what to copy to a machine that cannot reach
    the hub.
    """
    fix = f"; {how_to_copy(repository)}" if repository else ""
    log.warning("no pretrained weights for '%s' (%s): it starts at random%s", name, why, fix)


def how_to_copy(repository: str) -> str:
    """What brings a repository's files to a machine that cannot reach the hub."""
    folder = f"models--{repository.replace('/', '--')}"
    return (
        f"copy {folder} from the cache of a machine that is online into {huggingface_hub.constants.HF_HUB_CACHE}"
        " (HF_HOME sets it)"
    )


def fetch(repository: str, names: tuple[str, ...]) -> Path:
    """The first of some files that a repository has, from the cache or the hub. Raises OSError where none can be had."""
    for name in names:
        with suppress(EntryNotFoundError):  # not there; or not in the cache, which may have the next one
            return Path(huggingface_hub.hf_hub_download(repository, name))
    raise FileNotFoundError(f"{repository}: {' or '.join(names)}")


@cache
def is_reachable() -> bool:
    """Whether the hub answers, or a proxy stands before it; asked once a process."""
    if urllib.request.getproxies():
        return True  # the proxy knows; its own time-out decides
    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=3.0).close()
    except OSError:
        return False
    return True
