"""One's own video: cameras in every way, frames chosen by motion, a file decoded once, a folder left where it is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tests.data.rendered_world import write_video
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.data import CameraConfig, frame_store
from stadia.data.frame_selection import FrameSelector, shrink_to_gray
from stadia.data.frame_store import open_frame_store
from stadia.data.mask_files import MaskFiles
from stadia.data.open_dataset import open_recordings, sample_recordings
from stadia.data.recordings import RecordingView
from stadia.data.video import video_files
from stadia.data.video.video_files import find_missing_numbers
from stadia.geometry.image_features import find_corners, measure_motion
from stadia.io.video_decoding import stream_selected, stream_video

OneLine = Callable[..., None]
FOCAL = {"focal_px": 120}


@pytest.fixture(scope="session")
def drive_frames(world: Any) -> list[np.ndarray]:
    """Standing for 4 frames, driving for 4."""
    moving = [world.render(i)[0] for i in range(5)]
    return [moving[0]] * 4 + moving[1:]


@pytest.fixture
def images(tmp_path: Path, world: Any, drive_frames: list[np.ndarray]) -> Path:
    for index, frame in enumerate(drive_frames):
        world.save(tmp_path / "images" / f"frame{index}.png", frame)
    return tmp_path / "images"


@pytest.mark.slow
def test_a_file_and_a_folder_give_the_same_frames(tmp_path: Path, images: Path, drive_frames: list[np.ndarray]) -> None:
    (folder,) = open_recordings(images, camera=FOCAL, frame_rate_hz=10)
    (file,) = open_recordings(write_video(tmp_path / "drive.mp4", drive_frames), camera=FOCAL)
    assert folder.numbers == file.numbers == [0, 4, 5, 6, 7]
    for index, number in enumerate(file.numbers):
        assert np.array_equal(file.image(index), drive_frames[number])
        assert np.array_equal(folder.image(index), drive_frames[number])
        assert file.timestamp_s(index) == pytest.approx(number / 10)
        assert folder.timestamp_s(index) == pytest.approx(number / 10)
    assert file.file(0) is None
    assert file.fingerprint() != folder.fingerprint()
    assert all(one.has_stride and RecordingView(one).has_stride for one in (file, folder)), "as the reader has one"


def test_images_are_not_paired_across_missing_numbers(tmp_path: Path, world: Any) -> None:
    for number in (*range(5), *range(8, 13)):
        world.save(tmp_path / f"{number}.png", world.render(0)[0])
    (folder,) = open_recordings(tmp_path, camera=FOCAL, stride=2)
    assert folder.numbers == [0, 2, 4, 6, 8]  # in the list of files: 0, 2, 4, 9, 11
    assert [folder.map_neighbor(index, 1) for index in range(5)] == [1, 2, None, 4, None]
    assert [RecordingView(folder).map_neighbor(index, -2) for index in range(5)] == [None, None, 0, None, None]
    assert "5 to 7" in folder.missing


def test_photos_and_strides_have_no_gaps() -> None:
    assert find_missing_numbers([f"{number}.png" for number in range(0, 50, 5)]) == ()
    assert find_missing_numbers([f"{number}.png" for number in (*range(0, 50, 5), 60)]) == ((9, 50, 55),)
    assert find_missing_numbers([f"IMG_{number}.png" for number in (1, 2, 5, 9, 14, 15, 22, 30, 31)]) == ()
    assert find_missing_numbers([f"{number**2}.png" for number in range(20)]) == ()
    kept = [number for number in range(40) if not 15 <= number < 27]
    assert find_missing_numbers([f"{1305031102.175304 + number / 30:.6f}.png" for number in kept])[0][0] == 14
    start, step = 1_403_636_579_763_555_584, 10**8
    gap = (14, start + 15 * step, start + 26 * step)
    assert find_missing_numbers([f"{start + number * step}.png" for number in kept]) == (gap,)


def test_slow_motion_is_kept_once_it_adds_up(drive_frames: list[np.ndarray]) -> None:
    wide = cv2.resize(drive_frames[0], (640, 384), interpolation=cv2.INTER_CUBIC)
    step = 0.0008 * 640  # a third of what is enough, well above standing
    chooser = FrameSelector("auto")
    for index in range(10):
        chooser.keep(
            cv2.warpAffine(
                wide, np.float32([[1, 0, step * index], [0, 1, 0]]), (640, 384), borderMode=cv2.BORDER_REFLECT
            )
        )
    assert chooser.selection.kept == [0, 3, 6, 9]
    assert chooser.selection.close == 6
    assert chooser.selection.standing == 0


def test_copies_of_frames_are_told_from_a_camera_that_hardly_moves() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    wide = cv2.resize(texture, (640, 384), interpolation=cv2.INTER_CUBIC)
    chooser = FrameSelector("auto")
    for x_px in (0, 0, 0.15, 0.3, 8, 8):
        chooser.keep(cv2.warpAffine(wide, np.float32([[1, 0, x_px], [0, 1, 0]]), (640, 384)))
    assert (chooser.selection.standing + chooser.selection.close, chooser.selection.copies) == (4, 2)


def test_noise_is_no_motion_and_expansion_is(drive_frames: list[np.ndarray]) -> None:
    random = np.random.default_rng(0)
    large = [cv2.resize(f, (640, 384), interpolation=cv2.INTER_CUBIC) for f in drive_frames[3:6]]
    noisy = [np.uint8(np.clip(large[0] + random.normal(0, 4, large[0].shape), 0, 255)) for _ in range(2)]
    a, b = map(shrink_to_gray, noisy)
    assert measure_motion(a, find_corners(a), b) < 0.0003
    a, b = map(shrink_to_gray, large[1:])
    assert measure_motion(a, find_corners(a), b) > 0.004
    (shift_x, shift_y), _ = cv2.phaseCorrelate(a.astype(np.float32), b.astype(np.float32))
    assert np.hypot(shift_x, shift_y) / 320 < measure_motion(a, find_corners(a), b) / 2, "the motion of a global shift"


def test_a_file_is_decoded_once(
    tmp_path: Path, drive_frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "drive.mp4", drive_frames)
    reported: list[tuple[str, int, int | None]] = []
    (first,) = open_recordings(path, camera=FOCAL, size=(48, 64), progress=lambda *args: reported.append(args))
    assert reported[-1] == ("video/drive: decoding", 8, 8)
    monkeypatch.setattr(video_files.video_decoding, "stream_video", lambda path: pytest.fail("decoded again"))
    (again,) = open_recordings(path, camera={"focal_px": 200}, size=(48, 64))
    assert np.array_equal(again.image(2), first.image(2))
    assert first.image(2).shape == (48, 64, 3)
    np.testing.assert_allclose(again.camera(0).K[0], [200 * 64 / 160, 0, 31.5])
    assert open_frame_store(again, 48, 64) is again.store, "the network's size needs no second store"
    assert first.fingerprint() != again.fingerprint(), "another camera"


def test_masks_of_a_video_file_are_resized_with_its_frames(
    tmp_path: Path, drive_frames: list[np.ndarray], one_line: OneLine
) -> None:
    height, width = drive_frames[0].shape[:2]
    semantic = np.arange(height * width, dtype=np.uint32).reshape(height, width) % 251
    for name, numbers in (("made", semantic), ("cut", semantic[: height // 2])):
        (tmp_path / name / "semantic" / "left").mkdir(parents=True)
        (tmp_path / name / "classes.json").write_text('{"1": "road"}')
        cv2.imwrite(str(tmp_path / name / "semantic" / "left" / "000004.png"), numbers.astype(np.uint8))
    (file,) = open_recordings(write_video(tmp_path / "drive.mp4", drive_frames), camera=FOCAL, size=(48, 64))
    file.mask_reader = MaskFiles(tmp_path / "made")
    masks = file.masks(1)
    assert masks is not None
    assert file.number(1) == 4
    expected = cv2.resize(semantic.astype(np.int32), (64, 48), interpolation=cv2.INTER_NEAREST_EXACT)
    assert np.array_equal(masks.semantic, expected)
    assert masks.instance.shape == (48, 64)
    file.mask_reader = MaskFiles(tmp_path / "cut")
    with pytest.raises(DataError) as caught:
        file.masks(1)
    one_line(caught.value, "semantic/left/000004.png", f"{width}x{height // 2}", f"{width}x{height}")


def test_camera_is_read_in_every_way(tmp_path: Path, images: Path, world: Any) -> None:
    def K(camera: dict[str, Any] | CameraConfig) -> np.ndarray:
        return open_recordings(images, camera=camera, stride=1)[0].camera(0).K

    center = [(world.width - 1) / 2, (world.height - 1) / 2]
    np.testing.assert_allclose(K(FOCAL)[:2], [[120, 0, center[0]], [0, 120, center[1]]])
    np.testing.assert_allclose(K({"focal_mm": 27, "sensor_width_mm": 36})[0, 0], 0.75 * world.width)
    np.testing.assert_allclose(K({"horizontal_fov_deg": 90})[0, 0], world.width / 2)
    for same in (world.K.tolist(), world.K):
        np.testing.assert_allclose(K({"K": same}), world.K)
    np.testing.assert_allclose(K(CameraConfig(horizontal_fov_deg=90))[0, 0], world.width / 2)
    for name, text in (
        ("K.txt", "120 0 77\n0 120 41\n0 0 1\n"),
        ("row.txt", "120 0 77 0 120 41 0 0 1\n"),
        ("K.json", json.dumps({"K": world.K.tolist()})),
        ("bare.json", json.dumps(world.K.tolist())),
    ):
        (tmp_path / name).write_text(text)
        np.testing.assert_allclose(K({"K_file": str(tmp_path / name)}), world.K)
    (images / "K.txt").write_text("99 0 77\n0 99 41\n0 0 1\n")
    assert K({})[0, 0] == 99


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1 2\n3 4\n", ("line 1", "3 numbers")),
        ("", ("shape (0, 3)",)),
        ("0.6 0 0.5\n0 1.9 0.5\n0 0 1\n", ("fx 0.6", "normalized")),
        ("100 0 77 0 100 41 0 0 1\n" * 3, ("3 matrices", "8 (one per frame)")),
        ("100 0 77\n0 100 41\n0 0 nan\n", ("line 3",)),
    ],
)
def test_a_wrong_K_file_is_named(
    tmp_path: Path, images: Path, one_line: OneLine, text: str, parts: tuple[str, ...]
) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        open_recordings(images, camera={"K_file": str(file)})
    one_line(caught.value, file, *parts)


def test_missing_or_duplicate_camera_is_refused(images: Path, one_line: OneLine) -> None:
    with pytest.raises(DataError) as caught:
        open_recordings(images)
    one_line(caught.value, images, "no camera", "K.txt", "horizontal_fov_deg")
    with pytest.raises(ConfigError) as caught_config:
        open_recordings(images, camera={"focal_px": 100, "horizontal_fov_deg": 60})
    one_line(caught_config.value, "focal_px, horizontal_fov_deg")
    with refuses(ConfigError, where="camera"):
        open_recordings(images, camera={"focal_mm": 4})


def test_undecodable_video_is_refused(tmp_path: Path, drive_frames: list[np.ndarray], one_line: OneLine) -> None:
    whole = write_video(tmp_path / "whole.mp4", drive_frames).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_bytes(b"not a video" * 50)
    (tmp_path / "empty.mp4").touch()
    for name, *parts in (
        ("cut.mp4", "index (moov)", "untrunc"),
        ("text.mp4", "mov,matroska"),
        ("empty.mp4", "an empty file"),
    ):
        with pytest.raises(DataError) as caught:
            open_recordings(tmp_path / name, camera=FOCAL)
        one_line(caught.value, tmp_path / name, *parts)
    left = sorted(p.suffix for p in (tmp_path / "cache").glob("*"))
    assert set(left) <= {".lock"}, "nothing half-written"


def cut_off(path: Path, drive_frames: list[np.ndarray], share: float) -> Path:
    """The header comes first and promises 40 frames, as in a video made for streaming; so much of the file is there."""
    write_video(path, [np.roll(drive_frames[4], 2 * index, 1) for index in range(40)], movflags="faststart")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_truncated_video_keeps_its_decodable_frames(
    tmp_path: Path, drive_frames: list[np.ndarray], suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cut_off(tmp_path / f"cut{suffix}", drive_frames, 0.8)
    (recording,) = open_recordings(path, camera=FOCAL, stride=1)
    kept, lost = len(recording), recording.selection.lost
    assert 24 <= kept <= 32
    assert kept + lost == 40
    assert [record.getMessage() for record in caplog.records if record.name == "stadia.io.video_decoding"][-1:] == [
        f"{path}: the header counts 40 frames, {40 - lost} can be read: the file is truncated or damaged"
    ]
    (again,) = open_recordings(path, camera=FOCAL, stride=1)  # from the cache, andit is still recorded
    assert (
        str(again.selection) == f"{kept} of 40 frames kept (stride 1), {lost} lost (the file is truncated or damaged)"
    )
    assert np.array_equal(again.image(kept - 1), np.roll(drive_frames[4], 2 * (kept - 1), 1)), "the last one is whole"


def test_selected_frames_are_those_of_the_whole_video(tmp_path, drive_frames):
    path = write_video(tmp_path / "drive.mp4", drive_frames)
    selected = [(frame.index, frame.time_s) for frame in stream_selected(path, {6, 2, 5, 99})]
    assert selected == [(frame.index, frame.time_s) for frame in stream_video(path) if frame.index in (2, 5, 6)]
    for frame in stream_selected(path, {6, 2}):
        np.testing.assert_array_equal(frame.image, drive_frames[frame.index])
    assert not list(stream_selected(path, ()))


@pytest.mark.slow
def test_a_damaged_frame_in_the_middle_is_left_out_and_the_others_keep_their_numbers(
    tmp_path: Path, drive_frames: list[np.ndarray]
) -> None:
    path = write_video(tmp_path / "hurt.avi", [np.roll(drive_frames[4], 2 * index, 1) for index in range(40)])
    with av.open(str(path)) as container:
        hurt = [packet for packet in container.demux(video=0) if packet.size][20]
        at, size = hurt.pos, hurt.size
    damaged = bytearray(path.read_bytes())
    damaged[at + size // 2 : at + size] = bytes(size - size // 2)
    path.write_bytes(damaged)
    (recording,) = open_recordings(path, camera=FOCAL, stride=1)
    assert recording.selection.lost == 1
    assert recording.numbers == [*range(20), *range(21, 40)]
    assert all(np.array_equal(recording.image(i), np.roll(drive_frames[4], 2 * i, 1)) for i in range(20))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_less_than_half_a_video_is_refused(
    tmp_path: Path, drive_frames: list[np.ndarray], one_line: OneLine, suffix: str
) -> None:
    path = cut_off(tmp_path / f"cut{suffix}", drive_frames, 0.3)
    with pytest.raises(DataError) as caught:
        list(stream_video(path))
    one_line(caught.value, path, "40, as ")
    came = re.search(r"found (\d+) frames", str(caught.value))  # where the loss shows by decoding alone
    assert came is None or f"ffmpeg -i IN -frames:v {came[1]} start.mp4" in str(caught.value)
    assert (came is None) == (suffix == ".mp4")


def remux(source: Path, path: Path, skipped: int) -> Path:
    """Copy a video without its first packets, as a cut without encoding does."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(read.streams.video[0])):
            if packet.dts is not None and number >= skipped:
                packet.stream = stream
                written.mux(packet)
    return path


def test_a_video_that_starts_before_a_key_frame_names_it(
    tmp_path: Path, drive_frames: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    with av.open(str(tmp_path / "whole.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=10, options={"sc_threshold": "0"})
        stream.height, stream.width = drive_frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size, stream.codec_context.max_b_frames = "yuv420p", 12, 0
        stream.codec_context.color_trc = 18
        for image in 4 * drive_frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        video.mux(stream.encode())
    cut = remux(tmp_path / "whole.mp4", tmp_path / "cut.mp4", 3)
    assert len(list(stream_video(cut))) == 20
    assert "its first 9 frames precede the first keyframe" in caplog.text
    assert "HLG" in caplog.text


def turned(path: Path, frames: list[np.ndarray]) -> Path:
    """A video with the tag of a telephone that was held upright: the matrix of its track is a quarter turn."""
    write_video(path, frames)
    level, upright = (b"".join(v.to_bytes(4, "big", signed=True) for v in m) for m in (
        (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30),
        (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30),
    ))  # fmt: skip
    movie, track, rest = path.read_bytes().split(level)
    path.write_bytes(movie + level + track + upright + rest)
    return path


def test_rotated_video_gives_upright_frames(tmp_path: Path, drive_frames: list[np.ndarray]) -> None:
    first = next(stream_video(turned(tmp_path / "upright.mp4", drive_frames)))
    assert np.array_equal(first.image, np.rot90(drive_frames[0], -1))


@pytest.mark.parametrize("tag", [True, False])
def test_an_upright_video_has_the_camera_of_its_displayed_image(
    tmp_path: Path, drive_frames: list[np.ndarray], tag: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Turned by its tag, or stored tall: 96 pixels wide, 160 high."""
    path = tmp_path / "upright.mp4"
    if tag:
        turned(path, drive_frames)
    else:
        write_video(path, [np.ascontiguousarray(np.rot90(frame)) for frame in drive_frames])

    def camera(**given: float) -> Any:
        return open_recordings(path, camera=given)[0].camera(0)

    given = camera(horizontal_fov_deg=90)
    assert (given.height, given.width) == (160, 96)
    np.testing.assert_allclose(given.K, [[48, 0, 47.5], [0, 48, 79.5], [0, 0, 1]])
    (reported,) = caplog.records
    assert "horizontal_fov_deg=90" in reported.getMessage()
    assert "118" in reported.getMessage()
    assert reported.getMessage().endswith("61.9")
    np.testing.assert_allclose(camera(focal_mm=27, sensor_width_mm=36).K[0, 0], 0.75 * 160)
    with refuses(DataError, where="upright.mp4", fix="horizontal_fov_deg=45"):  # 3:5 of 69 degrees
        camera()


def test_a_decoder_that_is_not_there_is_refused(
    drive_frames: list[np.ndarray], tmp_path: Path, one_line: OneLine
) -> None:
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU, which may have a decoder")
    video = write_video(tmp_path / "drive.mp4", drive_frames)
    with refuses(ConfigError, where="data.video_decoder", found="GPU") as caught:
        next(stream_video(video, "cuda"))
    one_line(caught.value)
    with refuses(DataError, where="none.mp4"):
        next(stream_video(tmp_path / "none.mp4", "cuda"))
    with refuses(ConfigError):
        open_recordings(video, camera=FOCAL, video_decoder="cuda", cache={"folder": str(tmp_path)})


FRAMES = 200


@pytest.fixture(scope="module")
def drive(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames that move by 2 pixels each, a keyframe every 5."""
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


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_files, "MAX_KEPT", 6)
    monkeypatch.setattr(video_files, "MAX_DECODED", 10)


@pytest.mark.usefixtures("small_segments")
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


@pytest.mark.usefixtures("small_segments")
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


@pytest.mark.slow
@pytest.mark.usefixtures("small_segments")
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
