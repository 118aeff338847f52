"""`stadia evaluate` as scripts call it: JSON alone on stdout, notes on stderr, a mistake is one line."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.evaluation.protocols import PROTOCOLS
from stadia.io.records.trajectory import Trajectory, write_kitti_trajectory, write_tum_trajectory
from stadia.metrics import TRAJECTORY_METRICS

Stadia = Callable[..., tuple[int, str, str]]
Maps = dict[str, NDArray[np.float64]]


def straight(n: int, step_m: float = 1.0) -> NDArray[np.float64]:
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, 2, 3] = np.arange(n) * step_m
    return T


def mistake(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("stadia: ")
    for word in words:
        assert word in last


def compare(estimate: Path, reference: Path) -> tuple[str | Path, ...]:
    return "--trajectory", estimate, "--reference", reference


class TestTrajectory:
    def test_keys_that_others_script_against(self, tmp_path: Path, stadia: Stadia) -> None:
        write_kitti_trajectory(tmp_path / "est.txt", Trajectory(straight(150, 1.02)))
        write_kitti_trajectory(tmp_path / "ref.txt", Trajectory(straight(150)))
        words = (*compare(tmp_path / "est.txt", tmp_path / "ref.txt"), "--format", "kitti", "--align", "none", "--json")
        code, out, err = stadia("evaluate", *words)
        scores = json.loads(out)
        assert code == 0
        assert err == ""
        assert set(TRAJECTORY_METRICS) < set(scores)
        assert scores["t_err_percent"] == pytest.approx(2 * 101 / 100)
        assert scores["path_m"] == pytest.approx(149)

    def test_a_path_that_is_too_short_is_visible_without_a_fit_of_the_scale(
        self, tmp_path: Path, stadia: Stadia
    ) -> None:
        """7 % too short: in the line, the table, the score file and a note; sim3 has it in its scale."""
        true = straight(150)
        true[:, 0, 3] = np.sin(np.arange(150) / 20)
        short = true.copy()
        short[:, :3, 3] *= 0.93
        for name, T in (("est.txt", short), ("ref.txt", true)):
            write_kitti_trajectory(tmp_path / name, Trajectory(T))
        words = ("evaluate", "--trajectory", tmp_path / "est.txt", "--reference", tmp_path / "ref.txt")
        for align in ("se3", "none"):
            code, out, _ = stadia(*words, "--align", align, "--scores", tmp_path / f"{align}.json")
            assert (code, "length ratio 0.93\n" in out, " length_ratio " in out) == (0, True, True)
            assert "the estimate is 0.93 times as long as the reference (7% too short)" in out
            assert json.loads((tmp_path / f"{align}.json").read_text())["length_ratio"] == pytest.approx(0.93)
        fitted = json.loads(stadia(*words, "--align", "sim3", "--json")[1])
        assert "length_ratio" not in fitted
        assert fitted["scale"] == pytest.approx(1 / 0.93)

    def test_rpe_over_an_interval_of_seconds(self, tmp_path: Path, stadia: Stadia) -> None:
        """A drift of 1 cm a frame at 10 Hz is 10 cm a second. Times of one of both files suffice."""
        drifted = straight(60)
        drifted[:, 0, 3] += 0.01 * np.arange(60)
        times_s = np.arange(60) / 10
        write_tum_trajectory(tmp_path / "est.txt", Trajectory(drifted, times_s))
        write_tum_trajectory(tmp_path / "ref.txt", Trajectory(straight(60), times_s))
        est, ref, row = (tmp_path / f"{name}.txt" for name in ("est", "ref", "row"))
        words = ("evaluate", "--trajectory", est, "--reference", ref, "--format", "tum")
        scored = (*words, "--json", "--scores", tmp_path / "s.json", "--rpe-seconds")
        scores = json.loads(stadia(*scored, "1")[1])
        assert (scores["rpe_trans_m"], scores["rpe_interval_trans_m"]) == pytest.approx((0.01, 0.1))
        assert (scores["rpe_interval_s"], scores["rpe_interval_pairs"]) == (1, 50)
        stored = json.loads((tmp_path / "s.json").read_text())
        assert (stored["metrics"]["rpe_interval_trans_m"], stored["rpe_interval_s"]) == (pytest.approx(0.1), 1)
        code, out, err = stadia(*scored, "9", "--force")
        assert (code, json.loads(out)["rpe_interval_trans_m"]) == (0, None)
        assert "no RPE over the interval" in err
        assert "rpe_interval_s" not in json.loads(stadia(*words, "--json")[1])
        mistake(stadia(*words, "--rpe-seconds", "0"), "Invalid value for '--rpe-seconds'")
        write_kitti_trajectory(row, Trajectory(drifted))
        words = ("evaluate", "--rpe-seconds", "1", "--trajectory", row, "--reference")
        mistake(stadia(*words, row), "rows without times", "--format tum")
        mixed = json.loads(stadia(*words, ref, "--reference-format", "tum", "--json")[1])
        assert mixed["rpe_interval_trans_m"] == pytest.approx(0.1)

    def test_a_table_for_people_and_a_score_file(self, tmp_path: Path, stadia: Stadia) -> None:
        write_kitti_trajectory(tmp_path / "path.txt", Trajectory(straight(150)))
        path = tmp_path / "path.txt"
        words = (*compare(path, path), "--align", "none", "--scores", tmp_path / "score.json")
        code, out, _ = stadia("evaluate", *words)
        assert code == 0
        assert "ate_rmse_m" in out
        score = json.loads((tmp_path / "score.json").read_text())
        assert score["metrics"]["ate_rmse_m"] == 0
        (tmp_path / "score.json").write_text(json.dumps(score | {"poses": 3}))
        _, _, err = stadia("evaluate", *words)
        assert f"note: the earlier scores are kept as {tmp_path / 'score.earlier-1.json'}" in err

    @pytest.mark.slow
    def test_both_paths_are_drawn_over_an_earlier_drawing_alone(self, tmp_path: Path, stadia: Stadia) -> None:
        write_kitti_trajectory(tmp_path / "path.txt", Trajectory(straight(150)))
        words = ("evaluate", "--trajectory", tmp_path / "path.txt", "--reference", tmp_path / "path.txt", "--plot")
        (tmp_path / "photo.png").write_bytes(b"not ours")
        for name in ("paths.png", "paths.png", "paths.svg", "paths.svg"):
            code, _, err = stadia(*words, tmp_path / name)
            assert (code, err.count("note: wrote")) == (0, 1), err
        assert cv2.imread(str(tmp_path / "paths.png")).std() > 1
        assert "<!-- ATE 0 m (SE(3)-aligned), 150 poses, path" in (tmp_path / "paths.svg").read_text()
        mistake(stadia(*words, tmp_path / "photo.png"), "photo.png")
        mistake(stadia(*words, tmp_path / "paths.pdf"), "--plot", "paths.png")
        assert (tmp_path / "photo.png").read_bytes() == b"not ours"


class TestDepth:
    def test_metrics_by_name_and_images(self, truth_m: Maps, write_maps: Callable[..., Path], stadia: Stadia) -> None:
        truth = write_maps(truth_m, "truth", ".png")
        code, out, err = stadia(
            "evaluate", "--depth", truth, "--reference", truth, "--protocol", "kitti-eigen", "--json"
        )
        scores = json.loads(out)
        assert code == 0
        assert {*PROTOCOLS["kitti-eigen"].metrics, "images"} < set(scores)
        assert (scores["images"], scores["abs_rel"], scores["d1"]) == (3, 0, 1)
        assert "predictions.json" in err

    def test_depth_scale_refused(self, truth_m: Maps, write_maps: Callable[..., Path], stadia: Stadia) -> None:
        truth = write_maps(truth_m, "truth")
        words = ("evaluate", "--depth", truth, "--reference", truth, "--depth-scale", "up-to-scale")
        mistake(stadia(*words, "--protocol", "metric", "--json"), "depth scale up-to-scale", "expected metres")
        code, out, err = stadia(*words, "--protocol", "relative", "--json")
        assert code == 0
        assert json.loads(out)["alignment"] == "median"
        assert "not scored in metres" in err


class TestCheckpoint:
    @pytest.mark.slow
    def test_predict_to_disk_then_score(self, checkpoint: Path, drive_folder: Path, stadia: Stadia) -> None:
        run = checkpoint.parent.parent
        words = ("--motion", "network", "--json", "data.split=test")
        code, out, err = stadia("evaluate", checkpoint, drive_folder, "--protocol", "metric", *words)
        scores = json.loads(out)
        assert code == 0
        assert (scores["images"], scores["depth_scale"]) == (6, "metres")
        assert scores["notes"][0].startswith("camera: of the dataset, ")
        assert scores["abs_rel"] < 0.01
        assert scores["odometry"]["world/a"]["ate_rmse_m"] == pytest.approx(0, abs=1e-5)
        assert (run / "predictions" / "best-step7-network" / "world" / "a" / "depth" / "000000.npz").exists()
        names = ["world-metric-test-network-world-a.json", "world-metric-test-network.json"]
        assert sorted(path.name for path in (run / "scores").iterdir()) == names
        assert "world-metric-test-network.json" in err
        again = stadia("evaluate", run, drive_folder, "--protocol", "relative", *words)  # nothing is in the way
        assert again[0] == 0
        assert json.loads(again[1])["protocol"] == "relative"

    @pytest.mark.slow
    def test_the_split_that_the_data_holds_out(self, checkpoint: Path, drive_folder: Path, stadia: Stadia) -> None:
        """Its test split by default, with a note; a mean over training images too would be no score of
        anything.
        """
        shutil.copytree(drive_folder / "a", drive_folder / "b")
        described = {"format": "stadia", "version": 1, "splits": {"train": ["b"], "val": [], "test": ["a"]}}
        (drive_folder / "dataset.json").write_text(json.dumps(described))
        code, out, err = stadia("evaluate", checkpoint, drive_folder, "--json")
        assert code == 0, err
        scores = json.loads(out)
        assert (scores["split"], scores["images"], list(scores["odometry"])) == ("test", 6, ["world/a"])
        assert "'test'" in scores["notes"][0]
        stored = json.loads((checkpoint.parent.parent / "scores" / "world-metric-test.json").read_text())
        assert (stored["split"], stored["notes"]) == ("test", scores["notes"])
        for asked, images, split in (("data.split=train", 6, "train"), ('data.recordings=["a","b"]', 12, None)):
            scores = json.loads(stadia("evaluate", checkpoint, drive_folder, asked, "--json")[1])
            assert (scores["split"], scores["images"]) == (split, images)
            assert not any("split" in note for note in scores["notes"])
        mistake(stadia("evaluate", checkpoint, drive_folder, "data.split=val"), "train, test", "'val'")
        described["splits"] = {"val": ["b"], "test": ["a"]}
        (drive_folder / "dataset.json").write_text(json.dumps(described))
        assert json.loads(stadia("evaluate", checkpoint, drive_folder, "--json")[1])["split"] == "test"
        described["splits"] = {"train": ["b"], "val": ["a"]}
        (drive_folder / "dataset.json").write_text(json.dumps(described))
        assert json.loads(stadia("evaluate", checkpoint, drive_folder, "--json")[1])["split"] == "val"

    @pytest.mark.slow
    def test_at_another_size(self, checkpoint: Path, drive_folder: Path, stadia: Stadia) -> None:
        """Each score records its size, and predictions of another size are not reused."""
        run, words = checkpoint.parent.parent, ("evaluate", checkpoint, drive_folder, "--json")
        own = json.loads(stadia(*words)[1])
        assert not any("trained at" in note for note in own["notes"])
        assert json.loads(stadia(*words, "--size", "45x15")[1]) == own, "the training's own size is no other"
        other = json.loads(stadia(*words, "--size", "90x30")[1])
        assert "90x30" in other["notes"][0]
        assert other["abs_rel"] < own["abs_rel"]
        record = json.loads((run / "predictions" / "best-step7-90x30" / "world" / "a" / "predictions.json").read_text())
        assert (record["network_size"], record["requested_size"]) == ([30, 90], [30, 90])
        stored = json.loads((run / "scores" / "world-metric-test-90x30.json").read_text())
        assert (stored["size"], stored["metrics"]["abs_rel"]) == ("90x30", other["abs_rel"])
        mistake(
            stadia(*words, "--size", "60x20", "--out", run / "predictions" / "best-step7-90x30"),
            "another requested_size",
            "--out",
        )
        mistake(stadia(*words, "--size", "90"), "--size: found '90'", "1216x352")

    def test_a_list_of_frames(self, checkpoint: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia) -> None:
        run, listed = checkpoint.parent.parent, tmp_path / "three.txt"
        (drive_folder / "a" / "depth" / "left" / "000003.npy").unlink()
        listed.write_text("world/a 0000000005 l\na 3\n\na 000002\n")
        code, out, err = stadia(
            "evaluate", run, drive_folder, "--protocol", "kitti-eigen", "--frames", listed, "--json"
        )
        assert code == 0, err
        scores = json.loads(out)
        assert (scores["images"], scores["images_without_truth"]) == (2, 1)
        assert any("kitti-eigen means 697" in note for note in scores["notes"])
        stored = json.loads((run / "scores" / "world-kitti-eigen-three.json").read_text())
        assert stored["frames"] == {
            "file": "three.txt",
            "sha256": hashlib.sha256(listed.read_bytes()).hexdigest(),
            "count": 3,
        }
        assert stored["checkpoint"] == "best.safetensors, step 7"
        assert [image["name"] for image in stored["per_image"]] == ["world/a/000002", "world/a/000005"]
        assert len(list((run / "predictions" / "best-step7-three").rglob("*.npz"))) == 3
        _, table, _ = stadia("evaluate", run, drive_folder, "--protocol", "kitti-eigen", "--frames", listed)
        assert any("kitti-eigen means 697" in line for line in table.splitlines())

    @pytest.mark.slow
    def test_a_score_overwrites_no_other(self, checkpoint: Path, drive_folder: Path, stadia: Stadia) -> None:
        """Other frames have another name; of one name the newest stands under it, and the earlier beside it."""
        scores = checkpoint.parent.parent / "scores"
        assert stadia("evaluate", checkpoint, drive_folder)[0] == 0
        assert stadia("evaluate", checkpoint, drive_folder, "--every", 2)[0] == 0
        first = (scores / "world-metric-test.json").read_bytes()
        assert stadia("evaluate", checkpoint, drive_folder)[0] == 0  # the same again: nothing new
        (drive_folder / "a" / "depth" / "left" / "000003.npy").unlink()
        assert stadia("evaluate", checkpoint, drive_folder)[0] == 0
        names = sorted(path.name.removeprefix("world-metric-test") for path in scores.iterdir())
        assert names == ["-every2.json", "-world-a.json", ".earlier-1.json", ".json"]
        assert (scores / "world-metric-test.earlier-1.json").read_bytes() == first
        assert json.loads((scores / "world-metric-test.json").read_text())["images"] == 5

    @pytest.mark.parametrize("name", ["scores", "predictions"])
    def test_a_run_with_a_link_inside_is_not_written_into(
        self, checkpoint: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia, name: str
    ) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "test-world").mkdir()
        (checkpoint.parents[1] / name).symlink_to(tmp_path / "mine")
        mistake(stadia("evaluate", checkpoint, drive_folder), f"{name}: found a symbolic link")
        assert list((tmp_path / "mine").rglob("*")) == [tmp_path / "mine" / "test-world"]


@pytest.mark.real
class TestReal:
    @pytest.mark.parametrize(
        ("estimate", "reference", "format", "align", "digits"),
        [
            ("KITTI_00_ORB.txt", "KITTI_00_gt.txt", "kitti", "sim3", "0.938"),
            ("freiburg1_xyz-rgbdslam.txt", "freiburg1_xyz-groundtruth.txt", "tum", "se3", "0.013470"),
            ("fr2_desk_ORB.txt", "fr2_desk_groundtruth.txt", "tum", "sim3", "0.006123"),
        ],
    )
    def test_reference_trajectories(
        self, estimate: str, reference: str, format: str, align: str, digits: str, real_data: Path, stadia: Stadia
    ) -> None:
        folder = real_data / "trajectories"
        words = (*compare(folder / estimate, folder / reference), "--format", format, "--align", align, "--json")
        code, out, _ = stadia("evaluate", *words)
        assert code == 0
        assert f"{json.loads(out)['ate_rmse_m']:.{len(digits) - 2}f}" == digits

    def test_a_list_in_the_form_of_the_eigen_split(
        self, real_data: Path, checkpoint: Path, tmp_path: Path, stadia: Stadia
    ) -> None:
        drive = "2011_09_26/2011_09_26_drive_0000_sync"
        (tmp_path / "test_files.txt").write_text(f"{drive} 0000000008 l\n{drive} 0000000069 l\n")
        words = (
            "evaluate",
            checkpoint,
            real_data / "kitti_raw",
            "--protocol",
            "kitti-eigen",
            "--frames",
            tmp_path / "test_files.txt",
        )
        code, out, err = stadia(*words)
        assert code == 0, err
        assert "kitti-eigen means 697" in out
        assert re.search(r"ground_truth +velodyne_raw", out)
        name = "kitti_raw-kitti-eigen-velodyne_raw-test_files.json"
        stored = json.loads((checkpoint.parent.parent / "scores" / name).read_text())
        assert stored["ground_truth"] == "velodyne_raw"
        assert [image["name"] for image in stored["per_image"]] == [f"kitti_raw/{drive}/{n:010d}" for n in (8, 69)]


def test_a_name_in_square_brackets_is_printed_as_it_is(capsys):
    from stadia.cli.results import print_score_table

    print_score_table({"ds[/r]": "[/bold]", "recordings": {"a[/r]": {"abs_rel": 0.5}}})
    out = capsys.readouterr().out
    assert "ds[/r]" in out
    assert "[/bold]" in out
    assert "recordings: a[/r]" in out
