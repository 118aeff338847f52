"""`stadia check` on folders: its JSON, its words, its exit codes."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tests.data.mapped_images import FRAMES, STEP, make_record, write_images
from typer.testing import CliRunner, Result

from stadia.cli.main import app
from stadia.cli.results import describe_agreements
from stadia.core.errors import ConfigError, DataError
from stadia.io.video_decoding import hash_source
from stadia.judge.finding import read_valid_findings
from stadia.judge.recordings.scale_comparison import LengthSource, ScaleComparison
from stadia.judge.recordings.scale_errors import list_agreements

pytestmark = pytest.mark.slow

KEYS = {"code", "severity", "stage", "measured", "expected", "cause", "fix", "evidence"}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, words)], catch_exceptions=True)


@pytest.fixture
def broken(roadworld: Path, tmp_path: Path) -> Callable[[Callable[[dict], None]], Path]:
    """A copy of the training world whose recording.json is changed."""

    def make(change: Callable[[dict], None]) -> Path:
        folder = shutil.copytree(roadworld / "train-000", tmp_path / "drive")
        described = json.loads((folder / "recording.json").read_text())
        change(described)
        (folder / "recording.json").write_text(json.dumps(described))
        return folder

    return make


def test_clean_data_is_good(roadworld: Path) -> None:
    result = run(roadworld)
    assert result.exit_code == 0
    assert result.stdout.strip().splitlines()[-1].startswith("good: nothing to fix")
    for other in ("poses", "ground-truth depth"):
        found = re.search(rf"baseline 0\.54 m agrees with the {other}: (\S+) to (\S+) times", result.stdout)
        assert found, result.stdout
        assert 0.92 < float(found[1]) <= 1 <= float(found[2]) < 1.08
    as_json = run(roadworld / "val-000", "--json")
    assert as_json.exit_code == 0
    assert all(finding["severity"] == "note" for finding in json.loads(as_json.stdout))


def test_an_agreement_names_its_interval_and_its_limits() -> None:
    """The ratio is that of the baseline, whichever source is first; a wide interval is no agreement."""
    rig, poses, depth = LengthSource.RIG, LengthSource.POSES, LengthSource.DEPTH
    compared = [
        ScaleComparison(poses, rig, 1 / 1.02, 0.005, 200),
        ScaleComparison(rig, depth, 1.0, 0.01, 200),
        ScaleComparison(poses, rig, 1.0, 0.05, 3),
        ScaleComparison(poses, rig, 2.0, 0.01, 200),  # the poses are wrong, and E08 reports it
        ScaleComparison(poses, depth, 1.0, 0.01, 200),
    ]
    agreements = list_agreements(0.5372, compared)
    assert [(agreement.other, agreement.is_close) for agreement in agreements] == [
        (poses, True),
        (depth, True),
        (poses, False),
    ]
    assert (agreements[0].low, agreements[0].high) == pytest.approx((1.01, 1.03), abs=1e-3)
    lines = describe_agreements(agreements[:2])
    assert [re.findall(r"\d[\d.]*", line)[:3] for line in lines] == [
        ["0.5372", "1.00", "1.04"],
        ["0.5372", "0.98", "1.02"],
    ]
    (wide,) = describe_agreements(agreements[2:])
    assert "0.8 to 1.3" in wide
    assert len(describe_agreements([agreements[0], agreements[0]])) == 1


def test_verdict_names_hidden_mistakes(roadworld: Path, tmp_path: Path) -> None:
    """The verdict names what images alone cannot show, and no line is empty."""
    images = tmp_path / "drive"
    images.mkdir()
    first, *rest = sorted((roadworld / "train-000" / "left").glob("*.png"))
    shutil.copy(first, images)
    fov = "data.camera.horizontal_fov_deg=69"
    alone = run(images, fov)
    assert alone.exit_code == 0
    assert "single images" in " ".join(alone.stdout.split())
    for image in rest:
        shutil.copy(image, images)
    result = run(images, fov)
    assert re.search(r"good: .*resize, sides, baseline, poses.*a wrong angle of view", result.stdout)
    assert result.output.lstrip("\n") == result.output
    assert run(images, fov, "--json").output.startswith("[")


def test_wrong_sign_of_the_baseline_stops(broken: Callable[..., Path]) -> None:
    def flip(described: dict) -> None:
        described["T_right_left"][0][3] *= -1

    folder = broken(flip)
    result = run(folder, "--json")
    assert result.exit_code == 1
    stops = [finding for finding in json.loads(result.stdout) if finding["severity"] == "stop"]
    assert [finding["code"] for finding in stops] == ["E01"]
    assert set(stops[0]) >= KEYS
    reported = run(folder).stdout
    assert "stop E01 Baseline has the wrong sign" in reported
    assert stops[0]["measured"] in reported
    assert stops[0]["fix"] in reported
    assert len(reported.splitlines()) <= 20
    assert "stop: 1 to fix before training" in reported


def test_images_are_written_with_out_only(
    broken: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip(described: dict) -> None:
        described["T_right_left"][0][3] *= -1

    folder, here, out = broken(flip), tmp_path / "here", tmp_path / "out"
    here.mkdir()
    monkeypatch.chdir(here)
    reported = run(folder, "--verbose").stdout
    assert list(here.iterdir()) == []
    assert "hypothesis" in reported
    assert "the other way round" in reported
    assert "--out FOLDER" in reported
    (stop,) = [f for f in json.loads(run(folder, "--json", "--out", out).stdout) if f["severity"] == "stop"]
    assert (out / stop["evidence"]["image"]).read_bytes().startswith(b"\x89PNG")
    assert read_valid_findings(out / "findings.jsonl")[0][0].to_dict() == stop
    assert "findings/E01-1.png" in run(folder, "--out", out).stdout


def test_one_check_alone(broken: Callable[..., Path]) -> None:
    def halve(described: dict) -> None:
        for camera in described["cameras"].values():
            camera["K"] = [[v / 2 for v in row] if i < 2 else row for i, row in enumerate(camera["K"])]

    folder = broken(halve)
    assert run(folder, "--only", "frames").exit_code == 0
    result = run(folder, "--only", "resize", "--json")
    assert result.exit_code == 1
    fix = json.loads(result.stdout)[0]["fix"]
    assert "rescale K from" in fix
    assert "times nearer to the lines of the poses" in fix


def test_splits_are_those_that_training_would_make(broken: Callable[..., Path]) -> None:
    folder = broken(lambda described: None)
    lines = "".join(f"drive {i} l\n" for i in range(6))
    (folder.parent / "train.txt").write_text(lines)
    (folder.parent / "val.txt").write_text(lines[:20])
    keys = [f"data.split_by.{name}_file={folder.parent / name}.txt" for name in ("train", "val")]
    result = run(folder, *keys, "--only", "splits", "--json")
    assert result.exit_code == 1
    assert [finding["code"] for finding in json.loads(result.stdout)] == ["D09"]


def test_data_that_does_not_open_is_a_finding_for_scripts_too(broken: Callable[..., Path]) -> None:
    def normalize(described: dict) -> None:
        for camera in described["cameras"].values():
            camera["K"] = [
                [v / camera["width"] for v in camera["K"][0]],
                [v / camera["height"] for v in camera["K"][1]],
                [0, 0, 1],
            ]

    result = run(broken(normalize), "--json")
    assert isinstance(result.exception, DataError)  # one line, exit 2
    (finding,) = json.loads(result.stdout)
    assert (finding["code"], finding["severity"]) == ("D17", "stop")
    assert "recording.json" in finding["measured"]


def test_mistakes_are_one_line(tmp_path: Path, roadworld: Path) -> None:
    assert isinstance(run(tmp_path / "nothing").exception, DataError)
    assert isinstance(run(tmp_path).exception, DataError)  # an empty folder
    assert isinstance(run(roadworld, "--only", "baselin").exception, ConfigError)
    assert isinstance(run(roadworld, "data.strid=3").exception, ConfigError)


def test_sampling_of_a_video_is_reported(roadworld: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    images = sorted((roadworld / "train-000" / "left").iterdir())
    drive = tmp_path / "drive.mp4"
    with av.open(str(drive), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = cv2.imread(str(images[0])).shape[:2]
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cv2.imread(str(image)), format="bgr24")))
        container.mux(stream.encode())
    reported = run(drive, "data.camera.horizontal_fov_deg=80").stdout
    assert f"checked {len(images)} frames in 1 stretch, 320x96" in " ".join(reported.split())
    cached = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert all(name.startswith("static-") for name in cached), "no frame is stored"
    part = run(drive, "data.camera.horizontal_fov_deg=80", "data.frames=[0,3]").stdout
    assert part.strip().endswith("(1 recording)")


def test_strict_exits_with_1_for_what_was_not_checked(roadworld: Path) -> None:
    words = (roadworld, "--only", "intrinsics", "--seconds", 0)
    assert run(*words).exit_code == 0
    strict = run(*words, "--strict", "--json")
    assert strict.exit_code == 1
    assert json.loads(strict.stdout)[0]["code"] == "N02"
    last = strict.stderr.strip().splitlines()[-1]
    assert "1 of " in last
    assert "--seconds" in last
    assert run(*words[:-1], 100, "--strict").exit_code == 0


def test_a_map_of_stadia_is_judged_by_the_images_next_to_it(tmp_path: Path) -> None:
    images, folder = write_images(tmp_path / "room"), tmp_path / "room.map"
    folder.mkdir()
    poses = [np.eye(4) + np.outer(np.eye(4)[0], (0, 0, 0, STEP * k)) for k in range(FRAMES)]
    (folder / "map.json").write_text(json.dumps(make_record(hash_source(images), poses, source="room")))
    rows = [f"{k} {' '.join(map(str, T[:3].ravel()))}" for k, T in enumerate(poses)]
    (folder / "trajectory.txt").write_text("\n".join(rows))
    judged = run(folder)
    assert isinstance(judged.exception, DataError)
    assert "no intrinsics" in judged.exception.found, "it is read as poses of images; this one has no COLMAP model"
    images.rename(tmp_path / "moved")
    refused = run(folder)
    assert isinstance(refused.exception, DataError)
    assert refused.exception.fix == f"stadia check {folder} --images VIDEO"
