"""Files from outside that name other files, claim more than they hold, or have names that no library expects."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from tests.data.rendered_world import HEIGHT, WIDTH

from stadia.core.errors import DataError
from stadia.data.open_dataset import open_recordings
from stadia.io import video_decoding
from stadia.io.records.calibration import read_K
from stadia.io.video_decoding import stream_video
from stadia.objectpose.data.bop_models import read_ply

OneLine = Callable[..., None]
FOCAL = {"focal_px": 120}


def write_video(path: Path, world: Any, codec: str = "libx264") -> Path:
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(world.render(index)[0], format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["http:x.mp4", "caf\udce9.mp4", "a b%d.mp4"])
def test_a_name_of_a_video_is_no_url(tmp_path: Path, world: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", world).rename(tmp_path / name)
    assert len(list(stream_video(path))) == 4
    monkeypatch.chdir(tmp_path)
    (recording,) = open_recordings(path.name, camera=FOCAL, stride=1)
    assert recording.image(0).shape == (HEIGHT, WIDTH, 3)


def test_a_playlist_opens_no_other_file(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    other = write_video(tmp_path / "other.mp4", world)
    path = tmp_path / "list.mp4"
    path.write_text(f"ffconcat version 1.0\nfile '{other}'\n")
    with pytest.raises(DataError) as caught:
        list(stream_video(path))
    one_line(caught.value, path, "mov,matroska")


def test_large_frames_are_refused_before_one_is_decoded(
    tmp_path: Path, world: Any, one_line: OneLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", world)
    monkeypatch.setattr(video_decoding, "MAX_VIDEO_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(DataError) as caught:
        list(stream_video(path))
    one_line(caught.value, path, f"{WIDTH}x{HEIGHT} pixels", "scale=1280")


def test_a_pipe_or_device_is_never_opened(tmp_path: Path, one_line: OneLine) -> None:
    for name in ("a.mp4", "a.png", "K.txt"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path / "a.mp4", camera=FOCAL)
    one_line(caught.value, tmp_path / "a.mp4", "a pipe")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for path in (tmp_path / "K.txt", tmp_path / "zero.txt"):
        with pytest.raises(DataError):
            read_K(path)


PLY = "ply\nformat ascii 1.0\nelement vertex {count}\nproperty float x\nproperty float y\nproperty float z\n{faces}"
FACES = "element face 1\nproperty list uchar {kind} vertex_indices\nend_header\n"


@pytest.mark.parametrize(
    "text",
    [
        PLY.format(count="9" * 5000, faces=FACES.format(kind="int")),
        PLY.format(count=3, faces="property float x\n" + FACES.format(kind="int")) + "0 0 0 0\n1 0 0 0\n0 1 0 0\n3 0 1",
        PLY.format(count=3, faces=FACES.format(kind="int")) + "0 0 0\n1 0 nan\n0 1 0\n3 0 1 2\n",
        PLY.format(count=3, faces=FACES.format(kind="int")) + "0 0 0\n1 0 0\n0 1 0\n3 0 1 99999999999999999999\n",
    ],
)
def test_a_mesh_that_claims_more_than_it_holds_is_refused(tmp_path: Path, one_line: OneLine, text: str) -> None:
    path = tmp_path / "a.ply"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_ply(path)
    one_line(caught.value, path, "PLY")
