"""`stadia predict` as people and scripts call it: what it writes and says, and what it refuses in one line."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tests.refusals import refuses
from tests.sessions import write_bare

from stadia.core.errors import ConfigError, DataError
from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import Frame, PreparedFrame
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.io.records.read import read_kitti_trajectory
from stadia.io.run_facts import UNKNOWN_FACTS, RecipeFacts, TrainedCamera, write_run_facts
from stadia.judge.catalog import make_finding
from stadia.judge.depth import PredictionVerdict
from stadia.judge.finding import Severity
from stadia.predict import verdict
from stadia.predict.inputs import add_training_options, open_inputs
from stadia.predict.options import take_default_network
from stadia.training.loop.checkpoint import Checkpoint

Stadia = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("command", ["predict", "odometry"])
def test_what_is_read_is_printed_first(command: str, checkpoint: Path, tmp_path: Path, stadia: Stadia) -> None:
    (tmp_path / "empty.mp4").touch()
    code, _, err = stadia(command, checkpoint, tmp_path / "empty.mp4", "--out", tmp_path / "out")
    first, *_, last = err.splitlines()
    assert code != 0
    assert first.startswith(f"reading {checkpoint}")
    assert "step" in first
    assert "empty.mp4" in last


class TestPredict:
    @pytest.mark.slow
    def test_a_video(self, checkpoint: Path, video: Path, tmp_path: Path, stadia: Stadia) -> None:
        out = tmp_path / "out"
        options = "--motion", "network", "data.camera.horizontal_fov_deg=70", "--glb", tmp_path / "scene.glb"
        code, text, err = stadia("predict", checkpoint, video, "--out", out, *options)
        assert code == 0, err
        assert (tmp_path / "scene.glb").read_bytes()[:4] == b"glTF"
        names = "cloud.ply depth depth_color predictions.json side_by_side.mp4 trajectory.png trajectory.txt"
        assert {path.name for path in out.iterdir()} == {*names.split(), "trajectory_tum.txt"}
        assert "12 frames" in text
        record = json.loads((out / "predictions.json").read_text())
        assert (record["has_frame_numbers"], record["entries"][:2]) == (True, ["000000", "000001"])
        assert (record["camera_origin"], record["path_origin"]) == ("given by data.camera", "")
        assert text.splitlines()[-1].startswith("trust: Depths and lengths in metres")
        with av.open(str(out / "side_by_side.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 12
            assert container.streams.video[0].average_rate == pytest.approx(24, rel=0.01)
        assert cv2.imread(str(out / "depth" / "000003.png"), cv2.IMREAD_UNCHANGED).shape == (32, 64)
        np.testing.assert_allclose(
            read_kitti_trajectory(out / "trajectory.txt").T_world_camera[:, 2, 3], 0.5 * np.arange(12), atol=1e-6
        )

    @pytest.mark.slow
    def test_a_folder_of_images_loses_none(
        self, checkpoint: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia
    ) -> None:
        words = ("--out", tmp_path / "out", "data.camera.horizontal_fov_deg=70")
        code, text, err = stadia("predict", checkpoint, drive_folder / "a" / "left", *words)
        assert code == 0, err
        assert "6 frames" in text
        assert json.loads((tmp_path / "out" / "predictions.json").read_text())["has_frame_numbers"] is False

    @pytest.mark.slow
    def test_the_verdict_is_printed_and_recorded(
        self, checkpoint: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia
    ) -> None:
        """A checkpoint of 7 steps: no promise about its depth."""
        out = tmp_path / "out"
        words = ("--out", out, "--no-video", "--no-cloud", "data.split=test")
        code, text, err = stadia("predict", checkpoint, drive_folder, *words)
        assert code == 0, err
        assert "predictions: doubtful: T40 " in text
        assert len(text.splitlines()) + len(err.splitlines()) <= 20
        assert text.splitlines()[-1].startswith("trust: Depths and lengths in metres")
        record = json.loads((out / "predictions.json").read_text())
        assert text.splitlines()[-1] == f"trust: {record['trust']}", "as printed"
        checks = record["checks"]
        assert (checks["verdict"], [one["code"] for one in checks["findings"]]) == ("doubtful", ["T40"])
        assert checks["measured"]["frames"] > 0

    @pytest.mark.slow
    def test_unusable_predictions_fail_with_strict_alone(
        self, checkpoint: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = make_finding("M30", Severity.STOP, "-", "-")
        unusable = PredictionVerdict(Verdict.UNUSABLE, (found,), None)
        monkeypatch.setattr(verdict, "judge_measurements", lambda *_, **__: unusable)
        for command, record in (("predict", "predictions.json"), ("odometry", "odometry.json")):
            words = (*(("--no-video", "--no-cloud") if command == "predict" else ()), "data.split=test")
            for number, strict in enumerate(((), ("--strict",))):
                out = tmp_path / f"{command}{number}"
                code, _, err = stadia(command, checkpoint, drive_folder, "--out", out, *words, *strict)
                assert code == len(strict), err
                assert ("predictions of world/a: found unusable (M30)" in err) == bool(strict)
                assert json.loads((out / record).read_text())["checks"]["verdict"] == "unusable"
        assert Predictions.open(tmp_path / "predict1").record is not None, "finished"

    @pytest.mark.slow
    def test_inverse_depth_has_no_points(
        self,
        checkpoint: Path,
        video: Path,
        tmp_path: Path,
        stadia: Stadia,
        red_recipe: Callable,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(
            "stadia.training.recipes.base.build_recipe.load_recipe", lambda path: red_recipe(DepthScale.AFFINE_INVERSE)
        )
        code, text, err = stadia("predict", checkpoint, video, "--out", tmp_path / "out", "data.camera.focal_px=50")
        assert code == 0, err
        assert "Near and far only" in text.splitlines()[-1]
        assert not (tmp_path / "out" / "cloud.ply").exists()

    def test_mistakes(self, checkpoint: Path, video: Path, tmp_path: Path, stadia: Stadia) -> None:
        (tmp_path / "broken.mp4").write_bytes(video.read_bytes()[:300])
        out, focal = ("--out", tmp_path / "out"), "data.camera.focal_px=9"
        for words, said in (
            ((tmp_path / "none.mp4", *out, focal), "none.mp4"),
            ((tmp_path / "broken.mp4", *out, focal), "broken.mp4"),
            ((video, *out, "data.camera.fov=9"), "data.camera."),
            ((video, "--out", tmp_path, focal), "choose another --out"),
        ):
            code, text, err = stadia("predict", checkpoint, *words)
            assert (code, "frames" in text) == (2, False)
            assert said in err.splitlines()[-1]
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_the_camera_of_the_training_is_used_where_none_is_given(
        self, checkpoint: Path, video: Path, tmp_path: Path, stadia: Stadia
    ) -> None:
        """Frames of 64x32: the training's images of 128x64 have the same shape, those of 64x64 have not."""
        known = TrainedCamera(K=((100, 0, 63.5), (0, 100, 31.5), (0, 0, 1)), size=(64, 128))
        opened = Checkpoint.open(checkpoint)
        write_run_facts(checkpoint.parents[1], replace(UNKNOWN_FACTS, recipe_facts=RecipeFacts(camera=known)))
        (given,) = open_inputs(video, **add_training_options(opened, video, {}))
        assert next(iter(given.frames)).K.tolist() == [[50, 0, 31.5], [0, 50, 15.5], [0, 0, 1]]
        assert given.camera_is_assumed
        assert given.camera_lines()[0].startswith("camera: assumed, the camera of the training, 65.2 x 35.5 degrees")
        (given,) = open_inputs(video, **add_training_options(opened, video, {"camera": {"focal_px": 9}}))
        assert not given.camera_is_assumed
        video.with_suffix(".K.txt").write_text("9 0 31.5\n0 9 15.5\n0 0 1\n")
        (given,) = open_inputs(video, **add_training_options(opened, video, {}))
        assert not given.camera_is_assumed, "a file beside the video holds it"
        video.with_suffix(".K.txt").unlink()
        code, text, err = stadia(
            "predict", checkpoint, video, "--out", tmp_path / "assumed", "--no-video", "--no-cloud", "--verbose"
        )
        assert code == 0, err
        assert "  not checked: K30 " in text
        assert "camera: assumed, the camera of the training, 65.2 x 35.5 degrees" in text
        other = RecipeFacts(camera=replace(known, size=(64, 64)))
        write_run_facts(checkpoint.parents[1], replace(UNKNOWN_FACTS, recipe_facts=other))
        code, _, err = stadia("predict", checkpoint, video, "--out", tmp_path / "out")
        assert code == 2
        assert "--fov DEGREES" in err

    def test_a_video_that_breaks_off(self, video: Path, tmp_path: Path, red_reader: Callable) -> None:
        """What was predicted before the damage stays; no video and no cloud is left, and nothing can be scored by
        mistake.
        """
        (whole,) = open_inputs(video, camera={"focal_px": 50})

        def frames() -> Iterator[Frame]:
            yield from itertools.islice(whole.frames, 3)
            raise DataError(video, found="damage", expected="none", fix="copy it again")

        with refuses(DataError, where="own.mp4"):
            write_bare(
                red_reader(), replace(whole, frames=frames()), tmp_path / "out", Provenance(recipe="r", config_hash="h")
            )
        left = {path.name for path in (tmp_path / "out").iterdir()}
        assert left == {"depth", "depth_color", "predictions.json", "unfinished.jsonl"}
        with refuses(DataError, where="predictions.json"):
            Predictions.open(tmp_path / "out")

    @pytest.mark.slow
    def test_the_same_command_begins_again_what_it_left_unfinished(
        self, checkpoint: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After an image that broke off, or Ctrl-C; nothing but its own files is removed for that."""
        image, out = drive_folder / "a" / "left" / "000004.png", tmp_path / "out"
        whole = image.read_bytes()
        image.write_bytes(whole[:50])
        words = ("predict", checkpoint, drive_folder, "--out", out, "--no-video")
        assert "000004.png" in stadia(*words)[2]
        image.write_bytes(whole)
        (out / "mine.txt").write_text("mine")
        code, _, err = stadia(*words)
        assert (code, "unfinished prediction" in err, "choose another --out" in err) == (2, True, True)
        (out / "mine.txt").unlink()
        code, _, err = stadia(*words, "--motion", "network")
        assert (code, "another unfinished prediction" in err) == (2, True)
        (out / "depth" / "000099.npz").touch()
        code, _, err = stadia(*words)
        assert (code, "'depth/000099.npz'" in err) == (2, True)
        (out / "depth" / "000099.npz").unlink()
        code, text, err = stadia(*words)
        assert code == 0, err
        assert "restarting" in caplog.text
        assert "6 frames" in text
        assert len(list((out / "depth").iterdir())) == 12
        code, _, err = stadia(*words)
        assert (code, "a finished prediction" in err) == (2, True)


def test_a_finished_prediction_is_refused(checkpoint: Path, video: Path, tmp_path: Path, stadia: Stadia) -> None:
    (tmp_path / "predictions.json").write_text('{"finished": true}')
    code, _, err = stadia("predict", checkpoint, video, "--out", tmp_path)
    assert (code, f"{tmp_path}: found a finished prediction" in err) == (2, True)


def test_a_file_in_place_of_the_folder_is_named(checkpoint: Path, video: Path, stadia: Stadia) -> None:
    """The error named drive.mp4/side_by_side.mp4."""
    before = video.read_bytes()
    code, _, err = stadia("predict", checkpoint, video, "--out", video)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"stadia: {video}: found a file; expected a new or an empty folder.")
    assert video.read_bytes() == before


def test_inputs_announce_length_and_rate(video: Path, drive_folder: Path) -> None:
    (given,) = open_inputs(video, every=5, camera={"focal_px": 50})
    assert (given.name, given.count) == ("own", 3)
    assert given.rate_hz == pytest.approx(24 / 5, rel=0.01)
    assert [frame.name for frame in given.frames] == ["000000", "000005", "000010"]
    (recording,) = open_inputs(drive_folder, every=2)
    assert (recording.name, recording.count) == ("world/a", 3)


@pytest.mark.parametrize(("every", "numbers"), [(1, []), (5, [1, 2, 3, 4]), (100, list(range(1, 11)))])
def test_skipped_frames_of_a_video_and_a_folder_can_be_read(
    video: Path, drive_folder: Path, every: int, numbers: list[int]
) -> None:
    """Of a video at most ten are kept, those that are near enough for a comparison."""
    (filmed,) = open_inputs(video, every=every, camera={"focal_px": 50})
    first = next(iter(filmed.frames))
    assert [one.name for one in first.skipped()] == [f"{number:06d}" for number in numbers]
    assert len(list(first.skipped())) == len(numbers), "once more"
    (recording,) = open_inputs(drive_folder, every=every)
    shown = next(iter(recording.frames))
    assert [one.name for one in shown.skipped()] == [f"{number:06d}" for number in range(1, min(every, 6))]
    whole = list(open_inputs(video, camera={"focal_px": 50})[0].frames)
    for number, frame in zip(numbers, first.skipped(), strict=True):
        np.testing.assert_array_equal(frame.image, whole[number].image)


def test_skipped_frames_are_cropped_as_predicted_ones(drive_folder: Path) -> None:
    (given,) = open_inputs(drive_folder, every=3)
    frame = next(iter(given.frames))
    wide = replace(frame, image=np.zeros((375, 1242, 3), np.uint8))
    network = SimpleNamespace(depth_scale=DepthScale.METRES, height=32, width=96, crop="kb")
    prepared = PreparedFrame.prepare(network, replace(wide, skipped=lambda: [wide]))
    (skipped,) = prepared.frame.skipped()
    assert skipped.image.shape == prepared.frame.image.shape == (352, 1216, 3)
    np.testing.assert_array_equal(skipped.K, prepared.frame.K)


@pytest.mark.parametrize(("every", "names"), [(1, ["000003", "000004", "000005", "000006"]), (3, ["000003", "000006"])])
def test_a_part_of_a_video(video: Path, every: int, names: list[str]) -> None:
    (given,) = open_inputs(video, every=every, camera={"focal_px": 50}, frames=(3, 7), stride=2)
    frames = list(given.frames)
    assert [frame.name for frame in frames] == names
    assert given.count == len(names)
    assert [frame.on_path for frame in frames] == ([True, False, True, False] if every == 1 else [True, True])


def test_a_part_that_a_video_does_not_have(video: Path) -> None:
    with refuses(DataError, where="own.mp4", found="12", expected="13"):
        open_inputs(video, camera={"focal_px": 50}, frames=(3, 13))


IDLE = {
    "recordings": ("a",),
    "split": "test",
    "poses": "poses.txt",
    "ground_truth": "lidar",
    "color": "gray",
    "size": (64, 64),
    "frame_rate_hz": 9,
    "cache": {"enabled": False},
}


@pytest.mark.parametrize(
    ("suffix", "option"), [*(("mp4", option) for option in IDLE), *(("png", option) for option in (*IDLE, "frames"))]
)
def test_an_option_that_would_do_nothing(suffix: str, option: str, video: Path, drive_folder: Path) -> None:
    path = video if suffix == "mp4" else drive_folder / "a" / "left" / "000002.png"
    with refuses(ConfigError, where=f"data.{option}"):
        open_inputs(path, camera={"focal_px": 50}, **{option: IDLE.get(option, (0, 1))})


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (("drive.mp4", None, None), ("base", "drive.mp4", None)),
        (("drive.mp4", "data.stride=2", ["a=1"]), ("base", "drive.mp4", ["data.stride=2", "a=1"])),
        (("RUN", "drive.mp4", ["a=1"]), ("RUN", "drive.mp4", ["a=1"])),
    ],
)
def test_an_input_alone_takes_the_network_of_the_package(
    given: Any, taken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive.mp4").touch()
    (tmp_path / "RUN").mkdir()
    network, source, settings = given
    found = take_default_network(Path(network), None if source is None else Path(source), settings)
    assert (str(found[0]), str(found[1]), found[2]) == taken
