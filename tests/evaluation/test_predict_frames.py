"""Predicting to disk: what is written, what it says of itself, in bounded memory, and never over anything."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, read_frames
from stadia.data.ignored_regions import IgnoringRecording
from stadia.evaluation.depth_score import average_depths, score_mean_depth
from stadia.evaluation.plots.videos import SCALE_PX, estimate_frame_rate_hz, open_side_by_side_video
from stadia.evaluation.point_clouds import color_points, open_point_cloud_file
from stadia.evaluation.predictions_folder import Predictions, Provenance, write_predictions
from stadia.evaluation.protocols import PROTOCOLS
from stadia.geometry.sky import find_far_sky
from stadia.io.records.read import read_kitti_trajectory, read_trajectory
from stadia.predict.evaluate_recordings import evaluate_recordings
from stadia.predict.predict_frames import predict_motion, predict_to_folder, stream_predictions
from stadia.training.prediction.aligned_motion import align_motion

MADE_BY = Provenance(recipe="selfsup", config_hash="0123456789abcdef", motion="network")
Make = Callable[..., object]


def run(recording: object, predictor: object, out: Path, **options: object) -> Predictions:
    frames = stream_predictions(predictor, read_frames(recording), predict_motion)  # type: ignore[arg-type]
    return write_predictions(frames, predictor, out, MADE_BY, source="drive", **options)  # type: ignore[arg-type]


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
            read_trajectory(tmp_path / "out" / "trajectory_tum.txt"),
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

    def test_a_prediction_cut_short_cannot_be_scored(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        def interrupted() -> Iterator[Frame]:
            yield from list(read_frames(drive()))[:3]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict_to_folder(
                red_reader(DepthScale.UP_TO_SCALE), interrupted(), tmp_path / "out", MADE_BY, source="drive"
            )
        with refuses(DataError, where="predictions.json"):
            Predictions.open(tmp_path / "out")

    def test_it_is_finished_after_its_last_file_and_begun_again_before(
        self, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        def write_half() -> None:
            (tmp_path / "out" / "cloud.ply").write_text("ply")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(drive(), red_reader(), tmp_path / "out", complete=write_half, further=("cloud.ply",))
        with refuses(DataError, where="predictions.json"):
            Predictions.open(tmp_path / "out")
        with refuses(StadiaError, where="out", found="cloud.ply"):
            run(drive(), red_reader(), tmp_path / "out")
        run(drive(), red_reader(), tmp_path / "out", further=("cloud.ply",))
        assert not (tmp_path / "out" / "cloud.ply").exists()

    @pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0])
    def test_prediction_that_is_not_finite_is_refused(
        self, value: float, tmp_path: Path, drive: Make, red_reader: Make
    ) -> None:
        predictor = red_reader()
        predictor.inverse_depth = lambda image, camera: np.full((len(image), 1, 15, 45), value, np.float32)
        with refuses(StadiaError, where="000000"):
            run(drive(), predictor, tmp_path / "out")


def test_no_depth_is_written_in_the_ignored_region(tmp_path: Path, drive: Make, red_reader: Make) -> None:
    recording = drive()
    region = np.zeros((30, 90), bool)
    region[24:] = True
    ignoring = IgnoringRecording(recording, region)  # type: ignore[arg-type]
    predictions = run(ignoring, red_reader(), tmp_path / "out")
    values = predictions.read("000000")
    assert not values[13:].any()
    assert (values[:13] > 0).all(), "pixels outside of the region are interpolated from known ones"
    protocol, folder = PROTOCOLS["metric"], tmp_path / "scores"
    scored = evaluate_recordings(red_reader(), [ignoring], protocol, folder, MADE_BY)
    assert scored.depth is not None, "and all of them can be scored"
    png = cv2.imread(str(tmp_path / "out" / "depth" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert not png[24:].any()
    assert png[:24].all()


@pytest.mark.slow
def test_a_chain_of_motions_stays_rigid_and_right(drive: Make, red_reader: Make) -> None:
    """Against the product in float64 of the same motion, turning: after 300 frames R is still a rotation."""
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = Rotation.from_rotvec([0.01, 0.2, -0.03]).as_matrix(), [0.1, 0, -0.5]
    predictor = red_reader()
    predictor.T_next_now = lambda now, *_: np.tile(turn.astype(np.float32), (len(now), 1, 1))
    *_, last = stream_predictions(predictor, read_frames(drive(301, height=15, width=45)), predict_motion)
    assert last.T_world_camera is not None
    np.testing.assert_allclose(last.T_world_camera, np.linalg.matrix_power(np.linalg.inv(turn), 300), atol=1e-4)
    R = last.T_world_camera[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)


class TestVideo:
    def test_side_by_side(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        recording = drive(5, height=31, width=91)  # odd sides
        with open_side_by_side_video(tmp_path / "video.mp4", estimate_frame_rate_hz(recording)) as listener:
            run(recording, red_reader(), tmp_path / "out", listeners=[listener])
        with av.open(str(tmp_path / "video.mp4")) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert container.streams.video[0].average_rate == 20
        assert len(images) == 5
        assert images[0].shape == (30 + SCALE_PX, 180, 3)
        left = cv2.resize(recording.image(3), (90, 30), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(images[3][:30, :90] - left).mean() < 12  # the image itself, as a video keeps it
        brightness = images[3][:30, 92:].astype(float).mean((1, 2))
        assert (np.diff(brightness[2:-2]) > -2).all()  # nearer (further down) is brighter
        assert brightness[-3] > brightness[3] + 50


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

    def test_sky_is_left_out(self, tmp_path: Path, drive: Make, red_reader: Make) -> None:
        """The network puts sky at 10 m as everything else: its color tells it, and the header names the rule."""
        frame = next(stream_predictions(red_reader(), read_frames(drive()), align_motion))
        image = np.random.default_rng(0).integers(0, 255, frame.frame.image.shape, np.uint8)
        image[: len(image) // 3] = (180, 200, 230)
        clear = replace(
            frame, frame=replace(frame.frame, image=image), inverse_depth=np.full((15, 45), 0.1, np.float32)
        )
        points, colors = color_points(clear, 10**6, partial(find_far_sky, margin_px=1))
        assert len(points) == (15 - 5) * 45
        assert not (colors == (180, 200, 230)).all(1).any()
        with open_point_cloud_file(tmp_path / "cloud.ply", DepthScale.METRES, 1, find_far_sky) as listener:
            listener(clear)
        assert b"without sky and points beyond 5 median depths" in (tmp_path / "cloud.ply").read_bytes()[:200]


def test_the_mean_depth_is_scored_as_the_network(drive: Make, red_reader: Make) -> None:
    """Of one depth map in all images the mean is perfect in every depth scale; without ground truth there is none."""
    indices = {drive().name: range(3)}
    trained_on = [(drive(), range(4))]
    for scale, protocol in ((DepthScale.METRES, "metric"), (DepthScale.AFFINE_INVERSE, "relative")):
        score = score_mean_depth(
            trained_on, [drive()], indices, red_reader(scale, height=30, width=90), PROTOCOLS[protocol]
        )
        assert score is not None
        assert score["baseline"] == "the mean depth of 3 training images"
        assert score["images"] == 2, "the second has no ground truth"
        assert score["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    blind = drive()
    blind.depth_m = lambda index, side="left": None
    assert score_mean_depth([(blind, range(2))], [drive()], indices, red_reader(), PROTOCOLS["metric"]) is None


class TestMeanDepth:
    def test_mean_of_valid_pixels_by_hand(self) -> None:
        maps = [np.array([[2.0, 0, 0], [4, 0, 6]]), np.array([[4.0, 0, 0], [0, 0, 8]])]
        mean = average_depths(maps, 2, 3)
        assert mean is not None
        assert mean.tolist() == [[3, 3, 3], [4, 6, 7]]  # holes: the row's mean, 18 / 3

    def test_another_size_counts_by_area_without_its_holes(self) -> None:
        depth = np.zeros((4, 6))
        depth[0, 0], depth[1, 1], depth[2, 5] = 2, 4, 9
        mean = average_depths([depth], 2, 3)
        assert mean is not None
        assert mean[0, 0] == pytest.approx(3)
        assert mean[1, 2] == pytest.approx(9)
