"""The camera that a user gives: numbers, a calibration file, or a file of `stadia camera`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stadia.core.errors import ConfigError, DataError
from stadia.io.records.calibration import read_given_camera

K = np.array([[700.0, 0, 640], [0, 710, 360], [0, 0, 1]])


def test_numbers_files_and_matrices_give_the_same_camera(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "K.txt", K)
    stored = {"format": "stadia-camera", "K": K.tolist(), "width": 1280, "height": 720, "origin": "a"}
    stored["distortion"] = {"model": "radtan", "coefficients": [0.1, 0.2, 0.01, 0.02]}
    (tmp_path / "drive.K.json").write_text(json.dumps(stored))
    (tmp_path / "cameras.txt").write_text("1 OPENCV 1280 720 700 710 640.5 360.5 0.1 0.2 0.01 0.02\n")
    lens, size = [0.1, 0.2, 0.01, 0.02], (1280, 720)
    known = {
        "fx=700,fy=710,cx=640,cy=360,width=1280,height=720,k1=0.1,k2=0.2,p1=0.01,p2=0.02": (lens, size),
        str(tmp_path / "K.txt"): ([0, 0, 0, 0], (0, 0)),
        str(tmp_path / "drive.K.json"): (lens, size),
        str(tmp_path / "cameras.txt"): (lens, size),
    }
    for given, (distortion, of_size) in known.items():
        read = read_given_camera(given)
        np.testing.assert_allclose(read[0], K)
        np.testing.assert_allclose(read[1], distortion)
        assert read[2] == of_size


@pytest.mark.parametrize(
    "given", ["fx=700", "fx=a,cx=1,cy=1", "fx=-1,cx=1,cy=1", "focal=1,fx=1,cx=1,cy=1", "fx=1,cx=,cy=1"]
)
def test_wrong_numbers_are_named(given: str) -> None:
    with pytest.raises(ConfigError):
        read_given_camera(given)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_given_camera(str(tmp_path / "absent.json"))
