"""A live source: newest image only, reconnected, its faults named; a path frame to frame; a recording."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.predict.stream_servers import draw, serve_stream
from tests.predict.test_bag_output import read_messages
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.plots.videos import open_video_file
from stadia.geometry.cameras import CropWindow
from stadia.predict.live import live_page, sources
from stadia.predict.live.live_page import serve_live_page
from stadia.predict.live.sources import LiveSource
from stadia.predict.live.tracker import FrameTracker

WAIT_S = 300.0
Stadia = Callable[..., tuple[int, str, str]]


def wait_for(condition: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def test_a_connection_that_breaks_within_a_chunk_is_opened_again() -> None:
    with serve_stream("chunked") as server, LiveSource(server.address) as source:
        wait_for(lambda: source.state.connections >= 2, source.state.problem)
        assert not source.state.has_ended
    wait_for(lambda: source.state.has_ended, "the source does not end")


def test_only_the_newest_image_is_taken() -> None:
    with serve_stream("http") as server, LiveSource(server.address) as source:
        first = None
        while first is None:
            first = source.take()
        wait_for(lambda: source.state.arrived >= 10, "too few images")
        newest = source.take()
        assert newest is not None
        assert newest.number >= 9
        assert source.state.dropped > 0.5


@pytest.mark.parametrize(
    ("make", "problem"),
    [(lambda number: draw(0), "frozen"), (lambda number: np.full((96, 160, 3), 3, np.uint8), "black")],
)
def test_a_frozen_and_a_black_image_are_named(
    make: Callable[[int], NDArray[np.uint8]], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FROZEN_S", 0.3)
    with serve_stream("http", make) as server, LiveSource(server.address) as source:
        wait_for(lambda: source.state.problem == problem, source.state.problem)


def test_other_addresses_are_refused(tmp_path: Path) -> None:
    with refuses(ConfigError, where="SOURCE", found="nothing"):
        LiveSource("nothing")
    with LiveSource(str(tmp_path / "none.mp4")) as source:
        wait_for(lambda: source.state.has_ended, "a missing video does not end")
        assert "none.mp4" in source.state.problem or "no image" in source.state.problem


def render(
    x: float, z: float, texture: NDArray[np.uint8], K: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """An image and depth of a wall with texture 20 m ahead of the world, from a camera at (x, 0, z)."""
    distance = 20.0 - z
    scale = 16.0  # pixels of the texture for a metre
    height, width = 96, 160
    H = np.array([[K[0, 0] / (scale * distance), 0, K[0, 2] - K[0, 0] * (x + 32) / distance],
                  [0, K[1, 1] / (scale * distance), K[1, 2] - K[1, 1] * 32 / distance], [0, 0, 1]])  # fmt: skip
    image = cv2.warpPerspective(texture, H, (width, height), flags=cv2.INTER_AREA)
    return np.asarray(image, np.uint8), np.full((height, width), distance, np.float32)


@pytest.mark.slow
def test_the_tracker_measures_motion_in_the_unit_of_depth() -> None:
    K = np.array([[120.0, 0, 79.5], [0, 120, 47.5], [0, 0, 1]])
    noise = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3)).astype(np.float32)
    texture = np.clip(128 + 4 * (cv2.GaussianBlur(noise, (0, 0), 6) - 128), 0, 255).astype(np.uint8)
    tracker, truth = FrameTracker(), [(0.05 * number, 0.2 * number) for number in range(30)]
    for x, z in truth:
        image, depth = render(x, z, texture, K)
        pose = tracker.add(image, lambda depth=depth: depth, K)
        assert pose is not None
    assert tracker.lost == 0
    np.testing.assert_allclose(pose[:3, 3], (truth[-1][0], 0, truth[-1][1]), atol=0.25)
    assert tracker.length == pytest.approx(np.hypot(*truth[-1]), rel=0.12)
    for _ in range(8):
        assert tracker.add(np.zeros_like(image), lambda: depth, K) is None
    assert tracker.lost == 8
    assert tracker.add(image, lambda: depth, K) is None  # nothing connects it with the path
    placed = tracker.add(image, lambda: depth, K)
    assert placed is not None
    np.testing.assert_allclose(placed, pose)


def test_blank_images_at_the_start_are_lost() -> None:
    K, depth = np.array([[120.0, 0, 79.5], [0, 120, 47.5], [0, 0, 1]]), np.full((96, 160), 5, np.float32)
    tracker = FrameTracker()
    assert tracker.add(np.zeros((96, 160, 3), np.uint8), lambda: depth, K) is None
    image = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    np.testing.assert_array_equal(tracker.add(image, lambda: depth, K), np.eye(4))
    assert tracker.lost == 1


@pytest.mark.slow
def test_a_video_is_recorded_with_depth_path_and_verdict(real_data: Path, tmp_path: Path, stadia: Stadia) -> None:
    files = sorted((real_data / "kitti_odometry").rglob("image_0/*.png"))[:30]
    video = tmp_path / "drive.mp4"
    with open_video_file(video, 10.0) as write:
        for file in files:
            write(cv2.cvtColor(cv2.resize(cv2.imread(str(file)), (320, 96)), cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]
    record = tmp_path / "out.mcap"
    code, out, _ = stadia("live", video, "data.camera.focal_px=184.6", "--size", "320x96", "--record", record)
    assert code == 0
    assert "latency" in out
    messages = read_messages(record)
    count = len(messages["/stadia/depth/image"])
    assert 2 <= count <= 30
    assert len(messages["/stadia/odometry"]) >= 1
    assert messages["/diagnostics"][0][1].status[0].message in ("usable", "doubtful", "unusable", "not judged")  # type: ignore[attr-defined]
    stamps = [
        image.header.stamp.sec + 1e-9 * image.header.stamp.nanosec for _, image in messages["/stadia/depth/image"]
    ]  # type: ignore[attr-defined]
    assert (np.diff(stamps) > 0).all()
    assert abs(stamps[0] - time.time()) < 600


def test_the_page_shows_the_newest_image_to_who_knows_its_address() -> None:
    K, inverse = np.array([[100.0, 0, 80], [0, 100, 48], [0, 0, 1]]), np.full((96, 160), 0.5, np.float32)
    frame = Frame("0", np.full((96, 160, 3), 200, np.uint8), K, 0.0)
    predicted = PredictedFrame(frame, DepthScale.METRES, inverse, K, None, (96, 160), CropWindow(0, 0, 96, 160))
    with serve_live_page() as page:
        page.show("depth 20/s", predicted)
        assert urlopen(f"{page.address}status").read() == b"depth 20/s"
        assert b"stream" in urlopen(page.address).read()
        for wrong in ("other/status", "status"):
            with pytest.raises(HTTPError):
                urlopen(f"{page.address.rsplit('/', 2)[0]}/{wrong}")
        with urlopen(f"{page.address}stream") as stream:
            wait_for(lambda: page.watchers == 1, "no watcher")
            page.show("", predicted)
            data = stream.read1(1 << 16)
            while b"\xff\xd9" not in data:
                data += stream.read1(1 << 16)
            shown = cv2.imdecode(np.frombuffer(data[data.index(b"\xff\xd8") :], np.uint8), cv2.IMREAD_COLOR)
            assert shown is not None
            assert shown.shape[1] == 2 * live_page.WIDTH
            assert abs(float(shown[: live_page.WIDTH // 2, : live_page.WIDTH].mean()) - 200) < 3
        page.show("", predicted)
        wait_for(lambda: page.show("", predicted) or page.watchers == 0, "the watcher stays")
    with pytest.raises(URLError):
        urlopen(page.address)
