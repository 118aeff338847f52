"""Images and videos from strangers are decoded as others are, and cannot reach out of their process."""

from __future__ import annotations

import socket
import sys
import threading
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.fuzz.targets import CORPUS

from stadia.core.errors import DataError
from stadia.datasets.image_files import read_rgb
from stadia.datasets.untrusted_media import read_untrusted_rgb, stream_untrusted_video
from stadia.datasets.video_decoding import stream_video

VIDEO = CORPUS / "video" / "h264.mp4"


@pytest.mark.slow
def test_an_image_and_a_video_are_decoded_as_without(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (48, 64, 3)))
    np.testing.assert_array_equal(read_untrusted_rgb(path), read_rgb(path))
    frames, direct = list(stream_untrusted_video(VIDEO)), list(stream_video(VIDEO))
    assert [(frame.index, frame.time_s) for frame in frames] == [(frame.index, frame.time_s) for frame in direct]
    for frame, one in zip(frames, direct, strict=True):
        np.testing.assert_array_equal(frame.image, one.image)


@pytest.mark.slow
def test_a_consumer_may_be_slower_than_the_limit_of_the_decoder() -> None:
    frames = stream_untrusted_video(VIDEO, seconds=20)
    next(frames)
    threading.Event().wait(0.3)
    assert len(list(frames)) == 2


@pytest.mark.slow
def test_errors_are_those_of_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(VIDEO.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.mp4: found"):
        list(stream_untrusted_video(path))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="an empty file"):
        read_untrusted_rgb(path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="connections are denied on Linux")
@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{}/a.ts\n", "ffconcat version 1.0\nfile {}\n"])
def test_a_playlist_opens_no_connection(tmp_path: Path, text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        path = tmp_path / "a.mp4"
        path.write_text(text.format(server.getsockname()[1]))
        with pytest.raises(DataError):
            list(islice(stream_untrusted_video(path), 1))
        with pytest.raises(TimeoutError):
            server.accept()
