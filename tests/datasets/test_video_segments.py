"""Segments of a video: bounded in frames, size and disk; numbers and cameras are those of the whole video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.datasets import frame_store
from stadia.datasets.open_dataset import open_recordings, sample_recordings
from stadia.datasets.video import video_files

FOCAL = {"focal_px": 120}
FRAMES = 200


@pytest.fixture(scope="module")
def drive(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames that move by 2 pixels each, a key frame every 5."""
    path = tmp_path_factory.mktemp("drive") / "drive.mp4"
    picture = world.render(0)[0]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0", "preset": "ultrafast", "g": "5"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "rgb24"
        for index in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, 2 * index, 1), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_files, "MAX_KEPT", 6)
    monkeypatch.setattr(video_files, "MAX_DECODED", 10)


@pytest.mark.slow
def test_long_video_is_sampled_in_segments_without_storing(
    drive: Path, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_store, "write_frame_store", lambda *args: pytest.fail("stored"))
    stretches = sample_recordings(drive, camera=FOCAL)
    assert [stretch.numbers for stretch in stretches] == [list(range(start, start + 6)) for start in (0, 50, 100, 150)]
    assert [stretch.name for stretch in stretches] == [f"video/drive from {seconds} s" for seconds in (0, 5, 10, 15)]
    for stretch in stretches:
        for index, number in enumerate(stretch.numbers):
            assert np.array_equal(stretch.image(index), np.roll(world.render(0)[0], 2 * number, 1))
            assert stretch.timestamp_s(index) == pytest.approx(number / 10)
    assert len({stretch.fingerprint() for stretch in stretches}) == 4
    assert all(stretch.is_part and stretch.has_stride for stretch in stretches)
    assert not list(tmp_path.glob("cache/*.rgb"))


@pytest.mark.slow
def test_short_video_is_one_segment_and_other_data_is_opened_whole(drive: Path, world: Any, tmp_path: Path) -> None:
    video_files.MAX_DECODED = 50  # undone with the fixture's patch
    (stretch,) = sample_recordings(drive, camera=FOCAL)
    assert (stretch.name, stretch.numbers) == ("video/drive", list(range(24)))
    for index in range(3):
        world.save(tmp_path / "images" / f"{index}.png", np.roll(world.render(0)[0], 2 * index, 1))
    (sampled,) = sample_recordings(tmp_path / "images", camera=FOCAL)
    (opened,) = open_recordings(tmp_path / "images", camera=FOCAL)
    assert sampled.fingerprint() == opened.fingerprint()
    assert not sampled.is_part
    video_files.MAX_KEPT = 60
    assert [one.is_part for one in sample_recordings(drive, camera=FOCAL)] == [False], "all 200 frames are read"
    with refuses(ConfigError, where="data.color"):
        sample_recordings(drive, camera=FOCAL, color="gray")


def test_a_folder_of_many_images_is_sampled(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection by motion reads each image. Of many only those of four segments are read; files keep their names."""
    read: list[str] = []
    for index in range(40):
        world.save(tmp_path / "images" / f"{index:06d}.png", np.roll(world.render(0)[0], 4 * index, 1))
    monkeypatch.setattr(video_files, "MAX_DECODED", 5)
    real = video_files.ImageRecording.image
    monkeypatch.setattr(
        video_files.ImageRecording,
        "image",
        lambda one, index: read.append(one.images["left"][index].stem) or real(one, index),
    )
    parts = sample_recordings(tmp_path / "images", camera=FOCAL)
    assert [part.name for part in parts] == [f"video/images from {start:06d}.png" for start in (0, 11, 23, 35)]
    assert len(read) == len(set(read)) == 4 * 5
    assert all(part.is_part for part in parts)
    assert [part.file(0).stem for part in parts] == ["000000", "000011", "000023", "000035"]  # type: ignore[union-attr]
    assert [part.number(1) for part in parts] == [1, 12, 24, 36]
    (whole,) = sample_recordings(tmp_path / "images", camera=FOCAL, stride=2)
    assert len(whole) == 20
    (one,) = sample_recordings(tmp_path / "images", camera=FOCAL, stride=1)
    assert type(one) is type(open_recordings(tmp_path / "images", camera=FOCAL, stride=1)[0])
