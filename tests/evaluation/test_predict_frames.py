"""Predicting to disk: what is written, what it says of itself, in bounded memory, and never over anything."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.baselines import average_depths, average_recordings
from stadia.evaluation.frame_preparation import Frame, read_frames
from stadia.evaluation.io.image_predictions import ObjectPredictionsWriter, OverlayPredictionsWriter
from stadia.evaluation.io.point_clouds import MAX_FRAMES, color_points, open_point_cloud_file
from stadia.evaluation.io.predictions_folder import Predictions, Provenance
from stadia.evaluation.io.trajectory_files import read_kitti_trajectory, read_tum_trajectory
from stadia.evaluation.plots.charts import draw_paths
from stadia.evaluation.plots.videos import draw_side_by_side, estimate_frame_rate_hz, open_side_by_side_video
from stadia.evaluation.predict_frames import align_motion, predict_motion, predict_to_folder, stream_predictions
from stadia.evaluation.protocols import PROTOCOLS
from stadia.evaluation.recording_scores import evaluate_recordings

MADE_BY = Provenance(recipe="selfsup", config_hash="0123456789abcdef", motion="network")
Make = Callable[..., object]


def run(recording: object, predictor: object, out: Path, **options: object) -> Predictions:
    return predict_to_folder(predictor, read_frames(recording), out, MADE_BY, source="drive", **options)  # type: ignore[arg-type]


class TestFolder:
    def test_maps_record_and_path(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        predictions = run(drive(), red_reader(), tmp_path / "out")
        record = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert record["depth_scale"] == "metres"
        assert "metres" in record["trust"]
        assert (record["recipe"], record["config_hash"]) == ("selfsup", "0123456789abcdef")
        assert record["entries"] == [f"{k:06d}" for k in range(6)]
        assert (record["image_size"], record["network_size"]) == ([30, 90], [15, 45])
        assert record["finished"]
        with np.load(tmp_path / "out" / "depth" / "000000.npz") as arrays:
            assert sorted(arrays) == ["K", "depth_m"]
            assert arrays["depth_m"].dtype == np.float32
            np.testing.assert_allclose(arrays["K"], [[30, 0, 22], [0, 30, 7], [0, 0, 1]])
        np.testing.assert_allclose(
            predictions.read("000000")[1:-1], drive().depth_m(0)[:, :45].reshape(15, 2, 45).mean(1)[1:-1], rtol=0.02
        )
        png = cv2.imread(str(tmp_path / "out" / "depth" / "000000.png"), cv2.IMREAD_UNCHANGED)
        assert (png.shape, png.dtype) == ((30, 90), np.uint16)
        np.testing.assert_allclose(png[2:-2] / 256, drive().depth_m(0)[2:-2], rtol=0.02)

    def test_the_path_is_camera_to_world_in_both_formats(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        run(drive(), red_reader(), tmp_path / "out")
        kitti, tum = (
            read_kitti_trajectory(tmp_path / "out" / "trajectory.txt"),
            read_tum_trajectory(tmp_path / "out" / "trajectory_tum.txt"),
        )
        np.testing.assert_allclose(
            kitti.T_world_camera[:, 2, 3], 0.5 * np.arange(6), atol=1e-6
        )  # driving forward: z grows
        np.testing.assert_allclose(tum.T_world_camera, kitti.T_world_camera, atol=1e-6)
        np.testing.assert_allclose(tum.times_s, 100 + np.arange(6) / 20)

    @pytest.mark.parametrize(
        ("depth_scale", "key"), [(DepthScale.UP_TO_SCALE, "depth"), (DepthScale.AFFINE_INVERSE, "inverse_depth")]
    )
    def test_only_metres_are_called_metres(
        self, depth_scale: DepthScale, key: str, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        run(drive(), red_reader(depth_scale), tmp_path / "out")
        with np.load(tmp_path / "out" / "depth" / "000000.npz") as arrays:
            assert sorted(arrays) == ["K", key]
        assert "no metres" in json.loads((tmp_path / "out" / "predictions.json").read_text())["trust"]
        assert (tmp_path / "out" / "depth" / "000000.png").exists() == (depth_scale is DepthScale.UP_TO_SCALE)

    def test_a_still_image_has_no_path(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        assert run(drive(1), red_reader(), tmp_path / "out").record.path == ()
        assert not (tmp_path / "out" / "trajectory.txt").exists()

    def test_a_recipe_without_motion_has_no_path(self, tmp_path: Path, drive: Make) -> None:
        predictor = average_recordings([drive()], 15, 45)
        assert run(drive(), predictor, tmp_path / "out").record.path == ()

    def test_nothing_is_overwritten(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        (tmp_path / "out").mkdir()
        run(drive(), red_reader(), tmp_path / "out")  # an empty folder is fine
        with pytest.raises(StadiaError, match="choose another --out"):
            run(drive(), red_reader(), tmp_path / "out")

    def test_a_second_prediction_into_one_folder_is_refused(
        self, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        """The first has written frames when the second starts, and ends whole."""
        second = []

        def frames() -> Iterator[Frame]:
            for number, frame in enumerate(read_frames(drive())):
                if number == 2:
                    with pytest.raises(StadiaError, match="another process that writes it") as caught:
                        run(drive(), red_reader(), tmp_path / "out")
                    second.append(caught.value)
                yield frame

        written = predict_to_folder(red_reader(), frames(), tmp_path / "out", MADE_BY, source="drive")
        assert len(second) == 1
        assert len(written.files) == len(drive())  # type: ignore[arg-type]
        assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]

    @pytest.mark.parametrize("writer", ["objects", "overlay"])
    def test_image_writers_hold_their_folder(self, writer: str, tmp_path: Path) -> None:
        def open_writer() -> object:
            if writer == "objects":
                return ObjectPredictionsWriter(tmp_path / "out", ("car",), MADE_BY)
            return OverlayPredictionsWriter(tmp_path / "out", DepthScale.METRES, MADE_BY, source="x")

        first = open_writer()
        with pytest.raises(StadiaError, match="another process that writes it"):
            open_writer()
        del first  # ended: now it is the content that is in the way
        (tmp_path / "out" / "mine").touch()
        with pytest.raises(StadiaError, match="something there already"):
            open_writer()

    def test_a_prediction_cut_short_cannot_be_scored(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        def interrupted() -> Iterator[Frame]:
            yield from list(read_frames(drive()))[:3]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict_to_folder(
                red_reader(DepthScale.UP_TO_SCALE), interrupted(), tmp_path / "out", MADE_BY, source="drive"
            )
        with pytest.raises(DataError, match="unfinished"):
            Predictions.open(tmp_path / "out")

    def test_it_is_finished_after_its_last_file_and_begun_again_before(
        self, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        def write_half() -> None:
            (tmp_path / "out" / "cloud.ply").write_text("ply")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(drive(), red_reader(), tmp_path / "out", complete=write_half, further=("cloud.ply",))
        with pytest.raises(DataError, match="unfinished"):
            Predictions.open(tmp_path / "out")
        with pytest.raises(StadiaError, match="an unfinished prediction of something else"):
            run(drive(), red_reader(), tmp_path / "out")
        run(drive(), red_reader(), tmp_path / "out", further=("cloud.ply",))
        assert not (tmp_path / "out" / "cloud.ply").exists()

    def test_two_frames_of_one_name(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        frame = next(read_frames(drive()))
        with pytest.raises(DataError, match="two frames called '000000'"):
            predict_to_folder(red_reader(), [frame, frame], tmp_path / "out", MADE_BY, source="drive")

    def test_no_frame_at_all(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        with pytest.raises(DataError, match="found no frame"):
            run(drive(0), red_reader(), tmp_path / "out")

    @pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0])
    def test_prediction_that_is_not_finite_is_refused(
        self, value: float, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        predictor = red_reader()
        predictor.inverse_depth = lambda image, camera: torch.full((1, 1, 15, 45), value)
        with pytest.raises(StadiaError, match=r"prediction of '000000'.*finite and positive"):
            run(drive(), predictor, tmp_path / "out")


def test_every_second_frame(drive: Make) -> None:
    assert [frame.name for frame in read_frames(drive(), [0, 2, 4])] == ["000000", "000002", "000004"]


def test_a_chain_of_motions_stays_rigid_and_right(drive: Make, red_reader: Make) -> None:
    """Against the product in float64 of the same motion, turning: after 300 frames R is still a rotation."""
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = Rotation.from_rotvec([0.01, 0.2, -0.03]).as_matrix(), [0.1, 0, -0.5]
    predictor = red_reader()
    predictor.T_next_now = lambda *_: torch.from_numpy(turn).float()[None]
    *_, last = stream_predictions(predictor, read_frames(drive(301, height=15, width=45)), predict_motion)
    assert last.T_world_camera is not None
    np.testing.assert_allclose(last.T_world_camera, np.linalg.matrix_power(np.linalg.inv(turn), 300), atol=1e-4)
    R = last.T_world_camera[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)


@pytest.mark.slow
def test_memory_of_a_frame(tmp_path: Path, drive: Make, red_reader: Make) -> None:
    """Names and poses of written frames lie on the disk: not even a name stays in memory, which takes 63 bytes.

    Python's cache of attributes is emptied before each measurement: it keeps names that libraries build at run time.
    """
    sizes: list[int] = []
    (image, *_) = read_frames(drive(2, height=15, width=45))

    def frames() -> Iterator[Frame]:
        for number in range(150):
            if number in (50, 149):
                sys._clear_type_cache()
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
            yield replace(image, name=f"{number:06d}", time_s=number / 10)

    tracemalloc.start()
    predict_to_folder(red_reader(), frames(), tmp_path / "out", MADE_BY, source="drive")
    tracemalloc.stop()
    assert (sizes[1] - sizes[0]) / 99 < 40


@pytest.mark.slow
def test_memory_of_an_8k_frame(tmp_path: Path, red_reader: Make) -> None:
    """Only the network's size is small. Beside the image lie two maps of float32, one of uint16, and its PNG."""
    image, K = np.full((4320, 7680, 3), 90, np.uint8), np.array([[6000.0, 0, 3840], [0, 6000, 2160], [0, 0, 1]])
    network = red_reader(height=96, width=320)
    frames = [Frame("000000", image, K)]
    tracemalloc.start()
    predict_to_folder(network, frames, tmp_path / "out", MADE_BY, source="drive")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4320 * 7680 * (2 * 4 + 2 + 2 + 1)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(tmp_path: Path, drive: Make, red_reader: Make) -> None:
    """120 frames peak where 20 do, give or take four images: neither images nor maps are kept.

    What grows are names, poses and paths of the files, about 1 KB a frame at the end. Poses were tensors of torch once,
    whose memory is not traced.
    """

    def peak_bytes(frames: int) -> int:
        recording = drive(frames, height=60, width=180)
        with (
            open_side_by_side_video(tmp_path / f"{frames}.mp4", 10) as video,
            open_point_cloud_file(tmp_path / f"{frames}.ply", DepthScale.METRES, frames) as cloud,
        ):
            tracemalloc.start()
            run(recording, red_reader(), tmp_path / f"out{frames}", listeners=[video, cloud])
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return peak

    peak_bytes(3)  # warm: imports and caches
    assert peak_bytes(120) < peak_bytes(20) + 4 * 60 * 180 * 3


class TestVideo:
    def test_side_by_side(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        recording = drive(5, height=31, width=91)  # odd sides
        with open_side_by_side_video(tmp_path / "video.mp4", estimate_frame_rate_hz(recording)) as listener:
            run(recording, red_reader(), tmp_path / "out", listeners=[listener])
        with av.open(str(tmp_path / "video.mp4")) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert container.streams.video[0].average_rate == 20
        assert len(images) == 5
        assert images[0].shape == (30, 180, 3)
        left = cv2.resize(recording.image(3), (90, 30), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(images[3][:, :90] - left).mean() < 12  # the image itself, as a video keeps it
        brightness = images[3][:, 92:].astype(float).mean((1, 2))
        assert (np.diff(brightness[2:-2]) > -2).all()  # nearer (further down) is brighter
        assert brightness[-3] > brightness[3] + 50

    @pytest.mark.parametrize(("depth_scale", "is_same"), [(DepthScale.METRES, False), (DepthScale.UP_TO_SCALE, True)])
    def test_the_legend_has_metres_where_depth_has(self, depth_scale: DepthScale, is_same: bool) -> None:
        """Depth of 2 m and of 5 m looks alike but for the legend; depth without metres has one legend for both."""
        image, flat = np.zeros((120, 300, 3), np.uint8), np.ones((120, 300), np.float32)
        near, far = (draw_side_by_side(image, flat / m, 1 / m, 120, 300, depth_scale) for m in (2, 5))
        assert np.array_equal(near, far) == is_same
        bright = near[:80, 300:]
        assert (bright == bright[0, 0]).all(), "the legend is in the lower left corner"
        assert not (near[80:, 300:] == bright[0, 0]).all()
        small = draw_side_by_side(image, flat, 1.0, 60, 150, depth_scale)[:, 150:]
        assert (small == small[0, 0]).all(), "no space for a legend"

    def test_no_file_where_the_block_fails(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError), open_side_by_side_video(tmp_path / "video.mp4", 10):
            raise RuntimeError
        assert not list(tmp_path.iterdir())

    def test_rate_of_every_second_frame_and_of_unknown_times(self, drive: Make) -> None:
        assert estimate_frame_rate_hz(drive(), every=2) == pytest.approx(10)
        silent = drive()
        silent.timestamp_s = lambda index: None
        assert estimate_frame_rate_hz(silent) == 10
        assert estimate_frame_rate_hz(drive(1)) == 10


class TestPointCloud:
    def test_read_back_by_another_program(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        recording = drive(4)
        with open_point_cloud_file(tmp_path / "cloud.ply", DepthScale.METRES, 4) as listener:
            run(recording, red_reader(), tmp_path / "out", listeners=[listener])
        text = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header")[0].decode()
        assert "metres" in text
        cloud = trimesh.load(tmp_path / "cloud.ply")
        frames = list(stream_predictions(red_reader(), read_frames(recording), predict_motion))
        points, colors = zip(*(color_points(frame, 10**6) for frame in frames), strict=True)
        np.testing.assert_allclose(cloud.vertices, np.concatenate(points), atol=1e-4)
        np.testing.assert_array_equal(cloud.colors[:, :3], np.concatenate(colors))

    def test_a_point_by_hand(self, drive: Make, red_reader: Make) -> None:
        """Pixel (44, 14) of a 15x45 map, K = f 30, c (22, 7), camera 1.5 m ahead of the world's."""
        T = np.eye(4)
        T[2, 3] = 1.5
        frame = next(stream_predictions(red_reader(), read_frames(drive()), align_motion))
        moved = replace(frame, inverse_depth=np.full((15, 45), 0.1, np.float32), T_world_camera=T)
        points, _ = color_points(moved, 10**6)
        np.testing.assert_allclose(points[-1], [(44 - 22) / 30 * 10, (14 - 7) / 30 * 10, 11.5], rtol=1e-6)

    def test_a_cloud_is_bounded(
        self, tmp_path: Path, drive: Make, red_reader: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stadia.evaluation.io.point_clouds.MAX_POINTS", 1000)
        with open_point_cloud_file(tmp_path / "cloud.ply", DepthScale.UP_TO_SCALE, 3 * MAX_FRAMES) as listener:
            run(drive(3 * MAX_FRAMES), red_reader(DepthScale.UP_TO_SCALE), tmp_path / "out", listeners=[listener])
        assert 300 < len(trimesh.load(tmp_path / "cloud.ply").vertices) <= 1000
        assert b"up to scale, no metres" in (tmp_path / "cloud.ply").read_bytes()[:200]

    def test_what_lies_far_is_left_out(self, drive: Make, red_reader: Make) -> None:
        frame = next(stream_predictions(red_reader(), read_frames(drive()), align_motion))
        inverse = np.full((15, 45), 0.1, np.float32)
        inverse[0] = 0.01
        sky = replace(frame, inverse_depth=inverse, T_world_camera=None)
        assert len(color_points(sky, 10**6)[0]) == 14 * 45

    def test_frames_without_a_pose_are_not_joined(self, tmp_path: Path, drive: Make) -> None:
        with open_point_cloud_file(tmp_path / "cloud.ply", DepthScale.METRES, 4) as listener:
            predictor = average_recordings([drive()], 15, 45)
            predictor.T_next_now = lambda *_: None
            run(drive(4), predictor, tmp_path / "out", listeners=[listener])
        assert len(trimesh.load(tmp_path / "cloud.ply").vertices) <= 15 * 45


def test_path_ends_at_unknown_motion(tmp_path: Path, drive: Make, red_reader: Make) -> None:
    predictor, asked = red_reader(), []

    def unknown_third(*_: object) -> torch.Tensor | None:
        asked.append(1)
        return torch.eye(4)[None] if len(asked) < 3 else None

    predictor.T_next_now = unknown_third
    record = run(drive(6), predictor, tmp_path / "out").record
    assert record is not None
    assert (len(record.entries), record.path) == (6, ("000000", "000001", "000002"))
    assert record.path_ends == "the path ends at 000002: the motion to 000003 is unknown"
    assert len(read_kitti_trajectory(tmp_path / "out" / "trajectory.txt").T_world_camera) == 3
    assert len(asked) == 3


def test_why_there_is_no_path_at_all(tmp_path: Path, drive: Make, red_reader: Make) -> None:
    """Of a recipe without an answer, of images of a camera that stands, and of one image, which asks for no path."""
    predictor = red_reader()
    predictor.T_next_now = lambda *_: None
    record = run(drive(3), predictor, tmp_path / "unknown").record
    assert (record.path, record.path_ends) == ((), "no path: the motion to 000001 is unknown")
    standing = [replace(frame, on_path=number == 0) for number, frame in enumerate(read_frames(drive(3)))]
    record = predict_to_folder(red_reader(), standing, tmp_path / "stands", MADE_BY, source="stands").record
    assert record.path == ()
    assert (
        record.path_ends
        == "no path: no frame shows that the camera has moved since 000000 (data.stride=1 takes each frame)"
    )
    assert run(drive(1), red_reader(), tmp_path / "one").record.path_ends == ""


def test_each_motion_gets_the_previous_one(drive: Make, red_reader: Make) -> None:
    told = []

    def counting(predictor: object, now: object, following: object, T_before: torch.Tensor | None) -> torch.Tensor:
        told.append(T_before if T_before is None else int(T_before[0, 3]))
        T = torch.eye(4, dtype=torch.float64)
        T[0, 3] = len(told)
        return T

    list(stream_predictions(red_reader(), read_frames(drive(4)), counting))
    assert told == [None, 1, 2]


def test_a_path_is_drawn_with_its_unit(tmp_path: Path, drive: Make) -> None:
    T = np.stack([drive().T_world_camera(0)] * 3)
    for depth_scale in (DepthScale.METRES, DepthScale.UP_TO_SCALE):
        draw_paths(tmp_path / f"{depth_scale}.png", {"estimate": T, "reference": T}, depth_scale)
    metres, scaled = (
        cv2.imread(str(tmp_path / f"{depth_scale}.png")) for depth_scale in (DepthScale.METRES, DepthScale.UP_TO_SCALE)
    )
    assert metres.shape == scaled.shape == (720, 720, 3)
    assert (metres != scaled).any()


class TestMeanDepth:
    def test_mean_of_valid_pixels_by_hand(self) -> None:
        maps = [np.array([[2.0, 0, 0], [4, 0, 6]]), np.array([[4.0, 0, 0], [0, 0, 8]])]
        mean = average_depths(maps, 2, 3).depth_m
        assert mean.tolist() == [[3, 3, 3], [4, 6, 7]]  # holes: the row's mean, 18 / 3

    def test_a_row_without_any_depth_gets_the_mean_of_all(self) -> None:
        assert average_depths([np.array([[0.0, 0], [2, 4]])], 2, 2).depth_m.tolist() == [[3, 3], [2, 4]]

    def test_another_size_counts_by_area_without_its_holes(self) -> None:
        depth = np.zeros((4, 6))
        depth[0, 0], depth[1, 1], depth[2, 5] = 2, 4, 9
        mean = average_depths([depth], 2, 3).depth_m
        assert mean[0, 0] == pytest.approx(3)
        assert mean[1, 2] == pytest.approx(9)

    def test_it_is_scored_by_the_same_protocol(self, tmp_path: Path, drive: Make) -> None:
        """For one depth map in all images the mean is perfect; for a deeper one it is off by its factor."""
        predictor = average_recordings([drive()], 30, 90)
        exact = evaluate_recordings(predictor, [drive()], PROTOCOLS["metric"], tmp_path / "a", MADE_BY)
        assert exact.depth is not None
        assert exact.depth.metrics["abs_rel"] == pytest.approx(0, abs=1e-5)
        deeper = drive()
        deeper.depth_m = lambda index, side="left": 2 * drive().depth_m(0)
        off = evaluate_recordings(predictor, [deeper], PROTOCOLS["metric"], tmp_path / "b", MADE_BY)
        assert off.depth is not None
        assert off.depth.metrics["abs_rel"] == pytest.approx(0.5, abs=1e-5)

    def test_no_truth(self) -> None:
        with pytest.raises(DataError, match="no ground truth"):
            average_depths([np.zeros((2, 2))], 2, 2)
