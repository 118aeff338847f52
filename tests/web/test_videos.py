"""Videos through the server: progress, frames, path, points, files; cancelled and hostile ones leave nothing."""

import base64
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tests.web.conftest import Browser

from stadia.cli.output import Stage
from stadia.evaluation.plots.videos import open_video_file
from stadia.web import video as videos
from stadia.web import video_routes
from stadia.web.progress import PLAN, estimate_left_s, estimate_share
from stadia.web.video import VideoJob

FAILING = (sys.executable, "-S", "-c", "raise SystemExit('stadia: frames: found no map')")
"""A command in place of stadia's that fails at once."""


def make_video(path: Path, frames: int = 8, bars: int = 0) -> bytes:
    """Return an MP4 whose picture moves sideways: a near half over a far one, with a pattern."""
    pattern = np.random.default_rng(0).integers(0, 255, (96, 400), np.uint8)
    with open_video_file(path, 10.0) as write:
        for number in range(frames):
            image = np.zeros((96, 128, 3), np.uint8)
            image[..., 1] = pattern[:, 6 * number : 6 * number + 128]
            image[48:, :, 0] = 200
            write(np.pad(image, ((0, 0), (bars, bars), (0, 0))))
    return path.read_bytes()


def wait_for(browser: Browser, key: str) -> dict[str, Any]:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        job = browser.client.get(f"/api/videos/{key}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


@pytest.mark.slow
def test_a_video_becomes_depth_and_path(
    browser: Browser, app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimesh = pytest.importorskip("trimesh")
    data = make_video(tmp_path / "drive.mp4")
    key = browser.post("/api/videos?every=2&fov_deg=70", content=data).json()["video"]
    job = wait_for(browser, key)
    assert (job["state"], job["error"]) == ("done", "")
    assert job["frames"] == [f"{number:06d}" for number in range(4)]
    assert (job["fov_deg"], job["fov_source"], job["rate_hz"]) == (70.0, "you", 5.0)
    base = f"/api/videos/{key}"
    for kind in ("image", "depth"):
        assert browser.client.get(f"{base}/{kind}/3.jpg").content.startswith(b"\xff\xd8")
        assert browser.client.get(f"{base}/{kind}/4.jpg").status_code == 422
    files = {name: browser.client.get(f"{base}/files/{name}") for name in job["files"]}
    assert job["not_shared"] == ""
    image, depth = (
        cv2.imdecode(np.frombuffer(browser.client.get(f"{base}/{kind}/3.jpg").content, np.uint8), cv2.IMREAD_COLOR)
        for kind in ("image", "depth")
    )
    assert depth.shape[1] / depth.shape[0] == pytest.approx(image.shape[1] / image.shape[0], rel=0.02)
    assert browser.client.get(f"{base}/bar/3.jpg").status_code == 200
    assert {"side_by_side.mp4", "cloud.ply", "cloud.glb", "trajectory.txt", "predictions.json"} <= set(files)
    form = {"items": [], "lengths": [[[0, 0, 1], [0, 3, 5]]]}
    page = browser.client.get(f"{base}/share", params={"form": json.dumps(form)}).text
    assert "Distance in 3D 5.00 ± 0.62 m" in page
    assert base64.b64encode(files["side_by_side.mp4"].content).decode() in page
    assert 0 < page.index("<canvas") < page.index("<video"), "the scene in 3D is first"
    assert all(text in page for text in ("CC0-1.0", "70.0° from left to right", "Path of the camera", job["verdict"]))
    assert all(reply.status_code == 200 for reply in files.values())
    with av.open(io.BytesIO(files["side_by_side.mp4"].content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    ply = trimesh.load(io.BytesIO(files["cloud.ply"].content), file_type="ply")
    assert len(browser.client.get(f"{base}/cloud.bin").content) == 15 * len(ply.vertices)
    path = browser.client.get(f"{base}/path").json()["path"]
    rows = np.loadtxt(io.StringIO(files["trajectory.txt"].text), ndmin=2)
    np.testing.assert_allclose([np.ravel(T) for _, T in path], rows, atol=1e-6)
    assert browser.client.get(f"{base}/preview.jpg").content.startswith(b"\xff\xd8")
    at = (20, 60), (90, 60)
    length = browser.measure(base, *at, frame=3).json()["value"]
    known = {"kind": "distance", "metres": 2 * length, "x": 20, "y": 60, "x2": 90, "y2": 60, "frame": 3}
    assert browser.post(f"{base}/predict", json={"known": [known]}).status_code == 200
    scaled = wait_for(browser, key)
    assert (scaled["state"], scaled["error"]) == ("done", "")
    assert browser.measure(base, *at, frame=3).json()["value"] == pytest.approx(2 * length, rel=0.2)
    browser.post(f"{base}/predict", json={"known": [{**known, "x": 5000}]})
    assert wait_for(browser, key)["error"]
    assert wait_for(browser, key)["settings"] == scaled["settings"], "a failure leaves the result"
    assert str(app.state.shared.folder) not in str(job)
    monkeypatch.setattr(videos, "STADIA", FAILING)
    wait_for(browser, browser.post("/api/videos", content=data).json()["video"])
    assert browser.client.get(base).json()["state"] == "done", "a video of another tab stays"
    assert len(list(app.state.shared.folder.iterdir())) == 2


def test_the_share_of_the_work_grows_from_0_to_1() -> None:
    """Through all states and loops, and tries of a map whose number is unknown."""
    tries = [("mapping", f"mapping, a try with {number} degrees", number) for number in range(12)]
    steps = [("decoding", "", 0), ("mapping", "reading", 0), ("mapping", "matching", 0), *tries]
    steps += [("mapping", "judging", 0), ("predicting", "", 0)]
    shares = [estimate_share(PLAN, *step[:2], part, step[2]) for step in steps for part in (0.0, 0.4, 1.0)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert estimate_left_s(0.01, 100) is None
    assert VideoJob(Path("/job")).describe()["left_s"] is None


@pytest.mark.parametrize("done", [0, 7])
@pytest.mark.parametrize("count", [None, 20])
def test_progress_is_read_as_it_is_written(done: int, count: int | None) -> None:
    line = Stage("finding points", count, started_s=0.0, done=done).describe(30.0)
    text = f"{'earlier: 1 of 2' * 400}\n{line}\n".encode()
    for tail in (text[-videos.TAIL_BYTES :], line.encode()):
        assert videos.read_progress(tail) == ("finding points", done, count or 0)


def test_a_video_that_no_page_can_hold_names_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "side_by_side.mp4"
    video.write_bytes(bytes(3 << 20))
    assert videos.explain_not_shared(video) == ""
    monkeypatch.setattr(videos, "MAX_SHARED_BYTES", 2 << 20)
    assert "side_by_side.mp4" in videos.explain_not_shared(video)


def test_black_bars_of_an_upright_clip_are_cut_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "clip.mp4", 14, bars=96)
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    limits = {"every": 1, "max_frames": 20, "max_side": 960, "is_cancelled": lambda: False}
    decoded = video_routes.decode_video(tmp_path / "clip.mp4", tmp_path, **limits)
    assert decoded.size == pytest.approx((96, 128), abs=6)
    frame = next(iter(videos.UploadedFrames(tmp_path, videos.PhotoCamera(90.0, "you"), 10.0, decoded.count)))
    assert (*frame.image.shape[:2], 2 * frame.K[0, 0]) == pytest.approx((*decoded.size, decoded.size[1]))
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def without_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the map of each video fail at once, so that the network predicts its path."""
    monkeypatch.setattr(videos, "STADIA", FAILING)


@pytest.mark.slow
@pytest.mark.usefixtures("without_map")
def test_a_second_network_predicts_the_same_frames_and_the_first_stays(browser: Browser, tmp_path: Path) -> None:
    first = browser.post("/api/videos?fov_deg=70", content=make_video(tmp_path / "drive.mp4")).json()["video"]
    before = wait_for(browser, first)
    second = browser.post(f"/api/videos/{first}/second", json={"network": 1}).json()["video"]
    after = wait_for(browser, second)
    assert (after["state"], after["other"], before["other"]) == ("done", first, "")
    assert after["network"] != before["network"]
    assert [after[key] for key in ("frames", "rate_hz", "fov_deg")] == [
        before[key] for key in ("frames", "rate_hz", "fov_deg")
    ]
    for key in (first, second):
        assert browser.client.get(f"/api/videos/{key}/depth/0.jpg").content.startswith(b"\xff\xd8")
    browser.post(f"/api/videos/{first}/cancel")
    assert browser.client.get(f"/api/videos/{second}/image/0.jpg").content.startswith(b"\xff\xd8"), (
        "it outlives the first"
    )
    assert browser.post(f"/api/videos/{second}/second", json={"network": 0, "minutes": 0}).status_code == 422


@pytest.mark.slow
def test_a_cancelled_video_leaves_nothing(browser: Browser, app: Any, tmp_path: Path) -> None:
    key = browser.post("/api/videos", content=make_video(tmp_path / "drive.mp4", 40)).json()["video"]
    assert browser.post(f"/api/videos/{key}/cancel").status_code == 200
    assert browser.client.get(f"/api/videos/{key}").status_code == 422
    deadline = time.monotonic() + 600
    while list(app.state.shared.folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(app.state.shared.folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("keep", [40, 400, 0.5])
def test_a_damaged_video_is_one_line(browser: Browser, tmp_path: Path, keep: float) -> None:
    data = make_video(tmp_path / "drive.mp4")
    cut = data[: int(keep if keep > 1 else keep * len(data))]
    job = wait_for(browser, browser.post("/api/videos", content=cut).json()["video"])
    assert job["state"] == "failed"
    assert "Needed: " in job["error"]
    assert "\n" not in job["error"]


@pytest.mark.slow
@pytest.mark.usefixtures("without_map")
@pytest.mark.parametrize(("query", "is_whole"), [("", True), ("?every=1", False)])
def test_frames_of_a_long_video_are_spread_or_it_is_cut_and_says_so(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, is_whole: bool
) -> None:
    monkeypatch.setattr(video_routes, "MAX_VIDEO_FRAMES", 3)
    data = make_video(tmp_path / "a.mp4")
    job = wait_for(browser, browser.post(f"/api/videos{query}", content=data).json()["video"])
    assert len(job["frames"]) == 3
    assert job["rate_hz"] == pytest.approx(10 / 3 if is_whole else 10)
    assert any("only the first 3 frames" in line for line in job["lines"]) is not is_whole
