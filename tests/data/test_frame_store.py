"""The store of decoded images: made once, whole or not at all, by one process at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.processes import leave_stale_file
from tests.refusals import refuses

from stadia.core.errors import DataError, StadiaError
from stadia.data import frame_store as cache
from stadia.data.frame_store import open_frame_store, resize_image
from stadia.data.open_dataset import open_recordings

OneLine = Callable[..., None]


@pytest.fixture
def recording(tmp_path: Path, world: Any) -> Any:
    return open_recordings(world.recording(tmp_path / "a", 4))[0]


def test_a_store_holds_the_resized_images(recording: Any) -> None:
    calls_seen: list[tuple[str, int, int | None]] = []
    store = open_frame_store(recording, 48, 64, side="right", progress=lambda *args: calls_seen.append(args))
    assert len(store) == 4
    assert calls_seen == [("a right", n, 4) for n in (1, 2, 3, 4)]
    for index in range(4):
        expected = resize_image(recording.image(index, "right"), 48, 64)
        assert np.array_equal(store.image(index), expected)
        assert np.array_equal(store.planar(index), expected.transpose(2, 0, 1))


def test_store_is_written_once_for_each_content_side_and_size(
    recording: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_frame_store(recording, 48, 64)
    assert open_frame_store(recording, 48, 64, side="right").path != first.path
    assert open_frame_store(recording, 48, 60).path != first.path
    with monkeypatch.context() as patch:
        patch.setattr(type(recording), "image", lambda *args: pytest.fail("decoded again"))
        assert open_frame_store(recording, 48, 64).path == first.path
    world.save(recording.file(2), world.render(0)[0])
    assert open_frame_store(recording, 48, 64).path != first.path


def test_leftovers_of_a_killed_process_are_replaced(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_frame_store(recording, 48, 64)
    whole = store.path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2]):  # the second is a whole number of frames
        store.path.write_bytes(content)
        leftover = leave_stale_file(store.path)
        monkeypatch.setattr("stadia.io.atomic_files._CLEANED", set())  # as in another process
        assert open_frame_store(recording, 48, 64).path.read_bytes() == whole
        assert not leftover.exists()


def test_full_disk_is_reported_before_writing(
    recording: Any, monkeypatch: pytest.MonkeyPatch, one_line: OneLine
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: cache.shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(StadiaError) as caught:
        open_frame_store(recording, 48, 64)
    one_line(caught.value, "0.0 KiB free", "expected 36.0 KiB", "data.cache.folder")


@pytest.mark.parametrize("damage", ["cut", "removed", "random"])
def test_a_store_that_is_damaged_while_it_is_read_is_named(recording: Any, damage: str) -> None:
    """A cut file was an internal error, or ended the process; random bytes were trained on without a word."""
    store = open_frame_store(recording, 48, 64)
    store.planar(0)
    if damage == "cut":
        store.path.write_bytes(store.path.read_bytes()[: 5 * 48 * 64])
    elif damage == "removed":
        store.path.unlink()
    else:
        size = store.path.stat().st_size
        store.path.write_bytes(np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes())
    for index in (1, 3):
        with refuses(DataError, where="a-left-64x48"):
            store.image(index)
