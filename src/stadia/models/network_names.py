"""Recognize names of networks without a run. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name
from stadia.models import DEPTH_NETWORKS
from stadia.models.published_networks import HUB, PUBLISHED_NETWORKS, is_network_folder

OWN_NETWORK = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""Your own network: module:Class."""


def is_network_name(text: str) -> bool:
    """Return whether a text names a network without a run: published, a folder of transformers, or module:Class.

    Examples:
        >>> is_network_name("hf:ORG/NAME"), is_network_name("runs/drive"), is_network_name("my_networks:Plain")
        (True, False, True)
    """
    path = Path(text)
    if path.exists():
        return path.is_dir() and is_network_folder(path)
    return (
        text.startswith(HUB)
        or text in PUBLISHED_NETWORKS
        or text in DEPTH_NETWORKS
        or bool(OWN_NETWORK.fullmatch(text))
    )


def refuse_misspelt_network(text: str) -> None:
    """Raise ConfigError for a name that is neither a file nor a network, but close to a network's name.

    Examples:
        >>> refuse_misspelt_network("runs/drive")
    """
    near = None if Path(text).exists() else find_nearest_name(text, [*DEPTH_NETWORKS, *PUBLISHED_NETWORKS])
    if near is not None:
        expected = "a checkpoint, a run's folder, or a network of `stadia list networks`"
        raise ConfigError(text, found="no such network or file", expected=expected, fix=f"did you mean '{near}'?")
