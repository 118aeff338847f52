"""RoadWorld in the cache: the demo's worlds, rendered once for whoever wants them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from stadia.data.cache import cache_folder, exclusively
from stadia.data.config import CacheConfig
from stadia.data.roadworld.presets import DEMO
from stadia.data.roadworld.write import VERSION, write_roadworld

FRAMES = sum(DEMO.worlds.values()) * DEMO.frames


def demo_worlds(cache: CacheConfig, advance: Callable[[int], None] = lambda frames: None) -> Path:
    """The folder of the demo's worlds; what is already there is kept. Processes that want the same wait for the first.

    advance: called with a number of frames as they are finished (or found finished), of FRAMES.
    """
    settings = hashlib.sha256(DEMO.model_dump_json().encode()).hexdigest()[:8]  # other settings are other worlds
    folder = cache_folder(cache) / f"roadworld-demo-{VERSION}-{settings}"
    with exclusively(folder):
        write_roadworld(DEMO, folder, advance=advance)
    return folder
