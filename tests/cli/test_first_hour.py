"""What a first user types by mistake, or without having read: one short line, or the right thing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.data.open_dataset import open_recordings
from stadia.predict.networks.published_networks import PUBLISHED_NETWORKS
from stadia.web.photo import EXAMPLE_FOLDER

Stadia = Callable[..., tuple[int, str, str]]


def test_names_that_are_typed_are_listed_whole(stadia: Stadia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = stadia("list", "published-networks")
    assert code == 0
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2:3] != " "}
    assert set(PUBLISHED_NETWORKS) <= listed


@pytest.mark.parametrize("kind", ["text", "empty", "image"])
def test_what_is_no_data_is_refused_in_one_short_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    if kind == "empty":
        path.mkdir()
    else:
        path = path.with_suffix(".txt" if kind == "text" else ".jpg")
        path.write_bytes(b"text")
    with pytest.raises(DataError) as error:
        open_recordings(path)
    assert len(str(error.value)) - len(str(path)) * str(error.value).count(str(path)) < 240
    assert ("stadia predict" if kind == "image" else "stadia list datasets") in str(error.value)


@pytest.mark.slow
def test_a_video_without_a_camera_is_checked_by_what_needs_none(tmp_path: Path, stadia: Stadia) -> None:
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), noise)
    code, out, err = stadia("check", tmp_path, "data.stride=1")
    assert code in (0, 1), err
    assert "K0" not in out
    assert "intrinsics, resize" in err
    code, _, err = stadia("check", tmp_path, "--only", "intrinsics")
    assert (code, "found intrinsics without a camera" in err) == (2, True)


@pytest.mark.slow
def test_a_prediction_without_out_is_written_beside_the_current_folder(
    tmp_path: Path, stadia: Stadia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE_FOLDER / "street.jpg", "photo.jpg")
    code, out, err = stadia("predict", "photo.jpg", "--no-cloud", "--no-video")
    assert code == 0, err
    assert (tmp_path / "photo-depth" / "predictions.json").is_file()
    assert "camera: assumed, 60 degrees across the longer side" in out
    assert "One photo cannot be checked" in out
    assert "trust: Depths and lengths in metres have a standard deviation of 31 %" in out
    assert "T40" not in out
    code, _, err = stadia("predict", "photo.jpg", "--no-cloud", "--no-video")
    assert (code, "found a finished prediction" in err) == (2, True)


@pytest.mark.slow
def test_an_interrupted_prediction_names_how_to_start_it_again(
    tmp_path: Path, stadia: Stadia, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        (tmp_path / "out" / "depth").mkdir(parents=True)
        (tmp_path / "out" / "depth" / "photo.npz").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("stadia.predict.run.predict_to_folders", interrupt)
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.zeros((96, 128, 3), np.uint8))
    code, _, err = stadia("predict", tmp_path / "photo.jpg", "--out", tmp_path / "out")
    assert code == 130
    assert "unfinished, 1 depth map written" in err


@pytest.mark.slow
def test_a_length_that_contradicts_the_metres_of_the_network_is_named(
    tmp_path: Path, stadia: Stadia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8))
    words = ("predict", "photo.jpg", "--no-cloud", "--no-video", "--scale-from")
    for length in (1000, 0.001):
        out = stadia(*words, f"distance=20,40..90,50:{length}", "--out", str(length))[1]
        assert sum(line.startswith("warn: depth is") for line in out.splitlines()) == 1
