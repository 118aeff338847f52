"""`stadia stereo` writes a stereo pair as a data set that `stadia check` passes, and overwrites nothing."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stadia.data.open_dataset import open_recordings
from stadia.io.records.trajectory import Trajectory, write_kitti_trajectory, write_tum_trajectory

HEIGHT, WIDTH = 48, 64
K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])


def write_calibration(path: Path, baseline_m: float = 0.5, offset: tuple[float, float] = (0, 0)) -> Path:
    projections = (np.eye(3, 4), np.column_stack([np.eye(3), (-baseline_m, *offset)]))
    rows = [" ".join(map(str, (K @ P).ravel())) for P in projections]
    path.write_text("".join(f"P{index}: {row}\n" for index, row in enumerate(rows)))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Folders of three images each, and a calibration of KITTI's form."""
    for side in ("cam-a", "cam-b"):
        (tmp_path / side).mkdir()
        for index in range(3):
            pixels = np.full((HEIGHT, WIDTH, 3), 40 * index + len(side), np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"shot{index + 8}.png")
    return tmp_path / "cam-a", tmp_path / "cam-b", write_calibration(tmp_path / "calib.txt")


def test_a_pair_of_folders_becomes_a_recording(stadia, pair, tmp_path):
    code, out, err = stadia("stereo", *pair, "--out", tmp_path / "rig")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{tmp_path / 'rig'}: 3 pairs of 64x48, baseline 0.5 m"
    (recording,) = open_recordings(tmp_path / "rig")
    assert len(recording) == 3
    assert recording.T_right_left is not None
    assert recording.T_right_left[0, 3] == -0.5
    assert [recording.image(index, "right")[0, 0, 0] for index in range(3)] == [5, 45, 85], "8, 9, 10: natural order"
    np.testing.assert_allclose(recording.K(0, "right"), K)


def test_a_pair_of_videos_becomes_a_recording(stadia, pair, tmp_path):
    for side, frames in (("left", 6), ("right", 6), ("short", 4)):
        with av.open(str(tmp_path / f"{side}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=12)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(frames):
                pixels = np.full((HEIGHT, WIDTH, 3), 30 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
            container.mux(stream.encode(None))
    videos = (tmp_path / "left.mp4", tmp_path / "right.mp4", pair[2])
    code, out, err = stadia("stereo", *videos, "--out", tmp_path / "rig", "--every", "2")
    assert (code, "3 pairs" in out) == (0, True), err
    assert json.loads((tmp_path / "rig" / "recording.json").read_text())["frame_rate_hz"] == 6
    out = stadia("stereo", *videos, "--out", tmp_path / "fast", "--fps", "120")
    assert f"--fps 120, although {videos[0]} has 12" in "".join(out[1:])
    assert json.loads((tmp_path / "fast" / "recording.json").read_text())["frame_rate_hz"] == 120
    code, _, err = stadia("stereo", videos[0], tmp_path / "short.mp4", pair[2], "--out", tmp_path / "other")
    assert (code, "found 4 frames, 6 on the left" in err) == (2, True)
    assert not (tmp_path / "other").exists()


def make_poses(count: int) -> Trajectory:
    """Return a curve at uneven times, seconds since 1970."""
    turn = np.linspace(0, 0.4, count)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 0], poses[:, 0, 2] = np.cos(turn), np.sin(turn)
    poses[:, 2, 0], poses[:, 2, 2] = -np.sin(turn), np.cos(turn)
    poses[:, :3, 3] = np.linspace((3, -1, 10), (4, 0, 20), count)
    return Trajectory(poses, 1311868164.36 + np.arange(count) ** 2 / 8)


@pytest.mark.parametrize("every", [1, 2])
def test_poses_and_the_frame_rate_come_back_as_they_were_given(stadia, pair, tmp_path, every):
    given = make_poses(3)
    write_kitti_trajectory(tmp_path / "gt.txt", given)
    write_tum_trajectory(tmp_path / "gt.tum", given)
    words = ("--every", str(every), "--out")
    code, _, err = stadia("stereo", *pair, "--fps", "12.5", "--poses", tmp_path / "gt.txt", *words, tmp_path / "kitti")
    assert (code, err) == (0, "")
    assert stadia("stereo", *pair, "--poses", tmp_path / "gt.tum", *words, tmp_path / "tum")[0] == 0
    rate_times_s = np.arange(3) / 12.5
    for folder, times_s in (("kitti", rate_times_s), ("tum", given.times_s)):
        (recording,) = open_recordings(tmp_path / folder)
        read = [recording.T_world_camera(index) for index in range(len(recording))]
        np.testing.assert_allclose(np.stack(read), given.T_world_camera[::every], atol=1e-8)
        np.testing.assert_allclose(
            [recording.timestamp_s(i) for i in range(len(recording))], times_s[::every], atol=1e-6
        )


def test_poses_that_do_not_fit_the_frames_are_refused(stadia, pair, tmp_path):
    path, words = tmp_path / "gt.txt", ("--poses", tmp_path / "gt.txt", "--out", tmp_path / "rig")
    write_kitti_trajectory(path, make_poses(4))
    _, _, err = stadia("stereo", *pair, *words)
    assert f"{path}: found 4 poses; expected 3, one for each frame of {pair[0]}" in err
    write_kitti_trajectory(path, make_poses(3))
    rows = path.read_text().splitlines()
    for row, found in (
        (rows[1].replace(rows[1].split()[3], "nan"), "found missing frame numbers"),
        (" ".join(["2", *rows[1].split()[1:]]), "expected a rotation"),
        ("1 " + rows[1], "found a row with a frame number after one without"),
    ):
        path.write_text("\n".join([rows[0], row, rows[2]]))
        code, _, err = stadia("stereo", *pair, *words)
        assert (code, found in err) == (2, True), err
    path.write_text("\n".join(f"{number} {row}" for number, row in zip((0, 2, 3), rows, strict=True)))
    assert "missing frame numbers" in stadia("stereo", *pair, *words)[2]
    path.write_text("1 2 3\n")
    assert "found 3 columns; expected rows of KITTI (12 numbers)" in stadia("stereo", *pair, *words)[2]
    write_tum_trajectory(path, make_poses(3))
    assert "--fps: found used together with the times" in stadia("stereo", *pair, *words, "--fps", "10")[2]
    assert not (tmp_path / "rig").exists()


def test_nothing_is_overwritten(stadia, pair, tmp_path):
    (tmp_path / "rig").mkdir()
    (tmp_path / "rig" / "mine.txt").write_text("mine")
    code, _, err = stadia("stereo", *pair, "--out", tmp_path / "rig")
    assert (code, "found files in it; expected a new folder" in err) == (2, True)
    assert [one.name for one in (tmp_path / "rig").iterdir()] == ["mine.txt"]
    assert stadia("stereo", *pair, "--out", tmp_path / "new")[0] == 0
    code, _, err = stadia("stereo", *pair, "--out", tmp_path / "new")
    assert code == 2
    assert f"found a recording; expected a new folder. Fix: use it (stadia check {tmp_path / 'new'})" in err


@pytest.mark.parametrize(
    ("baseline_m", "offset", "found"),
    [
        (-0.5, (0, 0), "P1 0.5 m to the left of P0; expected the right camera on the right. Fix: swap LEFT and RIGHT"),
        (
            120,
            (0, 0),
            "a baseline of 120 m; expected metres, at most 10. Fix: pass --baseline in metres: 0.12 if it is in mil",
        ),
        (0, (0, 0), "two cameras at one place; expected a rectified pair. Fix: pass --baseline METRES"),
        (0.5, (0.1, 0), "not side by side; expected a rectified pair"),
    ],
)
def test_a_rig_that_is_no_rectified_pair_is_refused(stadia, pair, tmp_path, baseline_m, offset, found):
    write_calibration(pair[2], baseline_m, offset)
    code, _, err = stadia("stereo", *pair, "--out", tmp_path / "rig")
    assert (code, found in err) == (2, True), err
    assert not (tmp_path / "rig").exists()


def test_a_calibration_of_one_camera_needs_the_baseline(stadia, pair, tmp_path):
    np.savetxt(tmp_path / "K.txt", K)
    words = (*pair[:2], tmp_path / "K.txt", "--out", tmp_path / "rig")
    code, _, err = stadia("stereo", *words)
    assert (code, "Fix: pass --baseline METRES" in err) == (2, True)
    code, _, err = stadia("stereo", *words, "--baseline", "120")
    assert (code, "--baseline: found 120 m" in err, "pass metres: 0.12" in err) == (2, True, True)
    err = stadia("stereo", *words, "--baseline", "53.7")[2]
    assert "0.0537 if it is in millimetres or 0.537 if it is in centimetres" in err
    assert stadia("stereo", *words, "--baseline", "0.12")[0] == 0
    (recording,) = open_recordings(tmp_path / "rig")
    assert recording.T_right_left is not None
    assert recording.T_right_left[0, 3] == -0.12
