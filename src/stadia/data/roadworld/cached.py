"""Render RoadWorld into the cache, once; the demo's worlds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from stadia.data.cache import cache_folder, exclusively
from stadia.data.config import CacheConfig
from stadia.data.roadworld.presets import DEMO, RoadWorldConfig
from stadia.data.roadworld.write import VERSION, write_roadworld

FRAMES = sum(DEMO.worlds.values()) * DEMO.frames


def cached_worlds(
    name: str,
    config: RoadWorldConfig,
    cache: CacheConfig,
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Render worlds to the cache, once. Returns their folder; concurrent processes wait for the first.

    name: part of the folder's name, beside hash of settings, version, and seed where it is not 0.
    advance: called with a number of frames as they are finished (or found finished).
    """
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # other settings are other worlds
    seeded = f"-seed-{seed}" if seed else ""
    folder = cache_folder(cache) / f"roadworld-{name}{seeded}-{VERSION}-{settings}"
    with exclusively(folder):
        write_roadworld(config, folder, seed=seed, advance=advance)
    return folder


def demo_worlds(cache: CacheConfig, advance: Callable[[int], None] = lambda frames: None) -> Path:
    """Render the demo's worlds to the cache, see `cached_worlds`. advance: out of FRAMES frames."""
    return cached_worlds("demo", DEMO, cache, advance=advance)
