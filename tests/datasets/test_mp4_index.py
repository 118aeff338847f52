"""The index of an mp4 states its samples in a few bytes, and FFmpeg lists each of them in memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.datasets.video import mp4_index
from stadia.datasets.video.mp4_index import check_mp4_index
from stadia.datasets.video.video_decoding import stream_video

OneLine = Callable[..., None]


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def table(kind: bytes, *numbers: int) -> bytes:
    return box(kind, bytes(4), struct.pack(f">{len(numbers)}I", *numbers))


def make_mp4(samples: int, *, edits: int = 1, handlers: tuple[bytes, ...] = (b"vide",), duration: int = 1) -> bytes:
    """An mp4 of one track with samples of one byte each."""
    times = table(b"stts", 1, samples, duration)
    sizes = box(b"stbl", times, table(b"stsc", 1, 1, samples, 1), table(b"stsz", 1, samples), table(b"stco", 1, 40))
    media = box(b"mdia", *(box(b"hdlr", bytes(8), one, bytes(13)) for one in handlers), box(b"minf", sizes))
    edit_list = box(b"edts", table(b"elst", edits, *(1, 0, 1 << 16) * edits))
    index = box(b"moov", box(b"trak", edit_list, media))
    return box(b"ftyp", b"isom", bytes(4)) + box(b"mdat", bytes(100)) + index


def make_fragment(samples: int) -> bytes:
    return box(b"moof", box(b"traf", table(b"trun", samples)))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (make_mp4(80_000_000), "80000000 samples"),  # 1.6 kB, which took 2.9 GB
        (make_mp4(100_000, edits=3000), "100000 samples, repeated by 3000 edits"),
        (make_mp4(10) + make_fragment(6_000_000) * 2, "12000010 samples"),
        (make_mp4(20_000_000, handlers=(b"soun",), duration=1024), "20000000 samples"),
        (make_mp4(20_000_000, handlers=(b"soun", b"vide")), "20000000 samples"),
        (b"\0\0\0\x08junk" + make_mp4(20_000_000), "20000000 samples"),
        (box(b"ftyp", b"qt  ") + box(b"moov", box(b"cmov", bytes(50))), "a compressed index"),
    ],
)
def test_an_index_of_millions_of_samples_is_refused(
    tmp_path: Path, one_line: OneLine, content: bytes, found: str
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(stream_video(path))
    one_line(caught.value, path, found)


def test_hours_of_sound_are_no_long_index(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    path.write_bytes(make_mp4(48_000 * 3600 * 2, handlers=(b"soun", b"url ")))
    check_mp4_index(path, 1 << 30)


def test_an_index_of_gigabytes_is_refused_and_other_formats_are_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mp4_index, "_MAX_INDEX_BYTES", 1000)
    path = tmp_path / "a"
    path.write_bytes(box(b"ftyp", b"isom") + box(b"moov", bytes(2000)))
    with pytest.raises(DataError, match="an index of more than 1000 bytes"):
        check_mp4_index(path, 1 << 30)
    path.write_bytes(box(b"ftyp", b"isom") + box(b"mdat", bytes(2000)))
    check_mp4_index(path, 1 << 30)
    path.write_bytes(b"\x1aE\xdf\xa3" + b"stsz" * 1000)
    check_mp4_index(path, 1 << 30)


def test_a_video_with_uncompressed_sound_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=48_000)
        for index in range(5):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * index, np.uint8), format="rgb24")
            image.pts, image.time_base = index, Fraction(1, 10)
            container.mux(video.encode(image))
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="stereo")
            noise.sample_rate, noise.pts = 48_000, 4800 * index
            container.mux(sound.encode(noise))
        container.mux(video.encode(None))
    monkeypatch.setattr(mp4_index, "MAX_SAMPLES", 200)
    monkeypatch.setattr(mp4_index, "_MANY", 100)
    assert len(list(stream_video(path))) == 5
