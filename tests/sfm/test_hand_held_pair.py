"""Two videos that were started by hand get their offset from sound or motion, and are rectified by their matches."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from stadia.core.errors import ConfigError, DataError
from stadia.core.progress import no_progress
from stadia.data.open_dataset import open_recordings
from stadia.sfm import hand_held_pair as hand_held
from stadia.sfm.hand_held_pair import Turns


def make_turns(rate_hz: float, start_s: float, seed: int = 0, length_s: float = 12.0) -> Turns:
    """Return what a camera sees whose clock starts at start_s of a smooth random motion."""
    random = np.random.default_rng(seed)
    clock = np.arange(0, 30, 0.1)
    motion = [np.convolve(random.normal(size=len(clock)), np.hanning(7), "same") for _ in range(2)]
    times = np.arange(0, length_s, 1 / rate_hz)
    return Turns(times, np.column_stack([np.interp(times + start_s, clock, axis) for axis in motion]))


@pytest.mark.parametrize("start_s", [0.0, 1.37, 4.2])
@pytest.mark.parametrize("rate_hz", [25.0, 60.0])
def test_the_offset_of_two_motions_is_found_and_changes_its_sign_with_the_sides(rate_hz, start_s):
    left, right = make_turns(30, start_s), make_turns(rate_hz, 2.0)
    found, swapped = hand_held.find_motion_offset(left, right), hand_held.find_motion_offset(right, left)
    assert found is not None
    assert swapped is not None
    assert found.seconds == pytest.approx(start_s - 2.0, abs=0.02)
    assert swapped.seconds == pytest.approx(-found.seconds, abs=0.01)


def test_the_offset_of_two_sounds_is_found_to_a_sample():
    random = np.random.default_rng(0)
    sound = random.normal(size=40_000)
    left, right = sound[3000:30_000], 0.3 * sound[:28_000] + 0.2 * random.normal(size=28_000)
    found = hand_held.find_sound_offset(left, right)
    assert found is not None
    assert found.seconds == 3000 / hand_held.SOUND_HZ
    assert hand_held.find_sound_offset(left, random.normal(size=28_000)) is None


def test_two_engines_that_hum_have_no_offset():
    random, clock = np.random.default_rng(0), np.arange(40_000) / hand_held.SOUND_HZ
    hums = []
    for base_hz in (87.0, 91.0, 87.0):
        waves = [np.sin(2 * np.pi * base_hz * n * clock + random.uniform(0, 6)) / n for n in range(1, 12)]
        hums.append(sum(waves) + 0.05 * random.normal(size=len(clock)))
    assert hand_held.find_sound_offset(hums[0], hums[1]) is None
    assert hand_held.find_sound_offset(hums[0], hums[2]) is None


def test_paired_frames_show_one_moment_and_are_used_once():
    left, right = make_turns(30, 0), make_turns(24, 0)
    rows = hand_held.pair_frames(left, right, 0.5)
    apart = right.times_s[rows[1]] - left.times_s[rows[0]] - 0.5
    assert np.abs(apart).max() <= 0.5 / 24 + 1e-9
    assert all((np.diff(side) > 0).all() for side in rows)
    assert len(rows[0]) == pytest.approx(24 * 11.5, abs=2)
    double = make_turns(60, 0)
    rows = hand_held.pair_frames(double, make_turns(30, 0), 0.0)
    np.testing.assert_array_equal(double.times_s[rows[0]], make_turns(30, 0).times_s[rows[1]])


@pytest.mark.parametrize(("nearest", "baseline"), [(2.0, 0.3), (8.0, 0.12)])
def test_the_pose_between_two_cameras_comes_from_matches_with_outliers(nearest, baseline):
    """Also if every point is farther than 50 baselines."""
    random = np.random.default_rng(0)
    z = random.uniform(nearest, 5 * nearest, 800)
    points = np.column_stack((random.uniform(-0.6, 0.6, 800) * z, random.uniform(-0.4, 0.4, 800) * z, z))
    R, t = Rotation.from_euler("xyz", (1.5, -3, 2), degrees=True).as_matrix(), np.array([-0.98, 0.1, 0.15])
    t /= np.linalg.norm(t)
    moved = points @ R.T + baseline * t
    rays = [at[:, :2] / at[:, 2:] + random.normal(0, 1e-4, (800, 2)) for at in (points, moved)]
    rays[1][:160] = random.uniform(-0.7, 0.7, (160, 2))
    found = hand_held.fit_relative_pose(rays[0], rays[1], 2e-3)
    assert found is not None
    assert np.degrees(Rotation.from_matrix(found.R @ R.T).magnitude()) < 0.1
    assert np.degrees(np.arccos(found.t @ t)) < 3.0


def write_video(path: Path, images: list[np.ndarray], rate: int = 20, sound: np.ndarray | None = None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "ultrafast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if sound is not None:
            voice = container.add_stream("aac", rate=16_000)
            frame = av.AudioFrame.from_ndarray((8000 * sound[None]).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def rig(real_data, tmp_path_factory) -> tuple[Path, Path, list[Path]]:
    """Raw videos of EuRoC; the right one starts 7 frames later, so a moment is .35 s earlier in it."""
    folder, sides = tmp_path_factory.mktemp("rig"), []
    sensors = [real_data / f"euroc/V1_01_easy/mav0/cam{index}" for index in (0, 1)]
    for sensor, name, chosen in zip(sensors, ("left", "right"), (slice(0, 53), slice(7, 60)), strict=True):
        files = sorted((sensor / "data").glob("*.png"))[chosen]
        images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        sides.append(write_video(folder / f"{name}.mp4", images))
    return sides[0], sides[1], [sensor / "sensor.yaml" for sensor in sensors]


@pytest.mark.slow
def test_two_real_cameras_are_synchronized_and_rectified(rig, stadia, tmp_path, monkeypatch):
    monkeypatch.setattr(hand_held, "PAIRS", 4)
    left, right, sensors = rig
    arguments = ("--baseline", "0.11", "--sync", "auto", "--every", "12", "--out")
    code, out, err = stadia("stereo", left, right, *sensors, *arguments, tmp_path / "rig")
    assert code == 0, err
    assert "0.350 s earlier" in out
    (recording,) = open_recordings(tmp_path / "rig")
    assert len(recording) == 4
    assert recording.T_right_left is not None
    assert recording.T_right_left[0, 3] == pytest.approx(-0.11)
    rows = [hand_held.detect_features(recording.image(1, side)) for side in ("left", "right")]
    matched = hand_held.match_features(*rows)
    apart = matched.second_px - matched.first_px
    assert np.median(np.abs(apart[:, 1])) < 0.5, "matches lie in one row"
    assert np.median(apart[:, 0]) < 0, "what is near is farther left in the right image"
    code, _, err = stadia("stereo", right, left, *sensors[::-1], *arguments, tmp_path / "swapped")
    assert code != 0
    assert "swap LEFT and RIGHT" in err
    assert not (tmp_path / "swapped").exists()


@pytest.mark.slow
def test_sound_and_motion_that_contradict_each_other_are_refused(tmp_path):
    random = np.random.default_rng(0)
    scene = random.integers(0, 255, (90, 900, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    path = np.cumsum(random.integers(0, 12, 120)) * 2
    views = [np.ascontiguousarray(scene[:96, at : at + 128]) for at in path]
    noise = random.normal(size=16_000 * 8)
    left = write_video(tmp_path / "left.mp4", views[20:], sound=noise[16_000 : 6 * 16_000])
    right = write_video(tmp_path / "right.mp4", views[:100], sound=noise[: 5 * 16_000])
    offset, *_ = hand_held.find_offset(left, right, "auto", no_progress)
    assert (offset.source, offset.seconds) == ("sound", pytest.approx(1.0, abs=0.07))
    late = write_video(tmp_path / "late.mp4", views[:100], sound=noise[8_000 : 5 * 16_000])
    with pytest.raises(DataError):
        hand_held.find_offset(left, late, "auto", no_progress)
    assert hand_held.find_offset(left, late, "motion", no_progress)[0].seconds == pytest.approx(1.0, abs=0.05)
    assert hand_held.find_offset(left, late, "-2.5", no_progress)[0].seconds == -2.5
    with pytest.raises(ConfigError):
        hand_held.find_offset(left, late, "ear", no_progress)
