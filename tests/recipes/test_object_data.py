"""Data of objects for a training: rendered once, whoever asks for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stadia.data.config import CacheConfig
from stadia.recipes import demo, object_data


class Renderer:
    """Counts its calls, and how many of them ran at a time."""

    def __init__(self) -> None:
        self.calls = self.running = self.most = 0

    def __call__(self, config: Any, folder: Path, advance: Callable[[int], None]) -> None:
        self.calls, self.running = self.calls + 1, self.running + 1
        self.most = max(self.most, self.running)
        time.sleep(0.1)
        folder.mkdir(exist_ok=True)
        (folder / "dataset.json").write_text("{}")
        self.running -= 1


def both(work: Callable[[Console], Path]) -> list[Path]:
    """Two at once, as two processes do: a lock knows threads apart by their own open file."""
    start = threading.Barrier(2)

    def one(_: int) -> Path:
        start.wait()
        return work(Console(quiet=True))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


def test_two_that_want_the_same_tables_render_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_data, "write_tableworld", renderer := Renderer())
    first, second = both(lambda console: object_data.rendered_tables("tiny", CacheConfig(folder=str(tmp_path)), console))
    assert first == second
    assert renderer.calls == 1


def test_two_demos_render_the_worlds_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "write_roadworld", renderer := Renderer())
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path))
    both(demo.render_worlds)
    assert (renderer.calls, renderer.most) == (2, 1)
