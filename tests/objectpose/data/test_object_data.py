"""Data of objects for a training: rendered once for all processes."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from stadia.data.config import CacheConfig
from stadia.objectpose.config import TABLEWORLD_TINY
from stadia.objectpose.data import object_data
from stadia.objectpose.data.object_data import fingerprint_images
from stadia.objectpose.data.object_folder import ObjectFolder
from stadia.objectpose.data.object_labels import CachedLabels, ObjectSubset
from stadia.objectpose.table_world import write_tableworld


class Renderer:
    """Counts its calls, and how many of them ran at a time."""

    def __init__(self) -> None:
        self.calls = self.running = self.most = 0

    def __call__(self, config: Any, folder: Path, advance: Callable[[int], None], seed: int = 0) -> None:
        self.calls, self.running = self.calls + 1, self.running + 1
        self.most = max(self.most, self.running)
        time.sleep(0.1)
        folder.mkdir(exist_ok=True)
        (folder / "dataset.json").write_text("{}")
        self.running -= 1


def both(work: Callable[[Console], Path]) -> list[Path]:
    """Two at once, as two processes do: a lock separates threads by their own open file."""
    start = threading.Barrier(2)

    def one(_: int) -> Path:
        start.wait()
        return work(Console(quiet=True))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


def test_two_that_want_the_same_tables_render_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_data, "write_tableworld", renderer := Renderer())
    first, second = both(lambda console: object_data.render_tables("tiny", CacheConfig(folder=str(tmp_path)), console))
    assert first == second
    assert renderer.calls == 1


def test_other_labels_are_other_data(tmp_path: Path) -> None:
    """Files of the same size with another number in them: of a pose, and of two pixels of a mask."""
    config = TABLEWORLD_TINY.model_copy(
        update={"train": 1, "val": 0, "test": 0, "height": 48, "width": 64, "supersampling": 1}
    )
    data = write_tableworld(config, tmp_path / "tiny", workers=1).parent

    def found() -> str:
        return fingerprint_images(ObjectSubset(CachedLabels(ObjectFolder.open(data, "train")), [0]))

    (scene,), before = data.glob("train-*/scene.json"), found()
    assert found() == before
    text = scene.read_text()
    at = text.index('"t_camera_object_m"') + 30
    at = next(place for place in range(at, len(text)) if text[place] in "12345678")
    scene.write_text(text[:at] + str(int(text[at]) + 1) + text[at + 1 :])
    other_pose = found()
    assert other_pose != before
    path = scene.parent / "instance" / "000.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    stored = [cv2.IMWRITE_PNG_COMPRESSION, 0]  # so that all files have one size
    cv2.imwrite(str(path), mask, stored)
    same, size = found(), path.stat().st_size
    cv2.imwrite(str(path), np.where(mask == 1, 2, np.where(mask == 2, 1, mask)).astype(mask.dtype), stored)
    assert path.stat().st_size == size
    assert found() != same
    before = found()
    (scene.parent / "image" / "000.png").unlink()
    assert found() != before, "a missing image is no crash: the data checks report it"
