"""Black bars are cut off and the camera moves with them; a hood and a stamp are ignored, by every command."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.data.config import CameraConfig
from stadia.data.open_dataset import open_recordings
from stadia.data.video.static_parts import StaticParts, find_bars, find_static_content
from stadia.data.video.video_camera import read_user_camera
from stadia.predict.inputs import open_inputs
from stadia.sfm.frame_stream import FrameStream

BARS = ((40, 52), (0, 0))
K = np.array([[300.0, 0, 159.5], [0, 300, 99.5], [0, 0, 1]])


def make_texture(seed: int = 0, height: int = 120, width: int = 640) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_drive(folder: Path, bars=((0, 0), (0, 0)), count: int = 16, paint=lambda image: None) -> Path:
    texture = make_texture(3, 200, 2000)
    folder.mkdir()
    for frame in range(count):
        image = texture[:, 16 * frame : 16 * frame + 320].copy()
        paint(image)
        cv2.imwrite(str(folder / f"{frame:03d}.png"), np.pad(image, bars))
    return folder


def give_K(folder: Path, bars) -> Path:
    moved = K.copy()
    moved[:2, 2] += bars[1][0], bars[0][0]
    np.savetxt(folder / "K.txt", moved)
    return folder


@pytest.mark.slow
def test_frames_with_bars_are_those_without_and_so_is_their_camera(tmp_path):
    plain, barred = (
        open_recordings(give_K(write_drive(tmp_path / name, bars), bars), stride=1)[0]
        for name, bars in (("plain", ((0, 0), (0, 0))), ("barred", BARS))
    )
    top = int(barred.K(0)[1, 2] - plain.K(0)[1, 2])
    shown = plain.image(3)[-top : plain.image(3).shape[0] + top]
    np.testing.assert_array_equal(barred.image(3), shown[: len(barred.image(3))])
    assert -4 <= top <= 0
    assert len(plain.image(3)) - 8 <= len(barred.image(3))
    assert barred.K(0)[0, 2] == plain.K(0)[0, 2]
    assert barred.fingerprint() != plain.fingerprint()


@pytest.mark.slow
def test_predictions_and_maps_see_the_same_frames(tmp_path):
    folder = give_K(write_drive(tmp_path / "barred", BARS), BARS)
    recording = open_recordings(folder, stride=1)[0]
    (given,) = open_inputs(folder)
    frames = list(given.frames)
    np.testing.assert_array_equal(frames[2].image, recording.image(2))
    np.testing.assert_array_equal(frames[2].K, recording.K(2))
    stream = FrameStream.open(folder)
    np.testing.assert_array_equal(next(iter(stream.select({2}))).filmed, recording.image(2))
    assert (stream.height, stream.width) == recording.image(2).shape[:2]


def test_a_camera_of_the_frames_without_bars_is_not_moved(tmp_path):
    folder = write_drive(tmp_path / "barred", BARS)
    size = read_user_camera(CameraConfig(focal_px=300), folder, 292, 320).intrinsics
    given = CameraConfig(K=tuple(map(tuple, K.tolist())), size=(size.height, size.width))
    np.testing.assert_array_equal(read_user_camera(given, folder, 292, 320).intrinsics.K, K)
    np.testing.assert_allclose(size.K[:2, 2], ((size.width - 1) / 2, (size.height - 1) / 2))


def test_bars_stay_on_wish(tmp_path):
    folder = write_drive(tmp_path / "barred", BARS)
    kept = open_recordings(folder, stride=1, camera={"focal_px": 300, "crop_bars": False})[0]
    assert kept.image(0).shape == (292, 320, 3)


@pytest.mark.parametrize("bars", [((30, 30), (0, 0)), ((0, 0), (50, 50)), ((40, 0), (0, 20)), ((20, 24), (30, 30))])
def test_bars_are_found_at_every_edge(bars):
    bright = np.pad(np.ones((200, 320), bool), bars)
    bright[:10, :60] = True  # a time stamp in the bar
    found = find_bars(bright)
    (top, _), (left, _) = bars
    assert found is not None
    assert abs(found.top - top) <= 2
    assert abs(found.left - left) <= 2
    assert abs(found.height - 200) <= 4
    assert abs(found.width - 320) <= 4


def test_dark_scenes_and_photos_with_one_dark_edge_have_no_bars(tmp_path):
    rng = np.random.default_rng(0)
    fading = rng.random((200, 320)) < np.linspace(0, 1, 200)[:, None]
    assert find_bars(fading) is None
    one = np.ones((200, 320), bool)
    one[:40] = False
    assert find_bars(one) is not None
    assert find_bars(one, needs_both=True) is None
    assert find_static_content(write_drive(tmp_path / "plain")).crop is None
    assert find_static_content(tmp_path / "nothing.mp4").crop is None


def test_what_never_moves_is_ignored_without_an_option(tmp_path):
    def paint(image: np.ndarray) -> None:
        image[160:, 40:280] = 60

    folder = write_drive(tmp_path / "hood", paint=paint)
    options = {"camera": {"focal_px": 300}, "stride": 1}
    ignored = open_recordings(folder, **options)[0].ignored()
    assert ignored[165:, 45:275].mean() > 0.9
    assert ignored[:150].mean() < 0.01
    (given,) = open_inputs(folder, **options)
    np.testing.assert_array_equal(next(iter(given.frames)).ignored, ignored)
    boxed = open_recordings(folder, ignore=[[0, 0, 4, 4]], **options)[0].ignored()
    assert boxed.sum() == 16, "what is given takes its place"


def collect(paint) -> np.ndarray:
    texture, parts = make_texture(3, 200, 2000), StaticParts(200, 320)
    for frame in range(20):
        image = texture[:, 16 * frame : 16 * frame + 320].copy()
        paint(image)
        parts.add(image)
    return parts.find()


def test_painted_bars_and_hoods_are_found_and_a_moving_scene_is_none():
    hood = np.zeros((200, 320), bool)
    hood[160:, 40:280] = True
    hood[:12] = True

    def paint(image: np.ndarray) -> None:
        image[hood] = 30

    found = collect(paint)
    assert (found & hood).sum() / (found | hood).sum() >= 0.9
    assert not collect(lambda image: None).any()


def test_a_stamp_is_found():
    stamp = np.zeros((200, 320), np.uint8)
    cv2.putText(stamp, "2026-01-31 12:00", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)

    def paint(image: np.ndarray) -> None:
        image[stamp > 0] = 255

    found = collect(paint)
    assert found[stamp > 0].mean() > 0.9
    assert found.mean() < 3 * (stamp > 0).mean()
