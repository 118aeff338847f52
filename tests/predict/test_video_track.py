"""The speed that a video records sets the scale: GPMF, SRT, GPX, and the offset of their clocks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks.file_metres import START_S, add_gpmf_track, make_gpmf, write_gpx, write_srt, write_video
from tests.refusals import refuses

from stadia.core.errors import DataError, StadiaError
from stadia.io.video_decoding import stream_video
from stadia.predict.network import open_network
from stadia.predict.options import PredictOptions
from stadia.scale.positions import read_positions
from stadia.scale.video_track import SpeedTrack, find_track, fit_clock


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of 20 images at 10 Hz."""
    images = [np.full((64, 96, 3), 10 * index, np.uint8) for index in range(20)]
    return write_video(tmp_path / "drive.mp4", images, START_S)


@pytest.mark.parametrize("key", [b"GPS5", b"GPS9"])
def test_speeds_of_gopro_are_read_from_the_video(video: Path, key: bytes) -> None:
    assert find_track(video) is None
    add_gpmf_track(video, [make_gpmf(np.full(18, 3.0 + second), key) for second in range(2)])
    track = find_track(video)
    assert track is not None
    assert track.name == "GPMF"
    np.testing.assert_allclose(track.speeds, np.repeat([3.0, 4.0], 18))
    np.testing.assert_allclose(track.times_s, np.arange(36) / 18, atol=1e-3)
    assert len([*stream_video(video)]) == 20, "the video is as before"


def test_damaged_telemetry_is_refused(video: Path) -> None:
    add_gpmf_track(video, [make_gpmf(np.ones(18))[:-8]])
    with refuses(DataError, found="damaged GPMF"):
        find_track(video)


def test_positions_of_dji_and_gpx_become_the_same_speed(video: Path) -> None:
    times_s = np.arange(60) / 10
    places = np.stack([12 * times_s, 5 * times_s], 1)
    write_srt(video.with_suffix(".srt"), places)
    track = find_track(video)
    assert track is not None
    np.testing.assert_allclose(track.speeds, 13, rtol=0.03)
    video.with_suffix(".srt").unlink()
    write_gpx(video.with_suffix(".gpx"), places, START_S + 2 + times_s)
    track = find_track(video)
    assert track is not None
    np.testing.assert_allclose(track.speeds, 13, rtol=0.01)
    assert track.times_s[0] == pytest.approx(2)


def test_matrice_has_latitude_first_and_a_height(tmp_path: Path) -> None:
    path = tmp_path / "matrice.srt"
    rows = [
        f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\nGPS(60.0,8.{n:04},{3 * n}.0M) BAROMETER:1M\n" for n in range(3)
    ]
    path.write_text("\n".join(rows))
    positions = read_positions(path)
    np.testing.assert_allclose(np.abs(positions.metres), [[0, 0, 0], [5.58, 0, 3], [11.17, 0, 6]], atol=0.05)
    path.write_text("\n".join(rows).replace("60.0", "116.3"))
    with refuses(DataError, found="latitude 116.3"):
        read_positions(path)
    path.write_text(re.sub(r"GPS\([^)]*\)", "GPS(0.0,0.0,3.0M)", path.read_text()))
    with refuses(DataError, found="no GPS fix"):
        read_positions(path)


def test_the_speed_that_a_drone_states_replaces_that_of_rounded_positions(video: Path) -> None:
    line = "GPS (8.2090, 47.4692, 18), D 49.21m, H 45.60m, H.S {}m/s, V.S {}m/s"
    rows = [f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{line.format(3 * n, -4 * n)}\n" for n in range(3)]
    video.with_suffix(".srt").write_text("\n".join(rows))
    track = find_track(video)
    assert track is not None
    np.testing.assert_allclose(track.speeds, [0, 5, 10])
    video.with_suffix(".srt").write_text("\n".join([rows[0], rows[2], rows[1]]))
    track = find_track(video)
    assert track is not None
    assert track.times_s.tolist() == [0, 2], "times rise"


def drive(times_s: np.ndarray) -> np.ndarray:
    """Return the speed of a drive, m/s."""
    return 8 + 3 * np.sin(times_s / 3)


@pytest.mark.parametrize("offset_s", [0.0, 1.7, -2.4])
def test_the_clock_and_the_scale_are_found(offset_s: float) -> None:
    clock = np.arange(-5, 60, 0.1)
    track = SpeedTrack("a", clock, drive(clock - offset_s), 3.0)
    times_s, seconds = np.arange(0, 40, 1.0), np.full(40, 0.2)
    lengths = drive(times_s + 0.1) * 0.2 / 2.5
    found = fit_clock(track, times_s, seconds, lengths)
    assert found is not None
    assert found.offset_s == pytest.approx(offset_s, abs=0.15)
    np.testing.assert_allclose(found.metres / lengths, 2.5, rtol=0.02)


def test_a_constant_speed_determines_the_scale_and_no_offset() -> None:
    track = SpeedTrack("a", np.arange(-5, 60, 0.1), np.full(650, 8.0), 3.0)
    found = fit_clock(track, np.arange(0, 40, 1.0), np.full(40, 0.2), np.full(40, 0.8))
    assert found is not None
    assert (found.offset_s, found.deviation) == (0.0, pytest.approx(0, abs=1e-6))
    assert found.deviation_s > 1


@pytest.mark.slow
def test_a_standing_camera_with_a_track_keeps_the_scale_of_the_network(video: Path) -> None:
    add_gpmf_track(video, [make_gpmf(np.zeros(18)) for _ in range(2)])
    data = {"camera": {"horizontal_fov_deg": 60}}
    (session,) = open_network("base").open(video, PredictOptions(data=data))
    assert session.receipt is None
    (session,) = open_network("base").open(video, PredictOptions(data=data, scale_from=("file",)))
    with refuses(StadiaError, where="--scale-from", found="file"):
        _ = session.receipt
